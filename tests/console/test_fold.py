"""The fold: what each record does to a row, and why a workflow is stuck."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.journal_data import journal
from paigeant_console.model.fold import Fold
from paigeant_console.model.row import Row
from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import DecodeError
from paigeant_core.handoff import heed, request
from paigeant_core.journal import Record, State
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import RoutingSlip
from paigeant_core.transition import Outcome, Span, Transition
from paigeant_core.transports.types import WorkerInfo, WorkerStatus, holding

NOW = 1_700_000_000.0


class Story:
    """One workflow, moved by the same transitions as a worker's, and its journal."""

    def __init__(self, *steps: str, at: float = NOW) -> None:
        self.at = at
        self.journal: list[Record] = []
        self.message = new_workflow(list(steps), {}, topic="t", at=at, name="story")
        self.add(moves.dispatch(self.message, at))

    def add(self, transition: Transition, *, follow: bool = True) -> Record:
        for record in (*transition.before, transition.record):
            stored = Record.decode(record.encode_meta(), record.body, position=str(len(self.journal) + 1), at=self.at)
            self.journal.append(stored)
        if follow and transition.record.body is not None:
            self.message = PaigeantMessage.decode(transition.record.body)
        self.at += 1
        return self.journal[-1]

    def span(self, seconds: float = 1.0, worker: str = "w-1") -> Span:
        return Span(worker=worker, started_at=self.at - seconds, completed_at=self.at)

    def done(self, seconds: float = 1.0, outcome: Outcome | None = None) -> None:
        self.add(moves.done(self.message, {}, self.span(seconds), outcome))

    def fails(self, delay: float = 5.0) -> None:
        self.add(moves.retry(self.message, ValueError("no"), delay, self.span()))

    def dies(self, reason: str = "attempts_exhausted") -> None:
        self.add(moves.failed(self.message, ValueError("dead"), reason, self.span()))

    def operated(self, epoch: int, *, run: int = 1) -> None:
        following = self.message.replaced(self.message.routing_slip, timestamp=rfc3339(self.at), epoch=epoch, run=run)
        detail = {"action": "retry", "operator": "ann"}
        record = moves.operated(following, self.at, detail, state=State.QUEUED, body=True)
        self.add(Transition(place=moves.Place.WORK, record=record))

    def asked(self, wish: str = "hold") -> None:
        detail = {"action": wish, "operator": "ann", "reason": "an audit"}
        asked = request(self.message.headers, self.at, wish, detail)
        asked.position = str(len(self.journal) + 1)
        self.journal.append(asked)
        self.at += 1

    def fold(self) -> tuple[Fold, Row]:
        fold = Fold()
        fold.apply(self.journal)
        return fold, fold.rows[self.message.correlation_id]


def worker(*activities: str, running: PaigeantMessage | None = None, since: float = NOW) -> WorkerStatus:
    info = WorkerInfo(worker="w-1", activities=activities, concurrency=1)
    held = (holding(running.headers, since),) if running is not None else ()
    return WorkerStatus(info=info, running=held)


def test_as_many_steps_in_place_of_those_that_were_left_out_are_seen() -> None:
    story, fold = Story("a", "b", "c"), Fold()
    fold.apply(story.journal)
    left_out = moves.done(story.message, {}, story.span(), Outcome(finish=True))
    wish = request(story.message.headers, story.at, "insert", {"operation_id": "o1", "steps": ["d", "e"]})
    fold.apply([story.add(heed(left_out, wish))])
    (row,) = fold.rows.values()
    assert row.names == ("a", "d", "e")


def test_a_row_stands_at_the_next_step_after_a_hop() -> None:
    story = Story("a", "b")
    story.done()
    _, row = story.fold()
    assert (row.state, row.step, row.headers.hop, row.headers.steps_done) == (State.QUEUED, "b", 2, 1)
    assert row.names == ("a", "b")
    story.done()
    fold, row = story.fold()
    assert (row.state, row.step) == (State.COMPLETED, None)
    assert fold.document(row, NOW)["step"] is None


