"""The last line: what keys do here, from the action table; those that cannot be used now are dimmed."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant_console.actions import Situation, hints
from paigeant_console.model.text import Piece, Span, fit_line
from paigeant_console.safe_text import joined, literal
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["Hints"]


class Hints(SpanLines):
    """One line of keys.

    Args:
        situation: where the operator is.
        ascii_only: write ASCII only.
    """

    def __init__(self, situation: Situation, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._situation = situation

    def show(self, situation: Situation) -> None:
        """Take up where the operator is now.

        Args:
            situation: it.
        """
        if situation != self._situation:
            self._situation = situation
            self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        pieces = []
        for rank, (key, label, usable) in enumerate(hints(self._situation), start=1):
            spans: tuple[Span, ...] = ((key, "key"), (joined((literal(" "), label)), ""))
            if not usable:
                spans = ((joined((literal("("), key, literal(" "), label, literal(")"))), "dim"),)
            pieces.append(Piece(spans, rank=rank))
        return (fit_line(pieces, width, ascii_only=self.ascii_only),)
