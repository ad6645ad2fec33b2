"""What a hop or an operator does to one workflow, as a value that a transport carries out.

A transition takes the workflow's current message from where it is, puts one message
(the next, or the same) where it now belongs, and journals that, all in one stroke. The
functions here decide *what* happens, from a message and an outcome alone; a transport
only knows *how* on its broker, so the three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from paigeant_core.clock import rfc3339
from paigeant_core.error_group import leaves
from paigeant_core.errors import InvalidMessage, MessageTooLarge
from paigeant_core.journal import Kind, Record, State
from paigeant_core.json_values import writable
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.names import QUARANTINE_PREFIX, new_id
from paigeant_core.payload import merge_payload
from paigeant_core.routing import RoutingSlip, Step
from paigeant_core.secret import conceal

MAX_ERROR_TEXT = 2000
"""Characters of an exception's text that are kept."""

OnDeadline = Literal["dead_letter", "release"]


class Place(StrEnum):
    """Where a workflow's message can be."""

    WORK = "work"
    """In its activity's queue."""
    DELAYED = "delayed"
    """Waiting in the broker for its time, then in its activity's queue."""
    DEAD = "dead"
    HELD = "held"
    QUARANTINE = "quarantine"
    NOWHERE = "nowhere"
    """Ended: nothing is left to deliver."""


@dataclass(slots=True, kw_only=True)
class Deadline:
    """What becomes of a held message when its time has come.

    Attributes:
        delay: seconds from now.
        record: what is journalled then; its body is the message as it goes on.
        place: where the message goes.
    """

    delay: float
    record: Record
    place: Place


@dataclass(slots=True, kw_only=True)
class Transition:
    """One move of one workflow.

    Attributes:
        place: where the message is afterwards.
        record: the journal's record of it; its body is the message.
        before: records without a body that are journalled just ahead of it.
        delay: seconds until a DELAYED message is due.
        deadline: for a HELD message with one.
        mark: how many signed records its message carries, a dot, and the digest of the last; kept
            with the fence. Empty: as before.
        heeds: what becomes of it when something was asked of the step meanwhile, where that
            is to be signed anew; None: see :func:`paigeant_core.handoff.heed`.
        made: the message in the record's body, where it was just made; not to be changed.
    """

    place: Place
    record: Record
    before: Sequence[Record] = ()
    delay: float = 0.0
    deadline: Deadline | None = None
    mark: str = ""
    heeds: Callable[[Record], Transition] | None = None
    made: PaigeantMessage | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a handler did with its step, beside raising or returning.

    Attributes:
        inserted: steps to come right behind this one.
        finish: leave out the rest of the itinerary.
        hold: why the workflow is to be parked after this step; None: it goes on.
        until: seconds from now until a hold's deadline; None: none.
        on_deadline: what happens then.
    """

    inserted: list[Step] = field(default_factory=list)
    finish: bool = False
    hold: str | None = None
    until: float | None = None
    on_deadline: OnDeadline = "dead_letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Who did a step, and from when to when (seconds since the Unix epoch).

    Attributes:
        worker: who.
        started_at: when.
        completed_at: until when.
        deaths: workers that died with the step before, and from whom this one took it over.
        took: how many seconds, where that was measured: a clock that was set meanwhile does not count; None: the
            difference of the two times.
    """

    worker: str
    started_at: float
    completed_at: float
    deaths: int = 0
    took: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds that it took; never less than 0."""
        return max(0.0, self.completed_at - self.started_at if self.took is None else self.took)

    def to_detail(self, headers: Headers) -> dict[str, Any]:
        """The journal's words for it, with the step's own numbers."""
        return {
            "step": headers.activity,
            "hop": headers.hop,
            "attempt": headers.attempt,
            **self.times(),
            "duration_s": round(self.duration_s, 3),
        }

    def times(self) -> dict[str, Any]:
        """The journal's words for when, and for how many died with it before."""
        times = {"started_at": rfc3339(self.started_at), "completed_at": rfc3339(self.completed_at)}
        return {**times, "deaths": self.deaths} if self.deaths else times


