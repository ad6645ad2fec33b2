"""Who holds a workflow, and since when: not who brought it back to where it was held, or changed what lies ahead."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from paigeant_console.model.fold import Fold
from paigeant_console.model.row import Row
from paigeant_console.model.stuck import explain
from paigeant_core.errors import TokenExpired
from paigeant_core.journal import Record, State
from paigeant_core.operations import Action, Cancel, DeadLetter, Hold, Insert, Operations, Restore, Skip, Undo
from paigeant_core.permission import withheld
from paigeant_core.routing import Step
from paigeant_core.transition import Span
from tests.console.story import Story

Deed: TypeAlias = Callable[[Story], Awaitable[object]]
INSERT = Insert((Step("check"),))


async def act(story: Story, action: Action, operator: str = "root", reason: str = "a mistake") -> str:
    operations = Operations(story.transport(), story.topic, operator=operator)
    report = await operations.execute(await operations.plan(action, ["w"], reason=reason))
    assert report.count("done") == 1, report.results
    story.wait(19 * 60)
    return report.operation_id


async def aside_and_back(story: Story, action: Action) -> None:
    await act(story, Undo(await act(story, action)))


async def parked_and_restored(story: Story) -> None:
    await act(story, DeadLetter())
    await act(story, INSERT)
    await act(story, Restore())


async def skipped_and_brought_back(story: Story) -> None:
    await act(story, Skip())
    await aside_and_back(story, Cancel())
    await act(story, INSERT)


DEEDS: list[Deed] = [
    lambda story: aside_and_back(story, DeadLetter()),
    lambda story: aside_and_back(story, Cancel()),
    parked_and_restored,
    lambda story: act(story, Skip()),
    lambda story: act(story, INSERT),
    skipped_and_brought_back,
]


def held(story: Story, *, by_ann: bool = False) -> Story:
    """A workflow that was held at one minute past ten."""
    story.start("w", ("pack", "sign", "ship", "bill"))
    story.wait(60)
    if not by_ann:
        story.done("w", took=1.0, hold="needs a signature")
    return story.wait(19 * 60)


async def history_of(story: Story) -> list[Record]:
    return list(await story.transport().history(story.topic, "w"))


def folded(history: list[Record]) -> tuple[Fold, Row]:
    fold = Fold()
    fold.apply(history)
    return fold, fold.rows["w"]


def sentence(history: list[Record]) -> str:
    fold, row = folded(history)
    assert row.state == State.HELD
    found = explain(fold, row, row.at)
    assert found is not None
    return str(found.sentence)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("deed", DEEDS)
async def test_its_handler_holds_it_whatever_operators_did_to_it_since(deed: Deed) -> None:
    story = held(Story())
    before = sentence(await history_of(story))
    assert before == "held by its handler on w1 since 10:01: needs a signature"
    await deed(story)
    assert sentence(await history_of(story)) == before


@pytest.mark.parametrize("deed", DEEDS)
async def test_an_operator_holds_it_whatever_others_did_to_it_since(deed: Deed) -> None:
    story = held(Story(), by_ann=True)
    await act(story, Hold(), "ann", "an audit")
    before = sentence(await history_of(story))
    assert before == "held by ann since 10:20: an audit"
    await deed(story)
    assert sentence(await history_of(story)) == before


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (lambda story: aside_and_back(story, DeadLetter()), "held since 10:39: needs a signature"),
        (lambda story: act(story, Skip()), "held by its handler on w1 since 10:01: needs a signature"),
    ],
)
async def test_nobody_wrong_is_named_where_an_older_version_did_not_write_down_who_held_it(
    deed: Deed, said: str
) -> None:
    story = held(Story())
    await deed(story)
    history = await history_of(story)
    del history[-1].detail["held"]
    assert sentence(history) == said


async def test_one_whose_token_is_over_is_still_that_when_it_is_brought_back() -> None:
    story = Story()
    story.start("w", ("charge",))
    message, now = story.message("w"), story.clock.now()
    story._settle(
        message, withheld(message, TokenExpired("it is over"), Span(worker="w1", started_at=now, completed_at=now))
    )
    deeds: list[Deed] = [lambda story: aside_and_back(story, Cancel()), parked_and_restored]
    for deed in deeds:
        await deed(story)
        fold, row = folded(await history_of(story))
        assert fold.stuck(row, row.at) == "token_expired"
        assert sentence(await history_of(story)) == "it is over; held at charge since 10:00"


async def test_who_brings_back_a_dead_letter_or_inserts_behind_it_did_not_park_it() -> None:
    story = Story()
    story.start("w", ("charge",))
    await act(story, DeadLetter(), "ann", "no provider")
    await act(story, INSERT)
    fold, row = folded(await history_of(story))
    assert (row.held_by, row.reason) == ("ann", "no provider")
    await aside_and_back(story, Cancel())
    fold, row = folded(await history_of(story))
    assert (row.state, row.held_by, row.reason, explain(fold, row, row.at)) == (State.DEAD, "", "", None)
