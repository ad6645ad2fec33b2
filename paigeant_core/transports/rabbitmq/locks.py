"""Locks: an exclusive queue that only one connection can have.

The broker frees it when the connection ends, so a publish that is made over the same
connection while it is held cannot come after somebody else got it. A line connects
again by itself, so whoever publishes under a lock says which connection it is held over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from paigeant_core.errors import Conflict
from paigeant_core.transports.rabbitmq.connection import Line, Locked, Waits, cancellations, ignoring_loss

PATIENCE = 10.0
"""Seconds to wait for somebody else."""


class Locks:
    """The locks that are taken over one line.

    Args:
        line: also the one to publish over while a lock is held.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        # Within one connection the broker lets everybody have the queue.
        self._local: dict[str, asyncio.Lock] = {}
        self._taking: dict[str, asyncio.Task[int]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(self, queue: str) -> AsyncIterator[int]:
        """Hold the lock that ``queue`` stands for; yields the line's serial, for :meth:`Publisher.send`.

        Raises:
            Conflict: somebody else held it all the time.
            ConnectError: no line.
        """
        local = self._local.setdefault(queue, asyncio.Lock())
        await local.acquire()
        before = cancellations()
        try:
            yield await self._wait_for(queue)
        finally:
            # A task of its own: whoever is cancelled here would leave the lock taken for as long as the line stands.
            ending = asyncio.create_task(self._end(queue, local))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            if cancellations() == before:
                await asyncio.wait([ending])

    async def take(self, queue: str) -> bool:
        """Take the lock that ``queue`` stands for, until :meth:`free` or the line's end; False: another line has it.

        Raises:
            ConnectError: no line.
        """
        return bool(await self._try(queue))

    async def _try(self, queue: str) -> int:
        # A task of its own: the broker carries out what was asked of it, whether anybody still waits for the answer.
        taking = self._taking[queue] = asyncio.create_task(self._declare(queue))
        taking.add_done_callback(partial(self._answered, queue))
        await asyncio.wait([taking])
        return taking.result()

    async def free(self, queue: str) -> None:
        """Give up a lock; where the line is gone the broker has done so."""
        if (taking := self._taking.get(queue)) is not None:
            await asyncio.wait([taking])
        if not self._line.alive:
            return
        # Another line can have it where ours was lost, or did not get it.
        with ignoring_loss(), suppress(Locked):
            async with self._line.borrowed() as channel:
                await channel.queue_delete(queue)

    async def _declare(self, queue: str) -> int:
        """The serial of the line that has the lock now; 0: another line has it."""
        try:
            async with self._line.borrowed() as channel:
                # What is declared now is answered over this connection, or not at all.
                serial = self._line.serial
                await channel.queue_declare(queue, exclusive=True, auto_delete=False)
        except Locked:
            return 0
        return serial

    def _answered(self, queue: str, taking: asyncio.Task[int]) -> None:
        if self._taking.get(queue) is taking:
            del self._taking[queue]
        if not taking.cancelled():
            taking.exception()  # nobody may be left to hear of it

    async def _end(self, queue: str, local: asyncio.Lock) -> None:
        try:
            await self.free(queue)
        finally:
            local.release()

    async def _wait_for(self, queue: str) -> int:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        waits = Waits(0.01)
        while not (serial := await self._try(queue)):
            if asyncio.get_running_loop().time() > deadline:
                raise Conflict("somebody else is acting on this topic; try again")
            await waits.next()
        return serial
