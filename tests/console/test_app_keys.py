"""The action table and the keys that it binds: every key does what the table says of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.binding import Binding
from textual.screen import Screen

from paigeant_console.actions import ACTIONS, help_of, of_view
from paigeant_console.app import ConsoleApp
from paigeant_console.screens.audit import AuditScreen
from paigeant_console.screens.dead_letters import DeadLettersScreen
from paigeant_console.screens.entry import EntryScreen
from paigeant_console.screens.help import HelpScreen
from paigeant_console.screens.older import OlderScreen
from paigeant_console.screens.queues import QueuesScreen
from paigeant_console.screens.traffic import TrafficScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_console.widgets.confirm_bar import ConfirmBar
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.payload_area import PayloadArea
from paigeant_console.widgets.payload_view import TextView
from paigeant_console.widgets.prompt import Prompt
from paigeant_console.widgets.replay_form import ReplayForm, _ReplayBar
from tests.console import story as told
from tests.console.appkit import Console, ask_for, console
from tests.console.story import Story, sample_story

VIEWS = {
    "1": WorkflowsScreen,
    "2": TrafficScreen,
    "3": QueuesScreen,
    "4": DeadLettersScreen,
    "5": AuditScreen,
}


def test_every_binding_is_in_the_table() -> None:
    known = {action.id: action for action in ACTIONS}
    for owner in (ConsoleApp, LineTable, TextView, PayloadArea):
        for binding in owner.__dict__["BINDINGS"]:
            assert isinstance(binding, Binding)
            action = known[binding.id or ""]
            assert sorted(binding.key.split(",")) == sorted(action.keys), binding
    # Forms take keys straight from the table, and have no bindings of their own.
    for form in (Prompt, ConfirmBar, _ReplayBar, ReplayForm):
        assert not form._merge_bindings().key_to_bindings
    # Nothing comes in from Textual: its own palette, its tab order, its quit.
    bound = set(ConsoleApp._merge_bindings().key_to_bindings) | set(WorkflowsScreen._merge_bindings().key_to_bindings)
    assert bound == {key for action in ACTIONS if action.owner == "app" for key in action.keys}


def test_every_action_of_the_app_can_be_performed() -> None:
    screens = {
        "workflow": WorkflowScreen,
        "older": OlderScreen,
        "entry": EntryScreen,
        "help": HelpScreen,
        **{s.view: s for s in VIEWS.values()},
    }
    for action in ACTIONS:
        # What has no key is a command with arguments, and has its tests below.
        if action.owner == "app" and action.keys and action.id != "interrupt":
            for view in action.where & set(screens):
                assert hasattr(screens[view], "do_" + action.id.replace(".", "_").replace("-", "_")), (action.id, view)


async def test_numbers_show_the_views(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        for key, screen in reversed(VIEWS.items()):
            await opened.press(key)
            assert isinstance(opened.screen, screen)
            await opened.shows(f"{key} ")
        await opened.press("4", "enter")
        assert isinstance(opened.screen, WorkflowScreen)
        await opened.press("2")
        assert isinstance(opened.screen, TrafficScreen)
        await opened.press("4")
        assert isinstance(opened.screen, DeadLettersScreen), "a number shows the view itself"


async def test_enter_opens_and_q_goes_back_and_quits(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("down", "enter")
        assert isinstance(opened.screen, WorkflowScreen)
        assert opened.screen.correlation_id == told.ALSO_RUNNING
        await opened.press("q")
        assert isinstance(opened.screen, WorkflowsScreen)
        assert opened.screen.table.cursor_key == told.ALSO_RUNNING
        await opened.press("enter", "escape")
        assert isinstance(opened.screen, WorkflowsScreen)
        await opened.press("escape")
        assert opened.app.is_running, "Escape never quits"
        await opened.press("q")
        assert opened.app.return_value == 0


@pytest.mark.parametrize("keys", [["ctrl+q"], ["ctrl+c", "ctrl+c"], [":", "q", "enter"], [":", *"quit", "enter"]])
async def test_ways_to_quit(tmp_path: Path, keys: list[str]) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press(*keys)
        await opened.until(lambda: opened.app.return_value == 0, "the end")


async def test_one_interrupt_does_not_quit(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("ctrl+c")
        assert opened.app.return_value is None
        assert "press ^C again to quit" in opened.text()


async def test_quitting_from_within_a_question_is_possible(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("r", "ctrl+c", "ctrl+c")
        await opened.until(lambda: opened.app.return_value == 0, "the end")


async def test_help_explains_the_view_it_was_asked_from(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(100, 60)) as opened:
        await opened.press("4", "?")
        assert isinstance(opened.screen, HelpScreen)
        text = opened.text()
        assert "Keys of dead letters" in text
        for action in of_view("dead"):
            assert help_of(action) in text or len(action.help) > 70, action.id
        await opened.press("G", "g", "pagedown", "j", "k")
        await opened.press("q")
        assert isinstance(opened.screen, DeadLettersScreen)
        await opened.press("enter", "f1")
        assert "Keys of one workflow" in opened.text()
        await opened.press("escape")
        assert isinstance(opened.screen, WorkflowScreen)


async def test_the_first_frame_of_a_screen_has_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: dict[type[Screen[Any]], str] = {}

    def painted(app: ConsoleApp, screen: Screen[Any], renderable: object) -> None:
        if renderable is not None and type(screen) not in frames:
            frames[type(screen)] = "\n".join(strip.text for strip in screen._compositor.render_strips())

    monkeypatch.setattr(ConsoleApp, "_display", painted)
    async with console(sample_story(), tmp_path, size=(100, 60)) as opened:
        for keys, screen in ("?", HelpScreen), ("q2", TrafficScreen):
            await opened.press(*keys)
            await opened.until(partial(frames.get, screen))
    assert "Keys of workflows" in frames[HelpScreen]
    assert "dispatched" in frames[TrafficScreen]


async def test_hints_are_made_from_the_table(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        foot = opened.lines()[-1]
        for action in of_view("workflows"):
            if 0 < action.hint < 8:
                assert str(action.label) in foot
        await opened.press("r")
        assert opened.lines()[-1].split() == ["Enter", "go", "on", "Esc", "cancel"]
        await opened.press("escape")
        assert "retry" in opened.lines()[-1]


async def test_a_key_that_does_nothing_here_says_why(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("2", "r")
        assert "retry: not in this view (but in: 1 workflows, 4 dead letters, a workflow's page)" in opened.text()
        await opened.press("u")
        assert "unmark: not in this view" in opened.text()


async def test_a_key_without_a_row_says_so(tmp_path: Path) -> None:
    async with console(Story(), tmp_path) as opened:
        await opened.press("r")
        assert "retry: there is no row under the cursor" in opened.text()
        await opened.press("enter")
        assert isinstance(opened.screen, WorkflowsScreen)


@pytest.mark.parametrize("keys", ["1", "2", "3", "4", "5", "1 enter", "1 enter tab tab"])
async def test_all_columns_can_be_shown_in_every_table(tmp_path: Path, keys: str) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        await opened.press(*keys.split())
        await opened.again()
        before = opened.lines()
        table = opened.screen.focused
        assert isinstance(table, LineTable)
        await opened.press("W")
        assert "all columns; < and > move" in opened.text()
        await opened.press(*">>>>>>")
        assert table.shifted == 120
        assert opened.lines()[3:-3] != before[3:-3]
        await opened.press("<", "W")
        await opened.again()
        assert table.wide == 0
        assert opened.lines()[3:-3] == before[3:-3]


async def test_a_part_without_columns_says_so(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        await opened.press("enter", "tab", "W")
        assert "wide: this part has no columns; Tab goes to those that have some" in opened.text()


async def test_commands(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        for word, screen in (("traffic", TrafficScreen), ("dead", DeadLettersScreen), ("wf", WorkflowsScreen)):
            await opened.press(":")
            await opened.type(word)
            await opened.press("enter")
            await opened.until(partial(_is_shown, opened, screen), word)
        await opened.press(":")
        await opened.type("que")
        await opened.press("tab")
        assert opened.screen.prompt.value == "queues"
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, QueuesScreen), "queues")
        await opened.press("1", ":")
        await opened.type("open 8491")
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, WorkflowScreen), "the workflow")
        assert opened.screen.correlation_id == told.DEAD
        await opened.press("q", ":")
        await opened.type("open nowhere")
        await opened.press("enter")
        await opened.shows("no workflow 'nowhere'")
        await opened.press(":")
        await opened.type("frobnicate [/x]")
        await opened.press("enter")
        await opened.shows("no such command: frobnicate")
        await opened.press(":", "up")
        assert opened.screen.prompt.value == "frobnicate [/x]", "what was typed before"
        await opened.press("up", "down", "escape")


def _is_shown(opened: Console, screen: type) -> bool:
    return isinstance(opened.app.screen, screen)


async def test_a_command_does_what_its_key_does(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press(":")
        await opened.type("retry")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.prompt.asking and "because" in opened.text(), "the reason")
        await opened.press("escape")


async def test_a_workflow_can_be_started(tmp_path: Path) -> None:
    story = Story()
    async with console(story, tmp_path) as opened:
        await opened.press(":")
        await opened.type("dispatch validate charge amount=12")
        await opened.press("enter")
        await opened.shows("dispatched ")
        await opened.settled()
        assert "○ validate → · charge" in opened.text()
        assert story.message(opened.screen.targets()[0]).payload == {"amount": 12}
        await opened.press(":")
        await opened.type("dispatch")
        await opened.press("enter")
        await opened.shows("name the steps")


async def test_editing_in_the_prompt(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press(":")
        prompt = opened.screen.prompt
        await opened.type("one two")
        await opened.press("ctrl+w")
        assert prompt.value == "one "
        await opened.press("home", "x", "right", "delete", "end", "backspace", "y")
        assert prompt.value == "xoey"
        await opened.press("left", "left", "ctrl+k")
        assert prompt.value == "xo"
        await opened.press("ctrl+u")
        assert prompt.value == ""
        await opened.type("a" * 150)
        assert len(opened.lines()[-2]) <= 100
        await opened.press("escape")
        assert not prompt.asking


async def test_a_pasted_text_is_one_line_and_harmless(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("r")
        opened.app.post_message(events.Paste("be\x1b[2Jcause\nrm -rf"))
        await opened.until(lambda: opened.screen.prompt.value, "the paste")
        assert opened.screen.prompt.value == "be\x1b[2Jcause"
        assert "be␛[2Jcause" in opened.text()
        await opened.press("escape")


@pytest.mark.parametrize("view", ["1", "2", "5"])
async def test_two_enters_in_one_burst_open_one_page(tmp_path: Path, view: str) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await row_of(opened, view)
        burst(opened, "enter", "enter")
        await opened.pilot.pause()
        await opened.pilot.pause()
        assert len(opened.app.screen_stack) == 2


@pytest.mark.parametrize("view", ["1", "2", "5"])
async def test_a_key_right_behind_enter_is_for_what_enter_opened(tmp_path: Path, view: str) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await row_of(opened, view)
        # In the list the second one would leave the console.
        burst(opened, "enter", "q")
        await opened.pilot.pause()
        await opened.pilot.pause()
        assert opened.app.is_running
        assert len(opened.app.screen_stack) == 1
        assert opened.screen.view == {"1": "workflows", "2": "traffic", "5": "audit"}[view]


async def row_of(opened: Console, view: str) -> None:
    """Go to a row of that view."""
    if view == "5":
        await ask_for(opened, "h", "look at it first")
        await opened.press("y")
        await opened.shows("hold: 1 done")
    await opened.press(view)
    await opened.until(lambda: len(opened.screen.table.source), "rows")
    await opened.press("j")


def burst(opened: Console, *keys: str) -> None:
    """Keys that come at once."""
    for key in keys:
        opened.app.post_message(events.Key(key, {"enter": "\r"}.get(key, key)))
