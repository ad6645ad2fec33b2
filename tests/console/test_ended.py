"""Workflows that ended leave the console's memory when there are too many, and nothing else is told wrongly by it."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_console.demo import ORDER
from paigeant_console.feed import Phase, changes, intake, past, reader
from paigeant_console.feed.distance import Distance
from paigeant_console.feed.intake import Intake
from paigeant_console.history import History
from paigeant_console.model.bodies import KEPT_BYTES
from paigeant_console.model.fold import Fold
from paigeant_console.model.query import parse
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_console.safe_text import SafeText
from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.erasure import marker
from paigeant_core.journal import ENDED, Record, State
from tests.console.feedkit import PATIENCE, live, running
from tests.console.story import Story, sample_story
from tests.console.story_rows import plain
from tests.console.test_fold import NOW
from tests.console.test_fold import Story as Moves
from tests.console.test_history import FOREVER, journal_of, written

MOST = 3
ENDS = [(number, "cancelled") for number in range(4)]
MOVES = ("done", "dies", "cancelled", "again", "late")


class Rows:
    """The rows of an intake, as a feed holds them for a list."""

    def __init__(self, most_ended: int = MOST) -> None:
        self.intake = Intake(100, most_ended=most_ended)
        self.fold = self.intake.fold
        self.lock = threading.RLock()

    def now(self) -> float:
        return NOW

    def take(self, records: list[Record]) -> list[str]:
        """Take records, and let go of what is too much; the IDs of those that left."""
        self.intake.take(records, NOW)
        gone: list[str] = []
        while some := self.intake.let_go():
            gone += some
        return gone


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count after every record."""
    monkeypatch.setattr(intake, "COUNT_EVERY", 1)


def of_four(chosen: list[tuple[int, str]]) -> list[Record]:
    """The records of four workflows of two steps, as these moves make them; one millisecond apart."""
    stories = [Moves("a", "b") for _ in range(4)]
    dispatched = [story.message for story in stories]
    records = [record for story in stories for record in story.journal]
    for number, move in chosen:
        story = stories[number]
        before = len(story.journal)
        epoch, ended = story.message.headers.epoch, story.journal[-1].state in ENDED
        if move == "again":
            # A replay, of one that has ended too.
            story.message = dispatched[number]
            story.operated(epoch + 1, run=epoch + 1)
        elif move == "late" and epoch > 1:
            # A copy of the first epoch that passed the fence.
            story.add(moves.done(dispatched[number], {}, story.span()), follow=False)
        elif not ended and move == "cancelled":
            raised = story.message.replaced(story.message.routing_slip, timestamp=rfc3339(story.at), epoch=epoch + 1)
            story.add(moves.cancel(raised, story.at, {"operator": "ann"}), follow=False)
            story.message = raised
        elif not ended and move == "dies" and story.journal[-1].state == State.QUEUED:
            story.dies()
        elif not ended and move == "done" and story.journal[-1].state == State.QUEUED:
            story.done()
        records += story.journal[before:]
    for position, record in enumerate(records):
        record.position, record.at = str(position), NOW + position / 1000
    return records


def told(fold: Fold, keys: Any) -> dict[str, Any]:
    return {key: (fold.document(row, NOW), row.names, row.token) for key, row in fold.rows.items() if key in keys}


@given(
    chosen=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(MOVES)), max_size=40),
    batch=st.integers(1, 5),
    most=st.integers(0, 2),
    at_a_time=st.integers(1, 3),
)
# Replayed, while others end; and at its end one of those that ended again, in its new place and only once.
@example([*ENDS[:1], (0, "again"), *ENDS[1:3], (0, "cancelled"), *ENDS[3:]], 1, 1, 1)
@example([*ENDS[:1], (0, "again"), *ENDS], 1, 1, 1)
def test_the_longest_ended_leave_and_the_others_are_told_as_if_none_had(
    chosen: list[tuple[int, str]], batch: int, most: int, at_a_time: int
) -> None:
    records = of_four(chosen)
    rows, whole = Rows(most), Fold()
    shown = WorkflowList(rows)
    feed = rows.intake.changes
    subscription = feed.subscribe()
    assert feed.take(subscription) is None
    with mock.patch.object(intake, "COUNT_EVERY", 1), mock.patch.object(intake, "LEAVE_AT_ONCE", at_a_time):
        for start in range(0, len(records), batch):
            some = records[start : start + batch]
            whole.apply(some)
            gone = rows.take(some)
            assert all(whole.rows[key].state in ENDED for key in gone)
            kept = rows.fold.rows
            assert told(rows.fold, kept) == told(whole, kept)
            ended = {key for key, row in whole.rows.items() if row.state in ENDED}
            assert whole.rows.keys() - ended <= kept.keys(), "what has not ended stays"
            assert len(ended & kept.keys()) == most if gone else len(ended & kept.keys()) <= most
            since = [whole.rows[key].at for key in ended & kept.keys()]
            assert all(whole.rows[key].at <= min(since, default=NOW * 2) for key in ended - kept.keys())
            # Whoever counts them, or shows them, has forgotten them too.
            assert feed.counts == Counter(str(row.state) for row in kept.values())
            assert sum(feed.left.values()) == rows.fold.forgotten
            shown.absorb(feed.take(subscription) or ())
            assert {shown.key(index) for index in range(len(shown))} == kept.keys()


