"""The one seam to the driver: lines to the broker, and its errors as ours.

A :class:`Line` is one AMQP connection that is made when it is first needed and made
anew when it was lost. It restores nothing by itself: whoever holds channels, consumers
or locks sees :attr:`Line.serial` rise and builds them again, which is simpler to reason
about than a driver that re-plays what it remembers.

It is aiormq that is talked to, the driver underneath aio-pika, because a hop should not
pay for aio-pika's message objects and for connections that restore themselves.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, cast

import aiormq
from aiormq import exceptions as driver
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp.commands import Basic
from yarl import URL

from paigeant_core.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    PublishError,
    PublishUnknown,
    TransportError,
    Unsupported,
)
from paigeant_core.transports.rabbitmq.lanes import Lane, Tap
from paigeant_core.urls import each_address

logger = logging.getLogger("paigeant")

# The driver tells of each lost line at length, with tracebacks; we say it in one line.
# Who wants its words sets a level on this logger.
if logging.getLogger("aiormq").level == logging.NOTSET:
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)

Channel = AbstractChannel
Message = DeliveredMessage
Properties = Basic.Properties

HEARTBEAT = 60
"""Seconds; a handler may block the loop for twice as long before the broker hangs up."""

CONNECT_TIMEOUT = 10.0
SHORTEST_TIMEOUT = 3.0
"""Seconds that each of several servers has at least to answer in."""

STEADY = 5.0
"""Seconds that something must have stood before the next try for it is made almost at once again."""
LONGEST_WAIT = 5.0
_SPARE = 4
_END_TIMEOUT = 1.0
"""Seconds in which a cancelled task ends, if it was told."""
_FRAME_MAX = 128 * 1024
OLDEST_VERSION = (3, 10)


class LineLost(ConnectError):
    """The line broke while something was asked of the broker."""


class LockLost(LineLost):
    """The line broke, and with it a lock was lost that something was to be published under."""


class NotReady(ConnectError):
    """The broker cannot do that just now."""


class TakenInPart(PublishUnknown):
    """One queue refused a publish, say one whose leader was just lost: another one that it led to may have it."""


class Missing(TransportError):
    """That queue or exchange does not exist."""


class Locked(TransportError):
    """Another connection has that exclusive queue."""


class Waits:
    """Waits between tries, longer each time; tells of a refusal once."""

    def __init__(self, first: float = 0.05) -> None:
        self._first = self._wait = first
        self._told = False

    def reset(self, since: float) -> bool:
        """Wait briefly again, if what was tried for stood long enough.

        Args:
            since: when it began to, by the loop's clock; infinity: it never did.

        Returns:
            Whether it did.
        """
        if asyncio.get_running_loop().time() - since <= STEADY:
            return False
        self._wait, self._told = self._first, False
        return True

    async def next(self, error: Exception | None = None) -> None:
        """Wait.

        Args:
            error: why.
        """
        if isinstance(error, PublishError | TakenInPart | AuthenticationError) and not self._told:
            self._told = True
            logger.warning("%s; trying again", error)
        await asyncio.sleep(self._wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, protects nothing
        self._wait = min(self._wait * 2, LONGEST_WAIT)


class Turn:
    """A lock of the loop that runs: a transport may be used in one after the other, as ``asyncio.run`` makes them."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Whoever had or awaited the other one went with its loop.
            self._loop, self._lock = loop, asyncio.Lock()
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Line:
    """One connection to the broker.

    Args:
        url: of the broker. Of several servers any will do, and another one when that does not answer.
        purpose: what it is for; RabbitMQ shows it as the connection's name.

    Attributes:
        serial: how many times it was made; what was built on an older one is gone.
    """

    def __init__(self, url: str, purpose: str) -> None:
        try:
            self._addresses = [_Address(each, _called(URL(each), purpose)) for each in each_address(url)]
        except (ValueError, TypeError):
            raise ConfigError("the broker URL cannot be read; write e.g. amqp://host:5672/") from None
        # So that connections spread over the servers of a cluster.
        random.shuffle(self._addresses)
        self.vhost = self._addresses[0].url.path[1:] or "/"
        self.serial = 0
        self._connection: aiormq.Connection | None = None
        self._tap: Tap | None = None
        self._sockets: list[asyncio.StreamWriter] = []
        self._spare: list[Channel] = []
        self._lock = Turn()
        self._closed = False

    @property
    def url(self) -> str:
        """The URL with the one address that it is connected to, or was tried last."""
        return self._addresses[0].text

    @property
    def where(self) -> str:
        """Host and port of :attr:`url`, for people."""
        url = self._addresses[0].url
        return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._connection is not None and self._connection.is_opened

    @property
    def blocked(self) -> str:
        """Why the broker takes no publishes over this connection, in its words; empty: it does, or was not tried."""
        return self._tap.blocked if self.alive and self._tap is not None else ""

    @property
    def server(self) -> dict[str, Any]:
        """What the broker said of itself when it was last connected."""
        return dict(self._connection.server_properties or {}) if self._connection is not None else {}

    async def connect(self) -> aiormq.Connection:
        """The connection, made if there is none.

        Raises:
            ConnectError: nothing answers there, or no such virtual host.
            AuthenticationError: user or password were refused.
            Unsupported: a broker that is too old.
        """
        if self._connection is not None and self._connection.is_opened:
            return self._connection
        async with self._lock:
            if self._closed:
                raise LineLost(f"the connection to RabbitMQ at {self.where} was closed")
            if self._connection is None or not self._connection.is_opened:
                self._connection = await self._open()
                self.serial += 1
            return self._connection

    async def connect_patiently(self) -> None:
        """Connect; wait and try again, for ever, where nothing answers.

        Raises:
            AuthenticationError: user or password were refused.
            Unsupported: a broker that is too old.
        """
        waits = Waits()
        while True:
            try:
                await self.connect()
                return
            except (AuthenticationError, Unsupported):
                raise
            except ConnectError:
                if self._closed:
                    raise
                await waits.next()

    async def channel(self, *, confirms: bool = False, prefetch: int = 0) -> Channel:
        """A new channel.

        Args:
            confirms: for publishing; the broker confirms each publish.
            prefetch: how many deliveries each of its consumers may have unacknowledged.
        """
        connection = await self.connect()
        with self.errors():
            channel = await connection.channel(publisher_confirms=confirms)
            if prefetch:
                await channel.basic_qos(prefetch_count=prefetch)
            return channel

    async def lane(self, *, confirms: bool = False, prefetch: int = 0) -> Lane:
        """A new channel with the short way past the driver; arguments as for :meth:`channel`."""
        channel = await self.channel(confirms=confirms, prefetch=prefetch)
        connection, tap = channel.connection, self._tap
        if tap is None or connection is not self._connection:
            raise LineLost(f"the connection to RabbitMQ at {self.where} was lost")
        lane = tap.lanes[channel.number] = Lane(channel, tap, connection.connection_tune.frame_max or _FRAME_MAX)
        return lane

    def ack(self, message: Message) -> None:
        """Acknowledge a delivery that came over a lane's channel, if it still stands."""
        lane = self._tap.lanes.get(message.channel.number) if self._tap is not None else None
        if lane is not None and lane.channel is message.channel and message.delivery_tag:
            lane.ack(message.delivery_tag)

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Channel]:
        """A channel for a few calls, one after the other; kept for the next who needs one."""
        channel = self._spare.pop() if self._spare else None
        if channel is None or channel.is_closed:
            channel = await self.channel()
        try:
            with self.errors():
                yield channel
        except BaseException:
            # A call may still be under way on it.
            await quietly_close(channel)
            raise
        if len(self._spare) < _SPARE:
            self._spare.append(channel)
        else:
            await quietly_close(channel)

    async def lost(self) -> None:
        """Wait until the connection is gone."""
        if self._connection is not None and not self._connection.is_closed:
            await asyncio.wait([self._connection.closing])

    def cut(self) -> None:
        """Let go of the socket as a killed process does."""
        self._closed = True
        for writer in self._sockets:
            writer.transport.abort()

    async def close(self) -> None:
        """Close; safe to repeat."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver.AMQPError, OSError, RuntimeError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await connection.close()
            for writer in self._sockets:
                if not writer.transport.is_closing():
                    writer.transport.abort()  # the broker did not let it go in time

    def errors(self) -> _Errors:
        """A context in which the driver's errors become ours."""
        return _Errors(self.where)

    async def _open(self) -> aiormq.Connection:
        refused: list[str] = []
        for _ in self._addresses:
            try:
                return await self._open_first()
            except (AuthenticationError, Unsupported):
                raise
            except ConnectError as error:
                refused.append(str(error))
                self._addresses.append(self._addresses.pop(0))
        raise ConnectError("; ".join(refused))

    async def _open_first(self) -> aiormq.Connection:
        url = self._addresses[0].url
        within = max(CONNECT_TIMEOUT / len(self._addresses), SHORTEST_TIMEOUT)
        factory = _Sockets(TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory())
        self._sockets = factory.writers
        connection = aiormq.Connection(url, transport_factory=factory, limit=1024 * 1024)
        try:
            async with asyncio.timeout(within):
                await connection.connect()
        except TimeoutError:
            raise ConnectError(f"no RabbitMQ answers at {self.where}: no answer in {within:g} s") from None
        except (driver.AMQPError, OSError, EOFError) as error:
            raise self._refusal(error) from None
        finally:
            if not connection.is_opened:
                for writer in factory.writers:
                    writer.transport.abort()
        self._tap = factory.tap
        version = str((connection.server_properties or {}).get("version", ""))
        if version_of(version) < OLDEST_VERSION:
            await connection.close()
            raise Unsupported(f"RabbitMQ {version} at {self.where} is too old: 3.10 is the oldest that works")
        return connection

    def _refusal(self, error: Exception) -> ConnectError:
        if isinstance(error, driver.ProbableAuthenticationError | driver.AuthenticationError):
            return AuthenticationError(f"RabbitMQ at {self.where} refused the user name or the password")
        if isinstance(error, driver.InvalidFrameError) and "Connection.OpenOk" in str(error):
            # The driver hides the reason, but after the login only the virtual host is left to refuse.
            return ConnectError(
                f"RabbitMQ at {self.where} refused the virtual host {self.vhost!a}: "
                "it does not exist, or this user may not use it"
            )
        if isinstance(error, driver.ProtocolSyntaxError | driver.IncompatibleProtocolError | EOFError):
            return ConnectError(f"what answers at {self.where} is no RabbitMQ")
        reason = str(error.args[-1]) if error.args else type(error).__name__
        return ConnectError(f"no RabbitMQ answers at {self.where}: {reason[:200]}")


