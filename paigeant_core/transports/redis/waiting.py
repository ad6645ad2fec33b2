"""Claims that wait for work, and the line on which the server lets them wait."""

from __future__ import annotations

import asyncio
from typing import Any

from paigeant_core.clock import Clock, SystemClock
from paigeant_core.errors import TransportError
from paigeant_core.transports.redis.connection import Line, LineLost
from paigeant_core.transports.redis.scripts import Command
from paigeant_core.transports.types import Delivery

MAX_SKEW = 30.0


class Waiter:
    """A claim that waits for work."""

    __slots__ = ("future", "slots")

    def __init__(self, slots: int, future: asyncio.Future[list[Delivery]]) -> None:
        self.slots = slots
        self.future = future

    def refuse(self, error: TransportError) -> bool:
        """There is none, and will not be; False: it has an answer already."""
        if self.future.done():
            return False
        self.future.set_exception(error)
        return True


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


def check_clock(clock: Clock, server_time: float) -> None:
    """Refuse a machine whose clock is wrong: its times would be in every record, and in deadlines.

    Raises:
        LineLost: it is; it may be right later.
    """
    skew = abs(server_time - clock.now())
    if skew > MAX_SKEW and isinstance(clock, SystemClock):
        raise LineLost(f"this machine's clock is {skew:.0f} s off the broker's, so it claims nothing", sent=False)
