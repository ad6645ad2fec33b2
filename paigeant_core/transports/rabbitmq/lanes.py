"""The short way past the driver, for what every hop does.

The driver makes objects, tasks and queue entries of each frame, and some turns of the
loop: with them a hop costs twice as much here, and RabbitMQ gets its publishes and
acknowledgements one by one. So a :class:`Tap` stands between the socket and the driver.
What comes for a channel that has a :class:`Lane` (deliveries, confirms) is dealt with
in the turn in which it came; publishes and acknowledgements are written as bytes. All
else is the driver's: log-in, channels, consumers, declarations, errors, heartbeats,
and the end of it all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from paigeant_core.transports.rabbitmq import frames

logger = logging.getLogger("paigeant")

_CHUNK = 1024 * 1024
_ALIVE_EVERY = 5.0
"""Seconds between two signs of life for the driver, which does not see what the lanes take."""


class Lane:
    """One channel's short way.

    Args:
        channel: opened by the driver, which neither publishes nor acknowledges on it.
        tap: of its connection.
        largest: bytes of the largest frame.

    Attributes:
        consumers: called with each delivery, by consumer tag.
    """

    def __init__(self, channel: AbstractChannel, tap: Tap, largest: int) -> None:
        self.channel = channel
        self.consumers: dict[str, Callable[[DeliveredMessage], None]] = {}
        self._tap = tap
        self._number = channel.number
        self._largest = largest
        self._closed = False
        self._published = 0
        self._unconfirmed: OrderedDict[int, asyncio.Future[None]] = OrderedDict()
        self._unacked: OrderedDict[int, None] = OrderedDict()
        self._done: list[int] = []
        self._coming: tuple[Basic.Deliver, ContentHeader, list[bytes]] | None = None
        self._end = channel.closing
        self._end.add_done_callback(self._ended)

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed or self.channel.is_closed

    async def close(self) -> None:
        """Send nothing more, and close the channel."""
        self._closed = True
        await self.channel.close()

    async def consume(
        self, queue: str, came: Callable[[DeliveredMessage], None], tag: str, arguments: FieldTable | None = None
    ) -> None:
        """Begin a consumer.

        Args:
            queue: of which.
            came: called with each delivery.
            tag: its name on this channel.
            arguments: as AMQP has them.
        """
        self.consumers[tag] = came
        await self.channel.basic_consume(queue, _nobody, consumer_tag=tag, arguments=arguments)

    def publish(self, item: frames.Outgoing) -> asyncio.Future[None]:
        """Publish; the future is done with the broker's confirm.

        Raises:
            ChannelInvalidStateError: the channel is closed.
        """
        if self.closed:
            raise ChannelInvalidStateError("the channel is closed")
        self._tap.send(frames.publish(self._number, item, self._largest))
        self._published += 1
        confirm = self._unconfirmed[self._published] = asyncio.get_running_loop().create_future()
        return confirm

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, in one frame with others that are acknowledged in this turn of the loop."""
        if not self._done:
            asyncio.get_running_loop().call_soon(self._acknowledge)
        self._done.append(tag)

    def ack_up_to(self, tag: int) -> None:
        """Acknowledge a delivery and all before it.

        Raises:
            ChannelInvalidStateError: the channel is closed.
        """
        if self.closed:
            raise ChannelInvalidStateError("the channel is closed")
        while self._unacked and (oldest := next(iter(self._unacked))) <= tag:
            del self._unacked[oldest]
        self._tap.send([frames.ack(self._number, tag, multiple=True)])

    def _acknowledge(self) -> None:
        done, self._done = sorted(self._done), []
        if self.closed:
            return
        unacked = self._unacked
        for tag in done:
            unacked.pop(tag, None)
        # All that came before the oldest one that is still held are done: one word says so.
        oldest = next(iter(unacked), done[-1] + 1)
        together = [tag for tag in done if tag < oldest]
        words = [frames.ack(self._number, tag, multiple=False) for tag in done[len(together) :]]
        if together:
            words.append(frames.ack(self._number, together[-1], multiple=True))
        self._tap.send(words)

    # -- what comes ---------------------------------------------------------------------

    def take(self, kind: int, frame: bytes) -> bool:
        """Deal with a frame of this channel; False: it is the driver's.

        Args:
            kind: of the frame.
            frame: what is in it.
        """
        if kind == frames.METHOD:
            method = frame[:4]
            if method == frames.DELIVER:
                self._coming = (frames.delivery(frame), ContentHeader(), [])
            elif method == frames.CONFIRMED:
                self._confirm(*frames.confirm(frame), None)
            elif method == frames.REFUSED:
                self._confirm(*frames.confirm(frame), DeliveryError(None, Basic.Nack()))
            else:
                if method == frames.GOT:
                    self._unacked[frames.confirm(frame)[0]] = None
                elif method in (frames.CLOSE, frames.CLOSED):
                    # The number may soon be another channel's.
                    self._closed = True
                    del self._tap.lanes[self._number]
                return False
        elif self._coming is None:
            return False
        else:
            delivery, header, parts = self._coming
            if kind == frames.HEADER:
                header = frames.header(frame)
                self._coming = (delivery, header, parts)
            else:
                parts.append(frame)
            if sum(map(len, parts)) >= header.body_size:
                self._coming = None
                self._deliver(delivery, header, b"".join(parts))
        return True

    def _deliver(self, delivery: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        self._unacked[delivery.delivery_tag or 0] = None
        consumer = self.consumers.get(delivery.consumer_tag or "")
        if consumer is None:
            # Cancelled meanwhile: the broker gives it to somebody when the channel is closed.
            return
        try:
            consumer(DeliveredMessage(delivery=delivery, header=header, body=body, channel=self.channel))
        except Exception as error:  # noqa: BLE001 - it must not end the line
            logger.error("with a delivery of RabbitMQ: %s: %s", type(error).__name__, error)

    def _confirm(self, tag: int, multiple: bool, error: Exception | None) -> None:
        unconfirmed = self._unconfirmed
        tags = [tag]
        if multiple:
            tags.clear()
            for known in unconfirmed:
                if known > tag:
                    break
                tags.append(known)
        for known in tags:
            confirm = unconfirmed.pop(known, None)
            if confirm is None or confirm.done():
                continue
            if error is None:
                confirm.set_result(None)
            else:
                confirm.set_exception(error)

    def abandon(self) -> None:
        """Send nothing more, and wait for no confirm any more."""
        self._fail(None)

    def _ended(self, end: asyncio.Future[Any]) -> None:
        self._fail(None if end.cancelled() else end.exception())

    def _fail(self, error: BaseException | None) -> None:
        self._closed = True
        while self._unconfirmed:
            _, confirm = self._unconfirmed.popitem()
            if not confirm.done():
                confirm.set_exception(error or ChannelInvalidStateError("the channel was closed"))


async def _nobody(_: DeliveredMessage) -> None:
    """Whom the driver would deliver to; the lane comes before it."""


class Tap:
    """Stands between socket and driver: in place of the one it is reader and writer to the other.

    What is written in one turn of the loop is sent in one piece: with many hops at once
    that saves a system call and a packet for every publish.

    Args:
        reader: of the socket.
        writer: of the socket.

    Attributes:
        lanes: by channel number.
        blocked: why the broker takes no publishes, in its words; empty: it does.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lanes: dict[int, Lane] = {}
        self.blocked = ""
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._rest = b""
        self._passed = bytearray()
        self._told = 0.0

    # -- what the driver reads ------------------------------------------------------------

    def at_eof(self) -> bool:
        """Whether the driver has read everything there was."""
        return not self._passed and self._reader.at_eof()

    async def readexactly(self, count: int) -> bytes:
        """So many bytes for the driver.

        Raises:
            IncompleteReadError: the line ended before.
        """
        passed = self._passed
        while len(passed) < count:
            data = await self._reader.read(_CHUNK)
            if not data:
                raise asyncio.IncompleteReadError(bytes(passed), count)
            self._sort(self._rest + data)
        data = bytes(passed[:count])
        del passed[:count]
        return data

    def _note(self, frame: bytes) -> None:
        """Whether the broker takes publishes, where it says so; the driver heeds it too."""
        if frame.startswith(frames.BLOCKED):
            # A short string: its length, and its bytes.
            self.blocked = frame[5:].decode("utf-8", "replace") or "for a reason that it does not tell"
        elif frame.startswith(frames.UNBLOCKED):
            self.blocked = ""

    def _sort(self, data: bytes) -> None:
        """Give the lanes their frames, and the driver the others."""
        at, end = 0, len(data)
        taken = False
        lanes, passed = self.lanes, self._passed
        while end - at >= 8:
            kind, number, size = frames.FRAME.unpack_from(data, at)
            if kind > frames.HEARTBEAT:
                # No frame: what is there speaks something else, and the driver knows what to say to it.
                passed += data[at:]
                at = end
                break
            after = at + size + 8
            if after > end:
                break
            lane = lanes.get(number)
            if lane is not None and lane.take(kind, data[at + 7 : after - 1]):
                taken = True
            elif kind == frames.HEADER:
                passed += frames.readable(data[at:after])
            else:
                passed += data[at:after]
                if number == 0 and kind == frames.METHOD:
                    self._note(data[at + 7 : after - 1])
            at = after
        self._rest = data[at:]
        if taken and (now := self._loop.time()) - self._told > _ALIVE_EVERY:
            self._told = now
            passed += frames.ALIVE

    # -- what the driver writes -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send soon."""
        self.send([data])

    def send(self, parts: list[bytes]) -> None:
        """Send soon, one after the other."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts += parts

    async def drain(self) -> None:
        """Send now, and wait until the socket takes more."""
        self._flush()
        await self._writer.drain()

    def write_eof(self) -> None:
        """Send, and then no more."""
        self._flush()
        self._writer.write_eof()

    def close(self) -> None:
        """Send, and close."""
        self._flush()
        self._writer.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            if not self._writer.is_closing():
                self._writer.write(b"".join(parts))
