"""Text that scrolls: payloads, records, help. It draws what is in sight and keeps the rest to itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar

from textual.binding import Binding, BindingType

from paigeant_console.actions import by_id
from paigeant_console.safe_text import SafeText
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["PayloadView", "TextView"]


def _binding(id: str, action: str) -> Binding:
    keys = by_id(id)
    return Binding(",".join(keys.keys), action, str(keys.label), show=False, id=id)


class TextView(SpanLines, can_focus=True):
    """Lines that scroll by the keys that move in tables."""

    BINDINGS: ClassVar[list[BindingType]] = [
        _binding("table.down", "scroll_lines(1)"),
        _binding("table.up", "scroll_lines(-1)"),
        _binding("table.page_down", "scroll_pages(1)"),
        _binding("table.page_up", "scroll_pages(-1)"),
        _binding("table.first", "scroll_to_line(0)"),
        _binding("table.last", "scroll_to_line(-1)"),
    ]
    DEFAULT_CSS = """
    TextView { height: 1fr; }
    """

    def __init__(self, *, ascii_only: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(ascii_only=ascii_only, id=id, classes=classes)
        self._text: Sequence[Line] = ()
        self._top = 0

    @property
    def top(self) -> int:
        """The first line in sight."""
        return self._top

    @property
    def hidden_below(self) -> int:
        """How many lines are out of sight below."""
        return max(0, len(self._text) - self._top - self.size.height)

    def show(self, text: Sequence[Line], *, keep: bool = True) -> None:
        """Show other lines.

        Args:
            text: all of them.
            keep: stay where it was scrolled to, as far as it goes.
        """
        self._text = text
        self._top = self._clamped(self._top) if keep else 0
        self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        self._top = self._clamped(self._top)
        return self._text[self._top : self._top + max(self.size.height, 0)]

    def _clamped(self, top: int) -> int:
        return max(0, min(top, len(self._text) - max(1, self.size.height)))

    def _go(self, top: int) -> None:
        top = self._clamped(top)
        if top != self._top:
            self._top = top
            self.update_lines()

    def action_scroll_lines(self, lines: int) -> None:
        """Scroll by so many lines."""
        self._go(self._top + lines)

    def action_scroll_pages(self, pages: int) -> None:
        """Scroll by so many pages."""
        self._go(self._top + pages * max(1, self.size.height - 1))

    def action_scroll_to_line(self, line: int) -> None:
        """Go to a line; -1: the last."""
        self._go(line if line >= 0 else len(self._text))


class PayloadView(TextView):
    """Lines of a payload, as :mod:`paigeant_console.safe_text` lays them out."""

    def show_text(self, lines: Sequence[SafeText], styles: Sequence[str] = (), *, keep: bool = True) -> None:
        """Show other text.

        Args:
            lines: all of it.
            styles: of the lines; empty: none has any.
            keep: stay where it was scrolled to.
        """
        self.show([((line, style),) for line, style in zip(lines, styles or repeat(""), strict=False)], keep=keep)
