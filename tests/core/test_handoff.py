"""What becomes of a hand-off that somebody asked something of."""

from __future__ import annotations

import pytest

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import TokenExpired
from paigeant_core.handoff import GO_ON, heed, holder_of, request, wish_of
from paigeant_core.journal import State
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import Undo
from paigeant_core.operations.standing import Standing
from paigeant_core.permission import withheld
from paigeant_core.transition import Outcome, Place, Span, Transition

SPAN = Span(worker="w", started_at=10.0, completed_at=12.0)


def at_step(*steps: str) -> PaigeantMessage:
    return new_workflow(list(steps), {"n": 1}, topic="t", at=1.0)


def settles(message: PaigeantMessage) -> dict[str, Transition]:
    error = ValueError("no")
    return {
        "advanced": moves.done(message, {"m": 2}, SPAN),
        "retrying": moves.retry(message, error, 30.0, SPAN),
        "dead": moves.failed(message, error, "not_retryable", SPAN, message.encode()),
        "finished": moves.done(message, {"m": 2}, SPAN, Outcome(finish=True)),
        "held": moves.done(message, {"m": 2}, SPAN, Outcome(hold="a person", until=60.0)),
    }


def asked(message: PaigeantMessage, wish: str, transition: Transition, **more: object) -> Transition:
    said = {"action": wish, "operator": "ann@desk", "operation_id": "o1", "reason": "why", **more}
    return heed(transition, request(message.headers, 11.0, wish, said))


@pytest.mark.parametrize(
    ("wish", "states"),
    [
        ("hold", ["held", "held", "dead", "completed", "held"]),
        ("cancel", ["cancelled", "cancelled", "cancelled", "completed", "cancelled"]),
        ("compensate", ["compensating", "compensated", "compensated", "compensating", "compensating"]),
        ("insert", ["queued", "retrying", "dead", "queued", "held"]),
        (GO_ON, ["queued", "retrying", "dead", "completed", "held"]),
        ("nonsense", ["queued", "retrying", "dead", "completed", "held"]),
    ],
)
def test_what_a_wish_makes_of_each_end_of_a_step(wish: str, states: list[str]) -> None:
    message = at_step("a", "b")
    found = {name: asked(message, wish, item, steps=["c"]) for name, item in settles(message).items()}
    assert [item.record.state for item in found.values()] == states
    for name, item in found.items():
        heeded = item.record.message
        assert heeded is not None
        assert ("m" in heeded.payload) == (name not in ("retrying", "dead")), "what the step gave is kept"
        assert item.record.worker == "w"
        assert heeded.headers.activity == heeded.routing_slip.current_name()


def test_a_retry_that_is_held_has_no_time_to_come_back_at() -> None:
    message = at_step("a")
    held = asked(message, "hold", settles(message)["retrying"])
    assert (held.place, held.delay, held.deadline) == (Place.HELD, 0.0, None)
    assert "due_at" not in held.record.detail
    assert held.record.detail["error"] == {"type": "ValueError", "message": "no"}
    assert held.record.headers.attempt == 2


def test_who_holds_a_step_that_parks_itself_until_a_time_holds_it_without_one() -> None:
    message = at_step("a", "b")
    own = settles(message)["held"]
    held = asked(message, "hold", own)
    assert (held.place, held.deadline, held.record.detail["reason"]) == (Place.HELD, None, "why")
    assert not {"until", "on_deadline"} & set(held.record.detail)
    assert holder_of(held.record)["operator"] == "ann@desk"
    back = Undo("o1").apply(Standing(held.record, [held.record]), 20.0, {"action": "undo", "reason": "not so"})
    assert (back.place, back.record.detail["reason"]) == (Place.HELD, "a person")
    assert holder_of(back.record) == {"worker": "w", "since": rfc3339(12.0)}
    assert back.deadline is not None
    assert back.deadline.delay == 12.0 + 60.0 - 20.0
    # Without a time at which it would go on it stays with its step.
    stays = moves.done(message, {"m": 2}, SPAN, Outcome(hold="a person"))
    assert asked(message, "hold", stays) is stays


def test_steps_are_put_behind_one_that_was_held_before_it_ran() -> None:
    message = at_step("a", "b")
    changed = asked(message, "insert", withheld(message, TokenExpired("over"), SPAN), steps=["c"])
    following = changed.record.message
    assert following is not None
    assert (changed.record.state, following.routing_slip.names()) == (State.HELD, ("a", "c", "b"))