def error_document(error: BaseException) -> dict[str, str]:
    """``error`` as the journal keeps it: type and text, no traceback, no locals, no token."""
    kind, text = type(error).__name__, _text(error)
    if isinstance(error, BaseExceptionGroup) and (parts := tuple(leaves(error))):
        # What is in it first: its own class and text say only that there is something. And of one alone that one.
        if len(parts) == 1:
            kind, said = type(parts[0]).__name__, _text(parts[0])
        else:
            said = "; ".join(f"{type(part).__name__}: {_text(part)}" for part in parts)
        text = f"{said} ({text})".lstrip()
    return {"type": kind, "message": conceal(writable(text))[:MAX_ERROR_TEXT]}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a handler's exception may have any __str__
        return "(its text cannot be had)"


def dispatch(message: PaigeantMessage, at: float) -> Transition:
    """A new workflow goes to its first step."""
    return Transition(place=Place.WORK, record=_record(Kind.DISPATCHED, State.QUEUED, message, at))


def done(
    message: PaigeantMessage, result: Mapping[str, Any] | None, span: Span, outcome: Outcome | None = None
) -> Transition:
    """A handler returned: the workflow advances, finishes or is held.

    Raises:
        InvalidMessage: the result is no JSON object, or too many steps were inserted.
        MessageTooLarge: the payload would be over its cap.
    """
    if result is not None and not isinstance(result, Mapping):
        raise InvalidMessage(f"the handler returned a {type(result).__name__}; it must be a dict or None")
    headers = message.headers
    payload = merge_payload(message.payload_bytes, result) if result else message.payload_bytes
    slip = message.routing_slip.copy()
    detail = span.to_detail(headers)
    if outcome is not None and outcome.inserted:
        slip.insert_next(*outcome.inserted)
        detail["inserted"] = [str(step) for step in outcome.inserted]
    if outcome is not None and outcome.finish:
        detail["discarded"] = [str(step) for step in slip.discard_rest()]
    slip.mark_complete(str(slip.itinerary[0]), headers.attempt)
    following = message.replaced(slip, timestamp=rfc3339(span.completed_at), payload=payload)
    if outcome is not None and outcome.hold is not None:
        detail["reason"] = outcome.hold
        return hold(following, span.completed_at, detail, span.worker, outcome.until, outcome.on_deadline)
    return _onward(following, span.completed_at, detail, span.worker)


def handed_on(message: PaigeantMessage, following: PaigeantMessage, span: Span) -> Transition:
    """A handler of the low-level form moved the slip itself: ``message`` became ``following``."""
    return _onward(following, span.completed_at, span.to_detail(message.headers), span.worker)


def _onward(following: PaigeantMessage, at: float, detail: dict[str, Any], worker: str) -> Transition:
    if following.routing_slip.finished:
        record = _record(Kind.FINISHED, State.COMPLETED, following, at, detail, worker)
        return Transition(place=Place.NOWHERE, record=record, made=following)
    record = _record(Kind.ADVANCED, State.QUEUED, following, at, detail, worker)
    return Transition(place=Place.WORK, record=record, made=following)


def hold(
    message: PaigeantMessage,
    at: float,
    detail: dict[str, Any],
    worker: str = "",
    until: float | None = None,
    on_deadline: OnDeadline = "dead_letter",
) -> Transition:
    """Park ``message`` until it is released.

    Args:
        message: as it goes on when it is released.
        at: now.
        detail: what the journal says beside it; ``reason`` at least.
        worker: who.
        until: seconds from now to the deadline; None: none.
        on_deadline: what happens then.
    """
    deadline = None
    if until is not None:
        detail["until"] = rfc3339(at + until)
        detail["on_deadline"] = on_deadline
        due = message.replaced(message.routing_slip, timestamp=rfc3339(at + until), attempt=message.headers.attempt)
        if on_deadline == "release":
            onward = release(due, at + until, {"reason": "deadline"})
        else:
            onward = dead_letter(due, at + until, reason="hold_deadline")
        deadline = Deadline(delay=until, record=onward.record, place=onward.place)
    record = _record(Kind.HELD, State.HELD, message, at, detail, worker)
    return Transition(place=Place.HELD, record=record, deadline=deadline)


