"""The in-memory broker itself: queues, journal, fence and timers behind one lock.

Everything named ``memory://name`` in a process is one broker, whichever event loop or
thread asks. It keeps the bytes of messages, as the other brokers do, so that what runs
here has been through encode and decode. Its clock can be held and moved by hand.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from paigeant_core.clock import Clock, ManualClock, SystemClock
from paigeant_core.erasure import stripped
from paigeant_core.errors import DuplicateWorkflow
from paigeant_core.journal import ENDED, Record
from paigeant_core.limits import JOURNAL_AGE, JOURNAL_BYTES
from paigeant_core.message import Headers
from paigeant_core.pauses import PAUSE, Pause, pause_of, switch_in
from paigeant_core.transition import Deadline, Place, Transition
from paigeant_core.transports.types import Delivery, Erased, Holding, Settled, WorkerInfo, worker_record

_FOREVER = 3600.0
_RECORD_OVERHEAD = 400
MOST_BURIED = 100
"""Dead workers that are remembered."""
"""Bytes that a record costs beside its body, roughly; for the journal's cap."""


@dataclass(slots=True, eq=False)
class Entry:
    """One copy of a message in the broker."""

    body: bytes
    activity: str
    put_at: float
    owner: Claimant | None = None
    deaths: int = 0
    gone: bool = False


@dataclass(slots=True, eq=False)
class Workflow:
    """Fence, dedupe and index of one workflow."""

    id: str
    place: Place
    last: Record
    positions: list[int] = field(default_factory=list)
    entry: Entry | None = None
    asked: Record | None = None
    """What was asked last of a step that ran; it counts while ``id`` is its own."""
    mark: str = ""
    """Of the signed records of where it stands, see :attr:`Transition.mark`."""
    erased: bool = False
    """Nothing of it is kept any more, whatever a late worker brings."""
    due: int = 0
    """Which of its timers counts; an older one in the heap does not."""


@dataclass(slots=True, eq=False)
class Claimant:
    """A consumer as the broker sees it; in one process it lives until it says otherwise."""

    info: WorkerInfo
    lease: float
    died_at: float | None = None
    running: tuple[Holding, ...] = ()


