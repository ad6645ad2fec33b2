"""The console, driven by keys on an in-memory broker whose clock stands: every key does what the table says of it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.binding import Binding

from paigeant_console.actions import ACTIONS, Situation, by_id, of_view
from paigeant_console.app import ConsoleApp, run
from paigeant_console.feed import Feed
from paigeant_console.screens.audit import AuditScreen
from paigeant_console.screens.dead_letters import DeadLettersScreen
from paigeant_console.screens.help import HelpScreen
from paigeant_console.screens.queues import QueuesScreen
from paigeant_console.screens.traffic import TrafficScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_console.terminal import TerminalError
from paigeant_console.widgets.confirm_bar import ConfirmBar
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.payload_view import TextView
from paigeant_console.widgets.prompt import Prompt
from paigeant_console.widgets.replay_form import ReplayForm, _PayloadArea, _ReplayBar
from paigeant_core.errors import ConfigError
from tests.console import story as told
from tests.console.appkit import NAMES, Console, console
from tests.console.story import Story, sample_story

VIEWS = {
    "1": WorkflowsScreen,
    "2": TrafficScreen,
    "3": QueuesScreen,
    "4": DeadLettersScreen,
    "5": AuditScreen,
}


@pytest.fixture(autouse=True)
def no_tmux(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied is wrapped inside tmux and screen, and these tests read it."""
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("STY", raising=False)
    monkeypatch.setenv("TZ", "UTC")


def writes(opened: Console) -> list[str]:
    """Listen to what is written to the terminal beside the screen: what is copied."""
    written: list[str] = []
    driver: Any = opened.app._driver
    driver.write = written.append
    return written


