"""Locks: an exclusive queue that only one connection can have.

The broker frees it when the connection ends, so a publish that is made over the same
connection while it is held cannot come after somebody else got it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paigeant_core.errors import Conflict
from paigeant_core.transports.rabbitmq.connection import Line, Locked, Waits, ignoring_loss

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

    @asynccontextmanager
    async def hold(self, queue: str) -> AsyncIterator[None]:
        """Hold the lock that ``queue`` stands for.

        Raises:
            Conflict: somebody else held it all the time.
            ConnectError: no line.
        """
        local = self._local.setdefault(queue, asyncio.Lock())
        async with local:
            await self._declare(queue)
            try:
                yield
            finally:
                await self.free(queue)

    async def take(self, queue: str) -> bool:
        """Take the lock that ``queue`` stands for, until :meth:`free` or the line's end; False: another line has it.

        Raises:
            ConnectError: no line.
        """
        try:
            async with self._line.borrowed() as channel:
                await channel.queue_declare(queue, exclusive=True, auto_delete=False)
        except Locked:
            return False
        return True

    async def free(self, queue: str) -> None:
        """Give up a lock; where the line is gone the broker has done so."""
        with ignoring_loss():
            async with self._line.borrowed() as channel:
                await channel.queue_delete(queue)

    async def _declare(self, queue: str) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        waits = Waits(0.01)
        while not await self.take(queue):
            if asyncio.get_running_loop().time() > deadline:
                raise Conflict("somebody else is acting on this topic; try again")
            await waits.next()
