"""View 5 while others act: cursor and keys stay where the operator has them, and what is said stays true."""

from __future__ import annotations

import json
from pathlib import Path

from paigeant_core.operations import Action, Hold, Operations, Pace, Retry
from tests.console.appkit import Console, console
from tests.console.story import Story


def many(number: int) -> Story:
    story = Story()
    for index in range(number):
        story.start(f"order-{index:03d}", ("charge",), name="order")
    return story


async def begun(story: Story, ids: list[str], reason: str, action: Action | None = None) -> str:
    """Begin an operation as somebody else, who does not get far with it."""
    other = Operations(story.transport(), story.topic, operator="bo@desk")
    plan = await other.plan(action or Hold(), ids, reason=reason)
    return (await other.start(plan, Pace(rate=0.001))).status.operation_id


async def looked(opened: Console) -> None:
    """Let the view ask anew, and show what came back."""
    opened.screen.ask_anew()
    await opened.again()
    await opened.until(lambda: not opened.screen._asking_now, "the answer")
    await opened.again()


async def test_the_cursor_stays_on_its_entry_of_an_audit_of_which_the_newest_are_read(tmp_path: Path) -> None:
    story = many(1)

    def entry(operation_id: str) -> bytes:
        document = {"schema": 1, "at": "2026-01-01T10:00:00.000Z", "operator": "ann", "action": "hold", "targets": 1}
        return json.dumps({**document, "operation_id": operation_id, "outcome": "1 done"}).encode()

    with story.broker.topic(story.topic) as state:
        state.audit.extend(entry(f"op-{number}") for number in range(1000))
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("5")
        await opened.until(lambda: len(opened.screen._rows), "the audit")
        await opened.press("j", "j", "j")
        assert opened.screen.operation_here() == "op-996"
        for number in (1000, 1001):
            with story.broker.topic(story.topic) as state:
                state.audit.append(entry(f"op-{number}"))
            await looked(opened)
        assert opened.screen._rows.index_of(opened.screen.table.cursor_key) == 5
        assert opened.screen.operation_here() == "op-996"


async def test_an_operation_that_somebody_begins_takes_no_keys_from_the_audit(tmp_path: Path) -> None:
    story = many(4)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        for number in range(2):
            other = Operations(story.transport(), story.topic, operator="bo@desk")
            await other.execute(await other.plan(Hold(), [f"order-{number:03d}"], reason=f"reason {number}"))
        await opened.press("5")
        await opened.shows("reason 0")
        await opened.press("j")
        mine = opened.screen.operation_here()
        theirs = await begun(story, ["order-002", "order-003"], "theirs")
        await looked(opened)
        assert opened.screen.runs.source.index_of(theirs) == 0
        assert opened.screen.focused is opened.screen.table
        assert opened.screen.operation_here() == mine


async def test_the_cursor_stays_on_its_operation_though_it_was_not_moved(tmp_path: Path) -> None:
    story = many(20)
    first = await begun(story, ["order-000", "order-001"], "reason 0")
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("5")
        await opened.until(lambda: opened.screen.operation_here() == first, "the operation")
        newer = [await begun(story, [f"order-{number:03d}"], f"reason {number}") for number in range(2, 5)]
        await looked(opened)
        assert opened.screen.operation_here() == first, "nobody moved it, and P asks nothing"
        assert opened.screen.runs.rows_above == 0, "what is new is in sight"
        await opened.press("home")
        assert opened.screen.operation_here() == newer[-1]
        last = await begun(story, ["order-005"], "reason 5")
        await looked(opened)
        assert opened.screen.operation_here() == newer[-1]
        assert opened.screen.runs.source.index_of(last) == 0
        # Of more than there is room for, too, both are in sight.
        for number in range(6, 20):
            await begun(story, [f"order-{number:03d}"], f"reason {number}")
        await looked(opened)
        assert opened.screen.operation_here() == newer[-1]
        assert any(line.startswith("▌") and "reason 4" in line for line in opened.lines())


async def test_undo_is_for_what_an_operation_came_to(tmp_path: Path) -> None:
    story = many(3)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("g", " ", "G", "ctrl+@", ":")
        await opened.type("hold rate=0.001")
        await opened.press("enter")
        await opened.type("look at these")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the confirmation")
        await opened.press("y")
        await opened.shows("hold: 1 of 3")
        await opened.press("5")
        await opened.shows("running")
        await opened.press("U")
        await opened.shows(" because:")
        assert "undo 3 workflows" not in opened.text(), "two were not touched"
        [held] = [f"order-{number:03d}" for number in range(3) if story.state(f"order-{number:03d}") == "held"]
        assert f"undo {held} because:" in opened.text()


async def test_what_cannot_be_undone_is_said_before_a_reason_is_asked(tmp_path: Path) -> None:
    story = many(2)
    await begun(story, ["order-000"], "again", Retry())
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("5")
        await opened.until(opened.screen.operation_here, "the operation")
        for keys in (("U",), ("tab", "U"), ("enter", "U")):
            await opened.press(*keys)
            assert "undo: retry cannot be undone" in opened.text()
            assert not opened.screen.prompt.asking
            assert not opened.screen.pending


async def test_what_ended_while_another_page_was_shown_is_not_said_to_go_on(tmp_path: Path) -> None:
    story = many(3)
    operation_id = await begun(story, ["order-000", "order-001", "order-002"], "night shift")
    story.wait(60)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("5")
        await opened.shows("alone")
        await opened.press("P")
        await opened.shows("goes on, carried out by this console now")
        await opened.press("enter")
        await Operations(story.transport(), story.topic, operator="bo@desk").abort(operation_id)
        await opened.until(lambda: not opened.app.feed.deeds.current, "its end")
        await opened.again()
        await opened.press("q")
        await opened.shows("⊖ aborted")
        assert "goes on, carried out by this console now" not in opened.text()
