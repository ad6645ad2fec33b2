"""What an operator asks of a step that runs: it is heeded when the step is handed on.

A request is a journal record that names no state. It moves the workflow's fence, so of
two operators one is first, and leaves the message where it is: the worker that runs the
step sees the request when it settles, and what the step gave is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import PARKED, Kind, Record, State
from paigeant_core.limits import MAX_STEPS
from paigeant_core.message import Headers
from paigeant_core.names import new_id
from paigeant_core.routing import to_step
from paigeant_core.transition import Place, Transition

GO_ON = "go on"
"""What takes a request back."""

HOLD_KEPT = ("reason", "until", "on_deadline", "error", "token_expires_at")
"""What is kept of a hold, beside whose it is, for whoever brings the workflow back to it."""

_DONE = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.HELD})
"""Kinds by which a step was done, and is not tried again."""


def request(headers: Headers, at: float, wish: str, detail: dict[str, Any]) -> Record:
    """The record that asks for something at the hand-off of the step that ``headers`` ask for.

    Args:
        headers: of the message that is being run.
        at: now.
        wish: ``hold``, ``cancel``, ``compensate``, ``insert`` or :data:`GO_ON`.
        detail: who, why, which operation; of an insert the ``steps``.
    """
    return Record(Kind.OPERATED, headers, detail={**detail, "asks": wish}, id=new_id(), at=at)


def wish_of(record: Record) -> str:
    """What ``record`` asks for; empty: it is no request."""
    if record.kind != Kind.OPERATED or record.state:
        return ""
    wish = record.detail.get("asks")
    return wish if isinstance(wish, str) else ""


def heed(transition: Transition, asked: Record) -> Transition:
    """What becomes of a hand-off, given what was asked for meanwhile.

    A workflow that its step ended or parked by itself is not held any more, but for one
    that a deadline would bring out again, and one that is completed is not cancelled;
    ``transition`` is then carried out as it is. Steps that cannot be inserted are not
    either, and the record says why, see :func:`not_done`.

    Args:
        transition: what the worker is about to do.
        asked: the request.
    """
    record, place = transition.record, transition.place
    if place is Place.QUARANTINE or record.body is None:
        return transition
    if record.detail.get("asked") == asked.id:
        return transition  # it was heeded before, and is settled again
    if transition.heeds is not None:
        return transition.heeds(asked)
    wish = wish_of(asked)
    try:
        if wish == "hold" and (place in (Place.WORK, Place.DELAYED) or transition.deadline is not None):
            return _instead(transition, asked, Kind.HELD, State.HELD, Place.HELD)
        if wish == "cancel" and place is not Place.NOWHERE:
            return _instead(transition, asked, Kind.CANCELLED, State.CANCELLED, Place.NOWHERE)
        if wish == "compensate" and record.state not in (State.COMPENSATED, State.CANCELLED):
            return _compensate(transition, asked)
        if wish == "insert":
            return _insert(transition, asked)
    except (PaigeantError, TypeError):
        # A worker must come to an end with its step, whatever somebody wrote into a request.
        if wish == "insert":
            return not_done(transition, "insert: what was asked for is no steps, or more than a message holds")
    return transition


def not_done(transition: Transition, why: str) -> Transition:
    """``transition``, whose record says what was asked for and was not done, and why."""
    record = transition.record
    noted = record.without_body({**record.detail, "not_done": why})
    noted.body = record.body
    return replace(transition, record=noted)


def stood(record: Record) -> dict[str, Any]:
    """Where a workflow stands with ``record``, in the words of the journal; of a hold also what it waits for."""
    headers, detail = record.headers, record.detail
    said: dict[str, Any] = {"state": str(record.state), "hop": headers.hop, "attempt": headers.attempt}
    if record.state == State.HELD:
        said["hold"] = {key: detail[key] for key in HOLD_KEPT if key in detail}
        if holder := holder_of(record):
            said["hold"]["held"] = dict(holder)
    elif record.state in (State.DEAD, State.COMPENSATION_FAILED):
        # Whoever brings it back among the dead letters can still be followed by a restore.
        said |= {key: detail[key] for key in ("error", "before") if key in detail}
    return said


def holder_of(record: Record) -> Mapping[str, Any]:
    """Who holds a workflow, by its ``held`` record: ``operator`` or ``worker``, and ``since``; empty: it does not tell.

    Whoever skips a step of what is held, or brings it back to where it was held, did not hold it.
    """
    detail = record.detail
    held = detail.get("held")
    if isinstance(held, dict):
        return held
    if detail.get("action", "hold") != "hold":
        return {}  # of a version that did not say
    by = {"operator": detail.get("operator", ""), "worker": record.worker}
    return {**{key: value for key, value in by.items() if value}, "since": rfc3339(record.at)}


_TIMES = ("due_at", "delay_s", "until", "on_deadline")
"""What is said of a time at which it would have gone on by itself."""


def _said(record: Record, asked: Record) -> dict[str, Any]:
    kept = {key: value for key, value in record.detail.items() if key not in _TIMES}
    for key in ("action", "operator", "operation_id", "reason"):
        kept[key] = asked.detail.get(key, "")
    return {**kept, "asked": asked.id, "instead_of": str(record.kind)}


def _instead(transition: Transition, asked: Record, kind: str, state: str, place: Place) -> Transition:
    record = transition.record
    detail = _said(record, asked)
    if record.state in PARKED:
        # Whoever undoes what was asked for brings it back to where its own step put it, and not past that.
        detail["before"] = stood(record)
    parked = Record(
        kind,
        record.headers,
        state=state,
        worker=record.worker,
        detail=detail,
        body=record.body,
        id=record.id,
        at=record.at,
    )
    return Transition(place=place, record=parked, before=transition.before)


def _compensate(transition: Transition, asked: Record) -> Transition:
    record = transition.record
    message = record.message
    if message is None or message.routing_slip.undoing:
        return transition
    undoing = moves.compensate(message, record.at, _said(record, asked), record.worker)
    undoing.before = transition.before
    return undoing


def _insert(transition: Transition, asked: Record) -> Transition:
    record = transition.record
    message = record.message
    added = [to_step(item) for item in asked.detail.get("steps", ())]
    if message is None or message.routing_slip.undoing or record.state in (State.CANCELLED, State.COMPENSATED):
        return not_done(transition, "insert: nothing is done any more behind this step")
    slip = message.routing_slip.copy()
    if len(slip.executed) + len(slip.itinerary) + len(added) > MAX_STEPS:
        return not_done(transition, f"insert: no room for {len(added)} more, a slip holds at most {MAX_STEPS} steps")
    # A step that was held before it was run is not done, and its record names none.
    behind = 0 if record.kind in _DONE and "step" in record.detail else 1
    slip.itinerary[behind:behind] = added
    following = message.replaced(slip, timestamp=message.headers.timestamp, attempt=message.headers.attempt)
    detail = {**record.detail, "inserted": [*record.detail.get("inserted", ()), *map(str, added)]}
    detail.update(asked=asked.id, operation_id=asked.detail.get("operation_id"))
    place, kind, state = transition.place, record.kind, record.state
    if place is Place.NOWHERE:
        place, kind, state = Place.WORK, Kind.ADVANCED, State.QUEUED
    if transition.deadline is not None:
        delay, on_deadline = transition.deadline.delay, detail.get("on_deadline", "dead_letter")
        return moves.hold(following, record.at, detail, record.worker, delay, on_deadline)
    changed = Record(
        kind,
        following.headers,
        state=state,
        worker=record.worker,
        detail=detail,
        body=following.encode(),
        id=new_id() if place is Place.DEAD else "",
        at=record.at,
    )
    return Transition(place=place, record=changed, before=transition.before, delay=transition.delay)
