"""The transport and consumer of the in-memory broker."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from paigeant_core import transition as moves
from paigeant_core.__about__ import __version__
from paigeant_core.clock import Clock, ManualClock
from paigeant_core.errors import TransportError
from paigeant_core.handoff import heed
from paigeant_core.journal import Record
from paigeant_core.message import Headers
from paigeant_core.pauses import Pause
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.base import Transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.memory.broker import Claimant, Entry, MemoryBroker, Topic, refuse_duplicate
from paigeant_core.transports.types import (
    END,
    START,
    BrokerInfo,
    Capabilities,
    Consumer,
    Copy,
    Delivery,
    Erased,
    Finding,
    Holding,
    Level,
    QueueStatus,
    Settled,
    Witness,
    WorkerInfo,
    WorkerStatus,
    worker_record,
)

_BATCH = 1000
_brokers: dict[str, MemoryBroker] = {}
_brokers_lock = threading.Lock()


class MemoryTransport(Transport):
    """A way to the in-memory broker of that name in this process.

    Args:
        name: the broker's name, the part behind ``memory://``.
        clock: for a broker that does not exist yet; else its own is used.
        broker: a broker of one's own, which is then the one of that name.
    """

    scheme: ClassVar[str] = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(durable=False)

    def __init__(self, name: str = "", *, clock: Clock | None = None, broker: MemoryBroker | None = None) -> None:
        with _brokers_lock:
            if broker is None:
                broker = _brokers.get(name) or MemoryBroker(clock)
            _brokers[name] = broker
        super().__init__(f"memory://{name}", broker.clock)
        self.broker = broker
        self._consumers: set[MemoryConsumer] = set()

    async def connect(self) -> None:
        """Nothing to do: the broker is here."""

    async def disconnect(self) -> None:
        """See :meth:`Transport.disconnect`; the broker stays for others of this process."""
        for consumer in list(self._consumers):
            await consumer.close()

    async def broker_info(self) -> BrokerInfo:
        """The library itself."""
        return BrokerInfo(broker="memory", version=__version__)

    async def examine(self, topic: str) -> list[Finding]:
        """See :meth:`Transport.examine`."""
        said = "memory:// ends with its process, and everything in it"
        return [Finding("durability", Level.WARNING, said, "use Redis or RabbitMQ for what must last")]

    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """See :meth:`Transport.dispatch`."""
        with self.broker.topic(topic, wake=True) as state:
            refuse_duplicate(state, transition)
            state.apply(transition, None)

    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> MemoryConsumer:
        """See :meth:`Transport.consumer`."""
        consumer = MemoryConsumer(self.broker, topic, info, lease, self._consumers.discard)
        self._consumers.add(consumer)
        return consumer

    async def records(
        self, topic: str, *, start: str | float = START, follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.records`."""
        follower = follower or Follower()
        with self.broker.topic(topic) as state:
            position = _position(state, start)
        while True:
            with self.broker.topic(topic) as state:
                if follow:
                    position = _go_on(state, position, follower)
                batch = state.after(position, _BATCH)
            if batch:
                position = int(batch[-1].position)
                if isinstance(start, float | int):
                    batch = [record for record in batch if record.at >= start]
                if batch:
                    yield batch
                continue
            yield []
            if not follow:
                return
            await _changed(self.broker, partial(_has_more, self.broker, topic, position), 1.0)

    async def newest(self, topic: str, limit: int) -> list[Record]:
        """See :meth:`Transport.newest`."""
        with self.broker.topic(topic) as state:
            return state.newest(limit)

    async def find(self, topic: str, prefix: str, limit: int = 5) -> list[str]:
        """See :meth:`Transport.find`."""
        with self.broker.topic(topic) as state:
            if prefix in state.workflows:
                return [prefix]
            found = (key for key in state.workflows if key.startswith(prefix))
            return [key for key, _ in zip(found, range(limit), strict=False)]

    async def history(self, topic: str, correlation_id: str) -> list[Record]:
        """See :meth:`Transport.history`."""
        with self.broker.topic(topic) as state:
            workflow = state.workflows.get(correlation_id)
            if workflow is None:
                return []
            found = [state.journal[position - state.first] for position in workflow.positions]
            if workflow.last not in found:
                found.insert(0, workflow.last)
            return found

    async def queues(self, topic: str) -> list[QueueStatus]:
        """See :meth:`Transport.queues`."""
        with self.broker.topic(topic) as state:
            state.tick()
            now = state.clock.now()
            served = [set(claimant.info.activities) for claimant in state.claimants.values()]
            delayed: dict[str, int] = {}
            for workflow in state.workflows.values():
                if workflow.place is Place.DELAYED:
                    activity = workflow.last.headers.activity
                    delayed[activity] = delayed.get(activity, 0) + 1
            names = sorted({*state.work, *delayed, *state.paused, *(name for names in served for name in names)})
            figures = []
            for name in names:
                ready = state.work.get(name, ())
                figures.append(
                    QueueStatus(
                        activity=name,
                        ready=len(ready),
                        in_flight=sum(entry.activity == name for entry in state.claimed),
                        delayed=delayed.get(name, 0),
                        consumers=sum(name in names or not names for names in served),
                        oldest_s=max((now - entry.put_at for entry in ready), default=0.0) if ready else None,
                        paused=state.paused.get(name),
                    )
                )
            return figures

    async def workers(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.workers`."""
        with self.broker.topic(topic) as state:
            state.tick()
            now = state.clock.now()
            return [
                WorkerStatus(
                    info=claimant.info,
                    running=claimant.running,
                    last_seen_s=0.0 if claimant.died_at is None else now - claimant.died_at,
                )
                for _, claimant in sorted(state.claimants.items())
            ]

    async def silent(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.silent`."""
        with self.broker.topic(topic) as state:
            state.tick()
            now = state.clock.now()
            return [
                WorkerStatus(info=dead.info, running=dead.running, last_seen_s=now - (dead.died_at or now))
                for dead in sorted(state.buried, key=lambda dead: dead.info.worker)
            ]

    async def refusal(self, topic: str) -> str:
        """See :meth:`Transport.refusal`."""
        return ""

    async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
        """See :meth:`Transport.parked`."""
        with self.broker.topic(topic) as state:
            found = [workflow.last for workflow in state.workflows.values() if workflow.place is place]
        return sorted(found, key=lambda record: -record.at)[:limit]

    async def operate(
        self, topic: str, transition: Transition, *, expect: str, unless_claimed: bool = False
    ) -> Settled:
        """See :meth:`Transport.operate`."""
        with self.broker.topic(topic, wake=True) as state:
            workflow = state.workflows.get(transition.record.headers.correlation_id)
            if workflow is None:
                return Settled.SUPERSEDED
            claimed = workflow.entry in state.claimed
            if unless_claimed and claimed and workflow.id == expect:
                return Settled.CLAIMED
            return state.apply(transition, expect)

    async def request(self, topic: str, asked: Record, *, expect: str) -> Settled:
        """See :meth:`Transport.request`."""
        with self.broker.topic(topic, wake=True) as state:
            return state.request(asked, expect)

    async def switch(self, topic: str, record: Record) -> Pause | None:
        """See :meth:`Transport.switch`."""
        with self.broker.topic(topic, wake=True) as state:
            return state.switch(record)

    async def pauses(self, topic: str) -> dict[str, Pause]:
        """See :meth:`Transport.pauses`."""
        with self.broker.topic(topic) as state:
            return dict(state.paused)

    async def announce(self, topic: str, schemas: Mapping[str, bytes]) -> None:
        """See :meth:`Transport.announce`."""
        with self.broker.topic(topic) as state:
            state.schemas.update(schemas)

    async def schemas(self, topic: str) -> dict[str, bytes]:
        """See :meth:`Transport.schemas`."""
        with self.broker.topic(topic) as state:
            return {name: schema for name, schema in state.schemas.items() if schema}

    async def delete_topic(self, topic: str) -> None:
        """See :meth:`Transport.delete_topic`."""
        self.broker.delete(topic)

    async def erase(self, topic: str, marker: Record, *, expect: str) -> Erased:
        """See :meth:`Transport.erase`; nothing remains."""
        with self.broker.topic(topic, wake=True) as state:
            return state.erase(marker, expect)

    async def append_audit(self, topic: str, entry: bytes, *, follows: bytes | None = None) -> bool:
        """See :meth:`Transport.append_audit`."""
        with self.broker.topic(topic) as state:
            if follows is not None and (state.audit[-1] if state.audit else b"") != follows:
                return False
            state.audit.append(entry)
            return True

    async def append_operation(self, topic: str, entry: bytes) -> None:
        """See :meth:`Transport.append_operation`."""
        with self.broker.topic(topic) as state:
            state.operations.append(entry)

    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.operation_entries`."""
        with self.broker.topic(topic) as state:
            return state.operations[-limit:]

    async def audit(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.audit`."""
        with self.broker.topic(topic) as state:
            return state.audit[-limit:]


class MemoryConsumer(Consumer):
    """One worker's claim on an in-memory topic."""

    def __init__(
        self,
        broker: MemoryBroker,
        topic: str,
        info: WorkerInfo,
        lease: float,
        closed: Callable[[MemoryConsumer], None],
    ) -> None:
        self._on_closed = closed
        self._broker = broker
        self._topic = topic
        self._claimant = Claimant(info, lease)
        self._gave_back: list[str] = []
        self._started = False
        self._closed = False
        self._turn = 0

    async def claim(self, slots: int) -> list[Delivery]:
        """See :meth:`Consumer.claim`."""
        if not self._started and not self._closed:
            self._start()
        found: list[Delivery] = []

        def look() -> bool:
            if self._closed:
                raise TransportError("this consumer was closed")
            with self._broker.topic(self._topic) as state:
                if self._claimant.info.worker not in state.claimants:
                    # It was taken for dead (tests), and it lives: it is a worker again.
                    state.claimants[self._claimant.info.worker] = self._claimant
                self._turn += 1
                found.extend(state.claim(self._claimant, slots, self._turn))
            return bool(found)

        while not look():
            with self._broker.topic(self._topic) as state:
                wait = state.next_time()
            await _changed(self._broker, self._has_work, wait)
        return found

    async def witness(self, delivery: Delivery, headers: Headers) -> Witness:
        """See :meth:`Consumer.witness`."""
        with self._broker.topic(self._topic) as state:
            workflow = state.workflows.get(headers.correlation_id)
            if delivery.token.gone:
                return Witness(Copy.GONE)
            current = workflow is not None and workflow.entry is delivery.token
            return Witness(Copy.CURRENT if current else Copy.OTHER, workflow.mark if workflow is not None else "")

    async def settle(self, delivery: Delivery, transition: Transition) -> Settled:
        """See :meth:`Consumer.settle`."""
        assert delivery.message is not None or transition.place is Place.QUARANTINE
        expect = delivery.message.headers.message_id if delivery.message is not None else None
        entry: Entry = delivery.token
        with self._broker.topic(self._topic, wake=True) as state:
            if delivery.message is not None and (asked := state.asked(delivery.message.headers)) is not None:
                transition, expect = heed(transition, asked), asked.id
            settled = state.apply(transition, expect)
            if settled is Settled.SUPERSEDED and not state.is_erased(transition.record):
                state.append(moves.superseded(transition))
            # The workflow's current copy is gone by now, unless this was another one.
            if not entry.gone and (settled is not Settled.DONE or entry.owner is self._claimant):
                state.discard(entry)
        delivery.settled = True
        return settled

    async def defer(self, delivery: Delivery, delay: float, record: Record) -> None:
        """See :meth:`Consumer.defer`."""
        entry: Entry = delivery.token
        with self._broker.topic(self._topic, wake=True) as state:
            if not entry.gone and (asked := state.asked(record.headers)) is not None:
                deferred = Transition(place=Place.DELAYED, record=record, delay=delay)
                state.apply(heed(deferred, asked), asked.id)
            else:
                state.defer(entry, delay, record)
        delivery.settled = True

    async def hand_back(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.hand_back`."""
        with self._broker.topic(self._topic, wake=True) as state:
            if delivery.token.owner is self._claimant:
                state.give_back(delivery.token)
                if delivery.message is not None:
                    self._gave_back.append(delivery.message.correlation_id)
        delivery.settled = True

    def let_go(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.let_go`."""
        if not delivery.settled:
            with self._broker.topic(self._topic, wake=True) as state:
                state.let_go(delivery.token, self._claimant)

    def report(self, running: Sequence[Holding]) -> None:
        """See :meth:`Consumer.report`."""
        self._claimant.running = tuple(running)

    async def close(self) -> None:
        """See :meth:`Consumer.close`."""
        self._closed = True
        self._on_closed(self)
        if not self._started:
            return
        self._started = False
        with self._broker.topic(self._topic, wake=True) as state:
            for entry in [entry for entry in reversed(state.claimed) if entry.owner is self._claimant]:
                state.give_back(entry)
            if state.claimants.pop(self._claimant.info.worker, None) is not None:
                info, now = self._claimant.info, state.clock.now()
                state.append(worker_record(info, self._topic, "stopped", now, self._gave_back))

    def _start(self) -> None:
        self._started = True
        with self._broker.topic(self._topic, wake=True) as state:
            state.claimants[self._claimant.info.worker] = self._claimant
            for name in self._claimant.info.activities:
                state.work.setdefault(name, deque())
            state.append(worker_record(self._claimant.info, self._topic, "started", state.clock.now()))

    def _has_work(self) -> bool:
        with self._broker.topic(self._topic) as state:
            names = state.open_to(self._claimant.info)
            return any(state.work.get(name) for name in names) or state.next_time() <= 0.001

    async def _crash(self) -> None:
        """Vanish as a killed process does: nothing handed back, nothing said."""
        self._started = False
        self._on_closed(self)
        with self._broker.topic(self._topic, wake=True):
            self._claimant.died_at = self._broker.clock.now()


def _position(state: Topic, start: str | float) -> int:
    if start == START or isinstance(start, float | int):
        return 0
    if start == END:
        return state.first + len(state.journal) - 1
    return int(start)


def _go_on(state: Topic, position: int, follower: Follower) -> int:
    """Where to read on in a journal that may be another one by now, or trimmed past ``position``."""
    known: Topic | None
    known, follower.journal = follower.journal, state
    if known is None or position == 0:
        return position  # nothing of it was read
    if known is not state:
        follower.tell(Missed.ANEW)
        return 0
    if position + 1 < state.first:
        follower.tell(Missed.TRIMMED)
        return state.first - 1
    return position


def _has_more(broker: MemoryBroker, topic: str, position: int) -> bool:
    with broker.topic(topic) as state:
        return state.first + len(state.journal) - 1 > position


async def _changed(broker: MemoryBroker, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until ``ready()`` or for ``seconds`` of the machine's time."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            # The loop that waited is closed: nobody waits any more.
            broker.off_change(wake)

    broker.on_change(wake)
    try:
        if not ready():
            # A held clock moves by hand, which wakes everybody; a second is for safety.
            limit = 1.0 if isinstance(broker.clock, ManualClock) else seconds
            async with asyncio.timeout(limit):
                await event.wait()
    except TimeoutError:
        pass
    finally:
        broker.off_change(wake)
