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
from collections.abc import Sequence
from typing import Any

from redis import exceptions as driver

from paigeant_core.transports.redis.endpoint import Endpoint, LineLost, pack
from paigeant_core.transports.redis.scripts import Command, text_of


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
        self._connection = endpoint.connection()
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._opened = 0
        self._serial = 0

    @property
    def connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return bool(self._connection.is_connected)

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
        sent = False
        try:
            async with asyncio.timeout(self._endpoint.timeout + wait):
                async with self._writing:
                    await self._open()
                    opened = self._opened
                    sent = True
                    await self._send(commands)
                answers = await self._answers(commands, opened)
                for index, answer in enumerate(answers):
                    if isinstance(answer, driver.NoScriptError) and (text := text_of(commands[index])) is not None:
                        answers[index] = await self._taught(text, commands[index])
                return answers
        except (driver.RedisError, OSError) as error:
            await self._connection.disconnect(nowait=True)
            raise self._endpoint.lost(error, sent=sent) from None
        except BaseException:
            # Cancelled in the middle: what comes next on this line answers another question.
            await self._connection.disconnect(nowait=True)
            raise

    async def _answers(self, commands: Sequence[Command], opened: int) -> list[Any]:
        # Both locks are first come, first served, so everybody reads the answers to what he asked.
        async with self._reading:
            if opened != self._opened or not self._connection.is_connected:
                raise driver.ConnectionError("it broke while others were answered")
            return await self._receive(commands)

    async def _taught(self, text: str, command: Command) -> Any:
        """The answer to a command whose script the server did not know, asked behind all that is under way."""
        both = (("SCRIPT", "LOAD", text), command)
        async with self._writing:
            await self._open()
            opened = self._opened
            await self._send(both)
        return (await self._answers(both, opened))[1]

    async def _open(self) -> None:
        if self._connection.is_connected:
            if self._serial == self._endpoint.serial:
                return
            async with self._reading:  # whoever was here before has his answers first
                await self._connection.disconnect(nowait=True)
        self._serial = self._endpoint.serial
        await self._endpoint.open(self._connection)
        self._opened += 1

    async def _send(self, commands: Sequence[Command]) -> None:
        await self._connection.send_packed_command(pack(self._connection, commands), check_health=False)

    async def _receive(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await self._connection.read_response())
            except driver.ResponseError as error:
                answers.append(error)
        return answers

    async def one(self, command: Command, wait: float = 0.0) -> Any:
        """The answer to ``command``; the server's errors are raised as ours."""
        (answer,) = await self.call(command, wait=wait)
        if isinstance(answer, driver.ResponseError):
            raise self._endpoint.refused(answer)
        return answer

    async def close(self) -> None:
        """Close the connection; a later call opens it again."""
        await self._connection.disconnect(nowait=True)

    def drop(self) -> None:
        """Close the connection without a word, as a killed process does."""
        writer = getattr(self._connection, "_writer", None)
        if writer is not None:
            writer.transport.abort()


class ReadingLine(Line):
    """The line on which a read waits; it can be woken over another line."""

    _number: int | None = None
    _waits = False

    async def read(self, command: Command, *, wait: float) -> Any:
        """The answer to ``command``, or the server's error; errors as for :meth:`Line.call`."""
        if not self.connected:
            (number,) = await self.call(("CLIENT", "ID"))
            # Not every user may ask; then a read is waited for to its end.
            self._number = number if isinstance(number, int) else None
        self._waits = True
        try:
            return (await self.call(command, wait=wait))[0]
        finally:
            self._waits = False

    def unblock(self) -> list[Command]:
        """What wakes the read now; nothing where none waits."""
        return [("CLIENT", "UNBLOCK", self._number)] if self._waits and self._number is not None else []


class Lines:
    """Lines for whoever asks: as many as are used at the same time, kept for the next.

    Args:
        endpoint: where to.
    """

    PATIENCE = 2.0
    """Seconds for which a broken line is tried again: a server that restarts is back by then."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.skipped = 0
        """Journal entries that were no records, and were passed over by those who read."""
        self._free: list[Line] = []
        self._used = False

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to ``commands``, errors among them; repeated when the line breaks.

        Raises:
            LineLost: no server, or no answer; ``sent`` if any try had gone out.
            AuthenticationError: user or password were refused.
        """
        backoff = Backoff(0.05, 0.5)
        deadline = time.monotonic() + self.PATIENCE
        sent = False
        while True:
            line = self._free.pop() if self._free else Line(self.endpoint)
            try:
                answers = await line.call(*commands)
            except LineLost as error:
                sent = sent or error.sent
                # A first connection that is refused is said at once: the URL may be wrong.
                if not (self._used or sent) or time.monotonic() >= deadline:
                    raise LineLost(str(error), sent=sent) from None
                await asyncio.sleep(backoff.next())
                continue
            except BaseException:
                await line.close()
                raise
            self._used = True
            self._free.append(line)
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
        return (await self.call(command))[0]

    async def close(self) -> None:
        """Close every line that is not in use."""
        while self._free:
            await self._free.pop().close()


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
        connection.send_packed_command([pack(connection, commands)], check_health=False)
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
