"""Help for the view that it was asked from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from textual.widget import Widget

from paigeant_console.actions import VIEWS, Situation, key_of
from paigeant_console.model.help_text import help_lines
from paigeant_console.safe_text import literal
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.payload_view import TextView
from paigeant_console.widgets.span_lines import Line

__all__ = ["HelpScreen"]

WIDEST: Final = 100
"""Cells after which a line is long to read."""
_TITLES: Final = {
    "workflow": literal("one workflow"),
    "older": literal("older workflows"),
    "entry": literal("one operation, or one entry of the audit"),
    "help": literal("help"),
}
"""Of the views without a number."""


class _HelpText(TextView):
    """The text, made for the width that it gets."""

    def __init__(self, of: Situation, *, ascii_only: bool) -> None:
        super().__init__(ascii_only=ascii_only)
        self._of = of
        self._width = 0

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        if width != self._width:
            self._width = width
            title = VIEWS.get(self._of.view) or _TITLES.get(self._of.view, literal("this view"))
            self._text = help_lines(self._of, title, min(width, WIDEST), ascii_only=self.ascii_only)
        return super().lines_for(width)


class HelpScreen(ConsoleScreen):
    """Every key of a view.

    Args:
        shared: what all screens share.
        of: the situation of the view that it was asked from.
        tab: the numbered view that one belongs to.
    """

    view: ClassVar[str] = "help"

    def __init__(self, shared: Shared, of: Situation, tab: str) -> None:
        self._tab = tab
        super().__init__(shared)
        self.text = _HelpText(of, ascii_only=shared.ascii_only)

    @property
    def tab(self) -> str:
        """See :class:`ConsoleScreen`."""
        return self._tab

    def body(self) -> Iterable[Widget]:
        """The text."""
        return (self.text,)

    def on_mount(self) -> None:
        """The text has the keys."""
        self.text.focus()
        down, back = key_of("table.page_down"), key_of("back")
        self.prompt.stand((literal(f"{down} goes on below, {back} leaves the help"), "info"))
