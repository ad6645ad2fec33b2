"""Acting from the console, driven by keys: reason, confirmation, payload, result."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual import events

from paigeant_console.actions import ACTIONS
from paigeant_console.feed import Phase
from paigeant_console.safe_text import literal
from paigeant_console.screens.dead_letters import DeadLettersScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_core.errors import TransportError
from tests.console import story as told
from tests.console.appkit import NAMES, ask_for, console, copied, writes
from tests.console.story import Story, sample_story


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
        await opened.press("w")
        assert "written to " in opened.text()
        [written] = (tmp_path / "state").iterdir()
        assert written.read_text() == opened.screen.confirm_bar.confirmation.command
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


async def test_that_nothing_can_be_done_is_said_before_a_reason_is_typed(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        await opened.press("4", "G", " ", "l")
        assert opened.screen.targets() == [told.DEAD]
        assert "nothing can be done: it is dead" in opened.text()
        # As long as it may be done to one of them nothing is said.
        await opened.press("escape", "g", " ", "l")
        assert "release 2 workflows because:" in opened.text()
        assert "nothing can be done" not in opened.text()


async def test_what_was_meant_while_the_broker_is_away_is_told_beside_that(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(140, 30)) as opened:
        operations: Any = opened.app.feed._operations

        async def away(*_: object, **__: object) -> None:
            raise TransportError("no Redis answers")

        operations.plan = away
        opened.screen.prompt.trouble(literal("connection lost, again in 4 s"))
        opened.screen._status = replace(opened.screen.status, phase=Phase.RECONNECTING)
        await opened.press("r")
        assert "the broker is away" in opened.text()
        await opened.type("mended")
        # It would say how the feed really is.
        app: Any = opened.app
        app.flush = lambda: None
        await opened.press("enter")
        while "nothing was done" not in opened.text():
            await opened.pilot.pause()
        assert "retry: nothing was done: no Redis answers; connection lost, again in 4 s" in opened.text()


async def test_a_command_that_lacks_the_password_says_so_wherever_it_stands(tmp_path: Path) -> None:
    said = "(password left out) paigeant-console --url amqp://ann@h/"
    async with console(sample_story(), tmp_path, size=(80, 30), url="amqp://ann:***@h/", given=True) as opened:
        await ask_for(opened, "h", "look at it first")
        assert said in " ".join(opened.text().split())
        await opened.press("Y")
        await opened.shows("the command (password left out)")
        await opened.press("w")
        await opened.press("y")
        await opened.shows("hold: 1 done")
        await opened.press("5")
        await opened.until(lambda: len(opened.screen.table.source), "the audit")
        await opened.press("enter")
        await opened.until(lambda: said in " ".join(opened.text().split()), "the entry's command")


async def test_the_pace_and_the_command_are_told_in_full(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 30)) as opened:
        await opened.press(":")
        await opened.type("retry ramp brake=20 rate=2 delay=10s")
        await opened.press("enter")
        await opened.type("the provider is back")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        text = " ".join(opened.text().split())
        assert "stops when 20 % fail again; nothing is done for 10 s, in which A in view 5 calls it off" in text
        assert "--ramp --rate 2 --brake 20 --delay 10s --reason 'the provider is back'" in text


async def test_a_workflow_that_moved_meanwhile_is_left_alone(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await ask_for(opened, "d", "out of the way")
        story.done(told.QUEUED)
        await opened.press("y")
        await opened.shows("the workflow moved meanwhile")
        assert "1 failed" in opened.text()
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


@pytest.mark.parametrize(
    ("key", "name", "state", "effect"),
    [
        ("h", "hold", "held", "parked until it is released"),
        ("s", "skip", "queued", "counts as done, by nobody"),
        ("x", "cancel", "cancelled", "nothing is undone"),
    ],
)
async def test_a_key_that_acts_asks_first(tmp_path: Path, key: str, name: str, state: str, effect: str) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        hop = story.message(told.QUEUED).headers.hop
        await ask_for(opened, key, "wait for the bank")
        assert f"{name} 1 workflow" in opened.text()
        assert effect in opened.text()
        assert f"paigeant-console {name} {told.QUEUED} --reason 'wait for the bank'" in opened.text()
        assert story.state(told.QUEUED) == "queued", "nothing is done before it is confirmed"
        await opened.press("y")
        await opened.shows(f"{name}: 1 done")
        assert story.state(told.QUEUED) == state
        assert story.message(told.QUEUED).headers.hop == hop + (name == "skip")


async def test_release_with_an_answer(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("4")
        assert opened.screen.targets() == [told.HELD]
        for typed, said in (
            ("release yes", "values are written as name=value"),
            ("release 'x=1", "a quote is not closed"),
            ("insert", "name the steps"),
            ("insert 'no name'", "activity"),
        ):
            await opened.press(":")
            await opened.type(typed)
            await opened.press("enter")
            await opened.shows(said)
        await opened.press(":")
        await opened.type("release approved=true by='Ann B'")
        await ask_for(opened, "enter", "the bank agreed")
        assert "given: approved, by" in opened.text()
        assert "--var=approved=true" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.until(lambda: story.state(told.HELD) == "queued", "the deed")
        payload = story.message(told.HELD).payload
        assert (payload["approved"], payload["by"]) == (True, "Ann B")


async def test_verbs_without_a_key(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        for typed, command, state in (
            ("insert check notify", f"insert check notify --id={told.QUEUED}", "queued"),
            ("compensate", f"compensate {told.QUEUED}", "compensat"),
        ):
            await opened.press(":")
            await opened.type(typed)
            await opened.press("enter")
            await opened.until(lambda: opened.screen.prompt.asking, "the reason")
            await opened.type("because")
            await opened.press("enter")
            await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
            assert command in opened.screen.confirm_bar.confirmation.command
            await opened.press("y")
            await opened.shows(f"{typed.split()[0]}: 1 done")
            assert story.state(told.QUEUED).startswith(state)
        await opened.press("4", "G", ":")
        await opened.type("restore")
        await ask_for(opened, "enter", "because")
        await opened.press("y")
        await opened.until(lambda: story.state(told.DEAD) == "queued", "the deed")
        assert story.message(told.DEAD).headers.attempt == 2


async def test_read_only_writes_nothing_whatever_is_pressed(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path, read_only=True, size=(120, 30)) as opened:
        assert "READ-ONLY" in opened.text()
        assert "(r retry)  (R replay)  (d dead-letter)" in opened.lines()[-1]
        for view in ("1", "4", "5"):
            for opening in ([], ["enter"]):
                await opened.press(view, *opening)
                for action in ACTIONS:
                    for key in action.keys if action.writes and action.owner == "app" else ():
                        await opened.press(key)
                        assert f"{action.label}: this console is read-only" in opened.text()
                        assert not opened.screen.prompt.asking
        await opened.press("1")
        writing = {word: action.label for action in ACTIONS if action.writes for word in action.command}
        assert {"retry", "hold", "compensate", "insert", "dispatch", "undo", "operation-abort"} <= set(writing)
        for word, label in writing.items():
            await opened.press(":")
            await opened.type(f"{word} charge" if word in ("dispatch", "insert") else word)
            await opened.press("enter")
            await opened.shows(f"{label}: this console is read-only")
        # The guard is not the screen: with it out of the way operations refuse all the same.
        opened.screen.do_retry()
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        await opened.type("sneaky")
        await opened.press("enter")
        await opened.shows("retry: nothing was done: this is read-only")
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
        written = writes(opened)
        await opened.type("y")
        await opened.press("enter")
        assert "that is not it, nothing is done yet" in opened.text()
        assert story.state(told.QUEUED) == "queued"
        # The keys that take the command along do so here too.
        await opened.press("backspace", "Y")
        assert "asked the terminal to copy the command" in opened.text()
        assert copied(written) == f"paigeant-console dead-letter {told.QUEUED} --reason wrong"
        await opened.press("w")
        assert "written to " in opened.text()
        await opened.type("prod-eu")
        await opened.press("enter")
        await opened.until(lambda: story.state(told.QUEUED) == "dead", "the deed")


async def test_in_production_a_dispatch_wants_its_name_too(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path, production=True, context="prod-eu") as opened:
        for typed in ("", "prod-eu"):
            await opened.press(":")
            await opened.type('dispatch charge notify email="ann"')
            await opened.press("enter")
            await opened.until(lambda: opened.screen.prompt.asking, "the question")
            assert "dispatch 1 workflow  in PRODUCTION prod-eu" in opened.text()
            assert "of the steps charge, notify" in opened.text()
            command = "paigeant-console dispatch charge notify '--var=email=\"ann\"'"
            assert opened.screen.confirm_bar.confirmation.command == command
            await opened.type(typed)
            await opened.press("enter" if typed else "escape")
            await opened.shows("dispatched " if typed else "dispatch: nothing was done")
            assert story.records() - records == (1 if typed else 0)


async def test_many_have_to_be_counted(tmp_path: Path) -> None:
    story = Story()
    for number in range(12):
        story.start(f"w{number:02}", ("charge",))
    async with console(story, tmp_path) as opened:
        await opened.press("G", " ", "g", "ctrl+@")
        await ask_for(opened, "d", "all of it")
        await opened.until(lambda: opened.screen.prompt.asking, "the question")
        assert "type 12 to do it:" in opened.text()
        assert "2 below" in opened.text(), "as many are in sight as the screen has room for"
        await opened.press("down")
        assert "1 more above, 1 below" in opened.text()
        await opened.type("12")
        await opened.press("enter")
        await opened.shows("dead-letter: 12 done")


async def test_what_the_broker_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            await opened.press("2")
            # It goes on whatever is looked at.
            await opened.shows("dead-letter: 0 of 2 …  5 shows it")
            await opened.press("q")
            await opened.shows("an operation is under way; q again leaves")
            await opened.press("q")
        finally:
            release.set()
    audit = [json.loads(entry) for entry in story._do(story.transport().audit(story.topic))]
    assert [entry["outcome"] for entry in audit] == ["2 done, 0 skipped, 0 failed"]
