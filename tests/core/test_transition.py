"""What becomes of a workflow: pure functions from a message and an outcome to one move."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import InvalidMessage, MessageTooLarge, NonRetryable
from paigeant_core.journal import Kind, State
from paigeant_core.limits import MAX_PAYLOAD, MAX_SLIP
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import Executed, RoutingSlip, Step
from paigeant_core.transition import Outcome, Place, Span, Transition

AT = 1_700_000_000.0
DONE_AT = AT + 3
SPAN = Span(worker="w-1", started_at=AT + 1, completed_at=DONE_AT)


def start(*steps: object, **options: Any) -> PaigeantMessage:
    options = {"topic": "t", "at": AT, "correlation_id": "c-1", "name": "n", "labels": {"k": "v"}, **options}
    return new_workflow(list(steps) or ["a", "b", "c"], {"x": 1}, **options)


def halfway(itinerary: list[str], executed: list[Executed], *, undoing: int = 0, **options: Any) -> PaigeantMessage:
    """A message somewhere in its itinerary."""
    slip = RoutingSlip(itinerary, executed, undoing=undoing, **options)
    return start().replaced(slip, timestamp=rfc3339(AT), attempt=2, run=3, epoch=4)


def following(transition: Transition) -> PaigeantMessage:
    message = transition.record.message
    assert message is not None
    return message


def assert_consistent(transition: Transition, before: PaigeantMessage) -> None:
    """What holds of every move: the workflow's own headers stay, and the record tells of its body."""
    record, after = transition.record, following(transition)
    assert record.headers == after.headers
    old, new = before.headers, after.headers
    assert (new.correlation_id, new.name, new.labels, new.topic) == (
        old.correlation_id,
        old.name,
        old.labels,
        old.topic,
    )
    assert (new.created_at, new.run, new.epoch) == (old.created_at, old.run, old.epoch)
    assert new.activity == after.routing_slip.current_name()
    assert record.worker == "w-1"


def test_dispatch() -> None:
    message = start()
    transition = moves.dispatch(message, AT)
    assert transition.place is Place.WORK
    assert (transition.record.kind, transition.record.state) == (Kind.DISPATCHED, State.QUEUED)
    assert transition.record.body == message.encode()
    assert transition.record.id == message.headers.message_id


# -- done -------------------------------------------------------------------------------


def test_done_advances_to_the_next_step() -> None:
    message = start()
    transition = moves.done(message, {"y": 2}, SPAN)
    assert transition.place is Place.WORK
    assert (transition.record.kind, transition.record.state) == (Kind.ADVANCED, State.QUEUED)
    assert_consistent(transition, message)
    after = following(transition)
    assert after.payload == {"x": 1, "y": 2}
    headers = after.headers
    assert (headers.activity, headers.hop, headers.attempt) == ("b", 2, 1)
    assert (headers.steps_done, headers.steps_total) == (1, 3)
    assert headers.timestamp == rfc3339(DONE_AT)
    assert headers.message_id != message.headers.message_id
    assert transition.record.id == headers.message_id
    assert transition.record.detail == {
        "step": "a",
        "hop": 1,
        "attempt": 1,
        "started_at": rfc3339(AT + 1),
        "completed_at": rfc3339(DONE_AT),
        "duration_s": 2.0,
    }


def test_done_starts_the_attempts_anew_and_remembers_which_did_it() -> None:
    message = halfway(["b", "c"], [Executed("a")])
    after = following(moves.done(message, None, SPAN))
    assert after.headers.attempt == 1
    assert [(str(step), step.attempt) for step in after.routing_slip.executed] == [("a", 1), ("b", 2)]
    assert (after.headers.run, after.headers.epoch) == (3, 4)


def test_done_with_the_last_step_finishes() -> None:
    message = halfway(["c"], [Executed("a"), Executed("b")])
    transition = moves.done(message, {"y": 2}, SPAN)
    assert transition.place is Place.NOWHERE
    assert (transition.record.kind, transition.record.state) == (Kind.FINISHED, State.COMPLETED)
    assert_consistent(transition, message)
    headers = following(transition).headers
    assert (headers.activity, headers.hop, headers.steps_done, headers.steps_total) == ("", 3, 3, 3)