def test_inserted_steps_come_right_behind_the_one_that_ran() -> None:
    message = at_step("a", "b")
    ends = settles(message)
    itineraries: dict[str, list[str]] = {}
    for name in ends:
        changed = asked(message, "insert", ends[name], steps=["c", {"name": "d", "arguments": {"k": 1}}])
        slip = changed.record.message
        assert slip is not None
        itineraries[name] = [str(step) for step in slip.routing_slip.itinerary]
    assert itineraries == {
        "advanced": ["c", "d", "b"],
        "retrying": ["a", "c", "d", "b"],
        "dead": ["a", "c", "d", "b"],
        "finished": ["c", "d"],
        "held": ["c", "d", "b"],
    }
    held = asked(message, "insert", ends["held"], steps=["c"])
    assert held.deadline is not None
    assert held.deadline.delay == 60.0
    due = held.deadline.record.message
    assert due is not None
    assert due.routing_slip.itinerary == ["c", "b"]


def unchanged(end: Transition, found: Transition, why: str) -> None:
    """It is the end that it was, but for the word that something was not done."""
    assert (found.place, found.delay, found.before) == (end.place, end.delay, end.before)
    was, record = end.record, found.record
    assert (record.kind, record.state, record.id, record.body) == (was.kind, was.state, was.id, was.body)
    assert record.detail == {**was.detail, "not_done": why}


def test_nothing_is_put_behind_a_step_whose_failure_ended_the_workflow() -> None:
    message = new_workflow(["a", "b"], {}, topic="t", at=1.0, on_failure="compensate")
    end = moves.failed(message, ValueError("no"), "not_retryable", SPAN, message.encode())
    assert end.record.state == State.COMPENSATED
    unchanged(end, asked(message, "insert", end, steps=["c"]), "insert: nothing is done any more behind this step")


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([""], "insert: what was asked for is no steps, or more than a message holds"),
        (5, "insert: what was asked for is no steps, or more than a message holds"),
        ([None], "insert: what was asked for is no steps, or more than a message holds"),
        (["x"] * 99, "insert: no room for 99 more, a slip holds at most 100 steps"),
    ],
    ids=["no name", "no list", "no step", "too many"],
)
def test_a_request_that_cannot_be_done_does_not_stop_the_worker(steps: object, why: str) -> None:
    message = at_step("a", "b")
    end = settles(message)["advanced"]
    unchanged(end, asked(message, "insert", end, steps=steps), why)


def test_a_settle_that_is_repeated_is_heeded_once() -> None:
    message = at_step("a", "b")
    wish = request(message.headers, 11.0, "insert", {"operation_id": "o1", "steps": ["c"]})
    once = heed(settles(message)["advanced"], wish)
    assert heed(once, wish) is once


def test_what_is_quarantined_or_no_request_is_left_as_it_is() -> None:
    message = at_step("a")
    bad = moves.quarantine(b"x", code="malformed", reason="r", activity="a", topic="t", at=1.0, worker="w")
    assert asked(message, "cancel", bad) is bad
    assert wish_of(request(message.headers, 1.0, "hold", {})) == "hold"
    assert wish_of(moves.operated(message, 1.0, {"action": "hold"})) == ""
    assert wish_of(moves.operated(message, 1.0, {"asks": "hold"}, state=State.QUEUED)) == ""
    assert wish_of(moves.operated(message, 1.0, {"asks": 5})) == ""


@pytest.mark.parametrize(("end", "state"), [("held", State.HELD), ("dead", State.DEAD), ("advanced", State.QUEUED)])
def test_a_cancel_that_is_undone_leads_to_where_the_step_itself_put_it(end: str, state: State) -> None:
    message = at_step("a", "b")
    cancelled = asked(message, "cancel", settles(message)[end]).record
    assert cancelled.state == State.CANCELLED
    standing = Standing(cancelled, [cancelled])
    undo = Undo("o1")
    assert undo.check(standing) == ""
    back = undo.apply(standing, 20.0, {"action": "undo", "operator": "ann@desk", "reason": "not so"})
    assert back.record.state == state
    if end == "held":
        assert (back.place, back.record.detail["reason"]) == (Place.HELD, "a person")
        assert back.deadline is not None
        assert back.deadline.delay == 12.0 + 60.0 - 20.0
    if end == "dead":
        assert (back.place, back.record.detail["error"]["message"]) == (Place.DEAD, "no")
