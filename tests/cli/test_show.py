"""`show` says why a workflow does not move, with what the rest of the journal knows of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from paigeant_core import transition as moves
from paigeant_core.operations import Cancel, Operations, OperationStatus, Pace, Undo
from paigeant_core.operations.log import opening, to_document
from paigeant_core.transition import Span
from tests.cli.conftest import Cli
from tests.console import story as told
from tests.console.story import Story, sample_story


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def shown(here: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`show` on the broker that a story was told on."""
    monkeypatch.setenv("PAIGEANT_URL", "memory://story")
    return here


def fact(text: str, name: str) -> str:
    found = [line for line in text.splitlines() if line.startswith(f"{name:<9}")]
    assert len(found) == 1, text
    return found[0][9:]


def test_who_served_the_step_last_is_asked_of_the_whole_journal(shown: Cli) -> None:
    story = sample_story()
    story.start("earlier", ("inspect-parcel",))
    story.worker = "parcels-3"
    story.done("earlier")
    story.wait(14 * 60)
    out = shown("show", told.STUCK).ended(0).out
    said = fact(out, "stuck")
    assert said.startswith("no_worker: waiting 15 min: no worker serves inspect-parcel (last seen 10:")
    assert said.endswith(" on parcels-3)")
    assert fact(out, "to do").startswith("start a worker for it; ")
    assert "`dead-letter` parks it among the dead letters" in out
    assert shown("show", told.STUCK, "--json").ended(0).document["stuck"] == "no_worker"


def test_how_long_others_took_decides_what_is_slow(shown: Cli) -> None:
    story = Story()
    story.start("quick", ("charge",))
    story.done("quick", took=2)
    story.start("slow", ("charge",))
    story.runs("w-3", "slow", activities=["charge"])
    story.wait(12 * 60)
    out = shown("show", "slow").ended(0).out
    assert fact(out, "stuck") == "slow: running for 12 min on w-3; half of its kind took no more than 2.0 s"
    assert shown("show", "slow", "--json").ended(0).document["stuck"] == "slow", "as `list` says"
    assert shown("list", "stuck:slow", "--json").ended(0).document["correlation_id"] == "slow"


def test_a_backoff_and_a_hold_are_explained(shown: Cli) -> None:
    story = sample_story()
    out = shown("show", told.RETRYING).ended(0).out
    assert fact(out, "stuck").startswith(
        "backoff: attempt 2 in 20s after ConnectionError: payment provider answered 503"
    )
    assert fact(out, "to do") == "`retry` runs it now; `replay` replays with a mended payload"
    story.wait(60)
    out = shown("show", told.HELD).ended(0).out
    assert fact(out, "why").startswith("held by its handler on w1 since 10:0")
    assert out.count("a person has to look at the document") >= 2


def test_what_is_armed_is_told_and_how_to_call_it_off(shown: Cli) -> None:
    story = Story()
    story.start("a", ("charge",))
    now = story.clock.now()
    action = to_document(Cancel())
    armed = OperationStatus(
        "op-1", operator="ann", action=action, reason="asked to", at=now, targets=["a"], pace=Pace(delay=90)
    )
    for data in opening(armed):
        story._do(story.transport().append_operation(story.topic, data))
    out = shown("show", "a").ended(0).out
    assert fact(out, "asked") == "cancel by ann (asked to) begins in 2m; `operations abort op-1` calls it off"


def test_a_step_that_was_taken_over_says_so(shown: Cli) -> None:
    story = Story()
    story.start("a", ("charge", "notify"))
    span = Span(worker="w2", started_at=story.clock.now(), completed_at=story.clock.now() + 1, deaths=2)
    story._settle(story.message("a"), moves.done(story.message("a"), None, span))
    out = shown("show", "a").ended(0).out
    assert "w2 (2 workers died with it)" in out


def test_what_was_undone_says_why(shown: Cli) -> None:
    story = Story()
    story.start("a", ("validate", "charge", "notify"), on_failure="compensate")
    story.done("a")
    story.fails("a", ValueError("card declined"))
    story.undone("a")
    out = shown("show", "a").ended(0).out
    assert out.splitlines()[0] == "↶ validate → ✗ charge → · notify"
    assert fact(out, "why") == "undone because charge failed: ValueError: card declined"


def test_a_message_in_quarantine_is_told_of_its_workflow(shown: Cli) -> None:
    story = Story()
    story.start("a", ("charge",))
    body = story.last("a").body
    assert body is not None
    named = story.quarantine(body[:-1] + b"?}", activity="charge")
    story.runs("w-1", activities=("charge",))
    out = shown("show", "a").ended(0).out
    assert fact(out, "stuck").startswith(f"quarantined: its message for charge was quarantined as {named} (")
    assert "`restore` of that brings it back" in fact(out, "to do")
    assert [row["correlation_id"] for row in shown("list", "--json", "stuck:quarantined").documents] == ["a"]


def test_nothing_is_said_of_one_that_is_done(shown: Cli) -> None:
    sample_story().transport()
    out = shown("show", told.DONE).ended(0).out
    assert "stuck" not in out
    assert "to do" not in out


def test_what_is_asked_of_a_running_step_is_told_until_it_is_taken_back(shown: Cli) -> None:
    story = Story()
    story.start("w", ("slow", "next"))
    story.runs("w1", "w", activities=["slow", "next"])
    operations = Operations(story.transport(), story.topic, operator="ann")
    before = shown("show", "w", "--json").ended(0).document
    report = story._do(operations.execute(story._do(operations.plan(Cancel(), ["w"], reason="a mistake"))))
    assert report.count("done") == 1
    assert shown("show", "w", "--json").ended(0).document.keys() == before.keys(), "they are the contract's"
    out = shown("show", "w").ended(0).out
    assert fact(out, "why") == "ann asked to cancel it at 10:00: done when slow is handed on"
    assert fact(out, "to do") == "`undo OPERATION` takes that back"
    undo = story._do(operations.plan(Undo(report.operation_id), ["w"], reason="not that one"))
    assert story._do(operations.execute(undo)).count("done") == 1
    assert "to do" not in shown("show", "w").ended(0).out