def test_done_leaves_the_message_it_was_given_alone() -> None:
    message = start()
    before = message.encode()
    moves.done(message, {"x": 2}, SPAN, Outcome(inserted=[Step("z")], finish=True))
    assert message.encode() == before


@pytest.mark.parametrize("result", [None, {}])
def test_done_with_nothing_keeps_the_payload_to_the_byte(result: dict[str, Any] | None) -> None:
    message = new_workflow(["a"], b'{ "x": 1.50 }', topic="t", at=AT)
    assert following(moves.done(message, result, SPAN)).payload_bytes == b'{ "x": 1.50 }'


def test_done_inserts_behind_the_head() -> None:
    step = Step("z", arguments={"n": 1})
    transition = moves.done(start(), None, SPAN, Outcome(inserted=[step, Step("y")]))
    after = following(transition)
    assert after.routing_slip.names() == ("a", "z", "y", "b", "c")
    assert after.routing_slip.itinerary[0].arguments == {"n": 1}
    assert transition.record.detail["inserted"] == ["z", "y"]
    assert after.headers.steps_total == 5


def test_done_and_finish_puts_what_is_left_out_on_record() -> None:
    transition = moves.done(start(), {"y": 2}, SPAN, Outcome(finish=True))
    assert transition.place is Place.NOWHERE
    assert (transition.record.kind, transition.record.state) == (Kind.FINISHED, State.COMPLETED)
    assert transition.record.detail["discarded"] == ["b", "c"]
    assert following(transition).routing_slip.names() == ("a",)


@pytest.mark.parametrize("result", [[], "", 0, False, "text", [{"a": 1}], object()])
def test_done_with_no_object_is_refused(result: Any) -> None:
    with pytest.raises(InvalidMessage, match="must be a dict or None"):
        moves.done(start(), result, SPAN)


def test_done_with_too_much_is_refused() -> None:
    with pytest.raises(MessageTooLarge):
        moves.done(start(), {"y": "x" * MAX_PAYLOAD}, SPAN)
    with pytest.raises(InvalidMessage, match="at most 100"):
        moves.done(start(), None, SPAN, Outcome(inserted=[Step("z")] * 98))
    with pytest.raises(InvalidMessage):
        moves.done(start(), {"y": math.nan}, SPAN)


# -- hold and release -------------------------------------------------------------------


def test_done_and_hold_parks_the_message_as_it_will_go_on() -> None:
    message = start()
    transition = moves.done(message, {"y": 2}, SPAN, Outcome(hold="needs a signature"))
    assert transition.place is Place.HELD
    assert (transition.record.kind, transition.record.state) == (Kind.HELD, State.HELD)
    assert transition.deadline is None
    assert_consistent(transition, message)
    after = following(transition)
    assert (after.headers.activity, after.payload) == ("b", {"x": 1, "y": 2})
    assert transition.record.detail["reason"] == "needs a signature"
    assert transition.record.detail["step"] == "a"


@pytest.mark.parametrize(
    ("on_deadline", "place", "kind", "state"),
    [
        ("release", Place.WORK, Kind.RELEASED, State.QUEUED),
        ("dead_letter", Place.DEAD, Kind.DEAD_LETTERED, State.DEAD),
    ],
)
def test_a_hold_knows_what_its_deadline_leads_to(on_deadline: Any, place: Place, kind: Kind, state: State) -> None:
    transition = moves.done(start(), None, SPAN, Outcome(hold="wait", until=60.0, on_deadline=on_deadline))
    detail = transition.record.detail
    assert (detail["until"], detail["on_deadline"]) == (rfc3339(DONE_AT + 60), on_deadline)
    deadline = transition.deadline
    assert deadline is not None
    assert (deadline.delay, deadline.place) == (60.0, place)
    assert (deadline.record.kind, deadline.record.state) == (kind, state)
    due = deadline.record.message
    assert due is not None
    assert due.headers.activity == "b"
    assert due.headers.message_id != following(transition).headers.message_id
    assert deadline.record.id != transition.record.id


