"""Operations on screen: how far they came, pausing, aborting and taking over, and undoing."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from paigeant_console.screens.audit import AuditScreen
from paigeant_core.errors import ConnectError
from paigeant_core.operations import Cancel, DeadLetter, Hold, Operations, OperationState, Pace, Retry
from paigeant_core.operations import run as run_module
from tests.console import story as told
from tests.console.appkit import PATIENCE, Console, ask_for, console
from tests.console.story import Story, sample_story


def many(number: int = 30) -> Story:
    story = Story()
    for index in range(number):
        story.start(f"order-{index:03d}", ("charge",), name="order")
    return story


async def begun(opened: Console, key: str, *, pace: str = "") -> None:
    """Mark everything, and begin an act on all of it."""
    await opened.press("g", " ", "G", "ctrl+@")
    if pace:
        await opened.press(":")
        await opened.type(f"{key} {pace}")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        await opened.type("all of them")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
        await opened.pilot.pause()
    else:
        await ask_for(opened, key, "all of them")
    await opened.until(lambda: opened.screen.prompt.asking, "the count")
    number = str(opened.screen.confirm_bar.confirmation.eligible)
    await opened.type(number)
    await opened.press("enter")


async def test_a_large_operation_is_on_record_while_the_operator_goes_about(tmp_path: Path) -> None:
    story = many()
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await begun(opened, "d")
        await opened.shows("dead-letter: 30 done")
        assert not opened.screen.table.marks, "what was done needs no mark any more"
        await opened.press("5")
        await opened.shows("✓ finished")
        assert "30/30" in opened.text()
        assert "██████████" in opened.text()
        await opened.shows("because: all of them; operation ")
        assert opened.screen.focused is opened.screen.runs, "an operation has the keys"
        await opened.press("P")
        assert "pause/go on: the operation is finished" in opened.text()
        await opened.press("A")
        assert "abort: the operation is finished" in opened.text()
    assert {story.state(f"order-{index:03d}") for index in range(30)} == {"dead"}


async def test_a_pace_stands_behind_the_command(tmp_path: Path) -> None:
    story = many(12)
    async with console(story, tmp_path, size=(120, 40)) as opened:
        for typed, said in (
            (
                "hold fast",
                "hold: only ramp, rate=N (a second), brake=PERCENT, delay=TIME (90s) and limit=N can stand behind it",
            ),
            ("hold limit=0", "hold: limit=0: write a number from 1"),
            ("hold limit=many", "hold: only ramp, rate=N"),
            ("undo ramp", "undo: only limit=N can stand behind it, nothing was done"),
            ("hold rate=soon", "hold: only ramp, rate=N"),
            ("hold delay=later", "hold: only ramp, rate=N"),
            ("hold rate=0", "rate 0: it must be more than 0"),
        ):
            await opened.press(":")
            await opened.type(typed)
            await opened.press("enter")
            assert said in opened.text()
            assert not opened.screen.prompt.asking
        await opened.press("g", " ", "G", "ctrl+@", ":")
        await opened.type("hold ramp rate=500 brake=20")
        await opened.press("enter")
        await opened.type("slowly")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
        await opened.shows("at most 500 a second; stops when 20 % fail again")
        assert "--ramp --rate 500 --brake 20 --reason slowly" in opened.screen.confirm_bar.confirmation.command
        await opened.type("12")
        await opened.press("enter")
        await opened.shows("hold: 12 done")
        found = list((await asyncio.wrap_future(opened.app.feed.deeds.runs())).values())
        assert [status.pace for status in found] == [Pace(rate=500, ramp=True, brake=20)]


async def test_an_operation_is_paused_resumed_and_aborted_by_key(tmp_path: Path) -> None:
    story = many()
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await begun(opened, "dead-letter", pace="rate=0.001")
        await opened.shows("dead-letter: 1 of 30 …  5 shows it")
        await opened.press("5")
        await opened.shows("▶ running")
        await opened.press("P")
        await opened.shows("‖ paused")
        await opened.press("P")
        await opened.shows("whoever paused it goes on with it")
        await opened.shows("▶ running")
        await opened.press("A")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert "abort dead-letter of 30 workflows" in opened.text()
        assert "the rest is left alone" in opened.text()
        assert "operations abort " in opened.screen.confirm_bar.confirmation.command
        await opened.press("n")
        await opened.shows("it goes on as it was")
        await opened.press("A")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        await opened.press("y")
        await opened.shows("⊖ aborted")
        await opened.until(lambda: not opened.app.feed.deeds.current, "the end of it")
    assert [story.state(f"order-{index:03d}") for index in range(30)].count("dead") == 1


async def test_one_that_nobody_carries_out_any_more_goes_on_here(tmp_path: Path) -> None:
    story = many(3)

    other = Operations(story.transport(), story.topic, operator="bo@desk")
    plan = await other.plan(DeadLetter(), [f"order-{index:03d}" for index in range(3)], reason="night shift")
    operation_id = (await other.start(plan)).status.operation_id
    story.wait(60)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("5")
        await opened.shows("‖ alone")
        await opened.shows("nobody carries it out any more")
        await opened.press("P")
        await opened.shows("dead-letter: 3 done")
        await opened.shows("✓ finished")
        found = await asyncio.wrap_future(opened.app.feed.deeds.runs())
        assert found[operation_id].state is OperationState.FINISHED


async def test_undo_of_a_row_and_of_a_whole_operation(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("U")
        await opened.shows("undo: no operator has done anything to it")
        await opened.press(" ", "j", " ")
        await ask_for(opened, "h", "look at these first")
        await opened.press("y")
        await opened.shows("hold: 2 done (U undoes it)")
        await opened.press("U")
        assert "undo 2 workflows because:" in opened.text()
        await opened.press("escape")
        await opened.press("g")
        await ask_for(opened, "U", "that one was right")
        assert "goes back to where it was" in opened.text()
        operation_id = json.loads(story._do(story.transport().audit(story.topic))[0])["operation_id"]
        row = f"paigeant-console undo {operation_id} {told.QUEUED} --reason 'that one was right'"
        assert opened.screen.confirm_bar.confirmation.command == row
        await opened.press("y")
        await opened.shows("undo: 1 done")
        assert story.state(told.QUEUED) == "queued"
        # The other one by its entry in the audit.
        await opened.press("5")
        await opened.shows("look at these first")
        assert opened.screen.focused is opened.screen.table
        await opened.press("G")
        await ask_for(opened, "U", "the other one too")
        assert "undo 1 workflow of 2; 1 not eligible" in opened.text()
        whole = f"paigeant-console undo {operation_id} --reason 'the other one too'"
        assert opened.screen.confirm_bar.confirmation.command == whole
        await opened.press("y")
        await opened.shows("undo: 1 done, 1 skipped")
    outcomes = [json.loads(entry)["action"] for entry in story._do(story.transport().audit(story.topic))]
    assert outcomes == ["hold", "undo", "undo"]


async def test_undo_of_a_whole_operation_says_of_how_many_nothing_tells_which_they_are(tmp_path: Path) -> None:
    story = many(103)
    operations = Operations(story.transport(), story.topic)
    ids = [f"order-{number:03d}" for number in range(103)]
    story._do(operations.execute(story._do(operations.plan(Cancel(), ids, reason="all of them"))))
    async with console(story, tmp_path) as opened:
        with story.transport().broker.topic(story.topic) as state:
            while len(state.journal) > 2:
                state._trim_one()
        await opened.press("5")
        await opened.shows("103 done")
        await opened.press("U")
        await opened.until(lambda: opened.screen.prompt.asking, "the reason")
        # The hundred that the audit names, and the last, which is in the journal.
        assert "undo 101 workflows because:" in opened.text()
        assert "and 2 more, which nothing names any more" in opened.text()


async def test_undo_right_after_a_deed_is_for_that_deed_though_its_row_is_gone(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("/")
        await opened.type("state:dead")
        await opened.press("enter")
        await ask_for(opened, "x", "customer asked")
        await opened.press("y")
        await opened.shows("cancel: 1 done (U undoes it)")
        await opened.until(lambda: not len(opened.screen.table.source), "the row goes")
        await ask_for(opened, "U", "she did not")
        await opened.press("y")
        await opened.shows("undo: 1 done")
        assert story.state(told.DEAD) == "dead"
        # Whoever goes on means the rows again.
        await opened.press("escape")
        await ask_for(opened, "x", "customer asked")
        await opened.press("y")
        await opened.shows("cancel: 1 done (U undoes it)")
        await opened.press("j")
        assert "cancel: 1 done " in opened.text()
        assert "U undoes it" not in opened.text()
        await opened.press("U")
        await opened.shows("undo: no operator has done anything to it")


async def test_what_an_operation_came_to_is_told_on_the_screen_that_is_on_top(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(120, 30)) as opened:
        feed = opened.app.feed
        plan = await asyncio.wrap_future(feed.plan(Retry(), [told.DEAD], "mended"))
        await opened.press("3")
        feed.deeds.begin(plan)
        await opened.shows("retry: 1 done")
        await opened.press("5")
        assert isinstance(opened.screen, AuditScreen)
        await opened.shows("mended")


async def test_the_end_of_an_operation_leaves_the_marks_made_for_the_next_act(tmp_path: Path) -> None:
    story = many(4)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        table = opened.screen.table
        for key in ("order-000", "order-001"):
            table.move_to_key(key)
            await opened.press(" ")
        await ask_for(opened, "h", "look at these")
        deeds: Any = opened.app.feed.deeds
        begin, plans = deeds.begin, []
        deeds.begin = lambda *given, **more: plans.append((given, more))
        await opened.press("y")
        await opened.until(lambda: plans, "it is begun")
        # While it goes on, the next act is made ready; and what fails keeps its mark.
        table.move_to_key("order-003")
        await opened.press(" ")
        story.done("order-001")
        (given, more), *_ = plans
        begin(*given, **more)
        await opened.shows("hold: 1 done, 1 failed")
        assert table.marks == ("order-001", "order-003")


async def test_a_group_is_unmarked_when_all_of_it_was_done(tmp_path: Path) -> None:
    story = many(3)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        for _ in range(2):
            await opened.press("b")
        await opened.press("g", " ")
        assert len(opened.screen.targets()) == 3
        await ask_for(opened, "h", "look at these")
        await opened.press("y")
        await opened.shows("hold: 3 done")
        await opened.settled()
        assert "3 workflows  charge" in opened.text(), "they stand where they stood"
        assert opened.screen.table.marks == ()


async def test_an_armed_operation_can_be_called_off(tmp_path: Path) -> None:
    story = many(12)
    async with console(story, tmp_path, size=(140, 30)) as opened:
        await begun(opened, "cancel", pace="delay=47s")
        await opened.press("5")
        await opened.shows("○ armed")
        await opened.shows("begins in 47s; A calls it off")
        await opened.press("A")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        await opened.press("y")
        await opened.shows("⊖ aborted")
        await opened.until(lambda: not opened.app.feed.deeds.current, "the end of it")
    assert {story.state(f"order-{index:03d}") for index in range(12)} == {"queued"}


async def test_an_activity_is_paused_and_resumed_by_key(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(120, 40)) as opened:
        await opened.press("3")
        await opened.shows("inspect-parcel")
        await opened.press("P", "enter")
        assert "pause activity check-inventory, a reason is needed" in opened.text()
        await opened.type("the stock system is down")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        assert "no worker begins a step of it until it is resumed" in opened.text()
        command = "activity pause check-inventory --reason 'the stock system is down'"
        assert opened.screen.confirm_bar.confirmation.command == f"paigeant-console {command}"
        await opened.press("n")
        await opened.shows("nothing was done")
        await ask_for(opened, "P", "the stock system is down")
        await opened.press("y")
        await opened.shows("check-inventory is paused for all its workers")
        await opened.until(lambda: opened.screen._queue_here().paused is not None, "the pause")
        await opened.again()
        assert any("check-inventory" in line and line.endswith("paused") for line in opened.lines())
        transport = story.transport()
        pauses = await transport.pauses(story.topic)
        assert pauses["check-inventory"].reason == "the stock system is down"
        await ask_for(opened, "P", "it is back")
        await opened.press("y")
        await opened.shows("check-inventory goes on")
        assert await transport.pauses(story.topic) == {}
        await opened.press("tab", "P")
        assert "pause/go on: there is no queue under the cursor; Tab goes to them" in opened.text()


async def test_what_was_confirmed_is_done_to_its_end_whoever_stops_waiting_for_it(tmp_path: Path) -> None:
    story = many(3)
    async with console(story, tmp_path, size=(140, 30)) as opened:
        operations: Any = opened.app.feed._operations
        append, begun, goes_on = operations._append, threading.Event(), threading.Event()

        async def slow(data: bytes) -> None:
            begun.set()
            await asyncio.to_thread(goes_on.wait, PATIENCE)
            await append(data)

        operations._append = slow
        await opened.press("3")
        await opened.shows("charge")
        await ask_for(opened, "P", "the provider is down")
        await opened.press("y")
        await opened.until(begun.is_set, "it is begun, and the broker is slow")
        await opened.press("escape")
        assert "what was confirmed is done all the same" in opened.text()
        assert "nothing was done" not in opened.text()
        goes_on.set()
        await opened.press("5")
        await opened.shows("the provider is down")


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(rate=1000), "hold: stopped at 5 of 8; P in view 5 goes on: no broker answers"),
        (None, "hold: done for 5 of 8: no broker answers"),
    ],
)
async def test_what_is_cut_off_half_way_says_first_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: Pace | None, said: str
) -> None:
    # One that takes its time waits for the broker; this one stays away for longer than that.
    monkeypatch.setattr(run_module, "OUTAGE", 0.0)
    monkeypatch.setattr(run_module, "AGAIN", 0.1)
    async with console(many(8), tmp_path, size=(80, 24)) as opened:
        feed = opened.app.feed
        operations: Any = feed._operations
        ids = [f"order-{number:03}" for number in range(8)]
        plan = await asyncio.wrap_future(feed.ask(lambda ask: ask.plan(Hold(), ids, reason="an audit")))
        transport, done = operations.transport, 0
        methods = {name: getattr(transport, name) for name in ("operate", "history", "append_audit")}

        def cut(name: str) -> Any:
            async def call(*given: Any, **options: Any) -> Any:
                nonlocal done
                if done == 5:
                    raise ConnectError("no broker answers at memory://story; look whether it runs")
                done += name == "operate"
                return await methods[name](*given, **options)

            return call

        for name in methods:
            setattr(transport, name, cut(name))
        feed.deeds.begin(plan, pace)
        await opened.until(lambda: not feed.deeds.current, "it is over")
        await opened.again()
        assert any(said in line for line in opened.lines()), opened.text()


async def typed(opened: Console, command: str) -> None:
    """A command, and a reason where it asks for one."""
    await opened.press(":")
    await opened.type(command)
    await opened.press("enter")
    await opened.until(lambda: opened.screen.prompt.asking, "the reason")
    await opened.type("the provider is back")
    await opened.press("enter")


async def test_more_workflows_than_an_operation_may_touch_take_a_limit_behind_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = many(12)
    async with console(story, tmp_path, size=(120, 40)) as opened:
        monkeypatch.setattr(opened.app.feed._operations, "limit", 10)  # of a thousand the story would be long
        await opened.press("g", " ", "G", "ctrl+@")
        for command, how in (
            ("hold", "over 10 it takes limit=12, as in :hold limit=12"),
            ("replay ramp limit=11", "over 11 it takes limit=12, as in :replay limit=12"),
            ("insert check", "over 10 it takes limit=12, as in :insert limit=12"),
            ("release", "over 10 it takes --limit in a shell"),
        ):
            await typed(opened, command)
            await opened.shows(f"{command.split()[0]}: nothing was done: {how}")
        assert len(opened.screen.table.marks) == 12
        for command, said in (
            ("insert check limit=12", "insert check --id="),
            ("hold rate=500 limit=12", "--rate 500 --limit 12 --reason"),
        ):
            await typed(opened, command)
            await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
            line = opened.screen.confirm_bar.confirmation.command
            assert said in line
            assert "--limit 12 --reason 'the provider is back'" in line
            if command.startswith("insert"):
                await opened.press("escape")
        await opened.type("12")
        await opened.press("enter")
        await opened.shows("hold: 12 done")
        # And all of that operation again, by its row in the audit.
        await opened.press("5")
        await opened.until(opened.screen.operation_here, "the operation")
        await typed(opened, "undo")
        await opened.shows("over 10 it takes limit=12, as in :undo limit=12")
        await typed(opened, "undo limit=12")
        await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the confirmation")
        line = opened.screen.confirm_bar.confirmation.command
        assert line.endswith("--limit 12 --reason 'the provider is back'")
        assert "order-" not in line, "it is all of the operation"