def test_they_leave_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    monkeypatch.setattr(intake, "LEAVE_AT_ONCE", 2)
    records = of_four(ENDS)
    rows = Rows(0)
    rows.intake.take(records, NOW)
    ids = [record.headers.correlation_id for record in records[4:]]
    assert [rows.intake.let_go() for _ in range(3)] == [ids[:2], ids[2:], []]


def test_how_many_have_ended_is_not_asked_with_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "COUNT_EVERY", 2)
    asked = mock.PropertyMock(return_value=0)
    monkeypatch.setattr(changes.Changes, "ended", asked)
    rows = Rows(30)
    for record in of_four([(number % 4, "again") for number in range(100)]):
        rows.take([record])
    assert asked.call_count == 1 + 104 // 30


def test_a_message_leaves_with_its_workflow(at_once: None) -> None:
    rows = Rows(0)
    records = of_four([(0, "cancelled")])
    rows.take(records)
    assert rows.intake.bodies.get(records[0].headers.correlation_id) is None
    assert len(rows.intake.bodies) == 3


def test_one_that_is_erased_stays_as_if_it_had_ended_then(at_once: None) -> None:
    records = of_four([(0, "cancelled"), (1, "cancelled"), (2, "cancelled")])
    rows = Rows(3)
    rows.take(records)
    first, second = (record.headers.correlation_id for record in records[4:6])
    erased = marker(records[4], NOW + 5, {"operator": "ann"})
    erased.at = NOW + 5
    assert rows.take([erased]) == []
    (late,) = of_four([(3, "cancelled")])[4:]
    late.at = NOW + 6
    assert rows.take([late]) == [second]
    assert rows.fold.rows[first].erased_at


def test_of_a_topic_that_was_deleted_nothing_is_counted_and_its_ids_begin_anew(at_once: None) -> None:
    records = of_four(ENDS)
    rows = Rows(2)
    assert len(rows.take(records)) == 2
    rows.intake.begin_anew()
    feed = rows.intake.changes
    assert (rows.fold.rows, feed.counts, feed.left, feed.ended) == ({}, {}, {}, 0)
    assert rows.take(records[:4]) == [], "of the first epoch again"
    assert feed.counts == {State.QUEUED: 4}
    assert rows.take(records[4:]) == [record.headers.correlation_id for record in records[4:6]]
    assert feed.counts == {State.CANCELLED: 2}


def test_one_that_was_dropped_behind_a_gap_does_not_leave_a_second_time(at_once: None) -> None:
    records = of_four(ENDS)
    rows = Rows(4)
    assert rows.take(records) == []
    first = records[4].headers.correlation_id
    rows.intake.drop(lambda row: row.correlation_id == first)
    assert rows.intake.changes.counts == {State.CANCELLED: 3}
    assert rows.intake.changes.left == {}
    assert rows.take([records[4]]) == []
    rows.intake.drop(lambda row: row.correlation_id != first)
    assert rows.take(records[5:]) == []
    assert rows.intake.changes.counts == {State.CANCELLED: 4}


def test_one_that_was_dropped_and_came_back_leaves_once(at_once: None) -> None:
    rows = Rows(2)
    records = of_four(ENDS)
    rows.take(records[:6])
    # The topic was deleted, and what is made in its place has the same IDs.
    rows.intake.begin_anew()
    for record in records:
        record.at += 1
    assert rows.take(records) == [record.headers.correlation_id for record in records[4:6]]
    assert (rows.intake.changes.counts, rows.intake.changes.left) == ({"cancelled": 2}, {"cancelled": 2})