def copied(written: list[str]) -> str:
    found = re.search(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", "".join(written))
    assert found is not None, written
    return base64.b64decode(found[1]).decode()


# The table and the keys


def test_every_binding_is_in_the_table() -> None:
    known = {action.id: action for action in ACTIONS}
    for owner in (ConsoleApp, LineTable, TextView, _PayloadArea):
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
    screens = {"workflow": WorkflowScreen, "help": HelpScreen, **{s.view: s for s in VIEWS.values()}}
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
            assert action.help in text or len(action.help) > 70, action.id
        await opened.press("G", "g", "pagedown", "j", "k")
        await opened.press("q")
        assert isinstance(opened.screen, DeadLettersScreen)
        await opened.press("enter", "f1")
        assert "Keys of one workflow" in opened.text()
        await opened.press("escape")
        assert isinstance(opened.screen, WorkflowScreen)


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
        assert "retry: not in this view (but in: workflows, workflow, dead)" in opened.text()
        await opened.press("u")
        assert "unmark: not in this view" in opened.text()


async def test_a_key_without_a_row_says_so(tmp_path: Path) -> None:
    async with console(Story(), tmp_path) as opened:
        await opened.press("r")
        assert "retry: there is no row under the cursor" in opened.text()
        await opened.press("enter")
        assert isinstance(opened.screen, WorkflowsScreen)


# Lists


async def test_rows_that_come_in_above_leave_the_cursor_on_its_row(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("j", "j")
        table = opened.screen.table
        assert table.cursor_key == told.HELD
        for number in range(40):
            story.start(f"new{number:02}", ("charge",))
            await opened.settled()
        assert table.cursor_key == told.HELD
        assert any(line.startswith("▌") and "b8a6acd" in line for line in opened.lines())
        await opened.press("g")
        story.start("newest", ("charge",))
        await opened.settled()
        assert table.cursor_key == "newest", "g follows the top"


async def test_until_it_is_moved_the_cursor_follows_the_top(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        story.start("new", ("charge",))
        await opened.settled()
        assert opened.screen.table.cursor_key == "new"


async def test_moving_keys(tmp_path: Path) -> None:
    story = Story()
    for number in range(100):
        story.start(f"w{number:02}", ("charge",))
    async with console(story, tmp_path, size=(80, 24)) as opened:
        table = opened.screen.table

        async def goes(key: str, index: int) -> None:
            await opened.press(key)
            assert table.cursor_index == index, key

        await goes("j", 1)
        await goes("down", 2)
        await goes("k", 1)
        await goes("up", 0)
        await goes("G", 99)
        await goes("g", 0)
        await goes("end", 99)
        await goes("home", 0)
        page = table.size.height - 1
        await goes("pagedown", page)
        await goes("pageup", 0)
        await goes("ctrl+d", page)
        await goes("ctrl+u", 0)


async def test_the_filter_counts_while_it_is_typed_and_keeps_the_row(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("j", "j", "j", "j")
        table = opened.screen.table
        row = table.cursor_key
        assert row == told.RETRYING
        await opened.press("/")
        await opened.type("onboard")
        assert len(table.source) == 3
        assert table.cursor_key == row
        assert "3 of 9" in opened.text()
        await opened.type("ingx")
        assert len(table.source) == 0
        assert "nothing matches the filter" in opened.text()
        await opened.press("backspace")
        assert table.cursor_key == row, "the row comes back with the filter that lets it"
        await opened.press("enter")
        assert "FILTER" in opened.text()
        assert "onboarding" in opened.text()
        await opened.press("escape")
        assert "FILTER" not in opened.text()
        assert table.cursor_key == row
        assert len(table.source) == 9


async def test_a_filter_that_is_half_typed_leaves_the_last_one(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("state:dead")
        assert len(opened.screen.table.source) == 1
        await opened.type(" (")
        assert len(opened.screen.table.source) == 1
        assert "a term is missing at character 13" in opened.text()
        await opened.press("enter")
        assert "kept the last filter that could be read: state:dead" in opened.text()
        await opened.press("/", "escape")
        assert len(opened.screen.table.source) == 9


async def test_arrows_move_in_the_list_while_the_filter_is_typed(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("onboarding")
        await opened.press("down", "down", "up", "enter")
        assert opened.screen.table.cursor_key == told.RETRYING


async def test_what_changes_under_a_filter_comes_and_goes(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press(":")
        await opened.type("filter state:dead")
        await opened.press("enter")
        await opened.shows("1 of 9")
        story.fails(told.RUNNING, ValueError("no"))
        await opened.settled()
        assert "2 of 9" in opened.text()


async def test_order(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("o")
        assert "ordered by last change" in opened.text()
        await opened.press("o")
        assert "ordered by urgency" in opened.text()
        assert opened.screen.rows.key(0) == told.DEAD
        await opened.press("o")
        assert opened.screen.rows.key(0) == told.QUEUED


async def test_pause_freezes_the_view_and_misses_nothing(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("p")
        assert "PAUSED" in opened.text()
        story.start("late", ("charge",))
        await opened.until(lambda: opened.app.feed.serial == story.records())
        await opened.again()
        assert len(opened.screen.table.source) == 9
        await opened.press("p")
        assert len(opened.screen.table.source) == 10
        assert "PAUSED" not in opened.text()


async def test_marks(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press(" ", "j", "j", "ctrl+@")
        assert opened.screen.targets() == [told.QUEUED, told.ALSO_RUNNING, told.HELD]
        assert "3 marked" in opened.text()
        await opened.press("r")
        assert "retry 3 workflows because:" in opened.text()
        await opened.press("escape", "u")
        assert opened.screen.targets() == [told.HELD]
        await opened.press(" ", " ")
        assert opened.screen.table.marks == ()


# Acting


async def ask_for(opened: Console, key: str, reason: str) -> None:
    await opened.press(key)
    await opened.until(lambda: opened.screen.prompt.asking, "the reason")
    await opened.type(reason)
    await opened.press("enter")
    await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
    await opened.pilot.pause()


async def test_retry_from_reason_to_result(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("4", "G")
        assert opened.screen.targets() == [told.DEAD]
        await ask_for(opened, "r", "card was mended")
        text = opened.text()
        assert "retry 1 workflow" in text
        assert "order dead at process-payment try 2 → queued at process-payment" in text
        assert "card was mended" in text
        assert f"paigeant-console retry {told.DEAD} --reason 'card was mended'" in text
        assert story.state(told.DEAD) == "dead", "nothing is done before it is confirmed"
        await opened.press("y")
        await opened.until(lambda: story.state(told.DEAD) == "queued", "the deed")
        await opened.shows("retry: 1 done")
        await opened.settled()
        assert told.DEAD not in [opened.screen.rows.key(i) for i in range(len(opened.screen.rows))]
        audit = json.loads(story._do(story.transport().audit(story.topic))[0])
        assert (audit["action"], audit["reason"], audit["outcome"]) == (
            "retry",
            "card was mended",
            "1 done, 0 skipped, 0 failed",
        )
        await opened.press("5")
        await opened.shows("card was mended")


@pytest.mark.parametrize("key", ["n", "enter", "escape", "q"])
async def test_the_default_is_no(tmp_path: Path, key: str) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        records = story.records()
        await ask_for(opened, "d", "out of the way")
        # No other key gets through to what is behind.
        await opened.press("x", "1", "2", "j", "k", "r", "d")
        assert opened.screen.confirm_bar.waiting
        await opened.press(key)
        await opened.shows("dead-letter: nothing was done")
        assert not opened.screen.confirm_bar.display
        assert story.records() == records
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1, "the list has its keys again"


async def test_a_reason_is_required(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("r", "enter")
        assert "a reason is needed" in opened.text()
        await opened.type("  ")
        await opened.press("enter")
        assert "a reason is needed" in opened.text()
        await opened.press("escape")
        assert "nothing was done" in opened.text()
        assert not opened.screen.prompt.asking


async def test_what_cannot_be_done_is_told_before_and_after(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("G")
        await ask_for(opened, "r", "again")
        assert "it is completed: replay it from a step instead" in opened.text()
        assert "nothing can be done" in opened.text()
        await opened.press("y")
        assert opened.screen.confirm_bar.waiting, "there is nothing to say yes to"
        await opened.press("escape")
        await opened.press(" ", "k", " ")
        await ask_for(opened, "r", "again")
        assert "retry 1 workflow of 2; 1 not eligible, left alone" in opened.text()
        await opened.press("y")
        await opened.shows("retry: 1 done, 1 skipped")
        assert opened.screen.table.marks, "what was not done keeps its mark"


async def test_a_workflow_that_moved_meanwhile_is_left_alone(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await ask_for(opened, "d", "out of the way")
        story.done(told.QUEUED)
        await opened.press("y")
        await opened.shows("1 failed")
        assert "the workflow moved meanwhile" in opened.text()
        assert story.state(told.QUEUED) == "queued"


async def test_dead_letter(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await ask_for(opened, "d", "wrong order")
        assert "parked among the dead letters" in opened.text()
        await opened.press("y")
        await opened.until(lambda: story.state(told.QUEUED) == "dead", "the deed")
        await opened.settled()
        assert opened.app.feed.status().counts["dead"] == 2


async def test_replay_with_an_edited_payload(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("4", "G", "enter")
        await opened.until(lambda: bool(opened.screen.page.names()), "the history")
        await opened.press("R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        assert "‹ 3 process-payment ›" in opened.text()
        assert "(where it stands)" in opened.text()
        await opened.press("left", "right", "p")
        await opened.until(lambda: opened.screen.replay_form.asking == "payload", "the editor")
        editor = opened.screen.replay_form.editor
        assert '"expires": "2024-01"' in editor.text
        editor.text = editor.text.replace('"2024-01"', '"2029-08",')
        await opened.pilot.pause()
        assert "Expecting property name" in opened.text() or "line 13" in opened.text()
        await opened.press("ctrl+s")
        assert opened.screen.replay_form.asking == "payload", "what is no JSON is not taken"
        assert editor.cursor_location[0] in (11, 12, 13)
        editor.text = editor.text.replace('"2029-08",', '"2029-08"')
        await opened.pilot.pause()
        assert "a JSON object of" in opened.text()
        await opened.press("ctrl+s")
        assert "with the payload you edited" in opened.text()
        await opened.press("left")
        assert "the payload is edited for this step" in opened.text()
        await opened.press("enter")
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        await opened.type("new card")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert "with the payload you edited" in opened.text()
        assert "--payload payload.json" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.until(lambda: story.state(told.DEAD) == "queued", "the deed")
        message = story.message(told.DEAD)
        assert message.payload["card"] == {"number": "4000 0000 0000 0069", "expires": "2029-08"}
        assert (message.headers.run, message.headers.hop) == (2, 3)
        await opened.shows("replay: 1 done")


async def test_replay_from_an_earlier_step(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("G", "R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        assert "‹ 4 send-welcome-email ›" in opened.text(), "it is completed, so a step has to be named"
        await opened.press("h", "h", "l", "h", "enter")
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        await opened.type("again")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert "--from-step 2" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.until(lambda: story.state(told.DONE) == "queued", "the deed")
        assert story.message(told.DONE).headers.hop == 2


async def test_replay_of_several_asks_for_no_step(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press(" ", "j", " ")
        await ask_for(opened, "R", "both again")
        assert "replay 2 workflows" in opened.text()
        await opened.press("y")
        await opened.until(lambda: story.message(told.QUEUED).headers.run == 2, "the deed")
        assert story.message(told.ALSO_RUNNING).headers.run == 2
        await opened.until(lambda: not opened.screen.table.marks, "the marks go")


async def test_a_replay_can_be_left_at_every_turn(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path) as opened:
        await opened.press("R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await opened.press("1", "x")
        assert opened.screen.replay_form.asking == "replay", "no key gets through"
        await opened.press("p")
        await opened.type("x")
        await opened.press("escape")
        assert opened.screen.replay_form.asking == "replay"
        assert "with its payload as it was" in opened.text()
        await opened.press("p", "ctrl+s")
        assert "nothing was changed" in opened.text()
        await opened.press("escape")
        assert "nothing was done" in opened.text()
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1
        assert story.records() == records


@pytest.mark.parametrize("edited", ["good", "bad", None])
async def test_a_payload_in_the_editor(tmp_path: Path, edited: str | None) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        given: list[str] = []

        def edit(text: str) -> str | None:
            given.append(text)
            return {"good": text.replace("A-1011", "A-2022"), "bad": text + "}"}.get(edited or "")

        opened.screen.replay_form._edit = edit
        await opened.press("R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await opened.press("e")
        assert json.loads(given[0])["order_id"] == "A-1011"
        if edited == "good":
            assert "with the payload you edited" in opened.text()
        elif edited == "bad":
            assert opened.screen.replay_form.asking == "payload", "it is shown, with the place of the error"
            assert "Extra data" in opened.text()
        else:
            assert "$EDITOR gave nothing back" in opened.text()


async def test_the_editor_gets_the_terminal_and_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\nstat -c %a "$1" "$(dirname "$1")" > "$OUT"\nsed -i s/one/two/ "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    monkeypatch.setenv("OUT", str(tmp_path / "modes"))
    async with console(Story(), tmp_path) as opened:
        driver: Any = opened.app._driver
        type(driver).can_suspend = property(lambda self: True)
        try:
            assert opened.app.edit_text('{"a": "one"}') == '{"a": "two"}'
        finally:
            del type(driver).can_suspend
        assert (tmp_path / "modes").read_text().split()[1] == "700"
        monkeypatch.setenv("VISUAL", "/nowhere/editor")
        assert opened.app.edit_text("x") is None


async def test_read_only_writes_nothing_whatever_is_pressed(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path, read_only=True, size=(120, 30)) as opened:
        assert "READ-ONLY" in opened.text()
        assert "(r retry)  (R replay)  (d dead-letter)" in opened.lines()[-1]
        for view in ("1", "4"):
            for opening in ([], ["enter"]):
                await opened.press(view, *opening)
                for action in ACTIONS:
                    for key in action.keys if action.writes and action.owner == "app" else ():
                        await opened.press(key)
                        assert f"{action.label}: this console is read-only" in opened.text()
                        assert not opened.screen.prompt.asking
        await opened.press("1")
        for word in ("retry", "replay", "dead-letter", "dispatch"):
            await opened.press(":")
            await opened.type(f"{word} charge" if word == "dispatch" else word)
            await opened.press("enter")
            await opened.shows(f"{word}: this console is read-only")
        # The guard is not the screen: with it out of the way operations refuse all the same.
        opened.screen.do_retry()
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        await opened.type("sneaky")
        await opened.press("enter")
        await opened.shows("retry: this is read-only")
        assert story.records() == records
        assert story._do(story.transport().audit(story.topic)) == []


async def test_production_has_a_frame_and_wants_its_name(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, production=True, context="prod-eu") as opened:
        assert "PRODUCTION" in opened.lines()[0]
        assert opened.lines()[0].startswith("┏")
        assert "prod-eu" in opened.text()
        await ask_for(opened, "d", "wrong")
        await opened.until(lambda: opened.screen.prompt.asking, "the question")
        assert "in PRODUCTION prod-eu" in opened.text()
        assert "type prod-eu or 1 to do it:" in opened.text()
        await opened.type("y")
        await opened.press("enter")
        await opened.shows("nothing was done")
        assert story.state(told.QUEUED) == "queued"
        await ask_for(opened, "d", "wrong")
        await opened.until(lambda: opened.screen.prompt.asking, "the question")
        await opened.type("prod-eu")
        await opened.press("enter")
        await opened.until(lambda: story.state(told.QUEUED) == "dead", "the deed")


async def test_many_have_to_be_counted(tmp_path: Path) -> None:
    story = Story()
    for number in range(12):
        story.start(f"w{number:02}", ("charge",))
    async with console(story, tmp_path) as opened:
        await opened.press("G", " ", "g", "ctrl+@")
        await ask_for(opened, "d", "all of it")
        await opened.until(lambda: opened.screen.prompt.asking, "the question")
        assert "type 12 to do it:" in opened.text()
        assert "6 below" in opened.text()
        await opened.press("down", "down")
        assert "2 more above, 4 below" in opened.text()
        await opened.type("12")
        await opened.press("enter")
        await opened.shows("dead-letter: 12 done")


async def test_what_the_broker_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paigeant_core.errors import TransportError

    story = sample_story()
    async with console(story, tmp_path) as opened:

        async def broken(*_: object, **__: object) -> None:
            raise TransportError("the broker said [/no] to that")

        assert opened.app.feed._operations is not None
        monkeypatch.setattr(opened.app.feed._operations, "execute", broken)
        await ask_for(opened, "d", "wrong")
        await opened.press("y")
        await opened.shows("the broker said [/no] to that")
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1


async def test_keys_that_were_typed_ahead_reach_what_they_were_meant_for(tmp_path: Path) -> None:
    """Over a slow line keys come in bursts; none may be taken for something else."""
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path) as opened:

        def burst(*keys: str) -> None:
            for key in keys:
                opened.app.post_message(events.Key(NAMES.get(key, key), key if len(key) == 1 else None))

        burst("/", *"dead", "enter", "j")
        await opened.until(lambda: opened.screen.rows.query is not None)
        await opened.pilot.pause()
        assert opened.screen.rows.query.text == "dead"
        assert opened.screen.targets() == [told.DEAD]
        burst("escape", "G", "k", ":", *"dead", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, DeadLettersScreen))
        burst("1")
        await opened.until(lambda: isinstance(opened.app.screen, WorkflowsScreen))
        # What comes after the reason was not meant for a question that nobody has seen yet.
        burst("g", "r", *"mended", "enter", "y", "y", "d", "1")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert opened.screen.confirm_bar.confirmation.title[0][0] == "retry "
        assert story.records() == records
        burst("n", "R", "right", "y", "enter")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        assert story.records() == records
        burst("enter", *"again", "enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert story.records() == records


async def test_a_broker_that_does_not_answer_can_be_left(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        hang = asyncio.Event()
        operations: Any = opened.app.feed._operations

        async def never(*_: object, **__: object) -> None:
            await hang.wait()

        operations.plan = never
        await opened.press("r", "x", "enter")
        assert "retry: looking at 1 workflow" in opened.text()
        await opened.press("j", "1", "2", "d")
        assert isinstance(opened.screen, WorkflowsScreen)
        assert opened.screen.table.cursor_index == 0
        await opened.press("escape")
        assert "nothing was done" in opened.text()
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1


async def test_what_was_begun_is_done_to_its_end_though_the_console_is_left(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        transport: Any = opened.app.feed._transport
        operate, begun, release = transport.operate, threading.Event(), threading.Event()

        async def slow(*arguments: Any, **options: Any) -> Any:
            begun.set()
            await asyncio.to_thread(release.wait)
            return await operate(*arguments, **options)

        transport.operate = slow
        await opened.press(" ", "j", " ")
        await ask_for(opened, "d", "both")
        await opened.press("y")
        await opened.until(begun.is_set, "the beginning")
        try:
            await opened.shows("dead-letter: 0 of 2 …")
            await opened.press("q", "2", "r")
            assert isinstance(opened.app.screen, WorkflowsScreen)
            assert "an operation is under way" in opened.text()
            await opened.press("ctrl+q")
        finally:
            release.set()
    audit = [json.loads(entry) for entry in story._do(story.transport().audit(story.topic))]
    assert [entry["outcome"] for entry in audit] == ["2 done, 0 skipped, 0 failed"]


# Commands


async def test_commands(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        for word, screen in (("traffic", TrafficScreen), ("dead", DeadLettersScreen), ("wf", WorkflowsScreen)):
            await opened.press(":")
            await opened.type(word)
            await opened.press("enter")
            await opened.until(partial(_is_shown, opened, screen), word)
        await opened.press("ctrl+p")
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


# Taking things along


async def test_copy_asks_the_terminal_and_is_honest(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        written = writes(opened)
        await opened.press("y")
        assert copied(written) == told.QUEUED
        assert "asked the terminal to copy the ID; if it did not, w writes a file" in opened.text()
        await opened.press(" ", "j", " ")
        written.clear()
        await opened.press("y")
        assert copied(written) == f"{told.QUEUED} {told.ALSO_RUNNING}"


async def test_copy_of_a_payload(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("4", "G", "enter")
        await opened.until(lambda: bool(opened.screen.page.names()), "the history")
        written = writes(opened)
        await opened.press("tab", "y")
        assert json.loads(copied(written))["order_id"] == "A-1004"
        await opened.press("w")
        await opened.shows("written to")
        [file] = (tmp_path / "state").iterdir()
        assert json.loads(file.read_text())["order_id"] == "A-1004"
        assert file.stat().st_mode & 0o777 == 0o600


async def test_what_is_too_large_to_copy_is_written(tmp_path: Path) -> None:
    story = Story()
    story.start("big", ("charge",), {"text": "x" * 100_000})
    async with console(story, tmp_path) as opened:
        await opened.press("enter")
        await opened.until(lambda: bool(opened.screen.page.names()), "the history")
        await opened.press("tab", "y")
        assert "too large for a terminal's clipboard: written to" in opened.text()
        assert len(next((tmp_path / "state").iterdir()).read_bytes()) > 100_000


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ([], f"show {told.QUEUED}"),
        (["/", *"dead", "enter"], "list dead"),
        (["2"], "tail"),
        (["3"], "queues"),
        (["3", "tab"], "workers"),
        (["5"], "audit"),
        (["4", "G", "enter"], f"show {told.DEAD}"),
    ],
)
async def test_the_same_as_a_command(tmp_path: Path, keys: list[str], command: str) -> None:
    async with console(sample_story(), tmp_path) as opened:
        written = writes(opened)
        await opened.press(*keys)
        await opened.press("Y")
        assert copied(written) == f"paigeant-console {command}"


async def test_the_command_of_what_is_about_to_be_done(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        written = writes(opened)
        await ask_for(opened, "d", "it's wrong")
        await opened.press("Y")
        assert copied(written) == f"""paigeant-console dead-letter {told.QUEUED} --reason 'it'"'"'s wrong'"""
        assert opened.screen.confirm_bar.waiting
        await opened.press("n")


# The other views


async def test_one_workflow_moves_while_one_looks(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(130, 40)) as opened:
        await opened.press("enter")
        await opened.settled()
        assert "○ validate-order-details" in opened.text()
        assert "history 1" in opened.text()
        assert opened.screen.hops.cursor_key == "1"
        story.done(told.QUEUED, {"order_valid": True}, took=0.3)
        await opened.settled()
        assert "✓ validate-order-details → ○ check-inventory" in opened.text()
        assert "history 2" in opened.text()
        assert opened.screen.hops.cursor_key == "2", "the cursor goes along until it is moved"
        assert '"order_valid": true' in opened.text()
        await opened.press("k")
        assert '"order_valid": true' not in opened.text(), "the payload as it came to the first hop"
        story.done(told.QUEUED)
        await opened.settled()
        assert opened.screen.hops.cursor_key == "1"


async def test_panes(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        await opened.press("4", "G", "enter")
        await opened.until(lambda: bool(opened.screen.page.names()), "the history")
        screen = opened.screen
        assert screen.focused is screen.hops
        await opened.press("tab")
        assert screen.focused is screen.payload
        await opened.press("j", "j", "G", "g", "pagedown", "pageup", "k")
        await opened.press("shift+tab")
        assert screen.focused is screen.records
        await opened.shows("dead lettered")
        await opened.press("G", "g")
        assert "Failure: card declined" in opened.text()
        await opened.press("tab")
        assert screen.focused is screen.hops
        await opened.press("enter")
        assert screen.focused is screen.payload, "Enter goes to what the row holds"


async def test_a_workflow_that_is_gone_says_so(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        opened.app.open_workflow("gone")
        await opened.shows("the broker has no record of it any more")
        await opened.press("R")
        await opened.shows("the journal has no step of it")


async def test_the_traffic_follows_and_keeps_its_place(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(100, 20)) as opened:
        await opened.press("2")
        await opened.settled()
        table = opened.screen.table
        assert table.cursor_index == story.records() - 1
        story.start("new", ("charge",))
        await opened.settled()
        assert table.cursor_index == story.records() - 1
        await opened.press("up")
        here = table.cursor_key
        story.start("newer", ("charge",))
        await opened.settled()
        assert table.cursor_key == here
        assert "+1 new, G to follow" in opened.text()
        await opened.press("G")
        assert table.following
        await opened.press("p")
        for number in range(3):
            story.start(f"while-paused-{number}", ("charge",))
        await opened.until(lambda: opened.app.feed.serial == story.records())
        await opened.again()
        assert "paused, +3 new, p goes on" in opened.text()
        assert "while-paused" not in opened.text()
        await opened.press("p")
        await opened.settled()
        assert opened.screen.table.cursor_key == str(story.records() - 1)
        assert "while-p…" in opened.text()


async def test_the_traffic_can_be_filtered_and_opens_workflows(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("2")
        await opened.settled()
        await opened.press("/")
        await opened.type("kind:dead_lettered")
        await opened.press("enter")
        assert len(opened.screen.rows) == 1
        assert "1 of" in opened.text()
        await opened.press("enter")
        assert isinstance(opened.screen, WorkflowScreen)
        assert opened.screen.correlation_id == told.DEAD
        await opened.press("q", "escape")
        traffic: Any = opened.screen
        assert len(traffic.rows) == story.records()


async def test_queues_and_workers(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(100, 40)) as opened:
        await opened.press("3")
        await opened.shows("inspect-parcel")
        line = next(line for line in opened.lines() if "inspect-parcel" in line)
        assert "nobody serves it" in line
        assert "orders-1" in opened.text()
        assert "check-inventory 00:12" in opened.text()
        assert "idle; serves validate-customer-data" in opened.text()
        await opened.press("tab")
        assert opened.screen.crew.has_focus
        await opened.press("1")
        assert not opened.app.feed._watch_queues


async def test_dead_letters_say_why(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 20)) as opened:
        await opened.press("4")
        await opened.shows("card declined")
        assert "a person has to look" in opened.text()
        assert "malformed: no message" in opened.text()
        await opened.press("/")
        await opened.type("state:held")
        await opened.press("enter")
        assert "1 of 3" in opened.text()


async def test_a_screen_that_is_hidden_does_not_look(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        workflows = opened.screen
        await opened.press("5")
        story.start("new", ("charge",))
        await opened.settled()
        assert len(workflows.rows) == 9
        await opened.press("1")
        assert len(workflows.rows) == 10, "it looks at once when it comes back"


# States


async def test_the_first_paint_waits_for_nobody(tmp_path: Path) -> None:
    from paigeant_core.transports.memory import MemoryTransport

    story = sample_story()
    release = threading.Event()

    class Slow(MemoryTransport):
        async def connect(self) -> None:
            await asyncio.to_thread(release.wait)

    story.transport = lambda: Slow("story", broker=story.broker)  # type: ignore[method-assign]
    async with console(story, tmp_path, settle=False) as opened:
        await opened.shows("connecting to the broker …")
        await opened.press("2", "3", "4", "5", "1", "r")
        assert "no row under the cursor" in opened.text() or "connecting" in opened.text()
        release.set()
        await opened.settled()
        assert "onboarding" in opened.text()


async def test_an_empty_topic_says_how_to_start(tmp_path: Path) -> None:
    async with console(Story(), tmp_path) as opened:
        assert "no workflows yet in topic workflows: `:dispatch STEP …` starts one" in opened.text()
        await opened.press("2")
        assert "no traffic yet in topic workflows" in opened.text()
        await opened.press("4")
        assert "no dead letters: nothing is dead, held or quarantined" in opened.text()
        await opened.press("3")
        await opened.shows("no queues yet")
        assert "no worker lives" in opened.text()
        await opened.press("5")
        await opened.shows("no operator has done anything yet")


async def test_a_lost_line_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paigeant_console import feed as feed_module
    from paigeant_console.feed import Phase

    monkeypatch.setattr(feed_module, "FIRST_DELAY", 600.0)
    story = sample_story()
    async with console(story, tmp_path) as opened:
        feed = opened.app.feed
        feed._retry_at = 1e18
        feed._set_phase(Phase.RECONNECTING, "nobody answers at \x1b[2J[/h]")
        await opened.shows("connection lost: nobody answers at ␛[2J[/h]; next try in")
        assert "reconnecting" in opened.lines()[0]
        feed._set_phase(Phase.STALE)
        await opened.shows("stale: no word from the broker for")
        feed._set_phase(Phase.FAILED, "no such scheme")
        await opened.shows("not connected: no such scheme")
        feed._set_phase(Phase.LIVE)
        await opened.until(lambda: "not connected" not in opened.text())


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (10, 3), (1, 1)])
async def test_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    async with console(sample_story(), tmp_path, size=size, settle=False) as opened:
        await opened.until(lambda: "needs 60x15"[: size[0]] in opened.text(), "the sentence")
        await opened.pilot.resize_terminal(80, 24)
        await opened.settled()
        assert "onboarding" in opened.text()
        await opened.pilot.resize_terminal(*size)
        await opened.until(lambda: "onboarding" not in opened.text(), "too small again")


async def test_every_size_can_be_drawn(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        for keys in ([], ["enter"], ["2"], ["3"], ["4"], ["5"], ["?"]):
            await opened.press(*keys)
            for size in ((60, 15), (79, 23), (119, 30), (120, 40), (200, 50), (1, 1), (80, 24)):
                await opened.pilot.resize_terminal(*size)
                await opened.pilot.pause()
                assert all(len(line) <= size[0] for line in opened.lines())


async def test_ascii_only(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, ascii_only=True, size=(120, 40)) as opened:
        for keys in ([], ["enter"], ["q", "2"], ["3"], ["4"], ["5"], ["1", "?"], ["q", "r", "x", "enter"]):
            await opened.press(*keys)
            await opened.again()
            for line in opened.lines():
                assert line.isascii(), line


def test_run_refuses_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError):
        run("http://nowhere", "workflows")
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(TerminalError):
        run("memory://", "workflows")


def test_a_password_is_nowhere_on_the_screen(tmp_path: Path) -> None:
    from paigeant_core.urls import mask_url

    url = "redis://ops:hunter2@redis.example.com:6379/0"
    app = ConsoleApp(Feed(url, "workflows"), url=mask_url(url), log_directory=tmp_path)
    assert app.shared.place.url == "redis://redis.example.com:6379/0"
    assert "hunter2" not in repr(app.shared.target)
    assert Situation("workflows") == Situation("workflows")
    assert by_id("retry").writes
