"""What JSON can say, checked before it is written.

msgspec writes NaN as null, a set as a list and bytes as base64: each would change a value
in silence on its way, so each is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from paigeant_core.errors import InvalidMessage

MAX_DEPTH = 64
"""Lists and objects within each other."""

BAD_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What msgspec raises on bytes that are no JSON, or not of the shape that was asked for."""


def is_text(value: object) -> bool:
    """Whether ``value`` is a text that can be written: one without lone surrogates, which stand for bytes."""
    return isinstance(value, str) and writable(value) == value


def writable(text: str) -> str:
    """``text`` as it can be written: lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_or_text(typed: str) -> msgspec.Raw:
    """What somebody typed as a value: as JSON, as it was written, if it reads as JSON; else as text.

    Raises:
        InvalidMessage: it cannot be written: it has lone surrogates, which stand for bytes.
    """
    try:
        _decode(typed)
        return msgspec.Raw(typed.strip().encode())
    except BAD_JSON:
        pass
    try:
        return msgspec.Raw(_encode(typed))
    except BAD_JSON:
        raise InvalidMessage("the value is no UTF-8") from None


def encode_object(value: Mapping[str, Any], what: str) -> bytes:
    """``value`` as JSON.

    Args:
        value: mappings count as objects and tuples as lists; texts and numbers may be of
            a subclass, as a step is one of ``str``; a ``msgspec.Raw`` is JSON already, and stays as it was written.
        what: the beginning of an error's sentence, e.g. ``the payload``.

    Raises:
        InvalidMessage: JSON cannot say it.
    """
    _check(value, what, 0)
    try:
        return _encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        # A lone surrogate, or a number of thousands of digits.
        raise InvalidMessage(f"{what} holds what JSON cannot say") from None


_PLAIN = frozenset({str, int, bool, type(None)})
"""Types whose values need no look; most are of them, and most payloads are flat."""


def _check(value: object, what: str, depth: int) -> None:
    if type(value) in _PLAIN or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidMessage(f"{what} holds NaN or infinity, which JSON cannot say")
    elif depth > MAX_DEPTH:
        raise InvalidMessage(f"{what} is nested deeper than {MAX_DEPTH}")
    elif isinstance(value, (dict, Mapping)):  # the first is known at once
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidMessage(f"{what} holds a key that is no text, which JSON cannot say")
            if type(item) not in _PLAIN:
                _check(item, what, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, what, depth + 1)
    elif isinstance(value, msgspec.Raw):
        try:
            decoded = _decode(value)
        except BAD_JSON:
            raise InvalidMessage(f"{what} holds bytes that are no JSON") from None
        _check(decoded, what, depth)
    else:
        raise InvalidMessage(f"{what} holds a {type(value).__name__}, which JSON cannot say")


def _plain(value: object) -> object:
    """The plain value of what msgspec does not know, after the check."""
    if isinstance(value, str):
        return str.__str__(value)  # not str(value): that is whatever the subclass makes of it
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder().decode
