"""JSON laid out by its tokens, for people to read; used by `safe_text` alone, which makes the result safe.

`json.loads` and `json.dumps` would make `1.50` into `1.5`, lose duplicate keys, refuse an integer of 5,000 digits and
recurse into nested brackets. This looks at tokens only: every number and string stays as it was written.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

__all__ = ["pretty_json"]

_TOKEN: Final = re.compile(
    r"[ \t\n\r]*(?:"
    r"([{}\[\],:])"
    r'|("[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")'
    r"|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)"
    r")"
)
_STRING_GROUP: Final = 2
_CLOSER: Final = {"{": "}", "[": "]"}
# Beyond this depth indentation stops growing, or 4,000 brackets would make 16 MB of spaces.
_INDENT_LEVELS: Final = 20


class _Expect(Enum):
    """What may come next."""

    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


_FIRST: Final = (_Expect.VALUE_OR_END, _Expect.KEY_OR_END)
_KEYS: Final = (_Expect.KEY, _Expect.KEY_OR_END)
_VALUES: Final = (_Expect.VALUE, _Expect.VALUE_OR_END)


class _Layout:
    """Lines made so far, and the place in the document. The stack is a list, so nesting costs no recursion."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line = ""
        self.stack: list[str] = []
        self.expect = _Expect.VALUE

    def take(self, lexeme: str, is_string: bool) -> bool:
        """Add a token.

        Args:
            lexeme: The token as it was written.
            is_string: Whether it is a string.

        Returns:
            False if it may not stand here.
        """
        if lexeme in ("}", "]"):
            return self._close(lexeme)
        if lexeme == ",":
            return self._comma()
        if lexeme == ":":
            if self.expect is not _Expect.COLON:
                return False
            self.line += ": "
            self.expect = _Expect.VALUE
            return True
        return self._key_or_value(lexeme, is_string)

    def _close(self, lexeme: str) -> bool:
        empty = self.expect in _FIRST
        if not (self.stack and self.stack[-1] == lexeme and (empty or self.expect is _Expect.COMMA_OR_END)):
            return False
        self.stack.pop()
        if not empty:
            self._break()
        self.line += lexeme
        self._after_value()
        return True

    def _comma(self) -> bool:
        if self.expect is not _Expect.COMMA_OR_END:
            return False
        self.line += ","
        self._break()
        self.expect = _Expect.KEY if self.stack[-1] == "}" else _Expect.VALUE
        return True

    def _key_or_value(self, lexeme: str, is_string: bool) -> bool:
        if self.expect in _KEYS:
            if not is_string:
                return False
        elif self.expect not in _VALUES:
            return False
        if self.expect in _FIRST:
            self._break()
        self.line += lexeme
        if self.expect in _KEYS:
            self.expect = _Expect.COLON
        elif lexeme in _CLOSER:
            self.stack.append(_CLOSER[lexeme])
            self.expect = _Expect.KEY_OR_END if lexeme == "{" else _Expect.VALUE_OR_END
        else:
            self._after_value()
        return True

    def _after_value(self) -> None:
        self.expect = _Expect.COMMA_OR_END if self.stack else _Expect.NOTHING

    def _break(self) -> None:
        self.lines.append(self.line)
        self.line = "  " * min(len(self.stack), _INDENT_LEVELS)


def pretty_json(text: str, cut: bool = False) -> list[str] | None:
    """Lay out a JSON document.

    Args:
        text: The document.
        cut: Whether its end is missing; then one that stops short is accepted, and the half token is kept.

    Returns:
        Lines, which are not yet safe to show, or None if this is no JSON.
    """
    layout = _Layout()
    position = 0
    while match := _TOKEN.match(text, position):
        if not layout.take(match.group(match.lastindex or 0), match.lastindex == _STRING_GROUP):
            return None
        position = match.end()
    rest = text[position:].lstrip(" \t\n\r")
    if cut:
        # What is left may be half a word, or a string that lost its end; a string has no line breaks.
        if rest and ("\n" in rest or not (rest[0] == '"' or len(rest) < len("false"))):
            return None
        layout.line += rest
    elif rest or layout.expect is not _Expect.NOTHING:
        return None
    return [*layout.lines, layout.line]
