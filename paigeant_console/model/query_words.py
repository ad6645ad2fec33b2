"""The words of a query: what is between its spaces and parentheses, and what of it was quoted."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from paigeant_core.errors import ConfigError

__all__ = ["QueryError", "Token", "Word", "tokens"]


class QueryError(ConfigError):
    """A query that cannot be read.

    Attributes:
        position: Where in the text the trouble begins, from 0.
        hint: What may have been meant; may be empty.
    """

    code = "query"

    def __init__(self, message: str, position: int, hint: str = "") -> None:
        super().__init__(f"query: {message} at character {position + 1}{f'; {hint}' if hint else ''}")
        self.position = position
        self.hint = hint


class Word(msgspec.Struct, frozen=True):
    """Characters without a space outside quotes, each with whether it was quoted; from `position` to `end`."""

    text: str
    quoted: tuple[bool, ...]
    position: int
    end: int

    def plain(self, index: int) -> bool:
        """Whether a character stood outside quotes."""
        return not self.quoted[index]

    def is_operator(self, *names: str) -> bool:
        """Whether this is one of these operators, and no text."""
        return self.text in names and not any(self.quoted)


Token: TypeAlias = Word | tuple[Literal["(", ")", "!"], int]


def tokens(text: str) -> list[Token]:
    """The words and symbols of a query, in their order.

    Args:
        text: The query.

    Raises:
        QueryError: A quote is not closed.
    """
    found: list[Token] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            at += 1
        elif char in "()!":
            found.append((char, at))  # type: ignore[arg-type]  # one of the three
            at += 1
        else:
            word = _word(text, at)
            found.append(word)
            at = word.end
    return found


def _word(text: str, start: int) -> Word:
    chars: list[str] = []
    quoted: list[bool] = []
    at = start
    while at < len(text) and not text[at].isspace() and text[at] not in "()":
        if text[at] != '"':
            chars.append(text[at])
            quoted.append(False)
            at += 1
            continue
        opened = at
        at += 1
        # So that nothing between quotes is still a word of its own: label.x:"" is the empty text.
        while at < len(text) and text[at] != '"':
            if text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
                at += 1
            chars.append(text[at])
            quoted.append(True)
            at += 1
        if at >= len(text):
            raise QueryError("a quote is opened and not closed", opened, 'close it with "')
        at += 1
    return Word("".join(chars), tuple(quoted), start, at)
