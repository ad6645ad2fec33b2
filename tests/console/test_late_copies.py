"""A copy of an older epoch that was settled past an eventual fence is history, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paigeant_console.feed.intake import Intake
from paigeant_console.model.documents import executed_documents, workflow_document
from paigeant_console.model.fold import Fold
from paigeant_console.model.hop_log import last_operation
from paigeant_console.model.trust import last_body
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_core import transition as moves
from paigeant_core.journal import Record, State
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import Operations, Replay
from paigeant_core.operations.standing import standing_of
from paigeant_core.transition import Span
from tests.console.story import Story


class Late:
    """A workflow that was replayed while a worker had a copy of the run before, and what that copy wrote then."""

    def __init__(self, history: Sequence[Record], story: Story, stale: PaigeantMessage) -> None:
        now = story.clock.now()
        span = Span(worker="w9", started_at=now - 3, completed_at=now)
        second = moves.done(stale, {"charged": "run 1"}, span)
        assert second.made is not None
        third = moves.done(second.made, {"shipped": "run 1"}, span)
        self.history = list(history)
        self.late = [second.record, third.record]
        for number, record in enumerate(self.late):
            record.position, record.at = f"late-{number}", now
        self.all = [*self.history, *self.late]
        assert [record.state for record in self.late] == [State.QUEUED, State.COMPLETED]


@pytest.fixture
async def late() -> Late:
    story = Story()
    story.start("w", ("validate", "charge", "ship"))
    story.done("w", {"valid": 1})
    stale = story.message("w")
    operations = Operations(story.transport(), story.topic, operator="ann")
    await operations.execute(await operations.plan(Replay(from_step=1), ["w"], reason="again"))
    story.wait(5)
    story.done("w", {"valid": 2})
    story.done("w", {"charged": "run 2"})
    return Late(await story.transport().history(story.topic, "w"), story, stale)


def page(history: Sequence[Record]) -> WorkflowPage:
    fold = Fold()
    fold.apply(history)
    return WorkflowPage(history, fold, "w")


async def test_the_page_shows_it_in_the_history_alone(late: Late) -> None:
    now = late.all[-1].at
    before, after = page(late.history), page(late.all)
    assert after.hops(now) == before.hops(now)
    assert after.stands_at() == before.stands_at() == "3"
    assert after.payload_at("9", 80) == before.payload_at("9", 80)
    assert len(after.records(now)) == len(before.records(now)) + 2


async def test_a_step_is_replayed_with_the_payload_that_its_run_came_with(late: Late) -> None:
    payload = page(late.history).payload_bytes_at(3)
    assert payload is not None
    assert b"run 2" in payload
    assert page(late.all).payload_bytes_at(3) == payload
    standing = standing_of(late.all, [])
    assert standing is not None
    message = Replay(from_step=3).queues(standing)
    assert message is not None
    assert message.payload_bytes == payload


async def test_who_did_the_steps_and_what_is_signed_is_told_without_it(late: Late) -> None:
    fold = Fold()
    fold.apply(late.all)
    now = late.all[-1].at
    assert [step["worker"] for step in workflow_document(fold, late.all, now)["executed"]] == ["w1", "w1"]
    message = late.history[-1].message
    assert message is not None
    assert executed_documents(late.all, message) == executed_documents(late.history, message)
    assert last_body(late.all) == last_body(late.history)
    late.late[-1].detail["operation_id"] = "of-the-copy"
    assert last_operation(late.all) == last_operation(late.history) != ""


async def test_queries_look_at_the_payload_of_the_run(late: Late) -> None:
    intake, now = Intake(100), late.all[-1].at
    intake.take(late.history, now)
    kept = intake.bodies.get("w")
    assert kept == late.history[-1].body
    intake.take(late.late, now)
    assert intake.bodies.get("w") == kept
    ahead = Intake(100)
    ahead.take_newest(late.all)
    assert ahead.bodies.get("w") == kept
