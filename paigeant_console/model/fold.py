"""The fold: from journal records to where every workflow stands.

A pure reducer. Records go in, in journal order, batch by batch; rows come out, each with
a revision that rises when it changed, so a screen repaints what it must and nothing
else. What runs right now is not in the journal: workers say it, and
:meth:`Fold.observe` lays it over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from paigeant_console.model.trust import UNSIGNED, UNVERIFIED
from paigeant_core.clock import rfc3339
from paigeant_core.erasure import is_marker
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import ENDED, Kind, Record, State
from paigeant_core.limits import NO_WORKER_AFTER, SLOW_AT_LEAST, SLOW_FACTOR
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.pauses import Pause
from paigeant_core.transports.types import Holding, WorkerStatus

MEDIAN_OF: Final = 51
"""Durations of an activity that its median is taken of."""

# Looked up once, not with every record: a member of an enumeration is found by its class's __getattr__.
_ADVANCED, _FINISHED, _DISPATCHED, _RETRYING = Kind.ADVANCED, Kind.FINISHED, Kind.DISPATCHED, Kind.RETRYING
_QUARANTINED, _WORKER = Kind.QUARANTINED, Kind.WORKER
_QUIET: Final = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.DISPATCHED})
"""What goes as it should, and needs no words."""
_UNDOING: Final = frozenset({State.COMPENSATING, State.COMPENSATION_FAILED})
SHORT_SLIP: Final = 4096
MOST_SHAPES: Final = 2000
"""Routing slips whose names are kept, and the bytes that one of them may have."""
MOST_TEXTS: Final = 100_000
"""Different texts that rows share; beyond that the sharing begins anew."""


@dataclass(slots=True)
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


class _Trouble:
    """What is to be said of a workflow that does not just move on: few do, so only they have one."""

    __slots__ = (
        "due_at",
        "erased_at",
        "error",
        "held_by",
        "lost",
        "lost_at",
        "most",
        "on_deadline",
        "reason",
        "runner",
        "running",
        "token_until",
    )

    def __init__(self) -> None:
        self.error: dict[str, str] | None = None
        self.reason = ""
        self.due_at = ""
        self.erased_at = 0.0
        self.running: Holding | None = None
        self.runner = ""
        self.held_by = ""
        self.on_deadline = ""
        self.most: int | None = None
        self.lost = ""
        self.lost_at = 0.0
        self.token_until = ""


_CALM: Final = _Trouble()
"""Shared by all rows that have none; never changed."""


class Row:
    """One workflow, as far as the journal and the workers tell.

    A million of them are kept in memory, so a row holds the values of its headers and not the headers, shares every
    text that many have, and has what only a workflow in trouble needs in a second object that most do without.

    Attributes:
        correlation_id: the workflow's ID.
        name: of the workflow, as its headers have it; likewise the next ones.
        labels: a JSON object, as text.
        topic: where it runs.
        activity: the step to be done, or being undone; empty when finished.
        created_at: when it was dispatched, RFC 3339.
        base: the state after the last record that named one.
        at: when that was, seconds since the Unix epoch.
        token: what the fence knows it by (:attr:`Record.id`).
        names: all steps in order, done and to do, by name.
        worker: who wrote the last record; empty: nobody's worker.
        undoing: its step is being undone.
        signed: it carries signed records.
        revision: rises with each change.
        counted: the state under which whoever counts rows by state has counted it; empty: not yet.
    """

    __slots__ = (
        "_trouble",
        "activity",
        "at",
        "attempt",
        "base",
        "correlation_id",
        "counted",
        "created_at",
        "epoch",
        "hop",
        "labels",
        "name",
        "names",
        "revision",
        "run",
        "signed",
        "steps_done",
        "steps_total",
        "token",
        "topic",
        "undoing",
        "worker",
    )

    def __init__(self, correlation_id: str) -> None:
        self.correlation_id = correlation_id
        self.name = self.labels = self.topic = self.activity = self.created_at = ""
        self.hop = self.run = self.epoch = self.attempt = self.steps_done = self.steps_total = 0
        self.base: str = State.QUEUED
        self.at = 0.0
        self.token = ""
        self.names: tuple[str, ...] = ()
        self.worker = ""
        self.undoing = False
        self.signed = False
        self.revision = 0
        self.counted = ""
        self._trouble = _CALM

    @property
    def headers(self) -> Headers:
        """The headers of its last message, as far as a row keeps them: made anew by each call.

        Without message ID, timestamp and trace context.
        """
        return Headers(
            correlation_id=self.correlation_id,
            name=self.name,
            labels=self.labels,
            topic=self.topic,
            activity=self.activity,
            hop=self.hop,
            run=self.run,
            epoch=self.epoch,
            attempt=self.attempt,
            steps_done=self.steps_done,
            steps_total=self.steps_total,
            created_at=self.created_at,
        )

    @property
    def error(self) -> dict[str, str] | None:
        """The last failure, while the workflow stands at it."""
        return self._trouble.error

    @property
    def reason(self) -> str:
        """The journal's word for why it is where it is."""
        return self._trouble.reason

    @property
    def due_at(self) -> str:
        """When it comes back from a delay, RFC 3339; empty: no delay."""
        return self._trouble.due_at

    @property
    def erased_at(self) -> float:
        """When its contents were erased, seconds since the Unix epoch; 0: they were not."""
        return self._trouble.erased_at

    @property
    def running(self) -> Holding | None:
        """What a worker says that it holds of it now."""
        return self._trouble.running

    @property
    def runner(self) -> str:
        """Which worker says so."""
        return self._trouble.runner

    @property
    def held_by(self) -> str:
        """Which operator put it there."""
        return self._trouble.held_by

    @property
    def on_deadline(self) -> str:
        """What happens at its deadline to one that is held: ``release`` or ``dead_letter``."""
        return self._trouble.on_deadline

    @property
    def most(self) -> int | None:
        """Attempts that this hop has, as far as the last failure told; None: unknown."""
        return self._trouble.most

    @property
    def token_until(self) -> str:
        """Until when its token is good, RFC 3339, of one that waits for its next attempt; empty: not known."""
        return self._trouble.token_until

    @property
    def lost(self) -> str:
        """The worker that ran the step and lives no more; empty: none."""
        return self._trouble.lost

    @property
    def lost_at(self) -> float:
        """When that worker was heard last."""
        return self._trouble.lost_at

    @property
    def state(self) -> str:
        """The state as people mean it: ``running`` while a worker says so."""
        if self._trouble.running is not None and self.base in (State.QUEUED, State.RETRYING):
            return State.RUNNING
        return self.base

    @property
    def step(self) -> str | None:
        """The step to be done now; None when the workflow is finished."""
        return self.activity or None

    @property
    def since(self) -> float:
        """When the workflow came to where it stands: its step's start, or the last record."""
        running = self._trouble.running
        return running.since if running is not None else self.at

    def holds(self, held: Holding) -> bool:
        """Whether ``held`` is the step at which the workflow stands."""
        return (held.hop, held.run, held.attempt, held.epoch) == (self.hop, self.run, self.attempt, self.epoch)

    def trouble(self) -> _Trouble:
        """The object for what only some rows have, the row's own, to write to."""
        if self._trouble is _CALM:
            self._trouble = _Trouble()
        return self._trouble

    def calm(self) -> None:
        """Nothing is to be said of it but what a worker runs."""
        trouble = self._trouble
        if trouble.running is None:
            self._trouble = _CALM
            return
        self._trouble = kept = _Trouble()
        kept.running, kept.runner = trouble.running, trouble.runner


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
        self.paused: Mapping[str, Pause] = {}
        """Activities that an operator paused."""
        self.observed_at = 0.0
        self.observed = False
        """Whether workers were asked yet: until then nothing is known of them."""
        self._shapes: dict[bytes, tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}
        self._durations: dict[str, deque[float]] = {}
        self._medians: dict[str, float] = {}
        self._running: dict[str, Row] = {}
        self._serves_all = False

    def apply(self, records: Iterable[Record]) -> set[str]:
        """Fold ``records``; return the IDs of the workflows that changed."""
        changed: set[str] = set()
        if len(self._texts) > MOST_TEXTS:
            self._texts.clear()
        for record in records:
            self.records += 1
            if record.kind == _WORKER:
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

    def before(self, record: Record) -> None:
        """Take from a record that comes after newer ones of its workflow what they did not tell."""
        self._time(record)
        row = self.rows.get(record.headers.correlation_id)
        if row is not None and not row.names and record.body is not None and record.kind != _QUARANTINED:
            row.names = self._names(row, record)
            row.revision += 1

    def _told(self, record: Record) -> None:
        """A worker started, stopped or was lost."""
        activities, event = record.detail.get("activities"), record.detail.get("event")
        if isinstance(activities, list) and isinstance(event, str):
            for activity in activities:
                if isinstance(activity, str):
                    self._seen(activity, record.worker, record.at, event)

    def _seen(self, activity: str, worker: str, at: float, event: str = "") -> None:
        known = self.signs.get(activity)
        if known is None:
            self.signs[activity] = Sign(worker, at, event)
        elif known.at <= at:
            # Else it is filled in behind newer records, and older than what is known.
            known.worker, known.at, known.event = worker, at, event

    def _apply(self, record: Record) -> bool:
        headers = record.headers
        shared = self._texts.setdefault
        row = self.rows.get(headers.correlation_id)
        if row is None:
            row = self.rows[headers.correlation_id] = Row(headers.correlation_id)
            reshaped = True
        elif headers.epoch < row.epoch:
            # A copy of an older epoch that was late (where the fence is eventual).
            return False
        else:
            # As many steps may be others: some were inserted where the rest was left out.
            reshaped = (
                not row.names or headers.steps_total != row.steps_total or headers.run != row.run or record.inserts
            )
        if reshaped:
            # These are a workflow's from its dispatch to its end, or to its next run.
            row.name = shared(headers.name, headers.name)
            row.labels = shared(headers.labels, headers.labels)
            row.topic = shared(headers.topic, headers.topic)
            row.created_at = headers.created_at
            row.run = headers.run
            row.steps_total = headers.steps_total
        kind, state = record.kind, record.state
        row.activity = shared(headers.activity, headers.activity)
        row.hop = headers.hop
        row.epoch = headers.epoch
        row.attempt = headers.attempt
        row.steps_done = headers.steps_done
        row.base = shared(state, state)
        row.at = record.at
        row.token = record.id
        row.worker = shared(record.worker, record.worker)
        row.undoing = state in _UNDOING
        if row._trouble is not _CALM:
            running = row._trouble.running
            if running is not None and not row.holds(running):
                row._trouble.running = None
                row._trouble.runner = ""
                self._running.pop(headers.correlation_id, None)
            self._settle(row, kind)
        if kind not in _QUIET:
            self._explain(row, record)
            if is_marker(record):
                row.name = row.labels = ""
                row.trouble().erased_at = record.at
        if record.worker:
            self._time(record)
        if reshaped and record.body is not None and kind != _QUARANTINED:
            row.names = self._names(row, record)
        row.revision += 1
        return True

    @staticmethod
    def _settle(row: Row, kind: str) -> None:
        """The workflow moved: what was to be said of where it stood does not hold any more."""
        trouble = row._trouble
        trouble.lost = ""
        if kind in (_ADVANCED, _FINISHED):
            row.calm()
            return
        if kind == _DISPATCHED:
            trouble.reason = trouble.due_at = ""
        if kind != _RETRYING:
            trouble.most = None
            trouble.token_until = ""

    def _explain(self, row: Row, record: Record) -> None:
        detail, trouble = record.detail, row.trouble()
        error = detail.get("error")
        if isinstance(error, dict):
            trouble.error = {"type": str(error.get("type", "")), "message": str(error.get("message", ""))}
        elif record.kind == Kind.OPERATED or record.state in ENDED:
            # Somebody acted: what failed before is not what it stands at now.
            trouble.error = None
        reason = detail.get("reason")
        trouble.reason = reason if isinstance(reason, str) else ""
        due_at, delay = detail.get("due_at") or detail.get("until"), detail.get("delay_s")
        if due_at is None and isinstance(delay, int | float):
            due_at = rfc3339(record.at + delay)
        trouble.due_at = due_at if isinstance(due_at, str) else ""
        trouble.on_deadline = str(detail.get("on_deadline", ""))
        most = detail.get("max_attempts")
        trouble.most = most if isinstance(most, int) and record.kind == _RETRYING else None
        until = detail.get("token_expires_at")
        trouble.token_until = until if isinstance(until, str) and record.kind == _RETRYING else ""
        operator = detail.get("operator")
        trouble.held_by = operator if isinstance(operator, str) else ""

    def _names(self, row: Row, record: Record) -> tuple[str, ...]:
        body = record.body or b""
        start = body.find(b"\n") + 1
        slip = body[start : body.find(b"\n", start)]
        # Signed records come last in it, and nothing else there is a list of texts.
        row.signed = slip.endswith(b'"]}')
        names = self._shapes.get(slip)
        if names is None:
            try:
                message = record.message
            except PaigeantError:
                return ()
            assert message is not None
            names = tuple(self._texts.setdefault(name, name) for name in message.routing_slip.names())
            # Ten thousand workflows of one kind share one tuple, and the decoding of their slip at the same step; one
            # that carries a signature or a token is like no other.
            if len(slip) <= SHORT_SLIP:
                if len(self._shapes) >= MOST_SHAPES:
                    self._shapes.clear()
                self._shapes[slip] = names
        return names

    def _time(self, record: Record) -> None:
        """Learn how long a step took, and who serves it."""
        step, duration = record.step_told()
        activity = step or (record.headers.activity if record.kind == _RETRYING else "")
        if activity and record.worker:
            self._seen(activity, record.worker, record.at)
        if duration is not None and step:
            known = self._durations.get(step)
            if known is None:
                known = self._durations[step] = deque(maxlen=MEDIAN_OF)
            known.append(duration)
            if step in self._medians:
                del self._medians[step]

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
            for activity in status.info.activities:
                self.signs[activity] = Sign(status.info.worker, now - status.last_seen_s)
            for held in status.running:
                running[held.correlation_id] = (status.info.worker, held)
        self.served = served
        self._serves_all = any(not status.info.activities for status in workers)
        alive = {status.info.worker for status in workers}
        changed: set[str] = set()
        for correlation_id, row in list(self._running.items()):
            if correlation_id not in running:
                trouble = row.trouble()
                trouble.lost = "" if trouble.runner in alive else trouble.runner
                trouble.lost_at = heard.get(trouble.runner, 0.0)
                trouble.running = None
                trouble.runner = ""
                row.revision += 1
                del self._running[correlation_id]
                changed.add(correlation_id)
        for correlation_id, (worker, held) in running.items():
            found = self.rows.get(correlation_id)
            # The report and the journal are not read at one moment: believe it only where they agree.
            if found is None or not found.holds(held) or found.base in ENDED:
                continue
            if found.running != held or found.runner != worker:
                trouble = found.trouble()
                trouble.running = held
                trouble.lost = ""
                trouble.runner = worker
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
            median = self.median(row.activity)
            limit = max(SLOW_AT_LEAST, SLOW_FACTOR * median) if median is not None else None
            return "slow" if limit is not None and now - row.since > limit else None
        if row.lost:
            return "worker_lost"
        if row.reason in ("poison", "version", "token_expired", "lost"):
            return row.reason
        if state == State.RETRYING:
            return "backoff"
        if state in (State.QUEUED, State.COMPENSATING) and row.activity in self.paused:
            return "paused"
        waits = state in (State.QUEUED, State.COMPENSATING) and now - row.at >= self.no_worker_after
        if waits and self.observed and not self.serves(row.activity):
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
        erased = {"erased_at": rfc3339(row.erased_at)} if row.erased_at else {}
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
            "trust": trust_of(row),
            **erased,
        }


def trust_of(row: Row) -> str:
    """What can be said of a workflow's signatures without a policy: that there are some."""
    return UNVERIFIED if row.signed else UNSIGNED


def workflow_document(
    fold: Fold, history: Sequence[Record], now: float, trust: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One workflow as ``show --json`` shows it: the row, its slip, payload and history.

    Args:
        fold: into which ``history`` was folded.
        history: the workflow's records, oldest first; at least one that names a state.
        now: seconds since the Unix epoch.
        trust: what was found of its signatures.
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
        **(trust or {}),
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
