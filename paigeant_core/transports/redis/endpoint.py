"""Where the server is, how to log in there, and what its errors are among ours: the one seam to redis-py.

redis-py does the connecting: URL, TLS, AUTH, SELECT.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from contextlib import suppress
from typing import Any, cast

from redis import exceptions as driver
from redis.asyncio.connection import Connection as TCPConnection
from redis.asyncio.connection import parse_url
from redis.connection import Connection as ThreadTCPConnection
from redis.connection import parse_url as parse_url_for_threads

from paigeant_core.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    PublishError,
    TransportError,
    Unsupported,
)
from paigeant_core.transports.redis.addresses import Addresses, NoneLeads, Question
from paigeant_core.transports.redis.wire import pack

TIMEOUT = 5.0
"""Seconds without an answer after which a line counts as broken."""

STAY = 1.0
"""Seconds for which lines to a server are kept at least that turns out to be a replica: it may stay the only one."""

_TRIES = 4
"""Servers that are silent may be tried within one time-out, where there are several."""

_POOL_ONLY = ("max_connections", "timeout")
_TRANSIENT = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"}
)
"""What a server says that cannot take a write just now; it may later."""
_IN_SCRIPT = re.compile(r"-([A-Z]{3,}) ")


class LineLost(ConnectError):
    """The line broke, or nobody answered in time.

    Attributes:
        sent: whether the commands had gone out, so that they may have been done.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Endpoint:
    """Where the server is and how to log in there, read from a URL once.

    Args:
        url: ``redis://``, ``rediss://`` or one of sentinels, with any option that redis-py knows.

    Raises:
        ConfigError: redis-py cannot read it, or no primary is named to the sentinels.

    Attributes:
        address: for people.
        timeout: seconds without an answer after which a line counts as broken.
        serial: raised when the server that led turned out to be a replica; older lines lead there.
    """

    def __init__(self, url: str) -> None:
        self._addresses = Addresses(url)
        self.serial = 0
        self._stay_until = 0.0
        try:
            self._options: dict[str, Any] = dict(parse_url(self._addresses.plain))
            self._thread_options: dict[str, Any] = dict(cast("Any", parse_url_for_threads)(self._addresses.plain))
            self._class: Any = self._options.pop("connection_class", TCPConnection)
            self._thread_class: Any = self._thread_options.pop("connection_class", ThreadTCPConnection)
            timeout = self._options.pop("socket_timeout", TIMEOUT)
            self.timeout = float(timeout or TIMEOUT)
            for options in (self._options, self._thread_options):
                for name in _POOL_ONLY:
                    options.pop(name, None)
                # No CLIENT SETINFO, no RESP3 handshake: a new line costs one round trip.
                options.update(protocol=2, driver_info=None)
            if self.has_others:
                for options in (self._options, self._thread_options):
                    options.setdefault("socket_connect_timeout", self.timeout / _TRIES)
            # Here the time-out is one for the whole round trip, see Line.
            self._options["socket_timeout"] = None
            self._thread_options["socket_timeout"] = self.timeout
            sample = self.connection()
        except (ValueError, TypeError) as error:
            reason = str(error).rpartition("() ")[2]
            raise ConfigError(f"the broker URL has an option that cannot be used: {reason}") from None
        self.address = self._addresses.text if isinstance(sample, TCPConnection) else "the server"

    def connection(self) -> Any:
        """A new connection for an event loop, not connected yet.

        Untyped, as redis-py is in many places; this module alone touches it.
        """
        return self._class(**self._options)

    def released(self, connection: Any) -> asyncio.StreamWriter:
        """What an open connection writes to; the connection knows no more of it, and may be thrown away."""
        writer: asyncio.StreamWriter = connection._writer
        connection._reader = connection._writer = None
        return writer

    def hang_up(self, connection: Any) -> None:
        """Close a connection as far as it was made."""
        connection._close()

    def thread_connection(self) -> Any:
        """A new connection for a thread, not connected yet."""
        return self._thread_class(**self._thread_options)

    @property
    def has_others(self) -> bool:
        """Whether another server may lead when this one does not."""
        return self._addresses.to_search

    async def open(self, connection: Any) -> None:
        """Connect; where there are several servers, to the one that leads."""
        if not self.has_others:
            await connection.connect()
            return
        search = self._addresses.search(_reason)
        with suppress(StopIteration):
            question = next(search)
            while True:
                question = search.send(await self._ask(connection, question))

    async def _ask(self, connection: Any, question: Question) -> Any:
        asked = self._led_to(connection, question, self._options)
        try:
            # A silent one must not use up the time for the others.
            async with asyncio.timeout(self.timeout / _TRIES):
                await asked.disconnect(nowait=True)
                await asked.connect()
                await asked.send_packed_command(pack((question.command,)), check_health=False)
                return await asked.read_response()
        except (driver.RedisError, OSError) as error:
            await asked.disconnect(nowait=True)
            return error
        finally:
            if asked is not connection:
                await asked.disconnect(nowait=True)

    def open_in_thread(self, connection: Any) -> None:
        """As :meth:`open`, of a thread's connection."""
        if not self.has_others:
            # It may still be open, to a server that was left; then it would not be made anew.
            connection.disconnect()
            connection.connect()
            return
        search = self._addresses.search(_reason)
        with suppress(StopIteration):
            question = next(search)
            while True:
                question = search.send(self._ask_in_thread(connection, question))

    def _ask_in_thread(self, connection: Any, question: Question) -> Any:
        asked = self._led_to(connection, question, self._thread_options)
        try:
            asked.disconnect()
            asked.connect()
            asked.send_packed_command([pack((question.command,))], check_health=False)
            return asked.read_response()
        except (driver.RedisError, OSError) as error:
            asked.disconnect()
            return error
        finally:
            if asked is not connection:
                asked.disconnect()

    def _led_to(self, connection: Any, question: Question, options: dict[str, Any]) -> Any:
        """The connection to ask over: this one, or for a sentinel another one of its kind."""
        asked = connection
        if question.sentinel:
            user, password = self._addresses.sentinel_login
            login = {"db": 0, "username": user or None, "password": password or None}
            asked = type(connection)(**{**options, **login})
        asked.host, asked.port = question.host, question.port
        return asked

    def lost(self, error: BaseException, *, sent: bool) -> TransportError:
        """What ``error``, raised by a connection, is among ours."""
        if isinstance(error, driver.AuthenticationError | driver.AuthorizationError):
            return AuthenticationError(f"Redis at {self.address} refused the user name or the password")
        if isinstance(error, NoneLeads):
            return LineLost(f"no Redis that leads answers: {error}", sent=False)
        if isinstance(error, driver.InvalidResponse):
            return ConnectError(f"what answers at {self.address} is no Redis server")
        if isinstance(error, driver.ResponseError):
            return self.refused(error)
        if isinstance(error, driver.BusyLoadingError):
            return LineLost(f"Redis at {self.address} is still loading its data", sent=False)
        if sent:
            reason = "no answer in time" if _is_timeout(error) else "the line broke"
            return LineLost(f"Redis at {self.address}: {reason}", sent=True)
        return LineLost(f"no Redis answers at {self.address}: {_reason(error)}", sent=False)

    def refused(self, error: driver.ResponseError) -> TransportError:
        """What an error that the server answered is among ours."""
        code = code_of(error)
        text = str(error)[:200]
        if is_demoted(error):
            self._leave()
        if code in ("NOAUTH", "WRONGPASS"):
            return AuthenticationError(f"Redis at {self.address} refused the user name or the password")
        if code == "OOM":
            return PublishError(f"Redis at {self.address} is out of memory and takes no writes")
        if code in ("MOVED", "ASK"):
            # "MOVED 3999 127.0.0.1:6381": https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
            owner = text.rpartition(" ")[2]
            where = f"Redis at {self.address} is one node of a cluster, and the topic is at {owner}"
            return Unsupported(f"{where}: name that node in the URL")
        return PublishError(f"Redis at {self.address} refused: {text}")

    def _leave(self) -> None:
        """Let every line be made anew: also one name may lead to another server by now."""
        now = time.monotonic()
        if now >= self._stay_until:
            self._stay_until = now + STAY
            self.serial += 1

    def check(self, answer: object) -> None:
        """Raise where ``answer`` is an error: as a lost line where it may pass.

        Raises:
            LineLost: the server cannot do it now.
            TransportError: it will not do it.
        """
        if isinstance(answer, driver.ResponseError):
            refused = self.refused(answer)
            raise LineLost(str(refused), sent=False) if is_transient(answer) else refused


