"""A machine's clock that somebody sets, as NTP does after a night without a network."""

from __future__ import annotations

import time

from paigeant_core.clock import SystemClock


class SettableClock(SystemClock):
    """The machine's clock, but for `off` seconds."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def now(self) -> float:
        return time.time() + self.off