def test_a_view_that_nobody_looks_at_keeps_no_list_of_all_that_left(
    monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    monkeypatch.setattr(changes, "MOST_CHANGED", 3)
    rows = Rows(0)
    feed = rows.intake.changes
    subscription = feed.subscribe()
    feed.take(subscription)
    records = of_four(ENDS)
    rows.take(records[:3])
    assert len(feed.take(subscription) or ()) == 3
    rows.take(records[3:])
    assert subscription.changed is None
    assert feed.take(subscription) is None, "all are to be looked at"
    assert feed.take(subscription) == set()


def test_a_row_that_has_just_left_is_no_trouble_to_a_list_that_shows_it(at_once: None) -> None:
    records = of_four([(0, "cancelled")])
    rows = Rows(0)
    rows.intake.take(records, NOW)
    shown = WorkflowList(rows)
    shown.columns = ("state", "id", "slip")
    shown.absorb(rows.fold.rows)
    left = records[0].headers.correlation_id
    index = shown.index_of(left)
    assert index is not None
    before = shown.revision(left)
    shown.set_query(parse("state:queued"))
    assert rows.intake.let_go() == [left]
    assert shown.revision(left) != before
    assert [str(plain([cell])) for cell in shown.cells(index)] == ["", left, "no longer in memory"]
    assert shown.filtering == 0.0
    shown.scan()
    assert len(shown) == 3


def test_the_page_of_one_that_left_is_made_of_its_records(at_once: None) -> None:
    records = of_four([(0, "done"), (0, "done")])
    rows, whole = Rows(0), Fold()
    whole.apply(records)
    key = records[0].headers.correlation_id
    assert rows.take(records) == [key]
    mine = [record for record in records if record.headers.correlation_id == key]
    page, known = WorkflowPage(mine, rows.fold, key), WorkflowPage(mine, whole, key)
    assert page.head(100, NOW) == known.head(100, NOW)
    assert WorkflowPage((), rows.fold, key).row is None


# With the feed


def ended(story: Story, number: int, prefix: str = "order") -> None:
    """So many orders, all done."""
    for index in range(number):
        story.start(f"{prefix}-{index}", ORDER[:1], {"customer": f"person-{index}@example.com"}, name="order")
        story.done(f"{prefix}-{index}")


def test_the_feed_keeps_so_many_that_ended_and_all_others(at_once: None) -> None:
    story = sample_story()
    before = len(journal_of(story))
    ended(story, 5)
    with running(story, most_ended=2) as feed:
        live(feed, story)
        status = feed.status()
        assert status.counts["completed"] == 2
        assert status.left == {"completed": 4}
        assert {key for key in feed.fold.rows if key.startswith("order")} == {"order-3", "order-4"}
        assert status.workflows == 8 + 2
        assert status.records == before + 10
        # It is told of, and comes back as a replay leaves it.
        story._do(_replayed(story, "order-0"))
        live(feed, story)
        row = feed.fold.rows["order-0"]
        assert (row.state, row.names, row.epoch, row.name) == (State.QUEUED, tuple(ORDER[:1]), 2, "order")
        story.done("order-0")
        live(feed, story)
        assert feed.status().counts["completed"] == 2
        assert {key for key in feed.fold.rows if key.startswith("order")} == {"order-0", "order-4"}


async def _replayed(story: Story, correlation_id: str) -> None:
    first = next(item for item in journal_of(story) if item.headers.correlation_id == correlation_id).message
    assert first is not None
    following = first.replaced(first.routing_slip, timestamp=first.headers.timestamp, epoch=2, run=2)
    record = moves.operated(following, story.clock.now(), {"action": "replay"}, state=State.QUEUED, body=True)
    transition = moves.Transition(place=moves.Place.WORK, record=record)
    await story.transport().operate(story.topic, transition, expect=story.last(correlation_id).id)


def test_what_the_history_has_of_one_that_left_while_the_journal_was_read_is_not_taken_for_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    monkeypatch.setattr(reader, "NEWEST", 1)
    monkeypatch.setattr(past, "RESTORED", 1)
    story = Story()
    story.start("order", ("charge",))
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        live(feed, story)
        written(feed, story)
    story.done("order")
    ended(story, 3, "other")
    with running(story, most_ended=2, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, PATIENCE)
        assert set(feed.fold.rows) == {"other-1", "other-2"}
        assert feed.status().counts == {"completed": 2}


def test_a_record_is_far_from_the_end_by_all_workflows_that_were_there() -> None:
    fold = Fold()
    fold.records, fold.forgotten = 1000, 500
    newest = of_four([])
    for record in newest:
        record.body = b"x" * (KEPT_BYTES // 100)
    reading = Distance(fold, 10)
    reading.begin(1000, newest)
    assert reading.far(100).messages, "of two records each, and there is room for a hundred messages"
    fold.records = 2000
    reading.begin(500, newest)
    # Of four records each.
    assert reading.far(100) == (True, False), "the traffic keeps ten"


def test_how_it_is_said() -> None:
    from paigeant_console.actions import VIEWS
    from paigeant_console.model.status import tabs_line

    def said(left: dict[str, int]) -> SafeText | str:
        counts = {"completed": 1200, "dead": 2}
        return plain(tabs_line(VIEWS, "workflows", counts, 120, left=left, ascii_only=False))

    assert said({}).endswith("✗ 2 dead ✓ 1,200 completed")
    assert said({"completed": 9, "cancelled": 1}).endswith("✗ 2 dead ⊖ 0+ cancelled ✓ 1,200+ completed")
