"""When screens are painted, and what of them; with every private part of Textual that this needs."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Static

from paigeant_console.painting import AT_ONCE, PromptScreen, _start
from paigeant_console.terminal import ConsoleAppBase

LATER = 1e12
"""A time that has not come: none has passed since."""


class _Screen(PromptScreen):
    def compose(self) -> ComposeResult:
        yield Static("before", id="text")


class _App(App[None]):
    def get_default_screen(self) -> _Screen:
        return _Screen()


async def test_a_change_is_painted_at_once_after_a_rest_and_left_to_the_clock_behind_other_frames() -> None:
    app = _App()
    async with app.run_test() as pilot:
        screen = app.screen
        assert isinstance(screen, _Screen)
        await pilot.pause()
        screen._repaint_required = True
        screen._frames, screen._framed_at = 0.0, LATER
        screen.on_idle()
        assert screen._repaint_required, "that frame is the clock's"
        screen._frames, screen._framed_at = 0.0, 0.0  # it has rested for long
        for _ in range(int(AT_ONCE)):
            screen._repaint_required = True
            screen.on_idle()
            assert not screen._repaint_required


class _Looking(PromptScreen):
    """A screen that says how often it has looked."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = self.styled = 0

    def compose(self) -> ComposeResult:
        yield Static("not yet", id="text")

    def on_screen_resume(self) -> None:
        self.looks += 1
        self.query_one("#text", Static).update(f"look {self.looks}")

    def update_node_styles(self, animate: bool = True) -> None:
        self.styled += 1
        super().update_node_styles(animate)


class _Views(ConsoleAppBase):
    """Two views, and what was painted of them."""

    CSS = ".-odd Static { text-style: bold; }"
    MODES: ClassVar[dict[str, type[Screen[Any]]]] = {"one": _Looking, "two": _Looking}  # type: ignore[assignment]
    DEFAULT_MODE = "one"

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[str] = []

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if renderable is not None:
            self.frames.append(screen._compositor.render_strips()[0].text.rstrip())


async def test_a_screen_is_painted_first_when_it_has_looked_and_then_at_once() -> None:
    app = _Views()
    async with app.run_test() as pilot:
        await pilot.pause()
        one = app.screen
        assert isinstance(one, _Looking)
        app.switch_mode("two")
        assert not app._batch_count, "nobody waits for a clock"
        await pilot.pause()
        app.push_screen(_Looking())
        await pilot.pause()
        assert app.frames
        assert "not yet" not in app.frames
        app.pop_screen()
        await pilot.pause()
        app.frames.clear()
        app.switch_mode("one")
        await pilot.pause()
        assert set(app.frames) == {f"look {one.looks}"}, "what it showed before is not painted again"


async def test_a_screen_that_is_shown_again_is_styled_only_where_it_would_look_different() -> None:
    app = _Views()
    async with app.run_test() as pilot:
        await pilot.pause()
        below = app.screen
        assert isinstance(below, _Looking)
        text = below.query_one(Static)
        for change, times in (lambda: None, 0), (lambda: app.add_class("-odd"), 1), (lambda: None, 0):
            app.push_screen(_Looking())
            await pilot.pause()
            change()
            below.styled = 0
            app.pop_screen()
            await pilot.pause()
            assert below.styled == times
        assert text.styles.text_style.bold


async def test_nothing_is_painted_while_changes_are_collected() -> None:
    app = _App()
    async with app.run_test() as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, _Screen)
        with app.batch_update():
            screen._repaint_required = True
            screen._framed_at = 0.0
            screen.on_idle()
            assert screen._repaint_required


async def test_what_a_widget_shows_next_comes_to_the_screen() -> None:
    app = _App()
    async with app.run_test() as pilot:
        app.screen.query_one("#text", Static).update("after")
        await pilot.pause()
        line = app.screen._compositor.render_strips()[0]
        assert "after" in "".join(segment.text for segment in line)


async def test_of_a_line_only_the_cells_that_changed_are_painted() -> None:
    app = _App()
    async with app.run_test() as pilot:
        await pilot.pause()
        text = app.screen.query_one(Static)
        text.update("before and after")
        await pilot.pause()
        compositor = app.screen._compositor
        compositor._dirty_regions = {Region(7, 0, 3, 1)}
        update = compositor.render_partial_update()
        assert update is not None
        assert re.sub(r"\x1b\[[0-9;]*m", "", update.render_segments(app.console)) == "\x1b[1;008Hand"


def test_no_letter_of_two_cells_is_cut() -> None:
    strip = Strip([Segment("plain "), Segment("\u4e2d\u6587"), Segment("end")])
    assert [_start(strip, wanted) for wanted in (0, 3, 6, 7, 9, 10, 12)] == [0, 3, 6, 6, 6, 10, 12]
