"""Commands with completion, the palette, and going from one context to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.contexts import Contexts
from paigeant_console.model.completion import complete_query, going_on, matching, query_words
from paigeant_console.screens.queues import QueuesScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.operations import Hold, Operations, Pace
from paigeant_core.transports import get_transport
from tests.console import story as told
from tests.console.appkit import Console, console, copied, writes
from tests.console.story import Story, sample_story

CONFIG = """
[contexts.here]
url = "memory://story"

[contexts.staging]
url = "memory://staging-of-test-app-commands"
topic = "flows"

[contexts.prod]
url = "memory://prod-of-test-app-commands"
production = true
read_only = true

[contexts.broken]
url = "gopher://x"
"""


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contexts:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    monkeypatch.setenv("PAIGEANT_CONFIG", str(path))
    return Contexts(("broken", "here", "prod", "staging"))


async def command(opened: Console, line: str) -> None:
    await opened.press(":")
    await opened.type(line)
    await opened.press("enter")


# What goes on with what was typed


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("st", "state:"),
        ("state:de", "state:dead"),
        ("step:charge !state:comple", "step:charge !state:completed"),
        ("(stuck:no", "(stuck:no_worker"),
        ("kind:retry", "kind:retrying"),
        ("lab", "label."),
        ("state:dead", None),
        ("state:dead ", None),
        ("step:cha", None),
        ("", None),
    ],
)
def test_a_query_is_completed(typed: str, whole: str | None) -> None:
    assert complete_query(typed) == whole


def test_words_go_on_with_the_last_one() -> None:
    assert going_on("hold ra", ("ramp", "rate=", "brake=")) == ["ramp", "rate="]
    assert going_on("hold ramp ", ("ramp", "rate=")) == ["ramp", "rate="]
    assert len(going_on("", map(str, range(100)))) == 20
    states = ("compensating", "compensation_failed", "completed", "compensated", "cancelled")
    assert set(query_words("state:c")) == {f"state:{state}" for state in states}


def test_what_a_palette_offers_begins_with_what_can_be_done_here() -> None:
    assert matching("ret", "workflows")[0].id == "retry"
    assert matching("AB op", "audit")[0].id == "operation.abort"
    assert matching("", "queues")[0].where >= {"queues"}
    assert "queues" not in matching("", "queues")[-1].where
    assert matching("no such thing", "workflows") == []


async def test_the_command_line_completes_words(tmp_path: Path, contexts: Contexts) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30), contexts=contexts) as opened:
        for typed, whole in (
            ("ctx st", "ctx staging"),
            ("theme h", "theme high-contrast"),
            ("order at", "order attempts"),
            ("group ca", "group cause"),
            ("hold br", "hold brake="),
            ("filter state:de", "filter state:dead"),
            (f"open {told.DEAD[:4]}", f"open {told.DEAD}"),
            ("dispatch validate-c", "dispatch validate-customer-data"),
            ("dead-", "dead-letter"),
            ("undo x", "undo x"),
        ):
            await opened.press(":")
            await opened.type(typed)
            await opened.press("tab")
            assert opened.screen.prompt.value == whole
            await opened.press("escape")
        await opened.press(":")
        await opened.type("order ")
        assert "Tab, or updated state name activity attempts" in opened.text()
        await opened.press("escape", "/")
        await opened.type("stuck:no")
        await opened.press("tab")
        assert opened.screen.prompt.value == "stuck:no_worker"


async def test_order_and_group_by_name(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        await command(opened, "order name")
        assert opened.screen.rows.order == "name"
        await command(opened, "group cause")
        assert opened.screen.rows.grouping == "cause"
        await command(opened, "order size")
        assert "order: there are created, updated, state, name, activity, attempts" in opened.text()


async def test_the_palette_does_what_is_chosen(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(100, 30), read_only=True) as opened:
        await opened.press("ctrl+p")
        assert "do what?" in opened.text()
        assert "> 1           workflows" in opened.text()
        await opened.type("retry")
        assert "not now: this console is read-only" in opened.text()
        await opened.press("enter")
        assert "retry: this console is read-only" in opened.text()
        await opened.press("ctrl+p", "down", "down", "enter")
        assert isinstance(opened.screen, QueuesScreen)
        assert not opened.screen.palette.display
        await opened.press("ctrl+p")
        await opened.type("zzz")
        assert "no action is called so" in opened.text()
        await opened.press("enter")
        assert isinstance(opened.screen, QueuesScreen)
        await opened.press("ctrl+p", "escape")
        assert not opened.screen.palette.display
        await opened.press("ctrl+p")
        await opened.type("theme")
        await opened.press("enter")
        assert opened.screen.prompt.value == "theme "
        await opened.type("dark")
        await opened.press("enter")
        assert opened.app.theme == "paigeant-dark"
        await opened.press("ctrl+p")
        await opened.type("open")
        await opened.press("enter")
        await opened.type(told.DEAD[:5])
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.screen, WorkflowScreen), "the workflow")


# Contexts


async def test_contexts_are_switched_in_place(tmp_path: Path, contexts: Contexts) -> None:
    transport = get_transport("memory://staging-of-test-app-commands")
    await WorkflowDispatcher(transport).dispatch_workflow(["pack"], {}, topic="flows", correlation_id="staged-1")
    async with console(sample_story(), tmp_path, size=(120, 30), context="here", contexts=contexts) as opened:
        await command(opened, "ctx")
        assert "contexts: broken, here, prod, staging; this is here" in opened.text()
        first = opened.app.feed
        await opened.press("enter")
        await command(opened, "ctx staging")
        await opened.shows("staged-1")
        assert isinstance(opened.screen, WorkflowsScreen)
        assert "staging" in opened.lines()[0]
        assert "topic flows" in opened.lines()[0]
        assert "PRODUCTION" not in opened.text()
        await opened.until(lambda: not first.running, "the end of the one that was left")
        await opened.press("5", "1", "enter")
        await opened.shows("hop 1 of 1")
        written = writes(opened)
        await opened.press("Y")
        assert copied(written) == "paigeant-console --topic flows show staged-1"
        # Nobody can overlook production, nor write where only reading is allowed.
        await command(opened, "ctx prod")
        await opened.shows("no workflows yet in topic workflows")
        assert "PRODUCTION" in opened.lines()[0]
        assert opened.lines()[0].startswith("┏")
        assert "READ-ONLY" in opened.text()
        await command(opened, "dispatch x")
        assert "dispatch: this console is read-only" in opened.text()
        await command(opened, "ctx staging")
        await opened.shows("staged-1")
        assert "PRODUCTION" not in opened.text()


async def test_a_context_that_cannot_be_is_not_gone_to(tmp_path: Path, contexts: Contexts) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30), context="here", contexts=contexts) as opened:
        for line, said in (
            ("ctx nowhere", "ctx: no context 'nowhere'"),
            ("ctx broken", "ctx: "),
        ):
            await command(opened, line)
            assert said in opened.text()
            assert "here" in opened.lines()[0]
            assert told.QUEUED[:8] in opened.text()


async def test_without_contexts_it_says_how_to_make_one(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        await command(opened, "ctx")
        assert "there are no contexts: [contexts.NAME] in config.toml makes one" in opened.text()


# Copying


async def test_a_file_gets_what_the_terminal_was_asked_to_copy(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        await opened.press("Y")
        assert "if it did not, w writes a file" in opened.text()
        await opened.press("w")
        await opened.press("j", "w")
        found = sorted((tmp_path / "state").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert [path.read_text() for path in found] == [
            f"paigeant-console show {told.QUEUED}",
            opened.screen.table.cursor_key,
        ]
        assert {path.stat().st_mode & 0o777 for path in found} == {0o600}


async def test_without_a_clipboard_it_goes_to_a_file_at_once(tmp_path: Path) -> None:
    from paigeant_console.config import Look

    async with console(sample_story(), tmp_path, size=(120, 30), look=Look(clipboard=False)) as opened:
        written = writes(opened)
        await opened.press("y")
        assert "clipboard is off in the configuration: written to " in opened.text()
        assert "52;c;" not in "".join(written)
        assert [path.read_text() for path in (tmp_path / "state").iterdir()] == [told.QUEUED]


# Words behind a command


async def test_a_command_that_takes_no_words_does_nothing_when_some_stand_behind_it(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(80, 24)) as opened:
        for line, said in (
            ("pause 6b68", "pause takes no words, nothing was done; see `operations pause`, `activity pause`"),
            ("undo abc", "undo: only limit=N can stand behind it, nothing was done; see `operations undo`"),
            ("write /nowhere", "write takes no words, nothing was done; it acts on the row under the cursor"),
            ("quit now", "quit takes no words, nothing was done"),
            ("gro cause", "grouped by the cause"),
        ):
            await command(opened, line)
            assert said in opened.text()
            assert not opened.screen.paused
            assert not opened.screen.prompt.asking
            assert not opened.screen.pending
        assert not (tmp_path / "state").exists(), "no file was written"


async def test_an_activity_is_paused_and_resumed_by_its_name(tmp_path: Path) -> None:
    story = sample_story()
    operations = Operations(story.transport(), story.topic, operator="bo@desk")
    await operations.pause_activity("process-payment", reason="the bank is down")
    async with console(story, tmp_path, size=(140, 40)) as opened:
        for view in ("1", "3"):
            await opened.press(view)
            for line, said in (
                ("activity", "activity: write pause, resume, and the activity's name"),
                ("activity stop process-payment", "activity: write pause, resume, and the activity's name"),
                ("activity resume", "activity: write pause, resume, and the activity's name"),
                ("activity pause nowhere", "activity pause: nowhere: there is no such activity"),
                ("activity-pause process-payment", "activity pause: process-payment is paused already"),
                ("activity resume check-inventory", "activity resume: check-inventory is not paused"),
                ("activity pause c", "activity pause: c is the beginning of more than one activity"),
            ):
                await command(opened, line)
                await opened.shows(said)
                assert not opened.screen.prompt.asking
        assert opened.screen.queues.cursor_key == "check-inventory"
        await command(opened, "activity resume process-p")
        await opened.shows("resume activity process-payment because:")
        await opened.type("it is back")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        await opened.press("y")
        await opened.shows("process-payment goes on")
        assert await story.transport().pauses(story.topic) == {}
        await opened.press("2")
        await command(opened, "activity pause process-payment")
        assert "activity: not in this view (but in: 1 workflows, 3 queues, 4 dead letters, 5 audit" in opened.text()


async def test_an_order_behind_which_an_operation_is_named_is_for_that_one(tmp_path: Path) -> None:
    story = Story()
    for index in range(4):
        story.start(f"order-{index}", ("charge",))
    other = Operations(story.transport(), story.topic, operator="bo@desk")
    started = [
        (await other.start(await other.plan(Hold(), [f"order-{index}"], reason="r"), Pace(rate=0.001))).status
        for index in range(2)
    ]
    below, above = (status.operation_id for status in started)
    held = await other.execute(await other.plan(Hold(), ["order-3"], reason="r"))

    async def states() -> dict[str, str]:
        return {key: status.state.value for key, status in (await other.runs()).items()}

    async with console(story, tmp_path, size=(140, 30)) as opened:
        await command(opened, f"operations pause {below}")
        assert "operations: not in this view (but in: 5 audit)" in opened.text()
        await opened.press("5")
        await opened.until(lambda: opened.screen.operation_here() == above, "the operations")
        for line, said in (
            ("operations stop", "operations: write pause, resume, abort, undo, approve, reject, and the beginning of"),
            ("operations pause", "operations: write pause, resume, abort, undo, approve, reject, and the beginning of"),
            ("operation-pause nowhere", "no operation 'nowhere' that takes its time"),
            (f"operations resume {below}", "operations resume: the operation is running"),
            (f"operations reject {below}", "operations reject: the operation is running"),
            (f"operation-approve {below}", "approve: the operation is running, and waits for nobody"),
            ("activity-pause", "activity: write pause, resume, and the activity's name"),
        ):
            await command(opened, line)
            await opened.shows(said)
        assert await states() == {below: "running", above: "running"}
        await command(opened, f"operation-pause {below}")
        await opened.shows("paused as soon as whoever carries it out looks")
        assert await states() == {below: "paused", above: "running"}
        await command(opened, f"operations pause {below}")
        await opened.shows("operations pause: the operation is paused")
        await command(opened, f"operations abort {below}")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert f"operations abort {below}" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.shows("aborted; whoever carries it out stops")
        assert await states() == {below: "aborted", above: "running"}
        await command(opened, f"operations undo {held.operation_id}")
        await opened.shows("undo order-3 because:")


async def test_a_read_only_console_takes_no_orders_by_name(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(140, 30), read_only=True) as opened:
        for line in ("activity pause process-payment", "operations abort 1"):
            await command(opened, line)
            assert f"{line.partition(' ')[0]}: this console is read-only" in opened.text()


async def test_orders_and_the_names_of_activities_are_completed(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        for typed, whole in (
            ("activity re", "activity resume"),
            ("activity resume process-p", "activity resume process-payment"),
            ("operations ab", "operations abort"),
        ):
            await opened.press(":")
            await opened.type(typed)
            await opened.press("tab")
            assert opened.screen.prompt.value == whole
            await opened.press("escape")
