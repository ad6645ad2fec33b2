"""What operators do to a topic on RabbitMQ: under a lock, if a workflow is still where they saw it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from paigeant_core.clock import Clock
from paigeant_core.erasure import ERASED
from paigeant_core.journal import ENDED, PARKED, Record
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import QUARANTINE_PREFIX, is_own_id
from paigeant_core.pauses import PAUSE, Pause, switch_in
from paigeant_core.transition import Transition
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import LockLost, Missing, Waits
from paigeant_core.transports.rabbitmq.erasing import told
from paigeant_core.transports.rabbitmq.index import Index, Known
from paigeant_core.transports.rabbitmq.locks import Locks
from paigeant_core.transports.rabbitmq.marks import Marks
from paigeant_core.transports.rabbitmq.mirror import ChosenIds, Fence
from paigeant_core.transports.rabbitmq.observing import ELSEWHERE, Observing
from paigeant_core.transports.rabbitmq.topology import PLACES, Names
from paigeant_core.transports.types import Erased, Settled

T = TypeVar("T")

BEHIND = 5.0
"""Seconds that a journal is given to show what the fence tells already."""


class Operating(Observing):
    """The part of the transport that acts on what was found, and the locks that it acts under.

    Args:
        url: of the broker.
        clock: where the time comes from, in place of the machine's.
    """

    def __init__(self, url: str, clock: Clock | None) -> None:
        super().__init__(url, clock)
        self.marks = Marks()

    def _begin(self) -> None:
        super()._begin()
        self._locks = Locks(self._line)
        self._ids: dict[str, ChosenIds] = {}

    async def _publish(
        self, names: Names, transition: Transition, also: tuple[str, ...], queue: str = "", *, serial: int = 0
    ) -> None:
        items = wire.moved(names, transition, now=self.clock.now(), also=also, queue=queue)
        for last in (False, True):
            await self._topology.lead(names, transition, queue)
            try:
                await self._publisher.send(items, serial=serial)
                return
            except Missing:
                # The topic was deleted while we knew it.
                self._topology.forget()
                if last:
                    raise

    async def operate(
        self, topic: str, transition: Transition, *, expect: str, unless_claimed: bool = False
    ) -> Settled:
        """See :meth:`Transport.operate`; whether a worker has the message, RabbitMQ does not tell."""
        names = Names(topic)

        async def publish(serial: int) -> None:
            await self._publish(names, transition, ("fence",), _timer_queue(transition), serial=serial)
            self.marks.note(transition)

        return await self._act(names, transition.record, expect, publish)

    async def request(self, topic: str, asked: Record, *, expect: str) -> Settled:
        """See :meth:`Transport.request`."""
        names = Names(topic)

        async def publish(serial: int) -> None:
            await self._publisher.send([wire.plain(names, asked, also=("fence",))], serial=serial)

        return await self._act(names, asked, expect, publish)

    async def _act(
        self,
        names: Names,
        record: Record,
        expect: str,
        publish: Callable[[int], Awaitable[None]],
        *,
        ended: bool = False,
    ) -> Settled:
        """Publish ``record`` under the lock that operators act under, if its workflow is still at ``expect``.

        With ``ended`` only if it waits for no worker.
        """
        index, fence = self.journal_index(names), self.fence(names)
        # The long way through the journal before anybody is kept waiting.
        await index.catch_up()
        await self._topology.stream(names, "fence")

        async def act(serial: int) -> Settled:
            known = await self._stands(index, fence, record.headers.correlation_id)
            current, state = (known.id, known.state) if known is not None else ("", "")
            if not current:
                await self._catch_up_elsewhere(names)
                last = self._elsewhere(names, record.headers.correlation_id)
                current, state = (last[1].id, last[1].state) if last is not None else ("", "")
            if current == record.id:
                return Settled.ALREADY
            if current != expect or (ended and state not in ENDED | PARKED):
                return Settled.SUPERSEDED
            await publish(serial)
            fence.note(record)
            return Settled.DONE

        return await self._under(names.lock("operate"), act)

    async def _stands(self, index: Index, fence: Fence, correlation_id: str) -> Known | None:
        """Where a workflow stands by the journal, once that has what the fence tells of it.

        The fence is read up to a mark; the node of a cluster that the journal is read from can be behind. Where the
        journal stays behind, a crash of the broker took the record from it alone, and what it has is all there is.
        """
        await fence.catch_up()
        last = fence.last(correlation_id)
        loop, waits = asyncio.get_running_loop(), Waits()
        deadline = loop.time() + BEHIND
        while True:
            await index.catch_up()
            known = index.workflows.get(correlation_id)
            if known is None or not known.id or last is None or known.epoch >= last.epoch or loop.time() > deadline:
                return known
            await waits.next()

    async def _under(self, lock: str, act: Callable[[int], Awaitable[T]]) -> T:
        """Act under a lock; anew where the line broke before anything was published: reading a new stream can break it.

        Args:
            lock: the lock's queue.
            act: called with the serial of the line that it is held over.
        """
        for tries_left in (2, 1, 0):
            try:
                async with self._locks.hold(lock) as serial:
                    return await act(serial)
            except LockLost:
                if not tries_left:
                    raise
        raise AssertionError

    async def switch(self, topic: str, record: Record) -> Pause | None:
        """See :meth:`Transport.switch`; it stands in the fence, which every worker follows."""
        names = Names(topic)
        fence, activity = self.fence(names), record.headers.activity
        await self._topology.stream(names, "fence")

        async def act(serial: int) -> Pause | None:
            await fence.catch_up()
            before = fence.paused.get(activity)
            if (switch_in(record) == PAUSE) == (before is None):
                await self._publisher.send([wire.plain(names, record, also=("fence",))], serial=serial)
                fence.note(record)
            return before

        return await self._under(names.lock("operate"), act)

    async def announce(self, topic: str, schemas: Mapping[str, bytes]) -> None:
        """See :meth:`Transport.announce`; it stands in the fence, beside what is paused."""
        names = Names(topic)
        await self._topology.stream(names, "fence")
        queue = names.stream("fence")
        await self._publisher.send([wire.schema(queue, activity, text) for activity, text in schemas.items()])

    async def erase(self, topic: str, marker: Record, *, expect: str) -> Erased:
        """See :meth:`Transport.erase`; a stream gives nothing up before its time, so its bytes are hidden alone."""
        names = Names(topic)
        correlation_id = marker.headers.correlation_id
        await self.journal_index(names).catch_up()
        await self._catch_up_elsewhere(names)
        held = {name: self._index(names.stream(name)).count(correlation_id) for name in ("journal", *ELSEWHERE)}
        ids = self._ids.get(topic)
        if _may_be_chosen(correlation_id) or (ids is not None and correlation_id in ids.known):
            held["ids"] = 1
        parked = [name for name in PLACES.values() if held[name]]

        async def publish(serial: int) -> None:
            # Into each stream that holds something of it: there it goes no sooner than what it hides.
            also = ("fence", *(f"{name}.{ERASED}" for name in parked))
            await self._publisher.send([wire.plain(names, marker, also=also)], serial=serial)

        settled = await self._act(names, marker, expect, publish, ended=True)
        return told(settled, held, self.clock.now())

    async def append_audit(self, topic: str, entry: bytes, *, follows: bytes | None = None) -> bool:
        """See :meth:`Transport.append_audit`."""
        names = Names(topic)

        async def act(serial: int) -> bool:
            if follows is not None and (await self._kept(names, "audit", 1) or [b""])[-1] != follows:
                return False
            await self._keep(names, "audit", entry, serial=serial)
            return True

        return await self._under(names.lock("audit"), act)

    async def append_operation(self, topic: str, entry: bytes) -> None:
        """See :meth:`Transport.append_operation`."""
        await self._keep(Names(topic), "operations", entry)

    async def _keep(self, names: Names, stream: str, entry: bytes, *, serial: int = 0) -> None:
        await self._topology.stream(names, stream)
        await self._publisher.send([wire.direct(names.stream(stream), entry)], serial=serial)


def _may_be_chosen(correlation_id: str) -> bool:
    """Whether a caller may have chosen it: those are in a stream, with the message that was dispatched."""
    return not is_own_id(correlation_id) and not correlation_id.startswith(QUARANTINE_PREFIX)


def _timer_queue(transition: Transition) -> str:
    """The activity whose queue a hold's timer comes out of, where the message itself names none."""
    if transition.deadline is None or transition.record.headers.activity or transition.record.body is None:
        return ""
    executed = PaigeantMessage.decode(transition.record.body).routing_slip.executed
    return str(executed[-1]) if executed else ""