class Topic:
    """Queues, journal and index of one topic. All calls hold the broker's lock."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.work: dict[str, deque[Entry]] = {}
        self.claimed: dict[Entry, None] = {}
        self.lapsing: dict[Entry, float] = {}
        """Claimed copies that nobody works on any more, and when they go back."""
        self.workflows: dict[str, Workflow] = {}
        self.journal: deque[Record] = deque()
        self.first = 1
        self.bytes = 0
        self.timers: list[tuple[float, int, str, Deadline | None]] = []
        self.serial = itertools.count(1)
        self.claimants: dict[str, Claimant] = {}
        self.buried: deque[Claimant] = deque(maxlen=MOST_BURIED)
        self.audit: list[bytes] = []
        self.operations: list[bytes] = []
        self.paused: dict[str, Pause] = {}
        self.schemas: dict[str, bytes] = {}
        self.max_bytes = JOURNAL_BYTES
        self.max_age: float = JOURNAL_AGE

    # -- journal ------------------------------------------------------------------------

    def append(self, record: Record) -> None:
        """Put ``record`` at the end, with its position and the broker's time."""
        position = self.first + len(self.journal)
        record.position = str(position)
        record.at = self.clock.now()
        self.journal.append(record)
        self.bytes += len(record.body or b"") + _RECORD_OVERHEAD
        workflow = self.workflows.get(record.headers.correlation_id)
        if workflow is not None:
            workflow.positions.append(position)
        # The newest stays, however large it is: it may be the only word of where its workflow stands.
        while len(self.journal) > 1 and (self.bytes > self.max_bytes or self.journal[0].at < record.at - self.max_age):
            self._trim_one()

    def _trim_one(self) -> None:
        old = self.journal.popleft()
        self.first += 1
        self.bytes -= len(old.body or b"") + _RECORD_OVERHEAD
        workflow = self.workflows.get(old.headers.correlation_id)
        if workflow is not None:
            if workflow.positions and workflow.positions[0] < self.first:
                workflow.positions.pop(0)
            if not workflow.positions and workflow.last.state in ENDED:
                del self.workflows[old.headers.correlation_id]

    def after(self, position: int, limit: int) -> list[Record]:
        """At most ``limit`` records behind ``position``."""
        start = max(0, position + 1 - self.first)
        return list(itertools.islice(self.journal, start, start + limit))

    def newest(self, limit: int) -> list[Record]:
        """At most ``limit`` records, the last ones."""
        found = list(itertools.islice(reversed(self.journal), limit))
        return found[::-1]

    # -- moving -------------------------------------------------------------------------

    def apply(self, transition: Transition, expect: str | None) -> Settled:
        """Carry out a transition if the workflow is at ``expect`` (None: it must be new)."""
        record = transition.record
        workflow_id = record.headers.correlation_id
        workflow = self.workflows.get(workflow_id)
        if workflow is not None:
            if workflow.id == record.id:
                return Settled.ALREADY
            if workflow.id != expect:
                return Settled.SUPERSEDED
            self.discard(workflow.entry)
        else:
            workflow = self.workflows[workflow_id] = Workflow(record.id, transition.place, record)
        workflow.id = record.id
        workflow.place = transition.place
        workflow.last = record
        workflow.entry = None
        workflow.due = 0
        workflow.mark = transition.mark or workflow.mark
        for before in transition.before:
            self.append(before)
        self.append(record)
        if transition.place is Place.WORK:
            workflow.entry = self.put(record.headers.activity, record.body or b"")
        elif transition.place is Place.DELAYED:
            self.set_timer(workflow, workflow_id, transition.delay, None)
        elif transition.deadline is not None:
            self.set_timer(workflow, workflow_id, transition.deadline.delay, transition.deadline)
        return Settled.DONE

    def erase(self, marker: Record, expect: str) -> Erased:
        """See :meth:`Transport.erase`."""
        workflow = self.workflows.get(marker.headers.correlation_id)
        if workflow is None or workflow.id != expect or workflow.place in (Place.WORK, Place.DELAYED):
            return Erased(settled=Settled.SUPERSEDED)
        positions = workflow.positions
        for position in positions:
            old = self.journal[position - self.first]
            self.bytes -= len(old.body or b"")
            self.journal[position - self.first] = stripped(old)
        parked = workflow.place is not Place.NOWHERE
        # The deadline of a hold has the message too.
        self.timers = [timer for timer in self.timers if timer[2] != marker.headers.correlation_id]
        heapq.heapify(self.timers)
        self.workflows[marker.headers.correlation_id] = Workflow(
            marker.id, Place.NOWHERE, marker, [*positions], mark=workflow.mark, erased=True
        )
        self.append(marker)
        return Erased(settled=Settled.DONE, records=len(positions), parked=int(parked))

    def request(self, asked: Record, expect: str) -> Settled:
        """Keep what was asked of the step that a workflow stands at, if it is at ``expect``."""
        workflow = self.workflows.get(asked.headers.correlation_id)
        if workflow is None or workflow.id != expect or workflow.entry is None or workflow.entry.gone:
            return Settled.ALREADY if workflow is not None and workflow.id == asked.id else Settled.SUPERSEDED
        workflow.id = asked.id
        workflow.asked = asked
        self.append(asked)
        return Settled.DONE

    def is_erased(self, record: Record) -> bool:
        """Whether the workflow of ``record`` was erased."""
        workflow = self.workflows.get(record.headers.correlation_id)
        return workflow is not None and workflow.erased

    def asked(self, headers: Headers) -> Record | None:
        """What the step that ``headers`` ask for has to heed; None: nothing."""
        workflow = self.workflows.get(headers.correlation_id)
        asked = workflow.asked if workflow is not None else None
        if workflow is None or asked is None or workflow.id != asked.id:
            return None
        return asked if asked.headers.message_id == headers.message_id else None

    def put(self, activity: str, body: bytes, *, first: bool = False, deaths: int = 0) -> Entry:
        """Queue a copy for ``activity``."""
        entry = Entry(body, activity, self.clock.now(), deaths=deaths)
        queue = self.work.setdefault(activity, deque())
        (queue.appendleft if first else queue.append)(entry)
        return entry

    def discard(self, entry: Entry | None) -> None:
        """Take a copy out, whether somebody holds it or not."""
        if entry is not None:
            entry.gone = True
            self.claimed.pop(entry, None)
            self.lapsing.pop(entry, None)
            if entry.owner is None:
                self.work[entry.activity].remove(entry)

    def set_timer(self, workflow: Workflow, workflow_id: str, delay: float, deadline: Deadline | None) -> None:
        """Wake this workflow after ``delay`` seconds."""
        workflow.due = next(self.serial)
        heapq.heappush(self.timers, (self.clock.now() + delay, workflow.due, workflow_id, deadline))

    def tick(self) -> None:
        """Move what is due, and take the steps of dead workers back."""
        now = self.clock.now()
        while self.timers and self.timers[0][0] <= now:
            _, serial, workflow_id, deadline = heapq.heappop(self.timers)
            workflow = self.workflows.get(workflow_id)
            if workflow is None or workflow.due != serial:
                continue
            if deadline is not None:
                self.apply(Transition(place=deadline.place, record=deadline.record), workflow.id)
            else:
                headers = workflow.last.headers
                workflow.due = 0
                workflow.place = Place.WORK
                workflow.entry = self.put(headers.activity, workflow.last.body or b"")
        for claimant in list(self.claimants.values()):
            if claimant.died_at is not None and claimant.died_at + claimant.lease <= now:
                self.bury(claimant)
        for entry in [entry for entry, at in self.lapsing.items() if at <= now]:
            del self.lapsing[entry]
            entry.deaths += 1
            self.give_back(entry)

    def bury(self, claimant: Claimant) -> None:
        """A worker stopped renewing: its steps go to whoever is alive."""
        del self.claimants[claimant.info.worker]
        self.buried.append(claimant)
        # Each goes in front, so the first that was claimed is the first again.
        for entry in [entry for entry in reversed(self.claimed) if entry.owner is claimant]:
            entry.deaths += 1
            self.give_back(entry)
        self.append(worker_record(claimant.info, self.name, "lost", self.clock.now()))

    # -- claiming -----------------------------------------------------------------------

    def claim(self, claimant: Claimant, slots: int, turn: int) -> list[Delivery]:
        """At most ``slots`` copies, the activities taken in turn."""
        self.tick()
        names = self.open_to(claimant.info)
        deliveries: list[Delivery] = []
        empty = 0
        while names and len(deliveries) < slots and empty < len(names):
            queue = self.work.get(names[turn % len(names)])
            turn += 1
            if not queue:
                empty += 1
                continue
            empty = 0
            entry = queue.popleft()
            entry.owner = claimant
            self.claimed[entry] = None
            deliveries.append(Delivery(body=entry.body, activity=entry.activity, deaths=entry.deaths, token=entry))
        return deliveries

    def open_to(self, info: WorkerInfo) -> tuple[str, ...]:
        """The activities that a worker serves and nobody paused."""
        return tuple(name for name in info.activities or tuple(self.work) if name not in self.paused)

    def switch(self, record: Record) -> Pause | None:
        """See :meth:`Transport.switch`."""
        activity = record.headers.activity
        before = self.paused.get(activity)
        pausing = switch_in(record) == PAUSE
        if pausing == (before is None):
            self.append(record)
            if pausing:
                self.paused[activity] = pause_of(record)
            else:
                del self.paused[activity]
        return before

    def give_back(self, entry: Entry) -> None:
        """Queue a claimed copy again, ahead of the others."""
        if entry in self.claimed:
            self.claimed.pop(entry, None)
            self.lapsing.pop(entry, None)
            entry.owner = None
            self.work[entry.activity].appendleft(entry)

    def let_go(self, entry: Entry, claimant: Claimant) -> None:
        """A worker that lives does not work on a claimed copy any more: its lease runs out."""
        if entry.owner is claimant and not entry.gone:
            self.lapsing[entry] = self.clock.now() + claimant.lease

    def defer(self, entry: Entry, delay: float, record: Record) -> None:
        """Queue a claimed copy again after ``delay`` seconds; journal ``record``."""
        workflow = self.workflows.get(record.headers.correlation_id)
        if entry.gone:
            return
        if workflow is None:
            workflow = self.workflows[record.headers.correlation_id] = Workflow(record.id, Place.DELAYED, record)
        self.discard(entry)
        workflow.last = record
        workflow.place = Place.DELAYED
        workflow.entry = None
        self.append(record)
        self.set_timer(workflow, record.headers.correlation_id, delay, None)

    def next_time(self) -> float:
        """Seconds until :meth:`tick` may have something to do."""
        now = self.clock.now()
        times = [c.died_at + c.lease for c in self.claimants.values() if c.died_at is not None]
        times += self.lapsing.values()
        if self.timers:
            times.append(self.timers[0][0])
        return max(0.0, min(times) - now) + 0.001 if times else _FOREVER


