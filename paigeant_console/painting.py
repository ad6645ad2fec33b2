"""What is painted of screens, and when, and how their style sheet is read: less and sooner than Textual does by itself.

Textual promises nothing about a screen's `_on_screen_resume`, `_on_screen_suspend`, `_on_timer_update`,
`_dirty_widgets`, `_layout_required`, `_scroll_required`, `_repaint_required` and `_compositor`, about what that makes
of a partial update, nor about a style sheet's `_process_component_classes`, a node's `_pseudo_classes_cache_key` and an
app's `_batch_count`: each use has a test in `tests/console/test_painting.py`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

from rich.console import Console
from textual import events
from textual._compositor import ChopsUpdate, Compositor
from textual.constants import MAX_FPS
from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.screen import Screen
from textual.strip import Strip

__all__ = ["ParsedOnce", "PromptScreen"]

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


class ParsedOnce(Stylesheet):
    """A style sheet that is read again only where a theme has changed what its variables mean.

    Textual reads all of it anew for each screen that it shows for the first time, which takes longer than all the rest.
    And it looks through all rules for each part of each widget, a dozen in each; here those of like widgets are known.
    """

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._read_with = variables
        self._stale = False
        self._path: Hashable = ()
        """All that selectors can tell of the widget whose parts are styled now, and of what it is in."""
        self._part_rules: dict[Hashable, RulesMap] = {}

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take up what variables mean.

        Args:
            variables: by name.
        """
        if variables != self._read_with:
            super().set_variables(variables)
            self._read_with = variables
            self._stale = True

    def reparse(self) -> None:
        """Read all of it again, where that would come out otherwise."""
        if self._stale:
            super().reparse()
            self._stale = False
            self._part_rules.clear()

    def parse(self) -> None:
        """Read what has not been read yet."""
        super().parse()
        self._part_rules.clear()

    def apply(
        self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[object, ...], RulesMap] | None = None
    ) -> None:
        """Style a widget, or the nameless node that Textual makes for a part of one.

        Args:
            node: what to style.
            animate: as in Textual.
            cache: as in Textual.
        """
        if type(node) is not DOMNode:
            super().apply(node, animate=animate, cache=cache)
            return
        part = node.classes, self._path
        rules = self._part_rules.get(part)
        if rules is None:
            super().apply(node)
            self._part_rules[part] = node.styles.base.get_rules()
        else:
            self.replace_rules(node, rules)

    def _process_component_classes(self, node: DOMNode) -> None:
        self._path = tuple((type(at), at.id, at.classes, at._pseudo_classes_cache_key) for at in node.css_path_nodes)
        super()._process_component_classes(node)
