"""What a consumer has in its hands, and how it lets go of it.

A copy ends in one of three ways: acknowledged because a record settled it, put back for
any worker, or lost with the line, when the broker gives it to somebody by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from paigeant_core.clock import Clock
from paigeant_core.errors import DecodeError, TransportError
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers, decode_headers
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Channel, Line, Message, Missing, Waits, end
from paigeant_core.transports.rabbitmq.forks import again
from paigeant_core.transports.rabbitmq.frames import Outgoing
from paigeant_core.transports.rabbitmq.locks import Locks
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.publisher import Publisher, Refused
from paigeant_core.transports.rabbitmq.topology import Names, Topology
from paigeant_core.transports.types import Delivery, Settled

logger = logging.getLogger("paigeant")

LAPSE = 2.0
"""Seconds after which a copy that could not be settled goes back: what refused it may refuse it again."""

_REMEMBERED = 10_000
"""Copies that were settled, or lost with the line, whose IDs are remembered."""


@dataclass(slots=True, eq=False)
class Copy:
    """One copy of a message in a consumer's hands.

    Attributes:
        message: as it was delivered last.
        channel: over which.
        activity: from whose queue.
        key: its ID.
        came: when it came or was handed out, by the loop's clock.
        delivery: once it was handed out.
        settling: the settle that is under way.
        unsure: a publish that settles it may have been made.
        refused: one of the queues that such a publish was for refused it.
        doubtful: it may have been handed on without the journal's knowing: the broker was restarted, or ``refused``.
        guarded: the lock is ours that only one worker can have who runs this copy, or another of the same ID.
        astray: it was lost with the line, and has not come back and been looked up.
        back: set when it has, see ``astray``.
        verdict: the record by which it turned out to be handed on already.
        anew: what was published of that record's message anew, since a queue had refused it.
        spared: times that it was lost with this worker's line, which the broker counts as deaths.
    """

    message: Message
    channel: Channel
    activity: str
    key: str
    came: float
    delivery: Delivery | None = None
    settling: asyncio.Task[Settled] | None = None
    unsure: bool = False
    refused: bool = False
    doubtful: bool = False
    guarded: bool = False
    astray: bool = False
    back: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: Record | None = None
    anew: list[Record] = field(default_factory=list)
    spared: int = 0

    @property
    def deaths(self) -> int:
        """Workers that died with it in their hands, as far as is known here."""
        return max(0, wire.deaths_of(self.message) - self.spared)

    @property
    def held(self) -> bool:
        """Whether the broker still counts it as ours."""
        return not self.channel.is_closed

    @property
    def body(self) -> bytes:
        """The message's bytes."""
        return wire.body_of(self.message) or b""

    def hand_out(self) -> Delivery:
        """Make the delivery that a worker gets."""
        self.came = asyncio.get_running_loop().time()
        self.delivery = Delivery(body=self.body, activity=self.activity, deaths=self.deaths, token=self)
        return self.delivery


