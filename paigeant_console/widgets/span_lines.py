"""Lines of styled text that are painted only where they changed; what all small widgets of the console are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import ClassVar, Final, TypeAlias

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from paigeant_console.safe_text import SafeText, ascii_safe, safe
from paigeant_console.widgets.columns import Span
from paigeant_console.widgets.component_styles import ComponentStyles

__all__ = ["STYLES", "Line", "SpanLines"]

Line: TypeAlias = Sequence[Span]

STYLES: Final = ("dim", "strong", "ok", "info", "warn", "error", "key", "tab", "badge", "write", "danger")
"""Names of styles that spans may carry; the empty one is the widget's own."""


class SpanLines(Widget):
    """A widget of lines, each of some spans.

    A subclass says in :meth:`lines_for` what they are, and calls :meth:`update_lines` when that may have changed.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"span-lines--{name}" for name in STYLES}
    DEFAULT_CSS = """
    SpanLines {
        height: 1;
        width: 1fr;
        & > .span-lines--dim { color: $text-muted; }
        & > .span-lines--strong { text-style: bold; }
        & > .span-lines--ok { color: $text-success; }
        & > .span-lines--info { color: $text-primary; }
        & > .span-lines--warn { color: $text-warning; }
        & > .span-lines--error { color: $text-error; }
        & > .span-lines--key { text-style: bold; }
        & > .span-lines--tab { text-style: reverse; }
        & > .span-lines--badge { text-style: bold reverse; }
        & > .span-lines--write { text-style: bold; color: $text-warning; }
        & > .span-lines--danger { text-style: bold reverse; color: $text-error; }
    }
    """

    grows: ClassVar[bool] = False
    """Whether it is as high as it has lines."""

    def __init__(
        self,
        *,
        ascii_only: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.ascii_only = ascii_only
        self._lines: list[Line] = []
        self._made_for = Size(-1, -1)
        self._span_styles = ComponentStyles(self, "span-lines")

    def lines_for(self, width: int) -> Sequence[Line]:
        """What to show on ``width`` cells."""
        return ()

    @property
    def lines(self) -> Sequence[Line]:
        """What is shown."""
        return self._lines

    @property
    def plain(self) -> str:
        """What is shown, as plain text; for tests."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def update_lines(self) -> None:
        """Look what is to be shown now, and paint the lines that differ."""
        width = self.size.width
        if not width and not self.grows:
            return
        lines = [list(line) for line in self.lines_for(width)]
        before, self._lines = self._lines, list(lines)
        self._made_for = self.size
        if self.grows and len(lines) != len(before):
            self.refresh(layout=True)
            return
        for y in range(max(len(lines), len(before))):
            old = before[y] if y < len(before) else None
            if old is None or y >= len(lines) or lines[y] != old:
                self.refresh(Region(0, y, width, 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """How high it is, where its height is automatic."""
        self._lines = [list(line) for line in self.lines_for(width)]
        return len(self._lines)

    def on_resize(self) -> None:
        """Fit the lines to the new size, unless they have been painted so already."""
        if self._made_for != self.size:
            self.update_lines()
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw a line.

        Args:
            y: The line, from 0.
        """
        width = self.size.width
        if self._made_for != self.size:
            # A widget learns its new size after the frame that it has it in, which would show the lines of the old one.
            self._made_for = self.size
            self._lines = [list(line) for line in self.lines_for(width)]
        base = self.rich_style
        line: Line = self._lines[y] if y < len(self._lines) else ()
        segments = [
            Segment("".join(text for text, _ in group), base + self._span_styles[name] if name else base)
            for name, group in groupby(map(self._clean, line), key=itemgetter(1))
        ]
        return Strip(segments).adjust_cell_length(width, base)

    def _clean(self, span: Span) -> Span:
        text, style = span
        # Past the type checker a plain string may come: it is made safe here, as in the table.
        text = text if type(text) is SafeText else safe(text)
        return (ascii_safe(text) if self.ascii_only and not text.isascii() else text), style

    def notify_style_update(self) -> None:
        """Textual has styled this widget anew, perhaps in another theme."""
        super().notify_style_update()
        self._span_styles.clear()
