"""The fold: from journal records to where every workflow stands.

A pure reducer. Records go in, in journal order, batch by batch; rows come out, each with
a revision that rises when it changed, so a screen repaints what it must and nothing
else. What runs right now is not in the journal: workers say it, and
:meth:`Fold.observe` lays it over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from paigeant_core.clock import rfc3339
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import ENDED, Kind, Record, State
from paigeant_core.limits import NO_WORKER_AFTER, SLOW_AT_LEAST, SLOW_FACTOR
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.transports.types import Holding, WorkerStatus

MEDIAN_OF = 51
"""Durations of an activity that its median is taken of."""


@dataclass(frozen=True, slots=True)
class Sign:
    """The last that was seen of a worker that served an activity.

    Attributes:
        worker: which.
        at: when, seconds since the Unix epoch.
        event: what the journal said of it: ``started``, ``stopped``, ``lost``; empty: it worked, or reported.
    """

    worker: str
    at: float
    event: str = ""


class Row:
    """One workflow, as far as the journal and the workers tell.

    Attributes:
        headers: of its last message.
        base: the state after the last record that named one.
        at: when that was, seconds since the Unix epoch.
        token: what the fence knows it by (:attr:`Record.id`).
        names: all steps in order, done and to do, by name.
        worker: who wrote the last record; empty: nobody's worker.
        error: of the last failure, while the workflow stands at it.
        reason: the journal's word for why it is where it is.
        due_at: when it comes back from a delay, RFC 3339; empty: no delay.
        running: what a worker says that it holds of it now.
        runner: which worker says so.
        on_deadline: what happens then to one that is held: ``release`` or ``dead_letter``.
        most: attempts that this hop has, as far as the last failure told; None: unknown.
        lost: the worker that ran the step and lives no more; empty: none.
        lost_at: when that worker was heard last.
        revision: rises with each change.
    """

    __slots__ = (
        "at",
        "base",
        "due_at",
        "error",
        "headers",
        "held_by",
        "lost",
        "lost_at",
        "most",
        "names",
        "on_deadline",
        "reason",
        "revision",
        "runner",
        "running",
        "token",
        "undoing",
        "worker",
    )

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.base: str = State.QUEUED
        self.at = 0.0
        self.token = ""
        self.names: tuple[str, ...] = ()
        self.worker = ""
        self.error: dict[str, str] | None = None
        self.reason = ""
        self.due_at = ""
        self.running: Holding | None = None
        self.runner = ""
        self.held_by = ""
        self.on_deadline = ""
        self.most: int | None = None
        self.lost = ""
        self.lost_at = 0.0
        self.undoing = False
        self.revision = 0

    @property
    def correlation_id(self) -> str:
        """The workflow's ID."""
        return self.headers.correlation_id

    @property
    def state(self) -> str:
        """The state as people mean it: ``running`` while a worker says so."""
        if self.running is not None and self.base in (State.QUEUED, State.RETRYING):
            return State.RUNNING
        return self.base

    @property
    def step(self) -> str | None:
        """The step to be done now; None when the workflow is finished."""
        return self.headers.activity or None

    @property
    def since(self) -> float:
        """When the workflow came to where it stands: its step's start, or the last record."""
        return self.running.since if self.running is not None else self.at


