"""One open connection: what is asked goes out at once; who asked is told within the read that brings the answer.

redis-py makes the connection; from then on its transport speaks to a :class:`Wire`, which
feeds what comes straight to hiredis. No task, lock or timer belongs to a single call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
from redis import exceptions as driver
from redis.asyncio.connection import DefaultParser

from paigeant_core.transports.redis.alarm import Alarm
from paigeant_core.transports.redis.scripts import Command

Answered: TypeAlias = "Callable[[list[Any] | Exception], None]"
"""Told the answers to all that was asked in one call, or why there are none; it raises nothing."""

_BUFFER = 256 * 1024
_MORE = object()
_pack: Any = hiredis.pack_command


class Call:
    """Commands that go out together, and who waits for their answers.

    Args:
        commands: what to do.
        answered: told, once.
        wait: seconds that the server may take on purpose, beside the time-out.
        again: a part of it was sent before.

    Attributes:
        sent: whether they, or a part of them, went out, so that they may have been done.
    """

    __slots__ = ("again", "answered", "answers", "commands", "deadline", "sent", "wait")

    def __init__(
        self, commands: Sequence[Command], answered: Answered, wait: float = 0.0, *, again: bool = False
    ) -> None:
        self.commands = commands
        self.answered = answered
        self.wait = wait
        self.again = self.sent = again
        self.deadline = 0.0
        self.answers: list[Any] = []


Told: TypeAlias = "Callable[[Call, list[Any] | Exception], None]"


class Wire(asyncio.BufferedProtocol):
    """Answers calls in their order. Whatever goes wrong closes it, and all who wait are told.

    Args:
        writer: of a connection on which everything is answered so far; its transport is taken over.
        timeout: seconds without an answer after which it counts as broken.
        told: told of each call's answers, or of the first thing that went wrong.
    """

    def __init__(self, writer: asyncio.StreamWriter, timeout: float, told: Told) -> None:
        self.closed = writer.transport.is_closing()
        self._writer = writer  # kept: where it goes, it closes its transport
        self._transport = cast("asyncio.Transport", writer.transport)
        self._timeout = timeout
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Call] = deque()
        self._alarm = Alarm(self._look)
        self._buffer = memoryview(bytearray(_BUFFER))
        # Its types know of no buffer, but that is what it takes.
        self._parser: Any = hiredis.Reader(
            protocolError=driver.InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_MORE
        )
        self._transport.set_protocol(self)

    def ask(self, call: Call) -> None:
        """Send a call's commands in one write."""
        if self.closed:
            self._told(call, driver.ConnectionError("it is closed"))
            return
        call.sent = True
        call.deadline = deadline = self._loop.time() + self._timeout + call.wait
        self._calls.append(call)
        self._transport.write(pack(call.commands))
        if deadline < self._alarm.at:
            self._alarm.set(deadline)

    def fail(self, error: Exception) -> None:
        """Close it; ``error`` is what the first of those who wait is told."""
        self.close()
        calls, self._calls = self._calls, deque()
        for call in calls:
            self._told(call, error)
            error = driver.ConnectionError("it broke while others were answered")

    def close(self) -> None:
        """Close it, once what was sent is out."""
        self.closed = True
        self._alarm.cancel()
        self._transport.close()

    def drop(self) -> None:
        """Close it without a word, as a killed process does."""
        self._transport.abort()

    # -- the time-out -------------------------------------------------------------------

    def _look(self) -> None:
        """One timer for all calls: it looks which is due first, when it is over."""
        if not self._calls:
            return
        first = min(call.deadline for call in self._calls)
        if first > self._loop.time():
            self._alarm.set(first)
        else:
            self.fail(TimeoutError())

    # -- what the transport calls -------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        parser, whole = self._parser, False
        try:
            parser.feed(self._buffer, 0, nbytes)
            # Whoever is told may ask for more, or close it.
            while not self.closed and (answer := parser.gets()) is not _MORE:
                first = answer[0] if type(answer) is list and answer else answer
                if isinstance(first, driver.ConnectionError):
                    # It tells of the line, and not of a command: not logged in, still loading, too many clients.
                    self.fail(first)
                elif not self._calls:
                    self.fail(driver.InvalidResponse("an answer that nobody asked for"))
                else:
                    self._answer(answer)
                    whole = True
            if self._calls and (not whole or self._calls[0].answers):
                # A part of a long answer, or of many: what comes slowly over a thin line is no silence.
                deadline = self._loop.time() + self._timeout
                for call in self._calls:
                    call.deadline = max(call.deadline, deadline)
        except driver.RedisError as error:
            self.fail(error)

    def _answer(self, answer: Any) -> None:
        call = self._calls[0]
        call.answers.append(answer)
        if len(call.answers) == len(call.commands):
            self._calls.popleft()
            self._told(call, call.answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self.fail(exc or driver.ConnectionError("the server closed it"))


def pack(commands: Sequence[Command]) -> bytes:
    """``commands`` as they go over the line."""
    return _pack(commands[0]) if len(commands) == 1 else b"".join([_pack(command) for command in commands])
