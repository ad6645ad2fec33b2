"""Filtering as one types: what the lists of workflows and the traffic do alike."""

from __future__ import annotations

from typing import ClassVar, Final

from paigeant_console.model.completion import complete_query
from paigeant_console.model.query import Query, QueryError, Selected, parse
from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.filter_line import FilterLine
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.span_lines import Line

__all__ = ["FilteringScreen"]


NO_POLICY: Final = "PAIGEANT_TRUST names a trust.toml"
"""What helps where nobody can verify signatures."""


class FilteringScreen(ConsoleScreen):
    """A view of one table whose rows a query selects.

    Args:
        shared: what all screens share.
    """

    example: ClassVar[SafeText] = literal("")
    """Queries to begin with."""
    selects: ClassVar[Selected] = "workflow"
    """What the rows are."""
    table: LineTable

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.filter_line = FilterLine(ascii_only=shared.ascii_only)
        self._text = ""

    def apply_query(self, query: Query) -> None:
        """Show what a query selects.

        Args:
            query: which.
        """

    def found(self) -> Line:
        """What to say of how much was found."""
        return ()

    def do_filter(self) -> None:
        """Ask for a filter; it counts while it is typed."""
        self.prompt.ask(
            literal("/"),
            self._filtered,
            value=self._text,
            selected=True,
            placeholder=self.example,
            complete=complete_query,
            changed=self._try_filter,
            rows=self._move,
            refuse=self._unreadable,
        )
        self.update_hints()

    def _filtered(self, typed: str | None) -> None:
        self.set_filter(typed or "")
        self.update_hints()

    def _unreadable(self, typed: str) -> Line:
        """Why a query cannot be read: what was understood of its beginning is not what was meant."""
        note = self._try_filter(typed)
        return note if self._text != typed else ()

    def _move(self, step: int) -> None:
        if step < 0:
            self.table.action_cursor_up()
        else:
            self.table.action_cursor_down()

    def set_filter(self, text: str) -> None:
        """See :meth:`ConsoleScreen.set_filter`."""
        note = self._try_filter(text)
        if self._text != text:
            self.say(*note)

    def _try_filter(self, text: str) -> Line:
        """Filter by what was typed so far.

        Returns:
            What to say of it.
        """
        try:
            query = parse(text, self.selects, unverified="" if self.feed.trust is not None else NO_POLICY)
        except QueryError as error:
            return [(safe(str(error).removeprefix("query: "), 200), "error")]
        if text != self._text:
            self._text = text
            self.apply_query(query)
        return self.found()

    def do_escape(self) -> None:
        """Clear the filter first."""
        if self._text:
            self.set_filter("")
        else:
            super().do_escape()