class MemoryBroker:
    """What all transports of one ``memory://name`` share.

    Args:
        clock: a :class:`ManualClock` to hold time still; else the machine's.
        journal_bytes: how large a topic's journal may grow.
    """

    def __init__(self, clock: Clock | None = None, *, journal_bytes: int = JOURNAL_BYTES) -> None:
        self.clock: Clock = clock or SystemClock()
        self._journal_bytes = journal_bytes
        self._topics: dict[str, Topic] = {}
        self._lock = threading.RLock()
        self._waiters: set[Callable[[], None]] = set()
        if isinstance(self.clock, ManualClock):
            self.clock.on_change(self._time_moved)

    @contextmanager
    def topic(self, name: str, *, wake: bool = False) -> Iterator[Topic]:
        """The topic, under the lock; with ``wake`` whoever waits looks again afterwards."""
        with self._lock:
            topic = self._topics.get(name)
            if topic is None:
                topic = self._topics[name] = Topic(name, self.clock)
                topic.max_bytes = self._journal_bytes
            yield topic
        if wake:
            self.wake()

    def delete(self, name: str) -> None:
        """Take away a topic, and let every waiter look again."""
        with self._lock:
            self._topics.pop(name, None)
        self.wake()

    def wake(self) -> None:
        """Let every waiter look again."""
        with self._lock:
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter()

    def _time_moved(self) -> None:
        with self._lock:
            for topic in self._topics.values():
                topic.tick()
        self.wake()

    def on_change(self, waiter: Callable[[], None]) -> None:
        """Call ``waiter``, from any thread, whenever something changed."""
        with self._lock:
            self._waiters.add(waiter)

    def off_change(self, waiter: Callable[[], None]) -> None:
        """No longer."""
        with self._lock:
            self._waiters.discard(waiter)


def refuse_duplicate(topic: Topic, transition: Transition) -> None:
    """Raise where the workflow that ``transition`` starts exists.

    Raises:
        DuplicateWorkflow: it does.
    """
    correlation_id = transition.record.headers.correlation_id
    workflow = topic.workflows.get(correlation_id)
    if workflow is not None and workflow.id != transition.record.id:
        raise DuplicateWorkflow(f"workflow {correlation_id} exists already in topic {topic.name}; choose another ID")
