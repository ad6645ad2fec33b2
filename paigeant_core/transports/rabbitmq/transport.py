"""The transport on RabbitMQ: quorum queues for work, a stream for the journal."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import ClassVar
from urllib.parse import parse_qs

from paigeant_core.clock import Clock
from paigeant_core.erasure import ERASED
from paigeant_core.errors import ConfigError, ConnectError, DuplicateWorkflow, PublishError, PublishUnknown
from paigeant_core.journal import ENDED, PARKED, Record
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import QUARANTINE_PREFIX
from paigeant_core.pauses import PAUSE, Pause, switch_in
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.base import Transport
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Message, Missing, version_of
from paigeant_core.transports.rabbitmq.consumer import RabbitConsumer
from paigeant_core.transports.rabbitmq.erasing import shown, told
from paigeant_core.transports.rabbitmq.index import Index, Known
from paigeant_core.transports.rabbitmq.locks import Locks
from paigeant_core.transports.rabbitmq.marks import Marks
from paigeant_core.transports.rabbitmq.mirror import ChosenIds, Fence, Mirror
from paigeant_core.transports.rabbitmq.presence import Presence, living, serving
from paigeant_core.transports.rabbitmq.publisher import Publisher, Refused
from paigeant_core.transports.rabbitmq.streams import Reading, last_chunk, up_to_now
from paigeant_core.transports.rabbitmq.topology import PLACES, Names, Topology
from paigeant_core.transports.types import (
    END,
    START,
    BrokerInfo,
    Capabilities,
    Erased,
    Finding,
    QueueStatus,
    Settled,
    WorkerInfo,
    WorkerStatus,
)
from paigeant_core.urls import mask_url, parse_url

logger = logging.getLogger("paigeant")

_BUCKETS = 16
"""Locks that chosen correlation IDs are spread over."""

_ELSEWHERE = (*PLACES.values(), "fence")
"""Streams with records that the journal may have forgotten."""

_OWN_ID = re.compile(r"[0-9a-f]{32}\Z")
CONSUMER_TIMEOUT = 1800.0
"""Seconds after which RabbitMQ takes back what is not acknowledged, where it was not set to anything else."""

_FOLLOW = 1.0
"""Seconds after which a follower hears that nothing came."""


class RabbitTransport(Transport):
    """A way to a RabbitMQ broker, 3.10 or newer.

    Args:
        url: ``amqp://`` or ``amqps://``; ``?consumer_timeout=7200`` says what an old broker was set to, in seconds.
        clock: where the time comes from, in place of the machine's.

    Raises:
        ConfigError: the URL cannot be read.
    """

    scheme: ClassVar[str] = "amqp"
    capabilities: ClassVar[Capabilities] = Capabilities(exact_fence=False, backwards=False)

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        parts = parse_url(url)
        super().__init__(mask_url(url), clock)
        self._url = url
        self._consumer_timeout = _consumer_timeout_in(parts.query)
        self.marks = Marks()
        self._begin()

    def _begin(self) -> None:
        self._line = Line(self._url, "transport")
        self._publisher = Publisher(self._line)
        self._topology = Topology(self._line)
        self._locks = Locks(self._line)
        self._fences: dict[str, Fence] = {}
        self._ids: dict[str, ChosenIds] = {}
        self._indexes: dict[str, Index] = {}
        self.presence = Presence(self._url, self.clock)

    # -- connection ---------------------------------------------------------------------

    async def connect(self) -> None:
        """See :meth:`Transport.connect`."""
        await self._line.connect()

    async def disconnect(self) -> None:
        """See :meth:`Transport.disconnect`."""
        line, presence = self._line, self.presence
        following: list[Mirror | Index] = [*self._fences.values(), *self._ids.values(), *self._indexes.values()]
        self._publisher.close()
        # What is called after this connects anew.
        self._begin()
        for each in following:
            await each.close()
        await presence.close()
        await line.close()

    async def broker_info(self) -> BrokerInfo:
        """See :meth:`Transport.broker_info`."""
        await self._line.connect()
        server = self._line.server
        facts = {"virtual_host": self._line.vhost}
        for key in ("cluster_name", "platform", "product"):
            if value := server.get(key):
                facts[key] = str(value)
        return BrokerInfo(broker="RabbitMQ", version=str(server.get("version", "unknown")), facts=facts)

    async def examine(self, topic: str) -> list[Finding]:
        """See :meth:`Transport.examine`."""
        # Here: it brings an HTTP client with it, which nobody else needs.
        from paigeant_core.transports.rabbitmq.examine import examine

        await self._line.connect()
        return await examine(self._url, Names(topic), str(self._line.server.get("version", "")), self._line.vhost)

    def check_timeouts(self, timeouts: Mapping[str, float | None]) -> None:
        """See :meth:`Transport.check_timeouts`. From 3.12 on our queues themselves say how long a step may take."""
        version = str(self._line.server.get("version", ""))
        if version_of(version) >= (3, 12):
            return
        limit = self._consumer_timeout
        if long := {name: timeout for name, timeout in timeouts.items() if timeout is not None and timeout >= limit}:
            name, timeout = max(long.items(), key=lambda item: item[1])
            enough = math.ceil(timeout) + 60
            raise ConfigError(
                f"RabbitMQ {version} gives a step that runs for {limit:g} s to another worker, and activity {name!r} "
                f"may run for {timeout:g} s: put the line `consumer_timeout = {enough * 1000}` into rabbitmq.conf, and "
                f"?consumer_timeout={enough} into the URL, which says that it is there"
            )
        if free := sorted(name for name, timeout in timeouts.items() if timeout is None):
            logger.warning(
                "RabbitMQ %s gives a step that runs for %g s to another worker; these activities have no timeout: %s",
                version,
                limit,
                ", ".join(free),
            )

    # -- producing and consuming --------------------------------------------------------

    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """See :meth:`Transport.dispatch`."""
        names = Names(topic)
        if not chosen_id:
            await self._start(names, transition)
            return
        correlation_id = transition.record.headers.correlation_id
        ids = self._ids.get(topic)
        if ids is None:
            ids = self._ids[topic] = ChosenIds(self._line, self._topology, self._publisher, names)
        bucket = zlib.crc32(correlation_id.encode()) % _BUCKETS
        async with self._locks.hold(names.lock(f"id.{bucket}")):
            # The journal first: a topic that does not exist yet is known by that at once.
            exists = bool(_OWN_ID.match(correlation_id)) and await self._in_journal(names, correlation_id)
            await ids.catch_up()
            exists = exists or correlation_id in ids.known
            if exists:
                raise DuplicateWorkflow(f"workflow {correlation_id} exists already in topic {topic}; choose another ID")
            await self._start(names, transition, ("ids",))
            ids.known.add(correlation_id)

    async def _in_journal(self, names: Names, correlation_id: str) -> bool:
        """Whether an ID that looks like a dispatcher's own is taken; those are in no list."""
        index = self.journal_index(names)
        await index.catch_up()
        return correlation_id in index.workflows

    async def _start(self, names: Names, transition: Transition, also: tuple[str, ...] = ()) -> None:
        try:
            await self._publish(names, transition, also)
        except PublishUnknown:
            raise PublishUnknown(
                f"the connection to RabbitMQ at {self._line.where} was lost before it confirmed workflow "
                f"{transition.record.headers.correlation_id}: it may run, and dispatched again it may run twice"
            ) from None
        except Refused:
            raise
        except PublishError as error:
            # One queue refused, say one that has just lost its leader; the other may have it.
            raise PublishUnknown(
                f"{error}: workflow {transition.record.headers.correlation_id} may run all the same, "
                "and dispatched again it may run twice"
            ) from None

    async def _publish(self, names: Names, transition: Transition, also: tuple[str, ...], queue: str = "") -> None:
        items = wire.moved(names, transition, now=self.clock.now(), also=also, queue=queue)
        for last in (False, True):
            await self._topology.lead(names, transition, queue)
            try:
                await self._publisher.send(items)
                return
            except Missing:
                # The topic was deleted while we knew it.
                self._topology.forget()
                if last:
                    raise

    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> RabbitConsumer:
        """See :meth:`Transport.consumer`; the lease is the connection's life."""
        return RabbitConsumer(self, self._url, topic, info)

    def fence(self, names: Names) -> Fence:
        """The fence of a topic, shared by all that this transport serves."""
        fence = self._fences.get(names.topic)
        if fence is None:
            fence = self._fences[names.topic] = Fence(self._line, self._topology, self._publisher, names)
        return fence

    # -- observing ----------------------------------------------------------------------

    async def records(
        self, topic: str, *, start: str | float = START, follow: bool = False
    ) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.records`."""
        names = Names(topic)
        since = start if isinstance(start, float) else 0.0
        where = _begin_at(start)
        opened = self.clock.now()
        fence = self.fence(names)
        while True:
            try:
                # Which workflows were erased is to be known before their records come by.
                await fence.look()
                async with aclosing(self._read(names.journal, where, follow)) as batches:
                    async for batch in batches:
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
                yield []
                if not follow:
                    return
                where = "first"
                await asyncio.sleep(_FOLLOW)
            except ConnectError:
                if not follow:
                    raise
                logger.warning("lost the connection to RabbitMQ at %s; connecting again", self._line.where)
                await self._line.connect_patiently()
                if where == "next":
                    where = since = opened

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
            end = await last_chunk(self._line, queue)
            # The broker goes to an offset, but not to so many before the end: the last chunk is where it begins.
            start = max(0, (end or 0) - limit)
            async with aclosing(up_to_now(self._line, queue, start)) as batches:
                async for batch in batches:
                    found.extend(shown(fence, batch))
        except Missing:
            return []
        return list(found)

    def journal_index(self, names: Names) -> Index:
        """The index of a topic's journal."""
        return self._index(names.journal)

    def _index(self, queue: str) -> Index:
        index = self._indexes.get(queue)
        if index is None:
            index = self._indexes[queue] = Index(self._line, queue)
        return index

    async def find(self, topic: str, prefix: str, limit: int = 5) -> list[str]:
        """See :meth:`Transport.find`."""
        index = self.journal_index(Names(topic))
        await index.catch_up()
        if prefix in index.workflows:
            return [prefix]
        found = (key for key in index.workflows if key.startswith(prefix))
        return [key for key, _ in zip(found, range(limit), strict=False)]

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
                records[:0] = await last[0].records([last[1].last], {last[1].last: ""})
        return records

    async def _catch_up_elsewhere(self, names: Names) -> None:
        for stream in _ELSEWHERE:
            await self._index(names.stream(stream)).catch_up()

    def _elsewhere(self, names: Names, correlation_id: str) -> tuple[Index, Known] | None:
        """The last word on a workflow that the journal has forgotten, in the stores that keep longer."""
        newest: tuple[Index, Known] | None = None
        for stream in _ELSEWHERE:
            index = self._index(names.stream(stream))
            known = index.workflows.get(correlation_id)
            if known is not None and known.id and (newest is None or known.order > newest[1].order):
                newest = (index, known)
        return newest

    async def queues(self, topic: str) -> list[QueueStatus]:
        """See :meth:`Transport.queues`."""
        names = Names(topic)
        index = self.journal_index(names)
        await index.catch_up()
        served = serving(await self.workers(topic))
        paused = await self.pauses(topic)
        figures = []
        for activity in sorted({*index.activities, *served, *paused}):
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
                    consumers=served.get(activity, consumers),
                    paused=paused.get(activity),
                )
            )
        return figures

    async def workers(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.workers`."""
        return await living(self._line, Names(topic), self.clock.now())

    async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
        """See :meth:`Transport.parked`."""
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
        return (await index.records(sorted(valid), valid))[::-1]

    # -- acting -------------------------------------------------------------------------

    async def operate(
        self, topic: str, transition: Transition, *, expect: str, unless_claimed: bool = False
    ) -> Settled:
        """See :meth:`Transport.operate`; whether a worker has the message, RabbitMQ does not tell."""
        names = Names(topic)

        async def publish() -> None:
            await self._publish(names, transition, ("fence",), _timer_queue(transition))
            self.marks.note(transition)

        return await self._act(names, transition.record, expect, publish)

    async def request(self, topic: str, asked: Record, *, expect: str) -> Settled:
        """See :meth:`Transport.request`."""
        names = Names(topic)

        async def publish() -> None:
            await self._publisher.send([wire.plain(names, asked, also=("fence",))])

        return await self._act(names, asked, expect, publish)

    async def _act(
        self, names: Names, record: Record, expect: str, publish: Callable[[], Awaitable[None]], *, ended: bool = False
    ) -> Settled:
        """Publish ``record`` under the lock that operators act under, if its workflow is still at ``expect``.

        With ``ended`` only if it waits for no worker.
        """
        index, fence = self.journal_index(names), self.fence(names)
        # The long way through the journal before anybody is kept waiting.
        await index.catch_up()
        await self._topology.stream(names, "fence")
        async with self._locks.hold(names.lock("operate")):
            await index.catch_up()
            known = index.workflows.get(record.headers.correlation_id)
            current, state = (known.id, known.state) if known is not None else ("", "")
            if not current:
                await self._catch_up_elsewhere(names)
                last = self._elsewhere(names, record.headers.correlation_id)
                current, state = (last[1].id, last[1].state) if last is not None else ("", "")
            if current == record.id:
                return Settled.ALREADY
            if current != expect or (ended and state not in ENDED | PARKED):
                return Settled.SUPERSEDED
            await publish()
            fence.note(record)
        return Settled.DONE

    async def switch(self, topic: str, record: Record) -> Pause | None:
        """See :meth:`Transport.switch`; it stands in the fence, which every worker follows."""
        names = Names(topic)
        fence, activity = self.fence(names), record.headers.activity
        await self._topology.stream(names, "fence")
        async with self._locks.hold(names.lock("operate")):
            await fence.catch_up()
            before = fence.paused.get(activity)
            if (switch_in(record) == PAUSE) == (before is None):
                await self._publisher.send([wire.plain(names, record, also=("fence",))])
                fence.note(record)
        return before

    async def pauses(self, topic: str) -> dict[str, Pause]:
        """See :meth:`Transport.pauses`."""
        fence = self.fence(Names(topic))
        await fence.look()
        return dict(fence.paused)

    async def announce(self, topic: str, schemas: Mapping[str, bytes]) -> None:
        """See :meth:`Transport.announce`; it stands in the fence, beside what is paused."""
        names = Names(topic)
        await self._topology.stream(names, "fence")
        queue = names.stream("fence")
        await self._publisher.send([wire.schema(queue, activity, text) for activity, text in schemas.items()])

    async def schemas(self, topic: str) -> dict[str, bytes]:
        """See :meth:`Transport.schemas`."""
        fence = self.fence(Names(topic))
        await fence.look()
        return {activity: schema for activity, schema in fence.schemas.items() if schema}

    async def delete_topic(self, topic: str) -> None:
        """See :meth:`Transport.delete_topic`."""
        # Here: it brings an HTTP client with it, which nobody else needs.
        from paigeant_core.transports.rabbitmq.removal import remove

        names = Names(topic)
        await self._catch_up_elsewhere(names)
        indexes = [self.journal_index(names), *(self._index(names.stream(stream)) for stream in _ELSEWHERE)]
        await indexes[0].catch_up()
        await remove(self._line, self._url, names, {name for index in indexes for name in index.activities})
        self._topology.forget()
        following: list[Mirror | Index] = [
            *(mirrors.pop(topic) for mirrors in (self._fences, self._ids) if topic in mirrors),
            *(self._indexes.pop(queue) for queue in [*self._indexes] if queue.startswith(f"{names.exchange}.")),
        ]
        for each in following:
            await each.close()

    async def erase(self, topic: str, marker: Record, *, expect: str) -> Erased:
        """See :meth:`Transport.erase`; a stream gives nothing up before its time, so its bytes are hidden alone."""
        names = Names(topic)
        correlation_id = marker.headers.correlation_id
        await self.journal_index(names).catch_up()
        await self._catch_up_elsewhere(names)
        held = {name: self._index(names.stream(name)).count(correlation_id) for name in ("journal", *_ELSEWHERE)}
        ids = self._ids.get(topic)
        if _may_be_chosen(correlation_id) or (ids is not None and correlation_id in ids.known):
            held["ids"] = 1
        parked = [name for name in PLACES.values() if held[name]]

        async def publish() -> None:
            # Into each stream that holds something of it: there it goes no sooner than what it hides.
            also = ("fence", *(f"{name}.{ERASED}" for name in parked))
            await self._publisher.send([wire.plain(names, marker, also=also)])

        settled = await self._act(names, marker, expect, publish, ended=True)
        return told(settled, held, self.clock.now())

    async def append_audit(self, topic: str, entry: bytes, *, follows: bytes | None = None) -> bool:
        """See :meth:`Transport.append_audit`."""
        names = Names(topic)
        async with self._locks.hold(names.lock("audit")):
            if follows is not None and (await self._kept(names, "audit", 1) or [b""])[-1] != follows:
                return False
            await self._keep(names, "audit", entry)
            return True

    async def audit(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.audit`."""
        return await self._kept(Names(topic), "audit", limit)

    async def append_operation(self, topic: str, entry: bytes) -> None:
        """See :meth:`Transport.append_operation`."""
        await self._keep(Names(topic), "operations", entry)

    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.operation_entries`."""
        return await self._kept(Names(topic), "operations", limit)

    async def _keep(self, names: Names, stream: str, entry: bytes) -> None:
        await self._topology.stream(names, stream)
        await self._publisher.send([wire.direct(names.stream(stream), entry)])

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


def _may_be_chosen(correlation_id: str) -> bool:
    """Whether a caller may have chosen it: those are in a stream, with the message that was dispatched."""
    return not _OWN_ID.match(correlation_id) and not correlation_id.startswith(QUARANTINE_PREFIX)


def _consumer_timeout_in(query: str) -> float:
    """What the URL says of the broker's consumer_timeout, in seconds."""
    said = parse_qs(query, keep_blank_values=True).get("consumer_timeout", [str(CONSUMER_TIMEOUT)])[-1]
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise ConfigError(f"consumer_timeout={ascii(said)[:40]} in the broker URL: it must be a number of seconds")
    return seconds


def _begin_at(start: str | float) -> int | str | float:
    if isinstance(start, float):
        return start
    if start in (START, END):
        return "first" if start == START else "next"
    if not (isinstance(start, str) and start.isdecimal()):
        raise ConfigError(f"journal position {ascii(start)[:40]}: it must be a number, or a time")
    return int(start) + 1


def _timer_queue(transition: Transition) -> str:
    """The activity whose queue a hold's timer comes out of, where the message itself names none."""
    if transition.deadline is None or transition.record.headers.activity or transition.record.body is None:
        return ""
    executed = PaigeantMessage.decode(transition.record.body).routing_slip.executed
    return str(executed[-1]) if executed else ""
