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
from itertools import islice
from typing import Any, Final

from paigeant_console.model.row import CALM, Row, trust_of
from paigeant_console.model.told import UNDOING, ask, settle, tell, tell_undoing
from paigeant_core.clock import rfc3339
from paigeant_core.erasure import is_marker
from paigeant_core.errors import DecodeError, PaigeantError
from paigeant_core.journal import Kind, Record, State, StepTold
from paigeant_core.limits import NO_WORKER_AFTER, SLOW_AT_LEAST, SLOW_FACTOR
from paigeant_core.message import decode_headers
from paigeant_core.pauses import Pause
from paigeant_core.transports.types import Holding, WorkerStatus

WAITING: Final = frozenset({State.QUEUED, State.RETRYING, State.COMPENSATING})
"""States, by the journal, in which a worker runs the step, or some worker will."""
_SAYS: Final = {
    "poison": frozenset({State.DEAD, State.COMPENSATION_FAILED}),
    "version": frozenset({State.RETRYING}),
    "token_expired": frozenset({State.HELD}),
    "lost": WAITING,
}
"""Words by which the journal says why a workflow is stuck, and in which states; elsewhere they are somebody's own."""
MEDIAN_OF: Final = 51
"""Durations of an activity that its median is taken of."""

# Looked up once, not with every record: a member of an enumeration is found by its class's __getattr__.
_RETRYING, _QUARANTINED = Kind.RETRYING, Kind.QUARANTINED
_OPERATED, _WORKER = Kind.OPERATED, Kind.WORKER
_QUIET: Final = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.DISPATCHED})
"""What goes as it should, and needs no words."""
SHORT_SLIP: Final = 4096
MOST_SHAPES: Final = 2000
"""Routing slips whose names are kept, and the bytes that one of them may have."""
MOST_TEXTS: Final = 100_000
"""Different texts that rows share; beyond that the sharing begins anew."""
MOST_EPOCHS: Final = 100_000
"""Workflows without a row whose epoch is known: as many as operators intervene in, in days; some 20 MB of them."""


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