def release(message: PaigeantMessage, at: float, detail: dict[str, Any]) -> Transition:
    """Let a held workflow go on, as ``message``."""
    slip = message.routing_slip
    if slip.finished and not slip.undoing:
        return Transition(place=Place.NOWHERE, record=_record(Kind.FINISHED, State.COMPLETED, message, at, detail))
    state = State.COMPENSATING if slip.undoing else State.QUEUED
    return Transition(place=Place.WORK, record=_record(Kind.RELEASED, state, message, at, detail))


def retry(
    message: PaigeantMessage, error: BaseException, delay: float, span: Span, *, most: int | None = None
) -> Transition:
    """The step failed and is tried again after ``delay`` seconds, kept by the broker; ``most`` attempts in all."""
    at = span.completed_at
    following = message.replaced(message.routing_slip, timestamp=rfc3339(at), attempt=message.headers.attempt + 1)
    detail = {
        "error": error_document(error),
        "delay_s": round(delay, 3),
        "due_at": rfc3339(at + delay),
        "failed_attempt": message.headers.attempt,
        **span.times(),
    }
    if most is not None:
        detail["max_attempts"] = most
    if message.delegation is not None and message.delegation.exp and not message.delegation.vault:
        detail["token_expires_at"] = rfc3339(message.delegation.exp)
    record = _record(Kind.RETRYING, State.RETRYING, following, at, detail, span.worker)
    return Transition(place=Place.DELAYED, record=record, delay=delay)


def dead_letter(
    message: PaigeantMessage,
    at: float,
    *,
    reason: str,
    body: bytes | None = None,
    error: BaseException | None = None,
    worker: str = "",
    detail: Mapping[str, Any] | None = None,
) -> Transition:
    """Park the workflow among the dead letters, its message byte for byte as it was.

    Args:
        message: as it was.
        at: now.
        reason: a stable word for why.
        body: its bytes as they came; None: as it encodes.
        error: what the handler raised.
        worker: who.
        detail: more to say.
    """
    said: dict[str, Any] = {"reason": reason, "origin": message.headers.activity, **(detail or {})}
    if error is not None:
        said["error"] = error_document(error)
    return Transition(place=Place.DEAD, record=_parked(Kind.DEAD_LETTERED, State.DEAD, message, at, said, worker, body))


def failed(
    message: PaigeantMessage, error: BaseException, reason: str, span: Span, body: bytes | None = None
) -> Transition:
    """The step failed for good: dead letter, or the begin of compensation where that was asked for and can be written.

    A failing compensator parks the chain instead, to be resumed at that entry.
    """
    at = span.completed_at
    slip = message.routing_slip
    if slip.undoing:
        detail = {"reason": reason, "origin": message.headers.activity, "error": error_document(error), **span.times()}
        record = _parked(Kind.COMPENSATION_FAILED, State.COMPENSATION_FAILED, message, at, detail, span.worker, body)
        return Transition(place=Place.DEAD, record=record)
    if slip.on_failure != "compensate":
        return dead_letter(message, at, reason=reason, body=body, error=error, worker=span.worker, detail=span.times())
    detail = {"reason": reason, "error": error_document(error)}
    try:
        transition = compensate(message, at, detail, span.worker)
    except MessageTooLarge as refused:
        # A slip just within its cap has no room for the hop that is to be undone.
        why = {**span.times(), "not_compensated": str(refused)}
        return dead_letter(message, at, reason=reason, body=body, error=error, worker=span.worker, detail=why)
    note = Record(Kind.FAILED, message.headers, worker=span.worker, detail={**detail, **span.times()}, at=at)
    transition.before = (note,)
    return transition


def compensate(message: PaigeantMessage, at: float, detail: dict[str, Any], worker: str = "") -> Transition:
    """Begin to undo the executed steps, last first."""
    slip = message.routing_slip.copy()
    return _undo(message, slip.start_undoing(), slip, at, detail, worker)


