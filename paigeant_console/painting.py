"""What is painted of screens, and when: less and sooner than Textual does by itself.

Textual promises nothing about a screen's `_on_screen_resume`, `_on_screen_suspend`, `_on_timer_update`,
`_dirty_widgets`, `_layout_required`, `_scroll_required`, `_repaint_required` and `_compositor`, about what that makes
of a partial update, nor about an app's `_batch_count`: each use has a test in `tests/console/test_painting.py`.
"""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from textual import events
from textual._compositor import ChopsUpdate, Compositor
from textual.constants import MAX_FPS
from textual.screen import Screen
from textual.strip import Strip

__all__ = ["PromptScreen"]

AT_ONCE: Final = 3.0
"""Frames that may follow each other faster than the frame rate, after a rest: a key brings up to three."""


class PromptScreen(Screen[None], inherit_bindings=False):
    """A screen that paints what changed at once, and keeps to the frame rate only where frames follow each other.

    Textual paints when a clock ticks: a key right behind a frame, and all that is on a new screen, would wait for it.
    And it applies the style sheet again to all of a screen that is shown again, though most often nothing is different.
    """

    def __init__(self) -> None:
        super().__init__()
        self._compositor = _CellCompositor()
        self._styled_for: object = None
        self._frames = AT_ONCE
        self._framed_at = time.monotonic()

    def on_idle(self) -> None:
        """Paint; Textual calls this beside its own handler, which leaves to the clock what is left then."""
        changed = self._dirty_widgets or self._layout_required or self._scroll_required or self._repaint_required
        if changed and self.is_current and not self.app._batch_count and self._may_paint():
            self._on_timer_update()

    def _on_screen_resume(self, event: events.ScreenResume) -> None:
        # Textual's own handler comes next, and does as the event says then.
        event.refresh_styles = self._styled_for not in (None, self._styled_by())

    def _on_screen_suspend(self) -> None:
        self._styled_for = self._styled_by()

    def _styled_by(self) -> object:
        return self.app.theme, self.app.classes

    def _may_paint(self) -> bool:
        now = time.monotonic()
        self._frames = min(AT_ONCE, self._frames + (now - self._framed_at) * MAX_FPS)
        self._framed_at = now
        if self._frames < 1:
            return False
        self._frames -= 1
        return True


class _CellCompositor(Compositor):
    """Has only those cells of a line painted that changed; Textual has all before them painted as well."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else _CellUpdate(update.chops, update.spans, update.chop_ends)


class _CellUpdate(ChopsUpdate):
    def render_segments(self, console: Console) -> str:
        written: list[str] = []
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is not None and x < last and end > first:
                    start = _start(strip, first - x)
                    # Zeros in front change nothing, and keep our own moves apart from any that a hostile text asks for.
                    written.append(f"\x1b[{y + 1};{x + start + 1:03}H")
                    written.append(strip.crop(start, min(end, last) - x).render(console))
        return "".join(written)


def _start(strip: Strip, wanted: int) -> int:
    """Where to begin in a strip so that `wanted` is painted, and no letter of two cells is cut."""
    at = 0
    for segment in strip:
        if at + segment.cell_length > wanted:
            return max(at, wanted) if segment.text.isascii() else at
        at += segment.cell_length
    return at