class _Address(NamedTuple):
    """One of the servers.

    Attributes:
        text: the URL as it was given, with this address alone.
        url: for the driver.
    """

    text: str
    url: URL


def _called(url: URL, purpose: str) -> URL:
    return url.update_query({"heartbeat": str(HEARTBEAT), **url.query, "name": f"paigeant {purpose}"})


class _Sockets(TransportFactory):
    """Taps the socket of a connection, and remembers it, so that it can be cut."""

    tap: Tap

    def __init__(self, factory: TransportFactory) -> None:
        self._factory = factory
        self.writers: list[asyncio.StreamWriter] = []

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See :class:`TransportFactory`."""
        reader, writer = await self._factory.create(url, **kwargs)
        self.writers.append(writer)
        self.tap = tap = Tap(reader, writer)
        return cast("asyncio.StreamReader", tap), cast("asyncio.StreamWriter", tap)


class _Errors:
    """Maps what the driver raises; cheaper than a generator where it stands in every hop."""

    __slots__ = ("_before", "_where")

    def __init__(self, where: str) -> None:
        self._where = where
        self._before = 0

    def __enter__(self) -> None:
        self._before = cancellations()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TransportError):
            return
        found = self.of(error)
        if found is None:
            return
        if cancellations() == self._before:
            # A closing connection cancels who waits for it, which is no cancellation of ours.
            raise found from None
        if not isinstance(error, asyncio.CancelledError):
            # The driver lets a refusal take the place of a cancellation that comes in the same moment.
            raise asyncio.CancelledError from error

    def of(self, error: BaseException) -> TransportError | None:
        """What ``error`` is among ours; None: not the driver's."""
        where = self._where
        if isinstance(error, driver.DeliveryError):
            return TakenInPart(f"RabbitMQ at {where} refused a publish")
        if isinstance(error, driver.ChannelNotFoundEntity):
            return Missing(f"RabbitMQ at {where}: {_reply(error)}")
        if isinstance(error, driver.ChannelLockedResource):
            return Locked(f"RabbitMQ at {where}: {_reply(error)}")
        if isinstance(error, driver.ChannelAccessRefused):
            return AuthenticationError(f"RabbitMQ at {where} does not allow it: {_reply(error)}")
        if isinstance(error, driver.ChannelPreconditionFailed):
            # Other arguments than ours stay; anything else passes: a stream without its leader after a start, say.
            kind = Unsupported if "inequivalent arg" in str(error) else NotReady
            return kind(f"RabbitMQ at {where} refused: {_reply(error)}")
        lost = (driver.AMQPError, driver.ChannelInvalidStateError, asyncio.CancelledError, OSError, RuntimeError)
        if isinstance(error, lost):
            return LineLost(f"the connection to RabbitMQ at {where} was lost")
        return None


