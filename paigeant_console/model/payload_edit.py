"""A payload as text that can be edited, and back to bytes.

What is invisible or a control is written as a JSON escape, which means the same and can
be seen; numbers and strings that nobody touched stay as they were written.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from paigeant_console.safe_text import SafeText, is_clean, literal, safe, safe_json
from paigeant_core.errors import PaigeantError
from paigeant_core.payload import check_payload

__all__ = ["EDIT_LIMIT", "Checked", "check_edited", "editable"]

EDIT_LIMIT: Final = 64 * 1024
"""Bytes that the editor on the screen takes; a larger payload wants $EDITOR."""

_STRING_OR_SPACE: Final = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of an edited text.

    Attributes:
        payload: bytes to replay with; None: it is no payload.
        said: what to say of it.
        line: where the trouble is, from 1; 0: there is none, or it is everywhere.
        column: where in that line, from 1.
    """

    payload: bytes | None
    said: SafeText
    line: int = 0
    column: int = 0


def editable(payload: bytes) -> str | None:
    """The payload laid out for an editor; None where it is no text."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = "".join(character if _plain(character) else _escape(character) for character in text)
    # Nothing in it is left for the gateway to replace, and no line is broken.
    return "\n".join(safe_json(text, limit=len(text), line_limit=4 * len(text) + 64))


def _plain(character: str) -> bool:
    return character in "\n\r\t" or is_clean(character)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def check_edited(text: str) -> Checked:
    """Whether an edited text is a payload, and where it is not."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        said = safe(f"line {error.lineno}, column {error.colno}: {error.msg}", 200)
        return Checked(None, said, error.lineno, error.colno)
    except RecursionError:
        return Checked(None, literal("nested too deeply"))
    except ValueError as error:
        return Checked(None, safe(str(error), 200))
    if not isinstance(value, dict):
        return Checked(None, literal("a payload is a JSON object: { … }"), 1, 1)
    # White space between the tokens goes; a message has its payload on one line.
    packed = _STRING_OR_SPACE.sub(lambda match: match[1] or "", text)
    try:
        payload = check_payload(packed.encode("utf-8", "surrogatepass"))
    except PaigeantError as error:
        return Checked(None, safe(str(error), 200))
    return Checked(payload, literal(f"a JSON object of {len(payload):,} bytes"))