def test_an_error_stays_until_the_step_is_done_or_somebody_acts() -> None:
    story = Story("a", "b")
    story.fails()
    _, row = story.fold()
    assert row.error == {"type": "ValueError", "message": "no"}
    assert (row.state, row.due_at) == (State.RETRYING, rfc3339(NOW + 1 + 5))
    story.done()
    assert story.fold()[1].error is None
    story.dies()
    _, row = story.fold()
    assert row.state == State.DEAD
    assert row.error == {"type": "ValueError", "message": "dead"}
    story.operated(2)
    _, row = story.fold()
    assert (row.state, row.error, row.headers.epoch) == (State.QUEUED, None, 2)


def test_a_late_record_of_an_older_epoch_changes_nothing() -> None:
    story = Story("a", "b")
    late = moves.done(story.message, {}, story.span())
    story.operated(2)
    story.add(late, follow=False)
    _, row = story.fold()
    assert (row.state, row.headers.epoch, row.headers.hop) == (State.QUEUED, 2, 1)


def test_a_workflow_that_is_forgotten_is_known_again_by_its_next_record() -> None:
    story = Story("a", "b")
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message)], NOW)
    fold.forget([row.correlation_id, "nosuch"])
    assert (fold.rows, fold.forgotten) == ({}, 1)
    assert fold.observe([], NOW + 1) == set(), "it is not told to have stopped running"
    story.done()
    assert fold.apply(story.journal[-1:]) == {row.correlation_id}
    assert fold.document(fold.rows[row.correlation_id], NOW) == story.fold()[0].document(story.fold()[1], NOW)


def test_only_so_many_epochs_of_forgotten_workflows_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paigeant_console.model.fold.MOST_EPOCHS", 10)
    fold, late = Fold(), []
    for _ in range(11):
        story = Story("a", "b")
        late.append(moves.done(story.message, {}, story.span()).record)
        story.operated(2)
        fold.apply(story.journal)
    fold.forget(list(fold.rows))
    assert [len(fold.apply([record])) for record in late] == [1] + 10 * [0]


def test_a_superseded_result_changes_no_state_and_no_revision() -> None:
    story = Story("a", "b")
    fold, row = story.fold()
    before = row.revision
    record = moves.superseded(moves.done(story.message, {}, story.span()))
    assert fold.apply([Record.decode(record.encode_meta(), record.body, position="9", at=NOW)]) == set()
    assert (row.state, row.revision) == (State.QUEUED, before)


def test_running_is_what_a_worker_says_and_the_journal_agrees_with() -> None:
    story = Story("a", "b")
    fold, row = story.fold()
    first = story.message
    assert fold.observe([worker("a", "b", running=first, since=NOW + 3)], NOW) == {row.correlation_id}
    assert (row.state, row.runner, row.since) == (State.RUNNING, "w-1", NOW + 3)
    story.done()
    fold.apply(story.journal[-1:])
    # The worker's report is older than the journal: the step it names is done.
    assert fold.observe([worker("a", "b", running=first)], NOW) == set()
    assert row.state == State.QUEUED
    fold.observe([worker("a", "b", running=story.message)], NOW)
    assert row.state == State.RUNNING
    assert fold.observe([worker("a", "b")], NOW) == {row.correlation_id}
    assert row.state == State.QUEUED


def test_a_finished_workflow_is_not_running_whatever_a_worker_says() -> None:
    story = Story("a")
    last = story.message
    story.done()
    fold, row = story.fold()
    assert fold.observe([worker("a", running=last)], NOW) == set()
    assert row.state == State.COMPLETED


def test_no_worker_is_said_after_its_time_and_only_when_workers_were_asked() -> None:
    story = Story("a")
    fold, row = story.fold()
    assert fold.stuck(row, NOW + 1000) is None
    fold.observe([worker("other")], NOW)
    assert fold.stuck(row, NOW + 29) is None
    assert fold.stuck(row, NOW + 31) == "no_worker"
    fold.observe([worker("a")], NOW)
    assert fold.stuck(row, NOW + 31) is None