def test_a_released_workflow_goes_on_ends_or_is_undone_as_it_stood() -> None:
    going = moves.release(start(), AT, {"reason": "signed"})
    assert (going.place, going.record.kind, going.record.state) == (Place.WORK, Kind.RELEASED, State.QUEUED)
    ended = moves.release(halfway([], [Executed("a")]), AT, {})
    assert (ended.place, ended.record.kind, ended.record.state) == (Place.NOWHERE, Kind.FINISHED, State.COMPLETED)
    for left in (["b"], []):  # what there was to do has no say in what is undone
        undoing = moves.release(halfway(left, [Executed("a")], undoing=1), AT, {})
        assert (undoing.place, undoing.record.state) == (Place.WORK, State.COMPENSATING)


# -- failures ---------------------------------------------------------------------------


def test_retry_asks_for_the_next_attempt_of_the_same_hop() -> None:
    message = halfway(["b", "c"], [Executed("a")])
    transition = moves.retry(message, ValueError("no"), 2.5, SPAN, most=5)
    assert (transition.place, transition.delay) == (Place.DELAYED, 2.5)
    assert (transition.record.kind, transition.record.state) == (Kind.RETRYING, State.RETRYING)
    assert_consistent(transition, message)
    after = following(transition)
    assert (after.headers.activity, after.headers.hop, after.headers.attempt) == ("b", 2, 3)
    assert after.headers.idempotency_key == message.headers.idempotency_key
    assert after.payload_bytes == message.payload_bytes
    assert transition.record.detail == {
        "error": {"type": "ValueError", "message": "no"},
        "delay_s": 2.5,
        "max_attempts": 5,
        "due_at": rfc3339(DONE_AT + 2.5),
        "failed_attempt": 2,
        "started_at": rfc3339(AT + 1),
        "completed_at": rfc3339(DONE_AT),
    }


def test_a_dead_letter_keeps_its_bytes() -> None:
    message = halfway(["b"], [Executed("a")])
    # Not as this version would write it: a header more, and other spacing.
    body = message.encode().replace(b'"topic":', b'"other": "1", "topic": ')
    assert body != message.encode()
    transition = moves.failed(message, ValueError("no"), "attempts_exhausted", SPAN, body)
    assert transition.place is Place.DEAD
    assert (transition.record.kind, transition.record.state) == (Kind.DEAD_LETTERED, State.DEAD)
    assert transition.record.body == body
    assert transition.record.headers == message.headers
    # The bytes have the old message ID, and the fence has to tell the two positions apart.
    assert transition.record.id != message.headers.message_id
    assert transition.record.detail == {
        "reason": "attempts_exhausted",
        "origin": "b",
        "started_at": rfc3339(SPAN.started_at),
        "completed_at": rfc3339(SPAN.completed_at),
        "error": {"type": "ValueError", "message": "no"},
    }
    assert transition.before == ()


def test_a_dead_letter_without_bytes_is_the_message_as_it_encodes() -> None:
    message = start()
    transition = moves.dead_letter(message, AT, reason="operator", detail={"by": "ann"})
    assert transition.record.body == message.encode()
    assert transition.record.detail == {"reason": "operator", "origin": "a", "by": "ann"}


def test_a_failure_compensates_only_where_that_was_asked_for() -> None:
    message = halfway(["c"], [Executed("a"), Executed("b")], on_failure="compensate")
    transition = moves.failed(message, NonRetryable("no"), "not_retryable", SPAN, message.encode())
    assert transition.place is Place.WORK
    assert (transition.record.kind, transition.record.state) == (Kind.COMPENSATING, State.COMPENSATING)
    assert_consistent(transition, message)
    after = following(transition)
    assert (after.headers.activity, after.headers.hop, after.headers.attempt) == ("b", 2, 1)
    (note,) = transition.before
    assert (note.kind, note.state, note.body, note.worker) == (Kind.FAILED, "", None, "w-1")
    assert note.headers == message.headers
    assert note.detail["error"] == {"type": "NonRetryable", "message": "no"}


