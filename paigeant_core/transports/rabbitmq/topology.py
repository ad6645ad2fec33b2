"""Names, arguments and declarations of everything that a topic has on RabbitMQ.

    paigeant.T                topic exchange: every hop is one publish to it
    paigeant.T.journal        stream, bound #
    paigeant.T.work.A         quorum queue of an activity, bound work.A
    paigeant.T.dead, .held, .quarantine, .fence, .ids      streams, bound by their names
    paigeant.T.audit, .operations, .workers                streams, published to directly
    paigeant.T.delay.<ms>     quorum queues with a time to live: the ladder of delays
    paigeant.T.delay          topic exchange: enters the ladder without a journal record
    paigeant.T.due            direct exchange: what comes due, and what is handed back
    paigeant.T.boot           exchange that no restart survives (but with Khepri), which tells of one
    paigeant.T.boot.node.<id> queues whose message does not survive the node that they are on, which tell of its death
    paigeant.T.lock.<name>    exclusive queues, each for as long as a lock is held

Declarations are idempotent and remembered for as long as the line stands. They come
before the publish, always: the journal's binding makes a publish to a missing work
queue look routed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pamqp.common import FieldTable

from paigeant_core.errors import InvalidMessage
from paigeant_core.limits import JOURNAL_AGE, JOURNAL_BYTES, PARKED_AGE
from paigeant_core.names import check_topic
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.rabbitmq.connection import Channel, Line, Turn

RUNGS = (
    *(step * scale for scale in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000) for step in (1, 2, 5)),
    86_400_000,
)
"""The ladder: milliseconds that a message can be made to wait in one queue."""

PLACES = {Place.DEAD: "dead", Place.HELD: "held", Place.QUARANTINE: "quarantine"}
"""The streams that parked messages are in."""

_DAY = 86400
_RESERVED = frozenset(
    {
        *("work", "journal", "dead", "held", "quarantine", "audit", "fence"),
        *("ids", "workers", "operations", "due", "delay", "lock", "boot"),
    }
)
_DELIVERY_LIMIT = 1_000_000
"""Never reached. Without it RabbitMQ 4 drops a message at its 20th delivery."""


def _stream(age: float, segment: int, size: int = 0) -> FieldTable:
    arguments: FieldTable = {
        "x-queue-type": "stream",
        "x-max-age": f"{int(age // _DAY)}D" if age >= _DAY else f"{int(age)}s",
        # What is too old or too much goes by whole segments.
        "x-stream-max-segment-size-bytes": segment,
    }
    if size:
        arguments["x-max-length-bytes"] = size
    return arguments


_MB = 1024 * 1024
STREAMS: dict[str, FieldTable] = {
    "journal": _stream(JOURNAL_AGE, 64 * _MB, JOURNAL_BYTES),
    "dead": _stream(PARKED_AGE, 64 * _MB),
    "held": _stream(PARKED_AGE, 64 * _MB),
    "quarantine": _stream(PARKED_AGE, 64 * _MB),
    "audit": _stream(PARKED_AGE, 16 * _MB),
    "operations": _stream(PARKED_AGE, 16 * _MB),
    "fence": _stream(PARKED_AGE, 16 * _MB),
    "ids": _stream(PARKED_AGE, 16 * _MB),
    "workers": _stream(120, _MB, 8 * _MB),
}
"""Arguments of each stream. They must not change: RabbitMQ refuses other ones for a queue that exists."""

_BINDINGS = {
    "journal": "#",
    "dead": "dead.#",
    "held": "held.#",
    "quarantine": "quarantine.#",
    "fence": "fence",
    "ids": "ids",
}
_LONGEST_STEP = 365 * _DAY
"""Seconds. A step may run for as long as its worker lives; brokers from 3.12 on read it, older ones do not mind."""

WORK: FieldTable = {
    "x-queue-type": "quorum",
    "x-delivery-limit": _DELIVERY_LIMIT,
    "x-consumer-timeout": _LONGEST_STEP * 1000,
}


class Names:
    """What a topic's things are called.

    Args:
        topic: the topic.

    Raises:
        InvalidMessage: its queues could be mistaken for another topic's.
    """

    __slots__ = ("boot", "delay", "due", "exchange", "journal", "topic")

    def __init__(self, topic: str) -> None:
        check_topic(topic)
        # `a` with the activity `b.work.c` and `a.work.b` with `c` would share a queue.
        for part in topic.split(".")[1:]:
            if part in _RESERVED:
                raise InvalidMessage(
                    f"topic {topic}: on RabbitMQ {part!r} between dots is taken, it names queues; use '-' or '_'"
                )
        self.topic = topic
        self.exchange = f"paigeant.{topic}"
        self.journal = f"paigeant.{topic}.journal"
        self.delay = f"paigeant.{topic}.delay"
        self.due = f"paigeant.{topic}.due"
        self.boot = f"paigeant.{topic}.boot"

    def stream(self, name: str) -> str:
        """The stream queue of that name, see :data:`STREAMS`."""
        return f"{self.exchange}.{name}"

    def work(self, activity: str) -> str:
        """The work queue of an activity."""
        return f"{self.exchange}.work.{activity}"

    def mark(self, identity: str) -> str:
        """A queue that tells of a node's death, see :mod:`nodes`."""
        return f"{self.boot}.node.{identity}"

    def rung(self, millis: int) -> str:
        """The queue in which a message waits for so long."""
        return f"{self.exchange}.delay.{millis}"

    def lock(self, name: str) -> str:
        """The exclusive queue that stands for a lock."""
        return f"{self.exchange}.lock.{name}"


