"""Reading stream queues: from an offset or a time, up to now or for ever.

Reading a stream takes nothing from it. A consumer is attached at an offset and told
what comes; the broker does not tell where the end is. It is found in two moves: a
second consumer attached at ``last`` gets the first message of the last chunk, and once
the reader has come to it, a round trip on its channel that brings no more means that
it has everything that was there when it asked.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import NamedTuple, Self, TypeVar

from pamqp.common import FieldValue

from paigeant_core.errors import ConnectError
from paigeant_core.transports.rabbitmq.connection import (
    Line,
    LineLost,
    Message,
    Missing,
    NotReady,
    quietly_close,
)
from paigeant_core.transports.rabbitmq.lanes import Lane
from paigeant_core.transports.rabbitmq.wire import copy_of, offset_of

T = TypeVar("T")

PREFETCH = 500
EMPTY_AFTER = 2.0
"""Seconds without a message after which a stream counts as empty. It is rare: a stream is made to be written to."""

NEW_STREAM = (0.05, 0.1, 0.2, 0.4)
"""Seconds between tries on a stream that somebody may just be making: the broker (3.10) refuses it, or hangs up."""

LOOK_AFTER = 100_000
"""Messages after which it is looked for again what a stream has dropped; a look costs a consumer."""

_NEAR = 64
"""Offsets that are read over rather than attached anew."""
_PARALLEL = 8


class Reading:
    """One consumer of a stream queue. Use :meth:`attach`."""

    def __init__(self, line: Line, queue: str, lane: Lane) -> None:
        self.queue = queue
        self._line = line
        self._lane = lane
        self._came: deque[Message] = deque()
        self._woken = asyncio.Event()
        self._prefetch = PREFETCH
        self._unacked = 0
        self._taken = 0
        self._gone = False
        self.after = -1
        """Messages up to this offset are dropped: a chunk begins before the offset asked for."""

    @classmethod
    async def attach(cls, line: Line, queue: str, start: int | str | float, *, prefetch: int = PREFETCH) -> Self:
        """Attach a consumer.

        Args:
            line: over which.
            queue: the stream's.
            start: an offset, a time in seconds since the epoch (a float), or what
                RabbitMQ knows: ``first``, ``last``, ``next``.
            prefetch: messages that may be on their way.

        Raises:
            Missing: no such queue.
            ConnectError: no line.
        """
        for wait in NEW_STREAM:
            try:
                return await cls._attach(line, queue, start, prefetch)
            except (NotReady, LineLost):
                await asyncio.sleep(wait)
        return await cls._attach(line, queue, start, prefetch)

    @classmethod
    async def _attach(cls, line: Line, queue: str, start: int | str | float, prefetch: int) -> Self:
        # Ahead of the lane, which would be left open by a time that is none.
        offset: FieldValue = datetime.fromtimestamp(max(0.0, start), UTC) if isinstance(start, float) else start
        lane = await line.lane(prefetch=prefetch)
        channel = lane.channel
        reading = cls(line, queue, lane)
        reading._prefetch = prefetch
        reading.after = start - 1 if isinstance(start, int) else -1
        channel.closing.add_done_callback(lambda _: reading._end())
        channel.on_consumer_cancel_callbacks.add(lambda _: reading._end())
        try:
            with line.errors():
                await lane.consume(queue, reading._on_message, "reading", {"x-stream-offset": offset})
        except BaseException:
            await quietly_close(lane)
            raise
        return reading

    async def batch(self, timeout: float | None = None) -> list[Message]:
        """What has come, at least one message; nothing after ``timeout`` seconds.

        Raises:
            Missing: the queue was deleted.
            ConnectError: the line was lost, or the broker sent the reader away from a queue that is still there.
        """
        if not self._came:
            if self._gone:
                raise await self._loss()
            # What is left unacknowledged for long ends a channel, however quiet its stream is.
            self._ack()
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
        if not self._came:
            if self._gone:
                raise await self._loss()
            return []
        batch = list(self._came)
        self._came.clear()
        self._unacked += len(batch)
        self._taken = batch[-1].delivery_tag or 0
        if self._unacked >= self._prefetch // 4:
            # Not each time: while some of the prefetch is left the broker sends on.
            self._ack()
        if offset_of(batch[0]) <= self.after:
            batch = [message for message in batch if offset_of(message) > self.after]
        return batch

    async def quiet(self) -> bool:
        """Ask the broker; True: nothing more had come by its answer."""
        if self._gone:
            raise await self._loss()
        self._ack()
        with self._line.errors():
            await self._lane.channel.basic_qos(prefetch_count=self._prefetch)
        return not self._came

    async def close(self) -> None:
        """Detach."""
        self._gone = True
        await quietly_close(self._lane)

    def _on_message(self, message: Message) -> None:
        self._came.append(message)
        self._woken.set()

    def _end(self) -> None:
        self._gone = True
        self._woken.set()

    def _ack(self) -> None:
        if self._unacked:
            self._unacked = 0
            with self._line.errors():
                self._lane.ack_up_to(self._taken)

    async def _loss(self) -> LineLost | NotReady | Missing:
        if not self._line.alive:
            return LineLost(f"the connection to RabbitMQ at {self._line.where} was lost")
        if await is_there(self._line, self.queue):
            # Its leader died, or this reader left something unacknowledged for too long.
            return NotReady(f"RabbitMQ at {self._line.where} sent a reader of {self.queue} away")
        return Missing(f"the stream {self.queue} is gone")


class Origin(NamedTuple):
    """What a stream begins with: one that was deleted and made anew begins with something else.

    Attributes:
        offset: of its first message; what is dropped with age makes it greater.
        copy: which message that is.
    """

    offset: int
    copy: str

    @classmethod
    def of(cls, first: Message) -> Self:
        """Of a stream of which this is the first message."""
        return cls(offset_of(first), copy_of(first))

    @classmethod
    async def find(cls, line: Line, queue: str) -> Self:
        """Look.

        Raises:
            Missing: no such queue.
            ConnectError: the line was lost, or nothing comes: it is empty, or the broker gives nothing of it now.
        """
        reading = await Reading.attach(line, queue, "first", prefetch=1)
        try:
            batch = await reading.batch(EMPTY_AFTER)
        finally:
            await reading.close()
        if not batch:
            raise silent(line, queue)
        return cls.of(batch[0])

    async def is_gone(self, line: Line, queue: str) -> bool:
        """Whether the stream of this name is another one by now. Where it ends tells less: a replica may be behind.

        Raises:
            Missing: no such queue.
            ConnectError: see :meth:`find`.
        """
        return self.differs(await self.find(line, queue))

    def differs(self, found: Origin) -> bool:
        """Whether ``found``, which was found later, is of another stream."""
        return found.offset < self.offset or (found.offset == self.offset and found.copy != self.copy)


class Dropped:
    """Lets who remembers what is in a stream forget what it has dropped: whoever reads it now knows none of that.

    Args:
        line: over which.
        queue: the stream's.
    """

    def __init__(self, line: Line, queue: str) -> None:
        self._line = line
        self._queue = queue
        self._looked = 0

    async def forget(self, known: dict[str, T], stands: Callable[[T], int], end: int) -> None:
        """Take out what is there no more, if enough has come since the last look; where nobody can tell, at the next.

        Args:
            known: what is remembered, in the order of the stream.
            stands: at which offset the last stands of what is remembered under one key.
            end: the offset behind all that was read.
        """
        # Of a stream that was made anew the offsets begin anew too.
        if abs(end - self._looked) < LOOK_AFTER:
            return
        self._looked = end
        with suppress(Missing, ConnectError):
            first = (await Origin.find(self._line, self._queue)).offset
            for key in list(takewhile(lambda key: stands(known[key]) < first, known)):
                del known[key]


async def is_there(line: Line, queue: str) -> bool:
    """Whether there is such a queue.

    Raises:
        ConnectError: the broker cannot be asked.
    """
    return await ready_in(line, queue) is not None


async def ready_in(line: Line, queue: str) -> int | None:
    """How many messages wait in a queue; None: there is none of that name, or the node that it is on is down.

    Raises:
        ConnectError: the broker cannot be asked.
    """
    try:
        async with line.borrowed() as channel:
            return (await channel.queue_declare(queue, passive=True)).message_count or 0
    except Missing:
        return None


async def last_chunk(line: Line, queue: str) -> int | None:
    """The offset of the first message in the last chunk; None: an empty stream.

    Raises:
        Missing: no such queue.
    """
    first = await first_of_last_chunk(line, queue)
    return None if first is None else offset_of(first)


async def first_of_last_chunk(line: Line, queue: str) -> Message | None:
    """The first message in the last chunk; None: an empty stream.

    Raises:
        Missing: no such queue.
    """
    reading = await Reading.attach(line, queue, "last", prefetch=1)
    try:
        batch = await reading.batch(EMPTY_AFTER)
        return batch[0] if batch else None
    finally:
        await reading.close()


async def up_to_now(
    line: Line, queue: str, start: int | str | float, *, keep: list[Reading] | None = None, sure: bool = False
) -> AsyncGenerator[list[Message], None]:
    """Everything from ``start`` up to what is there now, in batches; it ends also while more and more is written.

    Args:
        line: over which.
        queue: the stream's.
        start: see :meth:`Reading.attach`.
        keep: the reading is put here and left open, to be read on.
        sure: something has been written since ``start``, so silence does not mean that there is nothing: a cluster
            that is choosing a leader gives nothing for a while, nor does a broker that is very busy.

    Raises:
        Missing: no such queue.
        ConnectError: the line was lost; where that is ``sure``, also: it gives nothing now.
    """
    end = await last_chunk(line, queue)
    if end is None:
        if sure:
            raise silent(line, queue)
        return
    # One message back, so that something comes even when there is nothing new.
    after = start - 1 if isinstance(start, int) else -1
    reading = await Reading.attach(line, queue, max(0, after) if isinstance(start, int) else start)
    try:
        reading.after = -1
        seen, last = -1, sys.maxsize
        while seen < end or (seen < last and not await reading.quiet()):
            if seen >= end and last == sys.maxsize and (newer := await last_chunk(line, queue) or 0) > end:
                # It is never quiet. What was there is in the chunks before a newer one.
                last = newer - 1
                continue
            batch = await reading.batch(EMPTY_AFTER)
            if not batch:
                if seen >= 0:
                    # There is more, and a cluster can leave a reader without it when a node dies.
                    await reading.close()
                    reading = await Reading.attach(line, queue, seen + 1)
                    continue
                if sure:
                    raise silent(line, queue)
                # A time later than the last chunk, or an offset that this stream never had.
                await reading.close()
                if isinstance(start, int):
                    return
                reading = await Reading.attach(line, queue, end)
                continue
            seen = offset_of(batch[-1])
            if offset_of(batch[0]) <= after:
                batch = [message for message in batch if offset_of(message) > after]
            if batch:
                yield batch
        if keep is not None:
            keep.append(reading)
    finally:
        if keep is None or reading not in keep:
            await reading.close()


def silent(line: Line, queue: str) -> NotReady:
    """What is raised where a stream should give something, and does not."""
    return NotReady(f"RabbitMQ at {line.where} gives nothing of {queue} now")


async def fetch(line: Line, queue: str, offsets: Sequence[int]) -> list[Message]:
    """The messages at these offsets, as far as the stream still holds them, in order.

    Args:
        line: over which.
        queue: the stream's.
        offsets: rising.
    """
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and offset - runs[-1][-1] <= _NEAR:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(run: list[int]) -> list[Message]:
        async with gate:
            return await _fetch_run(line, queue, run)

    found = await asyncio.gather(*(one(run) for run in runs))
    return [message for messages in found for message in messages]


async def _fetch_run(line: Line, queue: str, run: list[int]) -> list[Message]:
    wanted = set(run)
    found: list[Message] = []
    reading = await Reading.attach(line, queue, run[0], prefetch=min(PREFETCH, run[-1] - run[0] + 1))
    try:
        seen = -1
        while seen < run[-1]:
            batch = await reading.batch(EMPTY_AFTER)
            if not batch:
                break
            seen = offset_of(batch[-1])
            found += [message for message in batch if offset_of(message) in wanted]
    finally:
        await reading.close()
    return found