def test_a_failure_whose_compensation_cannot_be_written_is_a_dead_letter() -> None:
    def sized(length: int) -> RoutingSlip:
        step = Step("b", arguments={"x": "y" * length})
        return RoutingSlip([step], [Executed("a")], on_failure="compensate")

    room = MAX_SLIP - len(json.dumps(sized(0).to_document(), separators=(",", ":")))
    before = start().replaced(sized(room - 5), timestamp=rfc3339(AT))
    transition = moves.failed(before, ValueError("no"), "attempts_exhausted", SPAN, before.encode())
    assert (transition.place, transition.record.state) == (Place.DEAD, State.DEAD)
    assert transition.record.body == before.encode()
    assert transition.record.detail["error"] == {"type": "ValueError", "message": "no"}
    assert transition.record.detail["not_compensated"].startswith("the routing slip is ")
    assert_consistent(transition, before)


def test_a_failing_compensator_parks_the_chain_where_it_stands() -> None:
    message = halfway(["c"], [Executed("a"), Executed("b")], undoing=2, on_failure="compensate")
    body = message.encode()
    transition = moves.failed(message, ValueError("no"), "attempts_exhausted", SPAN, body)
    assert transition.place is Place.DEAD
    assert (transition.record.kind, transition.record.state) == (Kind.COMPENSATION_FAILED, State.COMPENSATION_FAILED)
    assert transition.record.body == body
    assert following(transition).routing_slip.undoing == 2
    assert transition.record.detail["origin"] == "b"


def test_a_failing_compensator_is_tried_again_in_its_place() -> None:
    message = halfway(["c"], [Executed("a"), Executed("b")], undoing=2)
    transition = moves.retry(message, ValueError("no"), 1.0, SPAN)
    assert transition.place is Place.DELAYED
    after = following(transition)
    assert (after.headers.activity, after.headers.hop, after.headers.attempt) == ("b", 2, 3)
    assert after.routing_slip.undoing == 2


def test_compensation_walks_last_first_and_past_the_skipped() -> None:
    executed = [Executed("a"), Executed("b", 0, skipped=True), Executed("c"), Executed("d", 0, skipped=True)]
    message = halfway(["e"], executed)
    transition = moves.compensate(message, AT, {"reason": "operator"}, "w-1")
    seen = []
    while transition.place is Place.WORK:
        assert (transition.record.kind, transition.record.state) == (Kind.COMPENSATING, State.COMPENSATING)
        assert_consistent(transition, message)
        message = following(transition)
        seen.append((message.headers.activity, message.headers.hop))
        transition = moves.undone(message, SPAN, had_compensator=True)
        assert transition.record.detail["undo"] == "done"
        assert transition.record.detail["step"] == message.headers.activity
    assert seen == [("c", 3), ("a", 1)]
    assert transition.place is Place.NOWHERE
    assert (transition.record.kind, transition.record.state) == (Kind.COMPENSATED, State.COMPENSATED)
    assert following(transition).routing_slip.undoing == 0


@given(st.lists(st.booleans(), max_size=8))
def test_compensation_visits_each_step_that_ran_once(skipped: list[bool]) -> None:
    executed = [Executed(f"s{number}", 0 if skip else 1, skipped=skip) for number, skip in enumerate(skipped, start=1)]
    message = halfway(["end"], executed)
    transition = moves.compensate(message, AT, {}, "w-1")
    seen = []
    while transition.place is Place.WORK:
        message = following(transition)
        seen.append(message.headers.hop)
        transition = moves.undone(message, SPAN, had_compensator=False)
    assert seen == [hop for hop in range(len(skipped), 0, -1) if not skipped[hop - 1]]
    assert transition.record.state == State.COMPENSATED


