"""The line that shows the filter while there is one, with how many rows it selects."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant_console.actions import key_of
from paigeant_console.model.text import Piece, Span, count, fit_line
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["FilterLine"]


class FilterLine(SpanLines):
    """One line, gone while nothing is filtered.

    Args:
        ascii_only: write ASCII only.
        word: what it is called.
    """

    DEFAULT_CSS = """
    FilterLine { display: none; }
    FilterLine.-open { display: block; }
    """

    def __init__(self, *, ascii_only: bool = False, word: str = "FILTER") -> None:
        super().__init__(ascii_only=ascii_only)
        self._word = literal(f" {word} ")
        self._query: SafeText | None = None
        self._shown = 0
        self._all: SafeText | None = None
        self._more = ""

    def show(self, query: SafeText | None, shown: int, of: SafeText | None, more: str = "") -> None:
        """Show a filter.

        Args:
            query: as it was typed; None: there is none.
            shown: rows that it selects.
            of: how many rows there are; None: that is not known, and the filter cannot be cleared.
            more: one of the console's own words on it.
        """
        self._query, self._shown, self._all, self._more = query, shown, of, more
        self.set_class(query is not None, "-open")
        self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        if self._query is None:
            return ()
        found: list[Span] = [(count(self._shown), "strong")]
        if self._all is not None:
            found.append((joined((literal(" of "), self._all)), "dim"))
        pieces = [
            Piece(((self._word, "badge"), (joined((literal(" "), self._query)), "strong"))),
            Piece(((literal(self._more), "info"),) if self._more else (), rank=2, right=True),
            Piece(tuple(found), right=True),
            Piece(
                ((literal(f"{key_of('escape')} clears"), "dim"),) if self._all is not None else (), rank=1, right=True
            ),
        ]
        return (fit_line(pieces, width, ascii_only=self.ascii_only),)
