"""The other views, driven by keys, and what is taken along from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual import events

from paigeant_console.model.pasted import ids_in
from paigeant_console.screens import workflow
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_core.errors import ConnectError
from paigeant_core.journal import Record
from paigeant_core.operations import Operations
from tests.console import story as told
from tests.console.appkit import ask_for, console, copied, writes
from tests.console.story import Story, sample_story


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


async def test_a_page_whose_records_could_not_be_read_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "ASK_EVERY", 0.05)
    failures = [ConnectError("nobody answers"), ConnectError("nobody answers")]
    read = WorkflowScreen.records_of_it

    async def records_of_it(screen: WorkflowScreen) -> list[Record]:
        if failures:
            raise failures.pop()
        return await read(screen)

    monkeypatch.setattr(WorkflowScreen, "records_of_it", records_of_it)
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("4", "G", "enter")
        await opened.until(lambda: bool(opened.screen.page.names()), "the history, with nothing pressed")
        assert not failures
        assert "nobody answers" not in opened.text()


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


async def test_what_nobody_can_read_has_no_hops_and_says_so(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        await opened.press(":")
        await opened.type("open q-0bad")
        await opened.press("enter")
        await opened.shows("nobody can read its message, so there is no hop to be told of")


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
        assert "wh…sed-2" in opened.text()


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
        assert "no worker" in line
        assert "orders-1" in opened.text()
        assert "check-inventory 00:12" in opened.text()
        assert "idle; serves validate-customer-data" in opened.text()
        await opened.press("tab")
        assert opened.screen.crew.has_focus
        await opened.press("1")
        assert not opened.app.feed.rounds.wants_queues


@pytest.mark.parametrize("width", [60, 64, 72])
async def test_a_narrow_pane_keeps_the_names_of_queues(tmp_path: Path, width: int) -> None:
    story = Story()
    story.start("waits", ("inspect",))
    async with console(story, tmp_path, size=(width, 24)) as opened:
        await opened.press("3")
        await opened.shows("no worker")
        transport = story.transport()
        await Operations(transport, story.topic, operator="bo@desk").pause_activity("inspect", reason="it is down")
        opened.app.feed.rounds.watch_queues(True)
        await opened.shows("no worker, paused")
        assert any("QUEUE" in line for line in opened.lines())
        assert any("inspect" in line and "no worker, paused" in line for line in opened.lines())


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


async def test_scrubbing_shows_slip_and_payload_as_they_were(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 40)) as opened:
        await opened.press(":")
        await opened.type(f"open {told.DEAD[:6]}")
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.screen, WorkflowScreen) and opened.screen.page.history, "history")
        await opened.again()
        assert opened.screen.hops.cursor_key == "3"
        assert "✗ process-payment" in opened.text()
        await opened.press("[")
        assert opened.screen.hops.cursor_key == "2"
        text = opened.text()
        lines = [line.strip() for line in opened.lines()]
        assert any(line.startswith("○ queued") and told.DEAD in line for line in lines), "the head too"
        slip = next(at for at, line in enumerate(lines) if line.startswith("✓ validate-order-details → ○ check"))
        assert lines[slip + 2] == "as it stood at 10:00:23; it is dead now; Right goes on"
        assert "runs the step again" not in text, "that is of where it stands now"
        assert "✓ validate-order-details → ○ check-inventory → · process-payment" in text
        assert "payload as it came to hop 2" in text
        await opened.press("left", "left", "left")
        assert opened.screen.hops.cursor_key == "1", "it ends at the first"
        await opened.press("v")
        assert "what it was dispatched with" in opened.text()
        assert '+ order_id: "A-1004"' in opened.text()
        await opened.press("c", "]", "]")
        assert opened.screen.hops.cursor_key == "3"
        assert "changed from hop 1 to hop 3" in opened.text()
        assert "+ in_stock: true" in opened.text()
        assert "as it stood at" not in opened.text(), "back where it stands"
        assert not opened.screen.hops.moved, "and it follows again"
        await opened.press("v")
        assert '"order_valid":true' in opened.text()
        await opened.press("v")
        assert "00000000  7b 22" in opened.text()
        await opened.press("v")
        assert '"order_valid": true' in opened.text()


async def test_scrubbing_leaves_the_tries_out_and_the_history_for_the_hops(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 30)) as opened:
        await opened.press("4", "G", "enter")
        await opened.until(lambda: len(opened.screen.page.history) > 3, "the history")
        await opened.again()
        await opened.press("tab", "tab")
        assert opened.screen.focused is opened.screen.records
        await opened.press("right")
        assert opened.screen.focused is opened.screen.hops
        assert opened.screen.hops.cursor_key == "4", "not the tries of hop 3"
        await opened.press("k")
        assert opened.screen.hops.cursor_key == "3.2"
        await opened.press("[")
        assert opened.screen.hops.cursor_key == "3"


async def test_why_it_is_stuck_names_the_keys(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("id:7972")
        await opened.press("enter", "enter")
        await opened.shows("attempt 2 in 20s after ConnectionError: payment provider answered 503")
        assert "r runs it now; R replays with a mended payload" in opened.text()
    async with console(sample_story(), tmp_path, read_only=True) as opened:
        await opened.press("/")
        await opened.type("id:6977")
        await opened.press("enter", "enter")
        await opened.shows("no worker serves inspect-parcel (none ever did, as far as the journal goes back)")
        assert "  start a worker for it\n" in opened.text()


# Pasting


@pytest.mark.parametrize("view", ["1", "2", "3", "4", "5"])
async def test_an_id_pasted_anywhere_opens_it(tmp_path: Path, view: str) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press(view)
        line = f"12:00:01 ERROR charge failed correlation_id:{told.DEAD}, retrying\nnext line"
        opened.app.post_message(events.Paste(line))
        await opened.until(lambda: isinstance(opened.screen, WorkflowScreen), "the workflow")
        assert opened.screen.correlation_id == told.DEAD
        await opened.press("q")
        opened.app.post_message(events.Paste(f" {told.HELD[:8]}\n"))
        await opened.until(lambda: isinstance(opened.screen, WorkflowScreen), "by the beginning of its ID")
        assert opened.screen.correlation_id == told.HELD


async def test_enter_on_a_record_of_no_workflow_says_so(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("2", "g")
        opened.screen.targets = list  # as of what a worker says of itself
        await opened.press("enter")
        assert "this record is of no workflow" in opened.text()
        await opened.press("y")
        assert "copy: there is nothing to copy here" in opened.text(), "there is a row, and it has no ID"


async def test_what_is_pasted_and_is_no_id_is_said_and_does_nothing(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        opened.app.post_message(events.Paste("rm -rf every thing d y q"))
        await opened.shows("there is no correlation ID of this topic in what was pasted")
        opened.app.post_message(events.Paste("nowhere\x1b[2J"))
        await opened.shows("no workflow")
        opened.app.post_message(events.Paste("\x1b[2J"))
        await opened.pilot.pause()
        assert isinstance(opened.screen, WorkflowsScreen)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("3f2a", ["3f2a"]),
        ("(id=3f2a).", ["3f2a"]),
        ("a:b:3f2a", ["a:b:3f2a", "3f2a"]),
        ("order-1001/2/3 x", ["order-1001"]),
        ("", []),
        ("abc " * 9000, ["abc"]),
        (" ".join(f"w{number:04}" for number in range(1000)), [f"w{number:04}" for number in range(200)]),
    ],
)
def test_ids_in_a_text(text: str, ids: list[str]) -> None:
    assert ids_in(text) == ids
