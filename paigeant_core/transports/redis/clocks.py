"""Whether the machine's clock agrees with the server's."""

from __future__ import annotations

import logging

from paigeant_core.clock import Clock, SystemClock
from paigeant_core.transports.redis.endpoint import LineLost

logger = logging.getLogger("paigeant")

MAX_SKEW = 30.0
"""Seconds by which a clock may be off the server's."""


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