class Desk:
    """A consumer's copies, and the line that they came over.

    Args:
        line: the consumer's own.
        names: of the topic.
        fence: of the topic.
        clock: for the journal's times.
        worker: the consumer's name.
        free: called with a message whose consumer has its credit again.
        consider: called with a copy that has waited for another copy of itself.
    """

    def __init__(
        self,
        line: Line,
        names: Names,
        fence: Fence,
        clock: Clock,
        worker: str,
        *,
        free: Callable[[Message], None],
        consider: Callable[[Copy], None],
    ) -> None:
        self.line = line
        self.names = names
        self.fence = fence
        self.clock = clock
        self.worker = worker
        self.publisher = Publisher(line)
        self.topology = Topology(line)
        self.locks = Locks(line)
        self.copies: dict[str, Copy] = {}
        self.twins: dict[str, list[Copy]] = {}
        self.settled: OrderedDict[str, None] = OrderedDict()
        self.strayed: OrderedDict[str, int] = OrderedDict()
        self.out = 0
        self.gave_back: list[str] = []
        """Workflows whose steps were handed back unfinished."""
        self._free = free
        self._consider = consider
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- publishing ---------------------------------------------------------------------

    async def insist(self, copy: Copy, items: Sequence[Outgoing]) -> bool:
        """Publish for as long as the copy is ours; False: it was lost, and comes again somewhere."""
        waits = Waits()
        while copy.held:
            try:
                await self.publisher.send(items)
            except Refused as error:
                # It stays with us: better than nowhere.
                logger.error("%s", error)
                return False
            except Missing as error:
                self.topology.forget()
                await waits.next(error)
            except TransportError as error:
                await waits.next(error)
            else:
                return True
        return False

    # -- letting go ---------------------------------------------------------------------

    async def ack(self, copy: Copy) -> None:
        """Acknowledge a copy that is settled."""
        if not copy.held:
            return
        self._free(copy.message)
        # Where the line breaks here, the copy comes again and is found in the journal.
        self.line.ack(copy.message)

    async def guard(self, copy: Copy) -> bool:
        """Get the lock of a copy of which there may be another; False: another worker has that one.

        Raises:
            ConnectError: no line.
        """
        if not copy.guarded and await self.locks.take(self._lock_of(copy)):
            copy.guarded = True
            if not copy.held:
                # It was taken over the next line, for a copy that went with the last.
                self._unguard(copy)
        return copy.guarded

    def _unguard(self, copy: Copy) -> None:
        if copy.guarded:
            copy.guarded = False
            self.spawn(self.locks.free(self._lock_of(copy)))

    def _lock_of(self, copy: Copy) -> str:
        # A foreign ID may be as long as the name of a queue.
        return self.names.lock("copy." + hashlib.sha256(copy.key.encode()).hexdigest()[:32])

    def let_go(self, copy: Copy) -> None:
        """A copy is no longer of interest here."""
        if self.copies.get(copy.key) is copy:
            del self.copies[copy.key]
        self._unguard(copy)
        if copy.delivery is not None:
            self.out -= 1

    async def done(self, copy: Copy) -> None:
        """A record settled this copy: acknowledge it, and whatever else there is of it."""
        self.settled[copy.key] = None
        if len(self.settled) > _REMEMBERED:
            self.settled.popitem(last=False)
        self.let_go(copy)
        await self.ack(copy)
        for twin in self.twins.pop(copy.key, ()):
            if twin.held:
                self.spawn(self.drop(twin, "handed on"))

    async def drop(self, copy: Copy, reason: str, detail: dict[str, Any] | None = None) -> None:
        """Put it on record that a copy is not run, with its bytes, and acknowledge it."""
        try:
            headers = decode_headers(copy.body)
        except DecodeError:
            headers = Headers(topic=self.names.topic, activity=copy.activity)
        record = Record(
            Kind.SUPERSEDED,
            headers,
            worker=self.worker,
            detail={"reason": reason, **(detail or {})},
            body=copy.body,
            at=self.clock.now(),
        )
        if await self.insist(copy, [wire.plain(self.names, record, prev=copy.key)]):
            await self.done(copy)

    async def put_back(self, copy: Copy, deaths: int | None = None) -> None:
        """Give a copy to any worker, at once; published, since a nack would count as a death."""
        headers = again(copy.message)
        if count := copy.deaths if deaths is None else deaths:
            headers[wire.DEATHS] = count
        item = wire.again(copy.message, self.names.due, f"work.{copy.activity}", headers)
        if await self.insist(copy, [item]):
            await self.ack(copy)
        self.let_go(copy)
        for twin in self.twins.pop(copy.key, ()):
            if twin.held:
                self._consider(twin)

    async def hand_back(self, delivery: Delivery) -> None:
        """Put a copy back whose step was not begun, or not ended."""
        if not delivery.settled:
            delivery.settled = True
            if delivery.message is not None:
                self.gave_back.append(delivery.message.correlation_id)
            await self.put_back(delivery.token, delivery.deaths)

    async def lapse(self, delivery: Delivery) -> None:
        """Put a copy back, after a pause, whose step ended and could not be settled."""
        await asyncio.sleep(LAPSE)
        copy: Copy = delivery.token
        if not delivery.settled and copy.delivery is delivery:
            delivery.settled = True
            await self.put_back(copy, delivery.deaths + 1)

    def asked(self, copy: Copy) -> Record | None:
        """What an operator asked of the step that a copy asks for; None: nothing that is known here."""
        message = copy.delivery.message if copy.delivery is not None else None
        try:
            return self.fence.asked(message.headers if message is not None else decode_headers(copy.body))
        except DecodeError:
            return None

    def adrift(self) -> int:
        """How many copies were lost with the line while their steps ran."""
        return sum(not copy.held for copy in self.copies.values())

    def settling(self) -> bool:
        """Whether a settle is under way."""
        return any(copy.settling is not None and not copy.settling.done() for copy in self.copies.values())

    def drift(self) -> None:
        """The channel is gone: the broker gives what was on it to somebody, perhaps to us."""
        self.twins.clear()
        for copy in list(self.copies.values()):
            self.strayed[copy.key] = self.strayed.pop(copy.key, 0) + 1
            copy.back.clear()
            copy.astray = True
            # The connection may stand, and the broker keeps the lock for as long: nobody else could run the copy.
            self._unguard(copy)
            if copy.delivery is None:
                del self.copies[copy.key]
        while len(self.strayed) > _REMEMBERED:
            self.strayed.popitem(last=False)

    # -- tasks --------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside; what it raises is told in the log."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, TransportError):
            logger.error("in the RabbitMQ consumer: %s: %s", type(error).__name__, error)

    async def end_tasks(self) -> None:
        """Cancel what is under way."""
        await end(*self._tasks)
