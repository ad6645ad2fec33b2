"""What is asked of a running step, and still to come, is told until the step is handed on."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant_console.model.confirmation import Target, confirmation_of
from paigeant_console.model.record_line import record_summary
from paigeant_console.model.stuck import explain, keys_line
from paigeant_console.model.workflow_list import one_line, why
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.handoff import GO_ON, heed, request
from paigeant_core.journal import State
from paigeant_core.operations import Cancel, Hold, Operations, Release, Undo
from tests.console.story import Story as Broker
from tests.console.story_rows import plain
from tests.console.test_fold import Story, worker
from tests.console.test_stuck import TEN_TO_TEN


@pytest.mark.parametrize(
    ("wish", "said", "keys"),
    [
        ("hold", "ann asked to hold it at 09:50: done when a is handed on", "l takes the hold back"),
        ("cancel", "ann asked to cancel it at 09:50: done when a is handed on", "U takes that back"),
        ("compensate", "ann asked to compensate it at 09:50: done when a is handed on", "U takes that back"),
        ("insert", "ann asked to insert steps at 09:50: done when a is handed on", "U takes that back"),
        ("\x1b[2J", "ann asked to ␛[2J at 09:50: done when a is handed on", "U takes that back"),
    ],
)
def test_who_asked_for_what_and_when(wish: str, said: str, keys: str) -> None:
    story = Story("a", "b", at=TEN_TO_TEN)
    story.asked(wish)
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message)], story.at)
    assert (row.state, fold.stuck(row, story.at)) == (State.RUNNING, None)
    found = explain(fold, row, story.at)
    assert found is not None
    assert (found.sentence, keys_line(found)) == (said, keys)
    story.done()
    assert fold.apply(story.journal[-1:]) == {row.correlation_id}
    assert (row.asked, explain(fold, row, story.at)) == (None, None)


def test_the_list_says_it_beside_why_it_is_stuck() -> None:
    story = Story("a", "b", at=TEN_TO_TEN)
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message)], story.at)
    before = row.revision
    story.asked("cancel")
    assert fold.apply(story.journal[-1:]) == {row.correlation_id}
    assert row.revision > before
    assert one_line(why(row, None, 80)) == "cancel asked for by ann"
    fold.observe([], story.at)
    stuck = fold.stuck(row, story.at)
    assert one_line(why(row, stuck, 80)) == "its worker was lost; cancel asked for by ann"
    found = explain(fold, row, story.at)
    assert found is not None
    assert found.sentence.endswith("; ann asked to cancel it at 09:50: done when a is handed on")
    assert keys_line(found).endswith("; U takes that back")


def test_what_was_taken_back_or_asked_of_another_step_is_not_to_come() -> None:
    story = Story("a", "b")
    story.asked("hold")
    late = story.journal[-1]
    story.asked(GO_ON)
    _, row = story.fold()
    assert row.asked is None
    story.fails()
    story.journal.append(late)
    _, row = story.fold()
    assert row.asked is None
    story.asked("hold")
    story.operated(2)
    _, row = story.fold()
    assert row.asked is None, "it supersedes what was asked of the step"


async def plan(story: Broker, action: Any) -> Any:
    operations = Operations(story.transport(), story.topic, operator="ann")
    return await operations.plan(action, ["w"], reason="a mistake")


async def done(story: Broker, action: Any) -> str:
    operations = Operations(story.transport(), story.topic, operator="ann")
    report = await operations.execute(await operations.plan(action, ["w"], reason="a mistake"))
    assert report.count("done") == 1
    return report.operation_id


async def test_to_take_it_back_leaves_the_step_running() -> None:
    story = Broker()
    story.start("w", ("slow",))
    story.runs("w1", "w", activities=["slow"])
    operation_id = await done(story, Hold())
    for action in (Release(), Undo(operation_id)):
        (row,) = confirmation_of(await plan(story, action), Target("memory://story", "workflows")).rows
        assert "running at slow → goes on running" in plain(row)
    await done(story, Release())
    operation_id = await done(story, Cancel())
    story.runs("w1", activities=["slow"])
    (row,) = confirmation_of(await plan(story, Undo(operation_id)), Target("memory://story", "workflows")).rows
    assert "queued at slow → goes on as it is" in plain(row)


def test_what_was_asked_for_and_could_not_be_done_is_told_with_its_record() -> None:
    message = new_workflow(["charge"], {}, topic="t", at=1.0)
    end = moves.done(message, None, moves.Span(worker="w", started_at=1.0, completed_at=2.0))
    asked = request(message.headers, 1.5, "insert", {"operator": "ann@desk", "steps": ["x"] * 100})
    line = "".join(str(text) for text, _ in record_summary(heed(end, asked).record))
    assert "not done: insert: no room for 100 more, a slip holds at most 100 steps" in line
