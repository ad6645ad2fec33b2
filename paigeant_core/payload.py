"""The payload's bytes: read, made, checked, and changed so that what nobody touched keeps its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from paigeant_core.errors import DecodeError, InvalidMessage, MessageTooLarge
from paigeant_core.json_values import BAD_JSON, encode_object
from paigeant_core.limits import MAX_PAYLOAD

_encode = msgspec.json.encode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def decode_payload(payload: bytes) -> dict[str, Any]:
    """The payload as a dict.

    Raises:
        DecodeError: it is no JSON object.
    """
    try:
        return _decode_object(payload)
    except BAD_JSON:
        raise DecodeError("the payload is no JSON object") from None


def encode_payload(value: object) -> bytes:
    """``value`` as payload bytes.

    Raises:
        InvalidMessage: it is no JSON object.
        MessageTooLarge: it is over 1 MiB.
    """
    if not isinstance(value, (dict, Mapping)):  # the first is known at once
        raise InvalidMessage(f"the payload must be a JSON object, not {type(value).__name__}")
    return _within_cap(encode_object(value, "the payload"))


def check_payload(payload: bytes) -> bytes:
    """``payload``, exact bytes from a user, if it can be one; white space around it is dropped.

    Raises:
        InvalidMessage: it is no JSON object.
        MessageTooLarge: it is over 1 MiB.
    """
    payload = _within_cap(payload.strip())
    try:
        _decode_object(payload)
    except BAD_JSON:
        raise InvalidMessage("the payload must be a JSON object") from None
    return payload


def _within_cap(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise MessageTooLarge(f"the payload is {len(payload)} bytes, the cap is {MAX_PAYLOAD}")
    return payload


def merge_payload(
    payload: bytes, changes: Mapping[str, Any], removed: set[str] | frozenset[str] = frozenset()
) -> bytes:
    """``payload`` with ``changes`` at top level; other values keep their bytes, and a ``msgspec.Raw`` its own.

    Raises:
        InvalidMessage: a change is no JSON.
        MessageTooLarge: the result is over 1 MiB.
    """
    if not changes and not removed:
        return payload
    try:
        fields = _decode_fields(payload)
    except BAD_JSON:
        raise InvalidMessage("the payload is no JSON object") from None
    fields.update(_decode_fields(encode_object(changes, "the payload")))
    for key in removed:
        fields.pop(key, None)
    merged = _encode(fields)
    if len(merged) > MAX_PAYLOAD:
        raise MessageTooLarge(f"the payload would be {len(merged)} bytes, the cap is {MAX_PAYLOAD}")
    return merged


def rewrite_payload(payload: bytes, value: Mapping[str, Any]) -> bytes:
    """``payload`` so that it says ``value``; values at top level that are as they were keep their bytes.

    Raises:
        DecodeError: ``payload`` is no JSON object.
        InvalidMessage: ``value`` holds what JSON cannot say.
        MessageTooLarge: the result is over 1 MiB.
    """
    before = decode_payload(payload)
    changed = {k: v for k, v in value.items() if k not in before or not _same(before[k], v)}
    return merge_payload(payload, changed, before.keys() - value.keys())


def _same(before: object, after: object) -> bool:
    """Whether both are the same JSON."""
    # Not by recursion: what was decoded can be nested deeper than Python calls, or compares.
    ahead = [(before, after)]
    while ahead:
        before, after = ahead.pop()
        # 1, 1.0 and True, and 0.0 and -0.0, are equal in Python and not in JSON.
        if type(before) is not type(after):
            return False
        if isinstance(before, dict) and isinstance(after, dict):
            if before.keys() != after.keys():
                return False
            ahead += [(value, after[key]) for key, value in before.items()]
        elif isinstance(before, list) and isinstance(after, list):
            if len(before) != len(after):
                return False
            ahead += zip(before, after, strict=True)
        elif (repr(before) != repr(after)) if isinstance(before, float) else (before != after):
            return False
    return True
