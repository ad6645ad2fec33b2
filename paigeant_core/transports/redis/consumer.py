"""One worker's claim on the queues of a topic; the work is done by its :class:`Pump`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from paigeant_core.clock import Clock
from paigeant_core.errors import DecodeError, TransportError
from paigeant_core.journal import Record
from paigeant_core.message import Headers, decode_headers
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.redis.encoding import Mode, Move
from paigeant_core.transports.redis.endpoint import Endpoint
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.lease import Heartbeat
from paigeant_core.transports.redis.pump import Pump
from paigeant_core.transports.redis.settling import Settling
from paigeant_core.transports.redis.slots import Waiter
from paigeant_core.transports.types import Consumer, Delivery, Holding, Settled, Take, Witness, WorkerInfo

logger = logging.getLogger("paigeant")

CLOSE = 5.0
"""Seconds that a close may take where the server does not answer."""


class RedisConsumer(Consumer):
    """See :class:`Consumer`.

    Args:
        endpoint: where to.
        keys: the topic's.
        topic: the topic.
        info: whose.
        lease: its lease in seconds.
        clock: compared with the server's, where it is the machine's own.
        known: activities that the topic knows already; shared with the transport.
        closed: called once it is closed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        topic: str,
        info: WorkerInfo,
        lease: float,
        clock: Clock,
        known: set[tuple[str, str]],
        closed: Callable[[RedisConsumer], None],
    ) -> None:
        self._keys = keys
        self._topic = topic
        self._name = info.worker
        self._known = known
        self._on_closed = closed
        self._heartbeat = Heartbeat(endpoint, keys, topic, info, lease, self._tokens)
        self._pump = Pump(endpoint, keys, topic, info, lease, clock, known, self._heartbeat)
        self._claiming = asyncio.Lock()
        self._closed = False
        self._closed_by: asyncio.Task[None] | None = None

    async def claim(self, slots: int) -> list[Delivery]:
        """See :meth:`Consumer.claim`."""
        return await self._claim(slots)

    async def deliver(self, slots: int, take: Take) -> None:
        """See :meth:`Consumer.deliver`."""
        await self._claim(slots, take)

    async def _claim(self, slots: int, take: Take | None = None) -> list[Delivery]:
        if slots < 1:
            raise ValueError(f"a claim of {slots} slots")
        async with self._claiming:
            waiter = Waiter(slots, asyncio.get_running_loop().create_future(), take)
            self._open().wait(waiter)
            try:
                claimed = await waiter.future
                if waiter.error is not None:
                    raise waiter.error
                return claimed
            except asyncio.CancelledError:
                self._pump.cancelled(waiter)
                raise
            finally:
                self._pump.slots.waiter = None

    async def witness(self, delivery: Delivery, headers: Headers) -> Witness:
        """See :meth:`Consumer.witness`."""
        return await self._open().witness(delivery.token, headers.correlation_id)

    async def settle(self, delivery: Delivery, transition: Transition) -> Settled:
        """See :meth:`Consumer.settle`."""
        return await self._enqueue("settle", delivery, transition, _expected(delivery))

    async def defer(self, delivery: Delivery, delay: float, record: Record) -> None:
        """See :meth:`Consumer.defer`."""
        if record.body is None:
            record.body = delivery.body
        await self._enqueue("defer", delivery, Transition(place=Place.DELAYED, record=record, delay=delay), record.id)

    async def hand_back(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.hand_back`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pump = self._open()
        pump.give_back(delivery.token, future)
        if delivery.message is not None:
            pump.gave_back.append(delivery.message.correlation_id)
        await future
        delivery.settled = True

    def let_go(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.let_go`: it is no longer renewed."""
        # Its lease may have run out before, and the same copy have been claimed again.
        if self._pump.held.get(delivery.token) is delivery:
            del self._pump.held[delivery.token]

    def report(self, running: Sequence[Holding]) -> None:
        """See :meth:`Consumer.report`."""
        self._heartbeat.report(running)

    async def close(self) -> None:
        """See :meth:`Consumer.close`."""
        if self._closed_by is None:
            self._closed_by = asyncio.create_task(self._close())
        # Whoever asks again waits for the same end; a caller that is cancelled does not stop it.
        await asyncio.shield(self._closed_by)

    async def _close(self) -> None:
        self._closed = True
        if self._pump.started:
            # Before the goodbye: a heartbeat behind it would call the worker back to life.
            await asyncio.to_thread(self._heartbeat.stop)
            if not await self._pump.finish(CLOSE):
                logger.warning("worker %s left without a goodbye; its steps come back when its lease ends", self._name)
        await self._pump.drop()
        self._on_closed(self)

    async def _crash(self) -> None:
        """Vanish as a killed process does (for tests): nothing handed back, nothing said."""
        self._closed = True
        self._heartbeat.abandon()
        await self._pump.drop(crash=True)
        self._closed_by = asyncio.create_task(asyncio.sleep(0))
        self._on_closed(self)

    def _open(self) -> Pump:
        if self._closed:
            raise TransportError("this consumer was closed")
        return self._pump

    def _tokens(self) -> list[tuple[str, str]]:
        # The heartbeat's thread asks: a copy is made in one step.
        return list(self._pump.held.copy())

    def _enqueue(self, mode: Mode, delivery: Delivery, transition: Transition, expect: str) -> asyncio.Future[Settled]:
        pump = self._open()
        place = transition.place
        fresh = plain = False
        if place is Place.WORK or place is Place.DELAYED:
            fresh = (self._topic, transition.record.headers.activity) not in self._known
            plain = not fresh and place is Place.WORK
        item = Move(self._keys, mode, transition, expect=expect, claimed=delivery.token, fresh=fresh)
        # A caller that is cancelled does not take the settle with it: that is the pump's.
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        pump.settle(Settling(delivery, transition, item, future, plain=plain))
        return future


def _expected(delivery: Delivery) -> str:
    """What the fence stands at if this copy is the current one."""
    if delivery.message is not None:
        return delivery.message.headers.message_id
    try:
        return decode_headers(delivery.body).message_id
    except DecodeError:
        return ""