class Fold:
    """All workflows of one topic.

    Args:
        no_worker_after: seconds after which a waiting step that nobody serves is stuck; None: the usual.
    """

    def __init__(self, *, no_worker_after: float | None = None) -> None:
        self.rows: dict[str, Row] = {}
        self.no_worker_after = NO_WORKER_AFTER if no_worker_after is None else no_worker_after
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
        self.forgotten = 0
        """Rows that :meth:`forget` let go of so far."""
        self._epochs: dict[str, int] = {}
        """Epochs of workflows whose rows were let go of, where somebody had intervened."""
        self._serves_all = False
        self._stopped: set[str] = set()
        """Workers that said so: what they did not finish they gave back, and it is not lost with them."""

    def apply(self, records: Iterable[Record]) -> set[str]:
        """Fold ``records``; return the IDs of the workflows that changed."""
        changed: set[str] = set()
        if len(self._texts) > MOST_TEXTS:
            self._texts.clear()
        for record in records:
            self.records += 1
            if record.kind == _WORKER:
                changed |= self._told(record)
            elif record.state:
                if self._apply(record):
                    changed.add(record.headers.correlation_id)
                    if record.kind == _QUARANTINED:
                        changed |= self._set_aside(record)
            elif record.kind == _OPERATED:
                row = self.rows.get(record.headers.correlation_id)
                if row is not None and ask(row, record):
                    changed.add(row.correlation_id)
        return changed

    def learn(self, records: Iterable[Record]) -> None:
        """Take from ``records`` how long steps take and who served what, but no workflow."""
        for record in records:
            if record.kind == Kind.WORKER:
                self._told(record)
            elif record.state:
                self._time(record, record.told())

    def _set_aside(self, record: Record) -> set[str]:
        """A message was quarantined: whose it was waits for nothing any more; return the ID of that workflow.

        Only if it was the message that its workflow stands at, as far as what can be read of it tells.
        """
        try:
            headers = decode_headers(record.body or b"")
        except DecodeError:
            return set()
        row = self.rows.get(headers.correlation_id)
        if row is None or row.token != headers.message_id or row.base not in WAITING:
            return set()
        if row.activity != record.headers.activity:
            # A copy that somebody put into the queue of another activity: the message itself is where it was.
            return set()
        row.own_trouble().quarantined = record.headers.correlation_id
        row.revision += 1
        return {row.correlation_id}

    def forget(self, workflows: Iterable[str]) -> None:
        """Let go of rows. A workflow that moves again has a new row, made of the record that says so.

        Args:
            workflows: their IDs; one that has no row is left alone.
        """
        for workflow in workflows:
            row = self.rows.pop(workflow, None)
            if row is None:
                continue
            self.forgotten += 1
            self._running.pop(workflow, None)
            if row.epoch > 1:
                # Else a copy of an older epoch that is late would be taken for where it stands.
                self._epochs[workflow] = row.epoch
        if len(self._epochs) > MOST_EPOCHS:
            for workflow in list(islice(self._epochs, MOST_EPOCHS // 10)):
                del self._epochs[workflow]

    def begin_anew(self) -> None:
        """The topic was deleted: its workflows leave, and their epochs count no more."""
        self.forget(list(self.rows))
        self._epochs.clear()

    def before(self, record: Record) -> None:
        """Take from a record that comes after newer ones of its workflow what they did not tell."""
        self._time(record, record.told())
        row = self.rows.get(record.headers.correlation_id)
        if row is None:
            return
        if not row.names and record.body is not None and record.kind != _QUARANTINED:
            row.names = self._names(row, record)
            row.revision += 1
        if record.kind in UNDOING and record.headers.run == row.run and row.unwound:
            tell_undoing(row, record)
            row.revision += 1

    def _told(self, record: Record) -> set[str]:
        """A worker started, stopped or was lost; return the IDs of the workflows that it handed back."""
        activities, event = record.detail.get("activities"), record.detail.get("event")
        gave_back = record.detail.get("gave_back")
        changed: set[str] = set()
        for workflow in gave_back if isinstance(gave_back, list) else ():
            row = self.rows.get(workflow) if isinstance(workflow, str) else None
            if row is not None and row.at <= record.at:
                row.own_trouble().back_at = record.at
                row.revision += 1
                changed.add(row.correlation_id)
        if event == "stopped":
            self._stopped.add(record.worker)
        if isinstance(activities, list) and isinstance(event, str):
            for activity in activities:
                if isinstance(activity, str):
                    self._seen(activity, record.worker, record.at, event)
        return changed

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
        told = record.told()
        row = self.rows.get(headers.correlation_id)
        if row is None:
            if headers.epoch < self._epochs.get(headers.correlation_id, 0):
                return False
            row = self.rows[headers.correlation_id] = Row(headers.correlation_id)
            reshaped = True
        elif headers.epoch < row.epoch:
            # A copy of an older epoch that was late (where the fence is eventual).
            return False
        else:
            # As many steps may be others: some were inserted where the rest was left out.
            reshaped = (
                not row.names
                or headers.steps_total != row.steps_total
                or headers.run != row.run
                or len(told.inserted) > 0
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
        if row.trouble is not CALM:
            running = row.trouble.running
            if running is not None and not (row.base in WAITING and row.holds(running)):
                row.trouble.running = None
                row.trouble.runner = ""
                self._running.pop(headers.correlation_id, None)
            settle(row, kind)
        if kind not in _QUIET:
            tell(row, record)
            if is_marker(record):
                row.name = row.labels = ""
                trouble = row.own_trouble()
                trouble.erased_at, trouble.undoing = record.at, None
        if record.worker:
            self._time(record, told)
        if reshaped and record.body is not None and kind != _QUARANTINED:
            row.names = self._names(row, record)
        row.revision += 1
        return True

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

    def _time(self, record: Record, told: StepTold) -> None:
        """Learn how long a step took, and who serves it."""
        step, duration = told.step, told.duration_s
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

    def observe(self, workers: Sequence[WorkerStatus], now: float, silent: Sequence[WorkerStatus] = ()) -> set[str]:
        """Lay over what living workers say they run; return the IDs that changed.

        Args:
            workers: those that live.
            now: when they were asked, seconds since the Unix epoch.
            silent: those that died before anybody looked: what they ran is lost with them.
        """
        # As if they had been seen alive, and then no more.
        changed = self._observe([*silent, *workers], now) if silent else set()
        return changed | self._observe(workers, now)

    def _observe(self, workers: Sequence[WorkerStatus], now: float) -> set[str]:
        heard = {status.info.worker: self.observed_at - status.last_seen_s for status in self.workers}
        self.workers = workers
        self.observed = True
        self.observed_at = now
        served: set[str] = set()
        running: dict[str, tuple[str, Holding]] = {}
        for status in workers:
            served.update(status.info.activities)
            for activity in status.info.activities:
                self._seen(activity, status.info.worker, now - status.last_seen_s)
            for held in status.running:
                # One that hangs may still be told to run what another one took over.
                if (other := running.get(held.correlation_id)) is None or held.since >= other[1].since:
                    running[held.correlation_id] = (status.info.worker, held)
        self.served = served
        self._serves_all = any(not status.info.activities for status in workers)
        alive = {status.info.worker for status in workers}
        changed: set[str] = set()
        for correlation_id, row in list(self._running.items()):
            if correlation_id not in running:
                trouble = row.own_trouble()
                trouble.lost = "" if trouble.runner in alive else trouble.runner
                trouble.lost_at = heard.get(trouble.runner, 0.0)
                if trouble.lost and trouble.running is not None:
                    trouble.ran_since = trouble.ran_since or trouble.running.since
                trouble.running = None
                trouble.runner = ""
                row.revision += 1
                del self._running[correlation_id]
                changed.add(correlation_id)
        for correlation_id, (worker, held) in running.items():
            found = self.rows.get(correlation_id)
            # The report and the journal are not read at one moment: believe it only where they agree.
            if found is None or not found.holds(held) or found.base not in WAITING:
                continue
            if found.running != held or found.runner != worker:
                trouble = found.own_trouble()
                before = trouble.lost or trouble.runner
                if before not in ("", worker) and before not in self._stopped:
                    trouble.taken_from = before
                    if trouble.running is not None:
                        trouble.ran_since = trouble.ran_since or trouble.running.since
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

    def unserved(self, activity: str) -> bool:
        """Whether it is known that no living worker serves ``activity``."""
        return self.observed and not self.serves(activity)

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
        if row.quarantined:
            return "quarantined"
        if row.lost and row.lost not in self._stopped:
            return "worker_lost"
        if state in _SAYS.get(row.reason, ()) and not row.held_by and (row.error is not None or row.reason == "lost"):
            return row.reason
        if now >= row.queued_since and state in WAITING:
            if row.activity in self.paused:
                return "paused"
            if now - row.queued_since >= self.no_worker_after and self.unserved(row.activity):
                return "no_worker"
        return "backoff" if state == State.RETRYING else None

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