def code_of(error: driver.ResponseError) -> str:
    """The upper-case word that a server's error begins with, also out of a script."""
    text = str(error)
    if error.status_code and error.status_code != "ERR":
        return str(error.status_code)
    word = text.partition(" ")[0]
    if word.isupper() and word != "ERR":
        return word
    # Redis 6.2 wraps what a command in a script answered into a sentence.
    inner = _IN_SCRIPT.search(text)
    return inner.group(1) if inner else "ERR"


def is_transient(error: driver.ResponseError) -> bool:
    """Whether to try the same later is worth it."""
    return code_of(error) in _TRANSIENT


def is_demoted(error: driver.ResponseError) -> bool:
    """Whether a replica answered."""
    return code_of(error) == "READONLY"


def is_gone(error: driver.ResponseError) -> bool:
    """Whether a stream was deleted, before it was read or, as Redis 7 says, while a read waited."""
    return code_of(error) in ("NOGROUP", "UNBLOCKED")


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | driver.TimeoutError)


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError) or getattr(cause, "errno", None) == errno.ECONNREFUSED:
            return "connection refused"
        if _is_timeout(cause):
            return "no answer in time"
        if isinstance(cause, OSError) and cause.errno:
            return str(cause.strerror or os.strerror(cause.errno)).lower()
        cause = cause.__cause__ or cause.__context__
    return "the connection could not be made"