def rung_for(seconds: float) -> int | None:
    """The longest rung that is no longer than a wait, in milliseconds; None: wait here.

    Up to half of the shortest rung is left to the consumer, which sees the rest.
    """
    millis = seconds * 1000
    if millis < RUNGS[0] / 2:
        return None
    return RUNGS[max(0, bisect_right(RUNGS, millis + 0.5) - 1)]


_Declare: TypeAlias = Callable[[Channel], Awaitable[None]]


class Topology:
    """Declares what is needed, once for each connection.

    Args:
        line: over which.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._known: set[tuple[str, str]] = set()
        self._serial = 0
        self._lock = Turn()

    def forget(self) -> None:
        """Declare everything again: something turned out to be missing."""
        self._known.clear()

    async def base(self, names: Names) -> None:
        """Exchanges and journal: what a topic exists by."""

        async def declare(channel: Channel) -> None:
            await channel.exchange_declare(names.exchange, exchange_type="topic", durable=True, nowait=True)
            await channel.exchange_declare(names.due, exchange_type="direct", durable=True, nowait=True)
            await channel.exchange_declare(names.delay, exchange_type="topic", durable=True, nowait=True)
            await self._declare_stream(channel, names, "journal")

        await self._once((names.topic, ""), declare)

    async def stream(self, names: Names, name: str) -> None:
        """One of the other streams."""
        if (names.topic, name) in self._known and self._serial == self._line.serial:
            return
        await self.base(names)

        async def declare(channel: Channel) -> None:
            await self._declare_stream(channel, names, name)

        await self._once((names.topic, name), declare)

    async def work(self, names: Names, activity: str) -> None:
        """The work queue of an activity."""
        key = (names.topic, f"work.{activity}")
        if key in self._known and self._serial == self._line.serial:
            return
        await self.base(names)

        async def declare(channel: Channel) -> None:
            queue = names.work(activity)
            await channel.queue_declare(queue, durable=True, arguments=dict(WORK), nowait=True)
            await channel.queue_bind(queue, names.exchange, f"work.{activity}", nowait=True)
            await channel.queue_bind(queue, names.due, f"work.{activity}", nowait=True)
            for millis in RUNGS:
                # Also of rungs that nobody here delays for: where the queue is made anew, something may wait there.
                await channel.queue_bind(queue, names.due, f"delay.{millis}.{activity}", nowait=True)

        await self._once(key, declare)

    async def rung(self, names: Names, millis: int, activity: str) -> None:
        """A rung of the ladder, and the way from it to an activity's work queue."""
        key = (names.topic, f"delay.{millis}.{activity}")
        if key in self._known and self._serial == self._line.serial:
            return
        await self.work(names, activity)

        async def declare(channel: Channel) -> None:
            queue = names.rung(millis)
            arguments: FieldTable = {
                **WORK,
                "x-message-ttl": millis,
                "x-dead-letter-exchange": names.due,
                # At least once: a message leaves the rung when the work queue has confirmed it.
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            await channel.queue_declare(queue, durable=True, arguments=arguments, nowait=True)
            await channel.queue_bind(queue, names.exchange, f"delay.{millis}.#", nowait=True)
            await channel.queue_bind(queue, names.delay, f"delay.{millis}.#", nowait=True)

        await self._once(key, declare)

    async def lead(self, names: Names, transition: Transition, queue: str = "") -> None:
        """Everything that a transition's publishes lead to.

        Args:
            names: of the topic.
            transition: to be published.
            queue: the activity whose queue gets the message or its timer; else its own.
        """
        activity = queue or transition.record.headers.activity
        delay = None
        if transition.place in (Place.WORK, Place.DELAYED):
            await self.work(names, activity)
            delay = transition.delay if transition.place is Place.DELAYED else None
        elif (stream := PLACES.get(transition.place)) is not None:
            await self.stream(names, stream)
            if transition.deadline is not None:
                await self.work(names, activity)
                delay = transition.deadline.delay
        else:
            await self.base(names)
        if delay is not None and (rung := rung_for(delay)) is not None:
            await self.rung(names, rung, activity)

    async def _declare_stream(self, channel: Channel, names: Names, name: str) -> None:
        queue = names.stream(name)
        await channel.queue_declare(queue, durable=True, arguments=dict(STREAMS[name]), nowait=True)
        if (key := _BINDINGS.get(name)) is not None:
            await channel.queue_bind(queue, names.exchange, key, nowait=True)

    async def _once(self, key: tuple[str, str], declare: _Declare) -> None:
        if key in self._known and self._serial == self._line.serial:
            return
        async with self._lock:
            await self._line.connect()
            if self._serial != self._line.serial:
                # Somebody may have deleted a queue while the line was down.
                self._known.clear()
                self._serial = self._line.serial
            if key in self._known:
                return
            async with self._line.borrowed() as channel:
                await declare(channel)
                # Declarations were sent without waiting; this answer comes after all of them.
                await channel.basic_qos(prefetch_count=1)
            self._known.add(key)
