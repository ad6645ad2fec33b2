"""The line on which the server lets a claim wait, and the watch on the machine's clock."""

from __future__ import annotations

import logging
from typing import Any

from paigeant_core.clock import Clock, SystemClock
from paigeant_core.transports.redis.connection import Line
from paigeant_core.transports.redis.endpoint import LineLost
from paigeant_core.transports.redis.scripts import Command

logger = logging.getLogger("paigeant")

MAX_SKEW = 30.0
"""Seconds by which a clock may be off the server's."""


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


class ClockWatch:
    """Whether the machine's clock agrees with the server's, as its last answer told.

    A machine whose clock is wrong claims nothing: its times would be in every record, and in deadlines.

    Args:
        clock: one that is not the machine's is never wrong.
        worker: whose.
    """

    def __init__(self, clock: Clock, worker: str) -> None:
        self._clock = clock
        self._worker = worker
        self.off = False

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._clock.now()

    def check(self, server_time: float) -> None:
        """Refuse a wrong clock at the start.

        Raises:
            LineLost: it is wrong; it may be right later.
        """
        if skew := self._skew(server_time):
            raise LineLost(f"this machine's clock is {skew:.0f} s off the broker's, so it claims nothing", sent=False)

    def told(self, server_time: float) -> bool:
        """Note the server's time; whether the clock is wrong now, which is said when it begins and ends."""
        skew = self._skew(server_time)
        if skew and not self.off:
            said = "worker %s claims nothing: this machine's clock was set, and is %.0f s off the broker's"
            logger.warning(said, self._worker, skew)
        elif self.off and not skew:
            logger.warning("worker %s claims again: the clock is right", self._worker)
        self.off = skew > 0
        return self.off

    def _skew(self, server_time: float) -> float:
        """Seconds that the clock is off, where that is too much; else 0."""
        skew = abs(server_time - self._clock.now())
        return skew if skew > MAX_SKEW and isinstance(self._clock, SystemClock) else 0.0
