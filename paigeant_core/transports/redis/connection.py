"""Lines to the server: one conversation at a time each, and who repeats what when one breaks.

A :class:`Line` is one connection with one conversation at a time: several commands go
out in one write, their answers come back in order. It repeats nothing by itself, so
whoever uses it knows what may have been done twice; :class:`Lines` repeats for callers
whose commands are idempotent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis import exceptions as driver

from paigeant_core.transports.redis.endpoint import Endpoint, LineLost
from paigeant_core.transports.redis.scripts import Command, text_of
from paigeant_core.transports.redis.wire import Answered, Call, Wire, pack


class Backoff:
    """How long to wait before the next try: exponential, with jitter, reset by a success."""

    def __init__(self, first: float = 0.05, cap: float = 5.0) -> None:
        self._first = first
        self._cap = cap
        self.failures = 0

    def next(self) -> float:
        """Count a failure; the seconds to wait."""
        wait = min(self._cap, self._first * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """It worked."""
        self.failures = 0


class Line:
    """One connection. Calls that are made while another waits for its answers go out behind it at once.

    Whatever goes wrong closes it, and all who wait on it are told.

    Args:
        endpoint: where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Call] = []
        """Calls that go out as soon as it is open."""
        self._opened = 0
        self._serial = 0

    @property
    def connected(self) -> bool:
        """Whether it is open to the server that leads, as far as is known."""
        return self._wire is not None and not self._wire.closed and self._serial == self._endpoint.serial

    def begin(self, commands: Sequence[Command], answered: Answered, wait: float = 0.0) -> Call:
        """Send ``commands`` in one write now, or as soon as the line is open; see :meth:`call` for the answers.

        Args:
            commands: what to do.
            answered: told the answers, or what :meth:`call` would raise; within the loop's very turn in which they
                come, never before this returns.
            wait: seconds that the server may take on purpose, beside the time-out.
        """
        call = Call(commands, answered, wait)
        self._send(call)
        return call

    async def call(self, *commands: Command, wait: float = 0.0) -> list[Any]:
        """Send ``commands`` in one write and return their answers; connect if need be.

        An error that the server answered to a command stands in its place among the
        answers, as an exception. A script that the server does not know (any more) is
        given to it and called again.

        Args:
            commands: what to do.
            wait: seconds that the server may take on purpose, beside the time-out.

        Raises:
            LineLost: not connected, broken, or no answer in time.
            AuthenticationError: user or password were refused.
        """
        if not commands:
            return []  # no answer would ever come
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        call = Call(commands, partial(_resolve, future), wait)
        self._send(call)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._abandon(call)
            else:
                future.exception()  # it was answered in the same turn, and nobody will ask
            raise

    def _send(self, call: Call) -> None:
        if self._wire is not None and self.connected:
            self._wire.ask(call)
            return
        self._waiting.append(call)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        connection, serial = self._endpoint.connection(), self._endpoint.serial
        try:
            async with asyncio.timeout(self._endpoint.timeout):
                if self._wire is not None:
                    await self._emptied(self._wire)
                await self._endpoint.open(connection)
            wire = Wire(self._endpoint.released(connection), self._endpoint.timeout, self._told)
        except asyncio.CancelledError:
            self._endpoint.hang_up(connection)
            raise  # whoever cancelled it has told all who waited
        except Exception as error:  # noqa: BLE001 - they are told, whatever it is
            self._endpoint.hang_up(connection)
            self._opening = None
            self._tell_waiting(error)
            return
        self._wire, self._serial, self._opening = wire, serial, None
        self._opened += 1
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            wire.ask(call)

    async def _emptied(self, wire: Wire) -> None:
        """Close ``wire``, which leads to a replica; whoever was there before has his answers first."""
        if not wire.closed:
            answered = asyncio.Event()
            wire.ask(Call((("PING",),), lambda _: answered.set()))
            await answered.wait()
            wire.close()

    def _told(self, call: Call, result: list[Any] | Exception) -> None:
        if isinstance(result, list):
            for answer in result:
                if isinstance(answer, driver.NoScriptError) and not call.again and self._teach(call, result):
                    return
        elif isinstance(result, driver.RedisError | OSError):
            result = self._endpoint.lost(result, sent=call.sent)
        call.answered(result)

    def _teach(self, call: Call, answers: list[Any]) -> bool:
        """Give the server the scripts that it did not know, and ask again; False: they are none of ours."""
        unknown: dict[int, str] = {}
        commands: list[Command] = []
        for index, (command, answer) in enumerate(zip(call.commands, answers, strict=True)):
            if isinstance(answer, driver.NoScriptError) and (text := text_of(command)) is not None:
                unknown[index] = text
                commands += ("SCRIPT", "LOAD", text), command

        def taught(result: list[Any] | Exception) -> None:
            if isinstance(result, list):
                for index, answer in zip(unknown, result[1::2], strict=True):
                    answers[index] = answer
                result = answers
            call.answered(result)

        if commands:
            self._send(Call(commands, taught, call.wait, again=True))
        return bool(commands)

    def _abandon(self, call: Call) -> None:
        """Nobody waits for a call any more: what comes next on this line answers another question."""
        if call not in self._waiting:
            if self._wire is not None:
                self._wire.fail(driver.ConnectionError("whoever asked was cancelled"))
            return
        self._waiting.remove(call)
        if not self._waiting:
            self._end_opening()

    def _end_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _tell_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._told(call, error)

    async def one(self, command: Command, wait: float = 0.0) -> Any:
        """The answer to ``command``; the server's errors are raised as ours."""
        (answer,) = await self.call(command, wait=wait)
        if isinstance(answer, driver.ResponseError):
            raise self._endpoint.refused(answer)
        return answer

    def close(self) -> None:
        """Close the connection, and tell all who wait; a later call opens it again."""
        closed = driver.ConnectionError("it was closed")
        self._end_opening()
        self._tell_waiting(closed)
        if self._wire is not None:
            self._wire.fail(closed)

    def drop(self) -> None:
        """Close the connection without a word, as a killed process does."""
        if self._wire is not None:
            self._wire.drop()