class Fold:
    """All workflows of one topic.

    Args:
        no_worker_after: seconds after which a waiting step that nobody serves is stuck.
    """

    def __init__(self, *, no_worker_after: float = NO_WORKER_AFTER) -> None:
        self.rows: dict[str, Row] = {}
        self.no_worker_after = no_worker_after
        self.records = 0
        """Records folded so far."""
        self.served: set[str] = set()
        """Activities that living workers serve now; the workers are in :attr:`workers`."""
        self.signs: dict[str, Sign] = {}
        """By activity: the last that was seen of a worker for it."""
        self.workers: Sequence[WorkerStatus] = ()
        self.observed_at = 0.0
        self.observed = False
        """Whether workers were asked yet: until then nothing is known of them."""
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._durations: dict[str, list[float]] = {}
        self._medians: dict[str, float] = {}
        self._running: dict[str, Row] = {}
        self._serves_all = False

    def apply(self, records: Iterable[Record]) -> set[str]:
        """Fold ``records``; return the IDs of the workflows that changed."""
        changed: set[str] = set()
        for record in records:
            self.records += 1
            if record.kind == Kind.WORKER:
                self._told(record)
            elif record.state and self._apply(record):
                changed.add(record.headers.correlation_id)
        return changed

    def learn(self, records: Iterable[Record]) -> None:
        """Take from ``records`` how long steps take and who served what, but no workflow."""
        for record in records:
            if record.kind == Kind.WORKER:
                self._told(record)
            elif record.state:
                self._time(record)

    def _told(self, record: Record) -> None:
        """A worker started, stopped or was lost."""
        activities, event = record.detail.get("activities"), record.detail.get("event")
        if isinstance(activities, list) and isinstance(event, str):
            sign = Sign(record.worker, record.at, event)
            self.signs.update((activity, sign) for activity in activities if isinstance(activity, str))

    def _apply(self, record: Record) -> bool:
        headers = record.headers
        row = self.rows.get(headers.correlation_id)
        if row is None:
            row = self.rows[headers.correlation_id] = Row(headers)
        elif headers.epoch < row.headers.epoch:
            # A copy of an older epoch that was late (where the fence is eventual).
            return False
        kind = record.kind
        reshaped = not row.names or headers.steps_total != row.headers.steps_total or headers.run != row.headers.run
        row.headers = headers
        row.base = record.state
        row.at = record.at
        row.token = record.id
        row.worker = record.worker
        row.lost = ""
        row.undoing = record.state in (State.COMPENSATING, State.COMPENSATION_FAILED)
        if kind in (Kind.ADVANCED, Kind.FINISHED):
            row.error = None
            row.reason = row.due_at = row.held_by = row.on_deadline = ""
        elif kind == Kind.DISPATCHED:
            row.reason = row.due_at = ""
        else:
            self._explain(row, record)
        if kind != Kind.RETRYING:
            row.most = None
        if record.worker:
            self._time(record)
        if row.running is not None and not _same_step(row.running, headers):
            row.running = None
            row.runner = ""
            self._running.pop(headers.correlation_id, None)
        if reshaped and record.body is not None and kind != Kind.QUARANTINED:
            row.names = self._names(record)
        row.revision += 1
        return True

    def _explain(self, row: Row, record: Record) -> None:
        detail = record.detail
        error = detail.get("error")
        if isinstance(error, dict):
            row.error = {"type": str(error.get("type", "")), "message": str(error.get("message", ""))}
        elif record.kind == Kind.OPERATED or record.state in ENDED:
            # Somebody acted: what failed before is not what it stands at now.
            row.error = None
        reason = detail.get("reason")
        row.reason = reason if isinstance(reason, str) else ""
        due_at, delay = detail.get("due_at") or detail.get("until"), detail.get("delay_s")
        if due_at is None and isinstance(delay, int | float):
            due_at = rfc3339(record.at + delay)
        row.due_at = due_at if isinstance(due_at, str) else ""
        row.on_deadline = str(detail.get("on_deadline", ""))
        most = detail.get("max_attempts")
        row.most = most if isinstance(most, int) else None
        operator = detail.get("operator")
        row.held_by = operator if isinstance(operator, str) else ""

    def _names(self, record: Record) -> tuple[str, ...]:
        try:
            message = record.message
        except PaigeantError:
            return ()
        assert message is not None
        names = message.routing_slip.names()
        # Ten thousand workflows of one kind share one tuple.
        return self._shapes.setdefault(names, names)

    def _time(self, record: Record) -> None:
        """Learn how long a step took, and who serves it."""
        detail = record.detail
        duration, step = detail.get("duration_s"), detail.get("step")
        activity = step if isinstance(step, str) else record.headers.activity if record.kind == Kind.RETRYING else ""
        if activity and record.worker:
            self.signs[activity] = Sign(record.worker, record.at)
        if isinstance(duration, int | float) and isinstance(step, str):
            known = self._durations.setdefault(step, [])
            known.append(float(duration))
            if len(known) > MEDIAN_OF:
                del known[0]
            self._medians.pop(step, None)

    def median(self, activity: str) -> float | None:
        """Seconds that a step of ``activity`` takes; None before one was seen."""
        known = self._durations.get(activity)
        if not known:
            return None
        median = self._medians.get(activity)
        if median is None:
            median = self._medians[activity] = sorted(known)[len(known) // 2]
        return median

    def observe(self, workers: Sequence[WorkerStatus], now: float) -> set[str]:
        """Lay over what living workers say they run; return the IDs that changed.

        Args:
            workers: those that live.
            now: when they were asked, seconds since the Unix epoch.
        """
        heard = {status.info.worker: self.observed_at - status.last_seen_s for status in self.workers}
        self.workers = workers
        self.observed = True
        self.observed_at = now
        served: set[str] = set()
        running: dict[str, tuple[str, Holding]] = {}
        for status in workers:
            served.update(status.info.activities)
            sign = Sign(status.info.worker, now - status.last_seen_s)
            self.signs.update(dict.fromkeys(status.info.activities, sign))
            for held in status.running:
                running[held.correlation_id] = (status.info.worker, held)
        self.served = served
        self._serves_all = any(not status.info.activities for status in workers)
        alive = {status.info.worker for status in workers}
        changed: set[str] = set()
        for correlation_id, row in list(self._running.items()):
            if correlation_id not in running:
                row.lost = "" if row.runner in alive else row.runner
                row.lost_at = heard.get(row.runner, 0.0)
                row.running = None
                row.runner = ""
                row.revision += 1
                del self._running[correlation_id]
                changed.add(correlation_id)
        for correlation_id, (worker, held) in running.items():
            found = self.rows.get(correlation_id)
            # The report and the journal are not read at one moment: believe it only where they agree.
            if found is None or not _same_step(held, found.headers) or found.base in ENDED:
                continue
            if found.running != held or found.runner != worker:
                found.running = held
                found.lost = ""
                found.runner = worker
                found.revision += 1
                self._running[correlation_id] = found
                changed.add(correlation_id)
        return changed

    def serves(self, activity: str) -> bool:
        """Whether a living worker serves ``activity``; one that names none serves all."""
        return activity in self.served or self._serves_all

    def stuck(self, row: Row, now: float) -> str | None:
        """Why a workflow does not move, as one word of the contract; None: it does, or it ended.

        Args:
            row: which.
            now: seconds since the Unix epoch.
        """
        state = row.state
        if state == State.RUNNING or (state == State.COMPENSATING and row.running is not None):
            median = self.median(row.headers.activity)
            limit = max(SLOW_AT_LEAST, SLOW_FACTOR * median) if median is not None else None
            return "slow" if limit is not None and now - row.since > limit else None
        if row.lost:
            return "worker_lost"
        if row.reason in ("poison", "version", "token_expired", "lost"):
            return row.reason
        if state == State.RETRYING:
            return "backoff"
        waits = state in (State.QUEUED, State.COMPENSATING) and now - row.at >= self.no_worker_after
        if waits and self.observed and not self.serves(row.headers.activity):
            return "no_worker"
        return None

    def needs_others(self, row: Row, now: float) -> bool:
        """Whether what other workflows did decides whether, or says why, this one is stuck; see :meth:`learn`."""
        if row.running is not None:
            return now - row.since > SLOW_AT_LEAST
        return self.stuck(row, now) == "no_worker"

    def document(self, row: Row, now: float) -> dict[str, Any]:
        """The row as ``list --json`` shows it."""
        headers = row.headers
        finished = row.base == State.COMPLETED
        return {
            "schema": 1,
            "correlation_id": headers.correlation_id,
            "name": headers.name,
            "labels": headers.label_map,
            "topic": headers.topic,
            "state": str(row.state),
            "stuck": self.stuck(row, now),
            "step": None if finished else row.step,
            "hop": headers.hop,
            "run": headers.run,
            "steps_done": headers.steps_done,
            "steps_total": headers.steps_total,
            "attempt": headers.attempt,
            "epoch": headers.epoch,
            "created_at": headers.created_at,
            "updated_at": rfc3339(row.at),
            "error": row.error,
            "trust": "unsigned",
        }


def workflow_document(fold: Fold, history: Sequence[Record], now: float) -> dict[str, Any]:
    """One workflow as ``show --json`` shows it: the row, its slip, payload and history.

    Args:
        fold: into which ``history`` was folded.
        history: the workflow's records, oldest first; at least one that names a state.
        now: seconds since the Unix epoch.
    """
    row = fold.rows[history[-1].headers.correlation_id]
    current = next(record for record in reversed(history) if record.id == row.token and record.state)
    document = fold.document(row, now)
    message = readable(current)
    if message is None:
        itinerary: list[Any] = []
        executed: list[Any] = []
        payload: Any = None
    else:
        slip = message.routing_slip
        itinerary = [{"name": str(step), "arguments": dict(step.arguments)} for step in slip.itinerary]
        executed = executed_documents(history, message)
        payload = msgspec.Raw(message.payload_bytes)
    return {
        **document,
        "itinerary": itinerary,
        "executed": executed,
        "payload": payload,
        "history": [record.to_document() for record in history],
    }


def executed_documents(history: Sequence[Record], message: PaigeantMessage) -> list[dict[str, Any]]:
    """The executed steps of ``message`` with the times and workers that the journal tells."""
    told: dict[int, Record] = {}
    for record in history:
        detail = record.detail
        if record.state and "undo" not in detail and isinstance(detail.get("hop"), int) and "step" in detail:
            told[detail["hop"]] = record
    documents = []
    for hop, step in enumerate(message.routing_slip.executed, start=1):
        teller = told.get(hop)
        detail = teller.detail if teller is not None else {}
        documents.append(
            {
                "name": str(step),
                "attempt": step.attempt,
                "worker": (teller.worker or None) if teller is not None else None,
                "started_at": detail.get("started_at"),
                "completed_at": detail.get("completed_at"),
                "duration_s": detail.get("duration_s"),
            }
        )
    return documents


def readable(record: Record) -> PaigeantMessage | None:
    """The record's message, or None where it has none that can be read."""
    try:
        return record.message
    except PaigeantError:
        return None


def _same_step(held: Holding, headers: Headers) -> bool:
    return (held.hop, held.run, held.attempt, held.epoch) == (
        headers.hop,
        headers.run,
        headers.attempt,
        headers.epoch,
    )
