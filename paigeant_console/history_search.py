"""What of the history a query cannot select, told by SQLite before a record is decoded and asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from paigeant_console.model.query import Query
    from paigeant_console.model.query_terms import Node

__all__ = ["narrowed"]

_WRITTEN: Final = frozenset({"id", "name", "topic", "worker", "error", "state"})
"""Fields whose values stand in a record as they are."""
_WORD: Final = re.compile("[a-z]{2}")
_PIECE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789@.-_")

# JSON may write any character as an escape, and a letter outside ASCII may fold to some of ASCII, as the sharp s does:
# where there is one, nothing can be ruled out.
_MAY_HOLD: Final = (
    " AND (CAST(r.meta AS TEXT) LIKE ? OR CAST(r.body AS TEXT) LIKE ?"
    " OR instr(r.body, ?) OR instr(r.meta, ?)"
    " OR length(CAST(r.body AS TEXT)) <> length(r.body) OR length(CAST(r.meta AS TEXT)) <> length(r.meta))"
)


def narrowed(query: Query) -> tuple[str, list[str | bytes]]:
    """Conditions that all records meet which a query selects, and perhaps others: SQL of a record `r`, and its values.

    Args:
        query: It has still to be asked of each record.
    """
    where, values = "", list[str | bytes]()
    for text in _needed(query.node):
        where += _MAY_HOLD
        like = f"%{text.replace('_', '%')}%"
        values += [like, like, b"\\u", b"\\u"]
    return where, values


def _needed(node: Node) -> Iterator[str]:
    """Texts that stand in the bytes of every record that a query selects, as far as that is plain to see."""
    from paigeant_console.model.query import STUCK_WORDS
    from paigeant_console.model.query_terms import AllOf, Everywhere, Text

    if isinstance(node, AllOf):
        for part in node.nodes:
            yield from _needed(part)
    elif isinstance(node, Everywhere):
        # Why a workflow is stuck comes with time, and stands nowhere.
        if not any(map(node.pattern.matches, STUCK_WORDS)):
            yield from _words(node.pattern.pieces)
    elif isinstance(node, Text) and (node.key or node.name in _WRITTEN):
        yield from _words(node.pattern.pieces)


def _words(pieces: tuple[str, ...]) -> Iterator[str]:
    # A number is written in many ways: what is looked for has to have a word in it.
    return (piece for piece in pieces if _WORD.search(piece) and _PIECE.issuperset(piece))
