"""What the transport on RabbitMQ tells of a topic, out of its streams and their mirrors."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import chain, islice

from paigeant_core.clock import Clock
from paigeant_core.errors import ConfigError, ConnectError
from paigeant_core.journal import Record
from paigeant_core.pauses import Pause
from paigeant_core.transition import Place
from paigeant_core.transports.base import Transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.alarm import Alarm
from paigeant_core.transports.rabbitmq.connection import Line, Message, Missing, NotReady
from paigeant_core.transports.rabbitmq.erasing import shown
from paigeant_core.transports.rabbitmq.figures import Figures
from paigeant_core.transports.rabbitmq.index import Index, Known
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.presence import Ears, serving
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.streams import (
    Origin,
    Reading,
    first_of_last_chunk,
    last_chunk,
    ready_in,
    silent,
    up_to_now,
)
from paigeant_core.transports.rabbitmq.topology import PLACES, Names, Topology
from paigeant_core.transports.types import END, START, QueueStatus, WorkerStatus
from paigeant_core.urls import mask_url

logger = logging.getLogger("paigeant")

ELSEWHERE = (*PLACES.values(), "fence")
"""Streams with records that the journal may have forgotten."""

NEWEST_BYTES = 1024 * 1024
"""Bytes of the newest records that are enough, about: a line that brings fifty kilobytes a second has them in time."""
FEW = 8
"""Records that are read whatever size they have."""

_AT_ONCE = 500
"""Parked messages that are fetched together."""
_FOLLOW = 1.0
"""Seconds after which a follower hears that nothing came."""


class Observing(Transport):
    """The part of the transport that reads, and the mirrors that it reads from.

    Args:
        url: of the broker.
        clock: where the time comes from, in place of the machine's.
    """

    def __init__(self, url: str, clock: Clock | None) -> None:
        super().__init__(mask_url(url), clock)
        self._url = url
        self._begin()

    def _begin(self) -> None:
        """Start over: what is called from now on connects anew."""
        self._line = Line(self._url, "transport")
        self._alarm = Alarm(self._url)
        self._figures = Figures(self._line)
        self._publisher = Publisher(self._line)
        self._topology = Topology(self._line)
        self._fences: dict[str, Fence] = {}
        self._indexes: dict[str, Index] = {}
        self._ears: defaultdict[str, Ears] = defaultdict(Ears)

    # -- mirrors ------------------------------------------------------------------------

    def fence(self, names: Names) -> Fence:
        """The fence of a topic, shared by all that this transport serves."""
        fence = self._fences.get(names.topic)
        if fence is None:
            fence = self._fences[names.topic] = Fence(self._line, self._topology, self._publisher, names)
        return fence

    def journal_index(self, names: Names) -> Index:
        """The index of a topic's journal."""
        return self._index(names.journal)

    def _index(self, queue: str) -> Index:
        index = self._indexes.get(queue)
        if index is None:
            index = self._indexes[queue] = Index(self._line, queue)
        return index

    async def _catch_up_elsewhere(self, names: Names) -> None:
        for stream in ELSEWHERE:
            await self._index(names.stream(stream)).catch_up()

    def _elsewhere(self, names: Names, correlation_id: str) -> tuple[Index, Known] | None:
        """The last word on a workflow that the journal has forgotten, in the stores that keep longer."""
        newest: tuple[Index, Known] | None = None
        for stream in ELSEWHERE:
            index = self._index(names.stream(stream))
            known = index.workflows.get(correlation_id)
            if known is not None and known.id and (newest is None or known.order > newest[1].order):
                newest = (index, known)
        return newest

    # -- records ------------------------------------------------------------------------

    async def records(
        self, topic: str, *, start: str | float = START, follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.records`."""
        follower = follower or Follower()
        names = Names(topic)
        since = start if isinstance(start, float) else 0.0
        where = _begin_at(start)
        fence = self.fence(names)
        while True:
            try:
                # Which workflows were erased is to be known before their records come by.
                await fence.look()
                if follow and (follower.journal is not None or isinstance(where, int)):
                    where = await self._go_on(names.journal, where, follower)
                if follow and where == "next":
                    # An offset, for after a cut "next" would be later, and a time is by somebody's clock.
                    where = await self._end_of(names.journal)
                    follower.journal = await Origin.find(self._line, names.journal) if where else None
                async with aclosing(self._read(names.journal, where, follow)) as batches:
                    async for batch in batches:
                        if follow and batch and follower.journal is None:
                            follower.journal = await Origin.find(self._line, names.journal)
                        records = shown(fence, batch)
                        if since:
                            records = [record for record in records if record.at >= since]
                        if batch:
                            where = wire.offset_of(batch[-1]) + 1
                        if records or not batch:
                            yield records
                if not follow:
                    return
            except Missing:
                if follower.journal is not None:
                    follower.tell(Missed.ANEW)
                yield []
                if not follow:
                    return
                where, follower.journal = "first", None
                await asyncio.sleep(_FOLLOW)
            except NotReady:
                if not follow:
                    raise
                # It is there, and gives nothing now: it is read on where this was.
                await asyncio.sleep(_FOLLOW)
            except ConnectError:
                if not follow:
                    raise
                logger.warning("lost the connection to RabbitMQ at %s; connecting again", self._line.where)
                await self._line.connect_patiently()

    async def _go_on(self, queue: str, where: int | str | float, follower: Follower) -> int | str | float:
        """Where to read on in a journal that may be another one by now, or trimmed past ``where``.

        Raises:
            Missing: it is gone, and there is no other one yet.
            ConnectError: see :meth:`Origin.find`.
        """
        found = await Origin.find(self._line, queue)
        known: Origin | None
        known, follower.journal = follower.journal, found
        if known is not None and known.differs(found):
            follower.tell(Missed.ANEW)
            return "first"
        if known is not None and isinstance(where, int) and found.offset > where:
            follower.tell(Missed.TRIMMED)
        return where

    async def _end_of(self, queue: str) -> int:
        """The offset behind the last record.

        Raises:
            Missing: there is no such journal.
            ConnectError: the line was lost, or it gives nothing now.
        """
        end = await last_chunk(self._line, queue)
        if end is None:
            if await ready_in(self._line, queue):
                raise silent(self._line, queue)
            return 0
        async with aclosing(up_to_now(self._line, queue, end, sure=True)) as batches:
            async for batch in batches:
                end = wire.offset_of(batch[-1]) + 1
        return end

    async def _read(self, queue: str, where: int | str | float, follow: bool) -> AsyncGenerator[list[Message], None]:
        """Batches up to now, an empty one, and with ``follow`` whatever comes."""
        kept: list[Reading] = []
        following = where
        if where != "next":
            async with aclosing(up_to_now(self._line, queue, where, keep=kept if follow else None)) as batches:
                async for batch in batches:
                    following = wire.offset_of(batch[-1]) + 1
                    yield batch
        if not follow:
            yield []
            return
        reading = kept[0] if kept else await Reading.attach(self._line, queue, following)
        try:
            yield []
            while True:
                yield await reading.batch(_FOLLOW)
        finally:
            await reading.close()

    async def newest(self, topic: str, limit: int) -> list[Record]:
        """See :meth:`Transport.newest`."""
        names = Names(topic)
        queue, fence = names.journal, self.fence(names)
        await fence.look()
        found: deque[Record] = deque(maxlen=limit)
        try:
            last = await first_of_last_chunk(self._line, queue)
            if last is None:
                return []
            # The broker goes to an offset, but not to so many before the end: the last chunk is where it begins.
            start = max(0, wire.offset_of(last) - min(limit, max(FEW, NEWEST_BYTES // max(1, len(last.body)))))
            async with aclosing(up_to_now(self._line, queue, start)) as batches:
                async for batch in batches:
                    found.extend(shown(fence, batch))
        except Missing:
            return []
        return list(found)

    async def find(self, topic: str, prefix: str, limit: int = 5) -> list[str]:
        """See :meth:`Transport.find`."""
        names = Names(topic)
        index = self.journal_index(names)
        await index.catch_up()
        if prefix in index.workflows:
            return [prefix]
        await self._catch_up_elsewhere(names)
        if self._elsewhere(names, prefix) is not None:
            return [prefix]
        indexes = [index, *(self._index(names.stream(stream)) for stream in ELSEWHERE)]
        keys = chain.from_iterable(each.workflows for each in indexes)
        # The stores that keep longer also know workflows of which they have no last word.
        begun = (key for key in keys if key.startswith(prefix))
        known = (key for key in begun if key in index.workflows or self._elsewhere(names, key) is not None)
        return list(islice(dict.fromkeys(known), limit))

    async def history(self, topic: str, correlation_id: str) -> list[Record]:
        """See :meth:`Transport.history`."""
        names = Names(topic)
        index = self.journal_index(names)
        await index.catch_up()
        known = index.workflows.get(correlation_id)
        records = await index.records(list(known.offsets)) if known is not None else []
        if not any(record.state for record in records):
            await self._catch_up_elsewhere(names)
            if (last := self._elsewhere(names, correlation_id)) is not None:
                elsewhere, stands = last
                offsets = [stands.last] if stands.asked < 0 else [stands.last, stands.asked]
                known_here = {record.id for record in records}
                found = await elsewhere.records(offsets, dict.fromkeys(offsets, ""))
                records[:0] = [record for record in found if record.id not in known_here]
        return records

    async def queues(self, topic: str) -> list[QueueStatus]:
        """See :meth:`Transport.queues`."""
        names = Names(topic)
        index = self.journal_index(names)
        await index.catch_up()
        served = serving(await self.workers(topic))
        paused = await self.pauses(topic)
        activities = sorted({*index.activities, *served, *paused})
        in_flight = await self._figures.in_flight() if activities else {}
        figures = []
        for activity in activities:
            # The driver's call, not aio-pika's: that one remembers an old count.
            try:
                async with self._line.borrowed() as channel:
                    queue = await channel.queue_declare(names.work(activity), passive=True)
                ready, consumers = queue.message_count or 0, queue.consumer_count or 0
            except Missing:
                ready = consumers = 0
            # A worker has any number of consumers on a queue, from none to several.
            figures.append(
                QueueStatus(
                    activity=activity,
                    ready=ready,
                    in_flight=in_flight.get(names.work(activity)),
                    consumers=served.get(activity, consumers),
                    paused=paused.get(activity),
                    exact=False,
                )
            )
        return figures

    async def workers(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.workers`."""
        return await self._ears[topic].living(self._line, Names(topic), self.clock.now())

    async def silent(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.silent`."""
        return await self._ears[topic].silent(self._line, Names(topic), self.clock.now())

    async def refusal(self, topic: str) -> str:
        """See :meth:`Transport.refusal`."""
        alarm = await self._alarm.look()
        return f"RabbitMQ is {alarm}" if alarm else ""

    async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
        """See :meth:`Transport.parked`."""
        return [record async for batch in self.parked_batches(topic, place, limit) for record in batch]

    async def parked_batches(self, topic: str, place: Place, limit: int = 1000) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.parked_batches`."""
        names = Names(topic)
        queue = names.stream(PLACES[place])
        index, journal = self._index(queue), self.journal_index(names)
        await index.catch_up()
        await journal.catch_up()
        valid: dict[int, str] = {}
        looked = False
        for correlation_id, known in index.newest_first():
            if known.erased:
                continue
            current = journal.workflows.get(correlation_id)
            if current is not None and current.id:
                if current.id == known.id:
                    valid[known.last] = str(current.last)
            else:
                if not looked:
                    await self._catch_up_elsewhere(names)
                    looked = True
                last = self._elsewhere(names, correlation_id)
                if last is not None and last[1].id == known.id:
                    valid[known.last] = ""
            if len(valid) >= limit:
                break
        offsets = sorted(valid, reverse=True)
        for at in range(0, len(offsets), _AT_ONCE):
            if found := await index.records(offsets[at : at + _AT_ONCE][::-1], valid):
                yield found[::-1]

    # -- beside the records ---------------------------------------------------------------

    async def pauses(self, topic: str) -> dict[str, Pause]:
        """See :meth:`Transport.pauses`."""
        fence = self.fence(Names(topic))
        await fence.look()
        return dict(fence.paused)

    async def schemas(self, topic: str) -> dict[str, bytes]:
        """See :meth:`Transport.schemas`."""
        fence = self.fence(Names(topic))
        await fence.look()
        return {activity: schema for activity, schema in fence.schemas.items() if schema}

    async def audit(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.audit`."""
        return await self._kept(Names(topic), "audit", limit)

    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.operation_entries`."""
        return await self._kept(Names(topic), "operations", limit)

    async def _kept(self, names: Names, stream: str, limit: int) -> list[bytes]:
        queue = names.stream(stream)
        entries: deque[bytes] = deque(maxlen=limit)
        try:
            end = await last_chunk(self._line, queue)
            if end is not None:
                async with aclosing(up_to_now(self._line, queue, max(0, end - limit))) as batches:
                    async for batch in batches:
                        entries.extend(message.body for message in batch)
        except Missing:
            return []
        return list(entries)


def _begin_at(start: str | float) -> int | str | float:
    if isinstance(start, float):
        return start
    if start in (START, END):
        return "first" if start == START else "next"
    if not (isinstance(start, str) and start.isdecimal()):
        raise ConfigError(f"journal position {ascii(start)[:40]}: it must be a number, or a time")
    return int(start) + 1