_closing: set[asyncio.Task[None]] = set()
"""Channels that are being closed; the loop alone would not keep their tasks."""


async def quietly_close(channel: Channel | Lane) -> None:
    """Close ``channel``, whatever became of it.

    It is closed to the end also where whoever waits for it is cancelled: the driver, cancelled behind the broker's
    answer, would close once more what is closed, and RabbitMQ ends the connection for that.
    """
    task = asyncio.create_task(_close(channel))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.shield(task)


async def _close(channel: Channel | Lane) -> None:
    with suppress(driver.AMQPError, RuntimeError, OSError):
        await channel.close()


def cancellations() -> int:
    """How often the task that asks was cancelled, whatever the driver made of it."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel ``tasks`` and wait until they are over; where a cancellation got lost in the driver, it is said again."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_END_TIMEOUT)
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def ignoring_loss() -> Iterator[None]:
    """For farewells: that the line is gone is no matter."""
    with suppress(ConnectError, PublishUnknown, driver.AMQPError, RuntimeError, OSError):
        yield


def version_of(text: str) -> tuple[int, ...]:
    """``3.10.8`` as numbers; what cannot be read is newest."""
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else (1 << 30,)


def _reply(error: Exception) -> str:
    return ascii(str(error.args[0]) if error.args else str(error))[1:-1][:300]
