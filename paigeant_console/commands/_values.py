"""What is typed or read from a file: `k=v` pairs, payloads, steps, points in time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from paigeant_core.errors import ConfigError, InvalidMessage, MessageTooLarge
from paigeant_core.json_values import json_or_text
from paigeant_core.limits import MAX_PAYLOAD
from paigeant_core.payload import check_payload

__all__ = ["count", "pairs", "payload_with", "read_payload", "step", "variables"]

_STDIN: Final = "-"


def count(given: str | None, option: str, *, most: int = 10**9) -> int | None:
    """Read a number from 1. Typer could, but brings Pydantic with it, which doubles the time to start.

    Args:
        given: As it was typed, or None.
        option: Which option it was given to.
        most: The largest that can be.

    Raises:
        ConfigError: It is none.
    """
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 11 and 1 <= int(given) <= most):
        raise ConfigError(f"{option} {ascii(given)[:40]}: write a number from 1 to {most}")
    return int(given)


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read `k=v` pairs; of a key that stands twice the last counts.

    Args:
        given: The pairs.
        option: Which option they were given to.

    Raises:
        ConfigError: One has no key, or no equals sign.
    """
    found = {}
    for item in given or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {ascii(item)[:80]}: write {option} key=value")
        found[key] = value
    return found


def variables(given: Sequence[str] | None) -> dict[str, msgspec.Raw]:
    """Read `--var k=v`: a value that is JSON is meant as JSON, as it was written; any other is text.

    Args:
        given: The pairs.

    Raises:
        ConfigError: One is no pair, or no text.
    """
    return {key: _variable(key, value) for key, value in pairs(given, "--var").items()}


def _variable(key: str, value: str) -> msgspec.Raw:
    try:
        return json_or_text(value)
    except InvalidMessage as error:
        raise ConfigError(f"--var {ascii(key)[:80]}: {error}") from None


def payload_with(payload: bytes | None, changes: dict[str, msgspec.Raw]) -> bytes:
    """A payload with some fields changed at top level; the other values keep their bytes.

    Args:
        payload: The payload; None: an empty object.
        changes: The fields.

    Raises:
        InvalidMessage: The payload is no JSON object.
        MessageTooLarge: It would be over 1 MiB.
    """
    if not changes:
        return payload or b"{}"
    fields: dict[str, Any] = {} if payload is None else msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    fields.update(changes)
    try:
        return check_payload(msgspec.json.encode(fields))
    except UnicodeEncodeError:
        raise ConfigError("--var: a key is no UTF-8") from None


def read_payload(source: str | None) -> bytes | None:
    """Read `--payload FILE|-`.

    Args:
        source: A file, `-` for stdin, or None.

    Raises:
        ConfigError: The file cannot be read.
        InvalidMessage: It holds no JSON object.
        MessageTooLarge: It is over 1 MiB.
    """
    if source is None:
        return None
    try:
        if source == _STDIN:
            data = sys.stdin.buffer.read(MAX_PAYLOAD * 2)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_PAYLOAD * 2)
    except (OSError, AttributeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it cannot be read"
        if source.lstrip().startswith("{"):
            why = "it takes the name of a file, or - for standard input; --var K=V gives single fields"
        raise ConfigError(f"--payload {_shown(source)}: {why}") from None
    if len(data) >= MAX_PAYLOAD * 2:
        # Not all of it was read: there may be no end.
        raise MessageTooLarge(f"--payload {_shown(source)}: more than {MAX_PAYLOAD} bytes, which is the cap")
    return check_payload(data)


def _shown(source: str) -> str:
    return source if len(source) <= 200 else source[:199] + "…"


def step(text: str) -> object:
    """One STEP: a name, or a JSON object with a name, arguments and options.

    Args:
        text: As it was typed.

    Raises:
        ConfigError: It begins like an object and is none.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ConfigError(
            f'step {ascii(text)[:80]} is no JSON; write a name, or {{"name":"charge","arguments":{{"amount":5}}}}'
        ) from None