def _resolve(future: asyncio.Future[list[Any]], result: list[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(result, list):
        future.set_result(result)
    else:
        future.set_exception(result)


class ReadingLine(Line):
    """The line on which a read waits; it can be woken over another line."""

    _number: int | None = None
    _waits = False

    def read(self, command: Command, answered: Answered, *, wait: float) -> None:
        """As :meth:`Line.begin`, for one command."""
        if not self.connected:
            self._number = None
            self.begin((("CLIENT", "ID"),), self._numbered)

        def was_read(result: list[Any] | Exception) -> None:
            self._waits = False
            answered(result)

        self._waits = True
        self.begin((command,), was_read, wait)

    def _numbered(self, result: list[Any] | Exception) -> None:
        # Not every user may ask; then a read is waited for to its end.
        if isinstance(result, list) and isinstance(result[0], int):
            self._number = result[0]

    def unblock(self) -> list[Command]:
        """What wakes the read now; nothing where none waits."""
        return [("CLIENT", "UNBLOCK", self._number)] if self._waits and self._number is not None else []


MOST_LINES = 64
"""Lines at the same time: more of them make nothing faster, and each has a buffer here and a client at the server."""


class _LoopLines:
    """The free lines of one event loop: what was opened in one is answered there, and nowhere else.

    Args:
        loop: the one that runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.free: list[Line] = []
        self.turns = asyncio.Semaphore(MOST_LINES)
        self.end = self._until_the_end()

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        # Its generators are what a loop ends before it closes (asyncio.run does); later no line could be closed.
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close every line that is not in use; within the loop."""
        while self.free:
            self.free.pop().close()


class Lines:
    """Lines for whoever asks: as many as are used at the same time, up to :data:`MOST_LINES`, kept for the next.

    Every event loop has its own, whether loops come one after the other (``asyncio.run`` for each call) or run in
    threads at the same time.

    Args:
        endpoint: where to.
    """

    PATIENCE = 2.0
    """Seconds for which a broken line is tried again: a server that restarts is back by then."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.skipped = 0
        """Journal entries that were no records, and were passed over by those who read."""
        self._here: _LoopLines | None = None
        """Those of the loop that asked last."""
        self._of_loops: dict[asyncio.AbstractEventLoop, _LoopLines] = {}
        self._used = False

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to ``commands``, errors among them; repeated when the line breaks.

        Raises:
            LineLost: no server, or no answer; ``sent`` if any try had gone out.
            AuthenticationError: user or password were refused.
        """
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        here = self._here  # read once: loops in other threads set it too
        if here is None or here.loop is not loop:
            here = self._here = self._of_loops.get(loop) or await self._begin(loop)
        await here.turns.acquire()
        try:
            return await self._ask(commands, here.free)
        finally:
            here.turns.release()

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> _LoopLines:
        for other in list(self._of_loops):
            if other.is_closed():
                self._of_loops.pop(other, None)
        begun = self._of_loops[loop] = _LoopLines(loop)
        await anext(begun.end)  # it waits for nothing: no other task of this loop comes in between
        return begun

    async def _ask(self, commands: Sequence[Command], free: list[Line]) -> list[Any]:
        backoff: Backoff | None = None
        deadline = time.monotonic() + self.PATIENCE
        sent = False
        while True:
            line = free.pop() if free else Line(self.endpoint)
            try:
                answers = await line.call(*commands)
            except LineLost as error:
                sent = sent or error.sent
                # A first connection that is refused is said at once: the URL may be wrong.
                if not (self._used or sent) or time.monotonic() >= deadline:
                    raise LineLost(str(error), sent=sent) from None
                backoff = backoff or Backoff(0.05, 0.5)
                await asyncio.sleep(backoff.next())
                continue
            except BaseException:
                line.close()
                raise
            self._used = True
            free.append(line)
            return answers

    async def call(self, *commands: Command) -> list[Any]:
        """The answers to ``commands``; as :meth:`ask`, and errors are raised.

        Raises:
            LineLost: no server, or no answer; ``sent`` if any try had gone out.
            TransportError: the server refused one of them.
        """
        answers = await self.ask(*commands)
        for answer in answers:
            if isinstance(answer, driver.ResponseError):
                raise self.endpoint.refused(answer)
        return answers

    async def one(self, command: Command) -> Any:
        """The answer to one command; errors as for :meth:`call`."""
        (answer,) = await self.ask(command)
        if isinstance(answer, driver.ResponseError):
            raise self.endpoint.refused(answer)
        return answer

    def close(self) -> None:
        """Close every line that is not in use; those of loops in other threads as soon as these come to it."""
        here = asyncio.get_running_loop()
        for loop, lines in list(self._of_loops.items()):
            if loop is here:
                lines.close()
            else:
                with suppress(RuntimeError):  # it is closed
                    loop.call_soon_threadsafe(lines.close)


class ThreadLine:
    """A line for a thread of its own, with the same rules as :class:`Line`.

    Args:
        endpoint: where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection = endpoint.thread_connection()
        self._serial = 0

    def call(self, *commands: Command) -> list[Any]:
        """See :meth:`Line.call`."""
        connection = self._connection
        sent = False
        try:
            if not connection.is_connected or self._serial != self._endpoint.serial:
                self._serial = self._endpoint.serial
                self._endpoint.open_in_thread(connection)
            sent = True
            answers = self._exchange(commands)
            for index, answer in enumerate(answers):
                if isinstance(answer, driver.NoScriptError) and (text := text_of(commands[index])) is not None:
                    answers[index] = self._exchange((("SCRIPT", "LOAD", text), commands[index]))[1]
            return answers
        except (driver.RedisError, OSError) as error:
            connection.disconnect()
            raise self._endpoint.lost(error, sent=sent) from None

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        connection.send_packed_command([pack(commands)], check_health=False)
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except driver.ResponseError as error:
                answers.append(error)
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