def test_with_nothing_done_a_failure_is_compensated_at_once() -> None:
    message = start(on_failure="compensate")
    transition = moves.failed(message, ValueError("no"), "attempts_exhausted", SPAN)
    assert transition.place is Place.NOWHERE
    assert [note.kind for note in transition.before] == [Kind.FAILED]
    assert transition.record.state == State.COMPENSATED


# -- results that cannot be merged ------------------------------------------------------


class _NoText:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ([1, "two"], '[1,"two"]'),
        ("text", '"text"'),
        (10**5000, "(a int that cannot be shown)"),
        ("\ud800", "'\\ud800'"),
        (_NoText(), "(a _NoText that cannot be shown)"),
    ],
    ids=["list", "text", "digits", "surrogate", "no repr"],
)
def test_an_invalid_result_is_kept(result: object, kept: str) -> None:
    message = start(on_failure="compensate")
    error = InvalidMessage("it must be a dict")
    transition = moves.result_invalid(message, result, error, SPAN, message.encode())
    assert (transition.place, transition.record.kind) == (Place.DEAD, Kind.DEAD_LETTERED)
    assert transition.record.body == message.encode()
    detail = transition.record.detail
    assert (detail["reason"], detail["result"]) == ("result_invalid", kept)
    assert detail["error"] == {"type": "InvalidMessage", "message": "it must be a dict"}
    transition.record.encode_meta()


# -- the rest ---------------------------------------------------------------------------


def test_cancel_keeps_the_message() -> None:
    message = start()
    transition = moves.cancel(message, AT, {"reason": "operator"}, "w-1")
    assert transition.place is Place.NOWHERE
    assert (transition.record.kind, transition.record.state) == (Kind.CANCELLED, State.CANCELLED)
    assert transition.record.body == message.encode()
    assert transition.record.id != message.headers.message_id


def test_superseded_changes_no_state_and_keeps_what_came_too_late() -> None:
    late = moves.done(start(), {"y": 2}, SPAN)
    record = moves.superseded(late, by="e-1")
    assert (record.kind, record.state) == (Kind.SUPERSEDED, "")
    assert (record.body, record.headers, record.id) == (late.record.body, late.record.headers, late.record.id)
    assert record.detail["instead_of"] == "advanced"
    assert record.detail["by"] == "e-1"
    assert record.to_document()["activity"] == "a"
    assert "instead_of" not in late.record.detail


def test_quarantine_gives_an_id_of_its_own() -> None:
    one, other = (
        moves.quarantine(b"\xff", code="malformed", reason="no message", activity="a", topic="t", at=AT, worker="w")
        for _ in range(2)
    )
    assert one.place is Place.QUARANTINE
    assert (one.record.kind, one.record.state, one.record.body) == (Kind.QUARANTINED, State.QUARANTINED, b"\xff")
    assert one.record.headers.correlation_id.startswith("q-")
    assert one.record.headers.correlation_id != other.record.headers.correlation_id
    assert one.record.detail["error"] == {"type": "malformed", "message": "no message"}


def test_operated_says_who_did_what_with_the_message_where_one_was_published() -> None:
    message = start()
    note = moves.operated(message, AT, {"action": "hold"})
    assert (note.kind, note.state, note.body, note.detail) == (Kind.OPERATED, "", None, {"action": "hold"})
    published = moves.operated(message, AT, {"action": "retry"}, state=State.QUEUED, body=True)
    assert (published.state, published.body) == (State.QUEUED, message.encode())


def test_handed_on_is_a_hop_of_the_low_level_form() -> None:
    message = start()
    slip = message.routing_slip.copy()
    slip.mark_complete("a")
    after = message.replaced(slip, timestamp=rfc3339(DONE_AT))
    transition = moves.handed_on(message, after, SPAN)
    assert (transition.place, transition.record.kind) == (Place.WORK, Kind.ADVANCED)
    assert transition.record.detail["step"] == "a"
    assert transition.record.body == after.encode()


def test_a_span_is_never_shorter_than_nothing() -> None:
    # The machine's clock was set back while the step ran.
    detail = Span(worker="w", started_at=10.0, completed_at=5.0).to_detail(start().headers)
    assert detail["duration_s"] == 0.0