def test_slow_is_five_times_the_median_and_a_minute_at_least() -> None:
    fold = Fold()
    for _ in range(5):
        quick = Story("a")
        quick.done(seconds=2.0)
        fold.apply(quick.journal)
    story = Story("a")
    fold.apply(story.journal)
    row = fold.rows[story.message.correlation_id]
    fold.observe([worker("a", running=story.message, since=NOW)], NOW)
    assert fold.median("a") == 2.0
    assert fold.stuck(row, NOW + 59) is None
    assert fold.stuck(row, NOW + 61) == "slow"


def test_a_worker_that_vanishes_with_its_step_is_said_until_somebody_takes_over() -> None:
    story = Story("a")
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message)], NOW)
    fold.observe([], NOW)
    assert (row.state, row.lost, fold.stuck(row, NOW)) == (State.QUEUED, "w-1", "worker_lost")
    fold.observe([worker("a", running=story.message)], NOW)
    assert fold.stuck(row, NOW) is None
    assert (row.trouble.taken_from, row.trouble.ran_since) == ("", NOW), "it is the same worker"
    # A worker that lives and no longer holds the step has just handed it on.
    fold.observe([worker("a")], NOW)
    assert row.lost == ""


def test_backoff_poison_and_version_are_said() -> None:
    story = Story("a")
    story.fails()
    fold, row = story.fold()
    assert fold.stuck(row, NOW) == "backoff"
    story.dies("poison")
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, NOW)) == (State.DEAD, "poison")


def test_workflows_of_one_kind_share_their_names() -> None:
    fold = Fold()
    stories = [Story("a", "b", "c") for _ in range(3)]
    for story in stories:
        fold.apply(story.journal)
    names = [row.names for row in fold.rows.values()]
    assert names[0] is names[1] is names[2]


def test_inserted_steps_change_the_names() -> None:
    story = Story("a", "z")
    story.done(outcome=Outcome(inserted=list(RoutingSlip(["m"]).itinerary)))
    _, row = story.fold()
    assert row.names == ("a", "m", "z")


@given(st.lists(st.sampled_from(["done", "fails", "dies", "operated", "replay"]), max_size=12), st.data())
def test_batches_do_not_matter(moves_made: list[str], data: st.DataObject) -> None:
    story = Story("a", "b", "c")
    epoch, run = 1, 1
    for move in moves_made:
        if story.message.routing_slip.finished:
            break
        if move in ("operated", "replay"):
            epoch += 1
            run += move == "replay"
            story.operated(epoch, run=run)
        else:
            getattr(story, move)()
    whole, row = story.fold()
    cut = data.draw(st.integers(0, len(story.journal)))
    parts = Fold()
    parts.apply(story.journal[:cut])
    parts.apply(story.journal[cut:])
    assert parts.document(parts.rows[row.correlation_id], NOW) == whole.document(row, NOW)
    assert row.headers.steps_done + len(story.message.routing_slip.itinerary) == row.headers.steps_total


def test_a_workflow_of_five_hops_takes_at_most_700_bytes_of_memory() -> None:
    entries = list(journal(2000, 5))
    fold = Fold()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number, (meta, body) in enumerate(entries):
            fold.apply([Record.decode(meta, body, position=str(number), at=NOW + number)])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {row.state for row in fold.rows.values()} == {State.COMPLETED}
    assert len(fold.rows) == 2000
    assert (after - before) / 2000 <= 700


@pytest.mark.parametrize(
    "detail", ["", "null", "[]", '{"step":1}', '{"duration_s":"x","step":"a"}', '{"step":"a"', '{"step":"\\ud800"}']
)
def test_a_detail_of_any_kind_is_folded(detail: str) -> None:
    story = Story("a", "b")
    message = story.message
    meta = msgspec.json.encode({"kind": "advanced", "state": "queued", "worker": "w", "at": NOW})[:-1]
    meta += b',"detail":' + detail.encode() + b"}" if detail else b"}"
    fold, row = story.fold()
    try:
        record = Record.decode(meta, message.encode(), position="2", at=NOW)
    except DecodeError:
        return
    assert fold.apply([record]) == {row.correlation_id}
    assert (record.told().step, record.told().duration_s) in (("", None), ("a", None))
    assert isinstance(record.detail, dict)