def undone(message: PaigeantMessage, span: Span, *, had_compensator: bool) -> Transition:
    """One executed step is undone (or had nothing to undo it): on to the one before."""
    slip = message.routing_slip.copy()
    detail = span.to_detail(message.headers)
    detail["undo"] = "done" if had_compensator else "no compensator"
    return _undo(message, slip.undo_next(), slip, span.completed_at, detail, span.worker)


def _undo(
    message: PaigeantMessage, more: bool, slip: RoutingSlip, at: float, detail: dict[str, Any], worker: str
) -> Transition:
    following = message.replaced(slip, timestamp=rfc3339(at))
    if more:
        record = _record(Kind.COMPENSATING, State.COMPENSATING, following, at, detail, worker)
        return Transition(place=Place.WORK, record=record)
    return Transition(
        place=Place.NOWHERE,
        record=_record(Kind.COMPENSATED, State.COMPENSATED, following, at, detail, worker),
    )


def cancel(message: PaigeantMessage, at: float, detail: dict[str, Any], worker: str = "") -> Transition:
    """End the workflow where it stands, its message kept in the journal."""
    return Transition(
        place=Place.NOWHERE,
        record=_parked(Kind.CANCELLED, State.CANCELLED, message, at, detail, worker, None),
    )


def superseded(transition: Transition, by: str = "") -> Record:
    """The record of a result that came too late: the fence had moved on.

    It changes no state; the bytes of what would have been published are kept.
    """
    late = transition.record
    detail = {"instead_of": str(late.kind), **late.detail}
    if by:
        detail["by"] = by
    return Record(
        Kind.SUPERSEDED, late.headers, worker=late.worker, detail=detail, body=late.body, id=late.id, at=late.at
    )


def quarantine(body: bytes, *, code: str, reason: str, activity: str, topic: str, at: float, worker: str) -> Transition:
    """Bytes that nobody could read or trust, kept as they are under an ID of their own."""
    stamp = rfc3339(at)
    headers = Headers(
        message_id=new_id(),
        correlation_id=QUARANTINE_PREFIX + new_id()[:16],
        topic=topic,
        activity=activity,
        created_at=stamp,
        timestamp=stamp,
    )
    detail = {
        "code": code,
        "reason": reason,
        "origin": activity,
        "bytes": len(body),
        "error": {"type": code, "message": reason},
    }
    record = Record(Kind.QUARANTINED, headers, state=State.QUARANTINED, worker=worker, detail=detail, body=body, at=at)
    return Transition(place=Place.QUARANTINE, record=record)


def result_invalid(
    message: PaigeantMessage, result: object, error: InvalidMessage | MessageTooLarge, span: Span, body: bytes | None
) -> Transition:
    """A handler's result cannot be merged: never retried, the result kept as text."""
    try:
        text = msgspec.json.encode(result).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        try:
            text = repr(result)
        except Exception:  # noqa: BLE001 - a handler's result may have any __repr__
            text = f"(a {type(result).__name__} that cannot be shown)"
    return dead_letter(
        message,
        span.completed_at,
        reason="result_invalid",
        body=body,
        error=error,
        worker=span.worker,
        detail={"result": conceal(writable(text))[: 2 * 1024 * 1024]},
    )


def operated(
    message: PaigeantMessage, at: float, detail: dict[str, Any], *, state: str = "", body: bool = False
) -> Record:
    """The record that somebody acted on a workflow; with the message where it was published by it."""
    return Record(
        Kind.OPERATED,
        message.headers,
        state=state,
        detail=detail,
        body=message.encode() if body else None,
        at=at,
    )


def _record(
    kind: str,
    state: str,
    message: PaigeantMessage,
    at: float,
    detail: dict[str, Any] | None = None,
    worker: str = "",
) -> Record:
    return Record(kind, message.headers, state=state, worker=worker, detail=detail, body=message.encode(), at=at)


def _parked(
    kind: str,
    state: str,
    message: PaigeantMessage,
    at: float,
    detail: dict[str, Any],
    worker: str,
    body: bytes | None,
) -> Record:
    # The bytes stay as they were, so the message ID does too: the fence needs a new one.
    return Record(
        kind,
        message.headers,
        state=state,
        worker=worker,
        detail=detail,
        body=message.encode() if body is None else body,
        id=new_id(),
        at=at,
    )
