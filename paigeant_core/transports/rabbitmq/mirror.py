"""Small streams kept in memory: the fence, and the IDs that callers chose.

A mirror follows its stream for as long as the transport lives. To be sure that it has
seen everything so far, it puts a mark into the stream and waits until it reads it.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

from paigeant_core.erasure import is_marker, stripped
from paigeant_core.errors import ConnectError, PublishUnknown, TransportError
from paigeant_core.handoff import wish_of
from paigeant_core.journal import Record
from paigeant_core.message import Headers
from paigeant_core.names import new_id
from paigeant_core.pauses import PAUSE, Pause, pause_of, switch_in
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, LineLost, Message, Missing, NotReady, Waits, end
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.streams import (
    NEW_STREAM,
    Dropped,
    Origin,
    Reading,
    is_there,
    ready_in,
    up_to_now,
)
from paigeant_core.transports.rabbitmq.topology import Names, Topology

_PATIENCE = 60.0
"""Seconds for a mark to come by; a long stream is read before it."""

_AGAIN = 1.0
"""Seconds between two looks for a stream that was deleted."""


class Mirror(ABC):
    """Follows one stream of a topic.

    Args:
        line: over which.
        topology: declares the stream.
        publisher: for marks.
        names: of the topic.
        stream: which stream.
    """

    def __init__(self, line: Line, topology: Topology, publisher: Publisher, names: Names, stream: str) -> None:
        self._line = line
        self._topology = topology
        self._publisher = publisher
        self._names = names
        self._stream = stream
        self._queue = names.stream(stream)
        self._next = 0
        self._origin: Origin | None = None
        self._marks: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._there = asyncio.Event()
        self._there.set()

    @abstractmethod
    def take(self, message: Message) -> None:
        """Note what the next message says."""

    @abstractmethod
    def reset(self) -> None:
        """The stream begins anew: forget everything."""

    async def catch_up(self) -> None:
        """Return when everything that was in the stream when this was called is noted.

        Raises:
            TransportError: the broker cannot be asked.
        """
        for wait in (*NEW_STREAM, 0.0):
            try:
                await self._read_up_to_a_mark()
                return
            except (PublishUnknown, LineLost, NotReady) as error:
                # A mark may be set twice, and whoever catches up has published nothing of its own yet.
                if not wait:
                    raise ConnectError(str(error)) from None
            await asyncio.sleep(wait)

    async def look(self) -> None:
        """Note what is in the stream now, and put nothing into it: who only looks may do so while nobody can publish.

        Raises:
            ConnectError: the broker cannot be asked.
        """
        try:
            if self._task is None or self._task.done():
                # Where it gives nothing now, what was known stands.
                with suppress(NotReady):
                    await self._heed_another()
            async with aclosing(up_to_now(self._line, self._queue, self._next or "first")) as batches:
                async for batch in batches:
                    self._note(batch)
        except Missing:
            # Looking makes no topic. Where there was one it was deleted, and what it said with it.
            self._begin_anew()

    async def _read_up_to_a_mark(self) -> None:
        await self._topology.stream(self._names, self._stream)
        self._there.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        identity = new_id()
        seen = self._marks[identity] = asyncio.get_running_loop().create_future()
        try:
            await self._publisher.send([wire.mark(self._queue, identity)])
            async with asyncio.timeout(_PATIENCE):
                await seen
        except TimeoutError:
            # The reader may be one that a dead node left without a word: the next is another one.
            await self.close()
            raise ConnectError(f"RabbitMQ at {self._line.where} is too slow: {self._queue} cannot be read") from None
        finally:
            del self._marks[identity]

    async def close(self) -> None:
        """No longer follow."""
        if self._task is not None:
            await end(self._task)
            self._task = None

    async def _follow(self) -> None:
        loop, waits = asyncio.get_running_loop(), Waits()
        while True:
            since = math.inf
            try:
                await self._line.connect_patiently()
                await self._until_there()
                await self._topology.stream(self._names, self._stream)
                since = loop.time()
                await self._read()
            except Missing as error:
                # The topic was deleted. Whoever asks next makes another one; so may others, and it is followed too.
                self._there.clear()
                self._topology.forget()
                self._begin_anew()
                self._fail(ConnectError(str(error)))
            except TransportError as error:
                # Also where this user may not read it now: nobody else would begin anew, and a worker that no longer
                # follows the fence heeds no pause and no intervention.
                self._fail(error)
                waits.reset(since)
                await waits.next(error)

    async def _until_there(self) -> None:
        while not self._there.is_set():
            if await is_there(self._line, self._queue):
                self._there.set()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN):
                    await self._there.wait()

    def _begin_anew(self) -> None:
        self._next = 0
        self._origin = None
        self.reset()

    async def _heed_another(self) -> None:
        """Forget everything where the stream was deleted and made anew: what comes is none of what was read."""
        if self._origin is not None and await self._origin.is_gone(self._line, self._queue):
            self._begin_anew()

    async def _read(self) -> None:
        await self._heed_another()
        reading = await Reading.attach(self._line, self._queue, self._next or "first")
        try:
            while True:
                self._note(await reading.batch())
        finally:
            await reading.close()

    def _note(self, batch: Sequence[Message]) -> None:
        for message in batch:
            offset = wire.offset_of(message)
            if not self._next:
                self._origin = Origin.of(message)
            identity = wire.headers_of(message).get(wire.MARK)
            if identity is not None:
                if (waiting := self._marks.get(str(identity))) is not None and not waiting.done():
                    waiting.set_result(None)
            elif offset >= self._next:
                # Else who looked meanwhile was here before who follows.
                self.take(message)
            self._next = max(self._next, offset + 1)

    def _fail(self, error: TransportError) -> None:
        for waiting in self._marks.values():
            if not waiting.done():
                waiting.set_exception(error)


class Fence(Mirror):
    """The epochs of workflows that somebody intervened in, what is paused, and when the broker was restarted.

    What payloads activities take stands in it too: it is kept as long, and looked up as seldom.

    Attributes:
        asking: requests that are just published together with the message that they are for, by its ID: its step can be
            over before the broker's answer is here.
        booted_at: when it was last found that the broker, or a node of it, had been restarted.
        nodes: the queues that tell of a node's death, each with the worker that left it.
        paused: the activities that are paused.
        schemas: what was announced last of the payloads of activities; may be empty.
        erased: the workflows that were erased, each with the ID of the record that says so.
        listeners: called when one was paused or resumed.
    """

    def __init__(self, line: Line, topology: Topology, publisher: Publisher, names: Names) -> None:
        super().__init__(line, topology, publisher, names, "fence")
        self._last: dict[str, Intervention] = {}
        self._asked: dict[str, Record] = {}
        self.asking: dict[str, Record] = {}
        self.booted_at = 0.0
        self.nodes: dict[str, str] = {}
        self.paused: dict[str, Pause] = {}
        self.schemas: dict[str, bytes] = {}
        self.erased: dict[str, str] = {}
        self.listeners: set[Callable[[], None]] = set()

    async def look_for_restart(self, now: float) -> None:
        """Find out whether the broker was restarted since anybody looked, and let all know.

        An exchange that is not durable tells, but of brokers with Khepri: a restart takes it away. The mark
        comes before the new exchange, so whoever finds that finds the mark too. Of each node the workers'
        marks tell, whatever the broker is, see :mod:`nodes`.

        Args:
            now: by the looker's clock.

        Raises:
            TransportError: the broker cannot be asked.
        """
        await self._look_for_exchange(now)
        await self.catch_up()
        if gone := [queue for queue in list(self.nodes) if not await self._stands(queue)]:
            # Somebody may have taken them away, or have found out before, and has told the fence so.
            await self.catch_up()
            if gone := [queue for queue in gone if queue in self.nodes]:
                await self._publisher.send([wire.boot(self._queue, now, queue) for queue in gone])
                await self.catch_up()

    async def _stands(self, mark: str) -> bool:
        ready = await ready_in(self._line, mark)
        # Those of older workers are empty, and are gone with their node.
        return ready is not None and (ready > 0 or not mark.startswith(self._names.mark("")))

    async def note_restart(self, now: float) -> None:
        """Let all know that a node of the broker lost what it had not confirmed.

        Raises:
            TransportError: the broker cannot be asked.
        """
        await self._publisher.send([wire.boot(self._queue, now)])
        await self.catch_up()

    async def _look_for_exchange(self, now: float) -> None:
        try:
            async with self._line.borrowed() as channel:
                await channel.exchange_declare(self._names.boot, passive=True)
                return
        except Missing:
            pass
        try:
            async with self._line.borrowed() as channel:
                await channel.queue_declare(self._queue, passive=True)
            await self._publisher.send([wire.boot(self._queue, now)])
        except Missing:
            # Nobody was here before: nothing can have been lost.
            await self._topology.base(self._names)
        async with self._line.borrowed() as channel:
            await channel.exchange_declare(self._names.boot, exchange_type="fanout", durable=False)

    def take(self, message: Message) -> None:
        """See :meth:`Mirror.take`."""
        headers = wire.headers_of(message)
        node, booted = headers.get(wire.NODE), headers.get(wire.BOOT)
        if isinstance(booted, int):
            self.booted_at = max(self.booted_at, booted / 1000)
            self.nodes.pop(str(node), None)
            return
        if isinstance(node, str):
            if headers.get(wire.OVER) is True:
                self.nodes.pop(node, None)
            elif node.startswith(f"{self._names.boot}."):
                self.nodes[node] = str(headers.get(wire.WORKER, ""))
            return
        activity = wire.headers_of(message).get(wire.SCHEMA)
        if isinstance(activity, str):
            self.schemas[activity] = bytes(message.body)
            return
        record = wire.record_of(message)
        if record is not None:
            timer = wire.headers_of(message).get(wire.TIMER)
            self.note(record, str(timer or ""))

    def reset(self) -> None:
        """See :meth:`Mirror.reset`."""
        self._last.clear()
        self._asked.clear()
        self.nodes.clear()
        self.paused.clear()
        self.schemas.clear()
        self.erased.clear()
        self._tell()

    def note(self, record: Record, timer: str = "") -> None:
        """Somebody moved a workflow on, past whatever copies of it there are.

        Args:
            record: the journal's record of it.
            timer: for a deadline that came: the record that it ended.
        """
        headers = record.headers
        if action := switch_in(record):
            if action == PAUSE:
                self.paused[headers.activity] = pause_of(record)
            else:
                self.paused.pop(headers.activity, None)
            self._tell()
            return
        if wish_of(record):
            self._asked[headers.correlation_id] = record
            return
        asked = self._asked.get(headers.correlation_id)
        if asked is not None and asked.headers.message_id != headers.message_id:
            # Else whoever published this message asked that of it too, and is not read yet that far.
            del self._asked[headers.correlation_id]
        if is_marker(record):
            self.erased[headers.correlation_id] = record.id
        known = self._last.get(headers.correlation_id)
        if known is None or headers.epoch >= known.epoch:
            self._last[headers.correlation_id] = Intervention(headers.epoch, record.id, record.at, timer)

    def shown(self, record: Record) -> Record:
        """``record`` as it may be shown: of a workflow that was erased, without its contents."""
        erased = self.erased.get(record.headers.correlation_id)
        return record if erased is None or erased == record.id else stripped(record)

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def met(self, headers: Headers) -> None:
        """A message of this epoch has come: older ones are outdated, whatever the stream has told so far."""
        known = self._last.get(headers.correlation_id)
        if known is None or headers.epoch > known.epoch:
            self._last[headers.correlation_id] = Intervention(headers.epoch, "", 0.0, "")

    def asked(self, headers: Headers) -> Record | None:
        """What the step that ``headers`` ask for has to heed; None: nothing that is known here."""
        asked = self._asked.get(headers.correlation_id)
        if asked is not None and asked.headers.message_id == headers.message_id:
            return asked
        return self.asking.get(headers.message_id)

    def last(self, correlation_id: str) -> Intervention | None:
        """The last intervention in a workflow."""
        return self._last.get(correlation_id)

    def passed(self, headers: Headers) -> int:
        """The epoch that outdates a message; 0: it is not outdated."""
        known = self._last.get(headers.correlation_id)
        return known.epoch if known is not None and known.epoch > headers.epoch else 0


class Intervention:
    """What the fence knows of one workflow.

    Attributes:
        epoch: messages of an older one are outdated.
        id: of the record that it was journalled by.
        at: when.
        timer: for a deadline that came: the record that it ended.
    """

    __slots__ = ("at", "epoch", "id", "timer")

    def __init__(self, epoch: int, identity: str, at: float, timer: str) -> None:
        self.epoch = epoch
        self.id = identity
        self.at = at
        self.timer = timer


class ChosenIds(Mirror):
    """Correlation IDs that callers chose."""

    def __init__(self, line: Line, topology: Topology, publisher: Publisher, names: Names) -> None:
        super().__init__(line, topology, publisher, names, "ids")
        self.known: dict[str, int] = {}
        """Where in the stream each stands, in that order."""
        self._dropped = Dropped(line, self._queue)

    async def catch_up(self) -> None:
        """See :meth:`Mirror.catch_up`; what the stream has dropped since is forgotten."""
        await super().catch_up()
        await self._dropped.forget(self.known, lambda offset: offset, self._next)

    def note(self, correlation_id: str) -> None:
        """It was just chosen, and stands no sooner in the stream than all that was read of it."""
        self.known[correlation_id] = self._next

    def take(self, message: Message) -> None:
        """See :meth:`Mirror.take`."""
        record = wire.record_of(message)
        if record is not None:
            self.known.pop(record.headers.correlation_id, None)
            self.known[record.headers.correlation_id] = wire.offset_of(message)

    def reset(self) -> None:
        """See :meth:`Mirror.reset`."""
        self.known.clear()
