"""Copies that came and wait for a free slot; where none becomes free, other workers get them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from paigeant_core.transports.rabbitmq.desk import Copy, Desk

SURPLUS = 0.05
"""Seconds that a copy may wait here for a free slot, while none becomes free or is about to, before other workers
get it."""

PATIENCE = 0.5
"""Seconds that it may wait while slots become free."""


class Surplus:
    """What a consumer has and hands out next, and the watch over what nobody has a slot for.

    Args:
        desk: the consumer's.
        wanted: whether a claim waits with free slots.
        relieve: called with copies that have waited too long; they are no longer in :attr:`copies`.
    """

    def __init__(self, desk: Desk, *, wanted: Callable[[], bool], relieve: Callable[[list[Copy]], object]) -> None:
        self.copies: deque[Copy] = deque()
        self.taken_at = 0.0
        """When a copy was handed out last, by the loop's clock."""
        self._desk = desk
        self._wanted = wanted
        self._relieved = relieve
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def watch(self) -> None:
        """No claim waits: see to it that no copy waits for long."""
        if self.copies and self._timer is None and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(SURPLUS, self._relieve)

    def _relieve(self) -> None:
        self._timer = None
        if not self.copies or self._wanted():
            return
        loop = asyncio.get_running_loop()
        came, now = self.copies[0].came, loop.time()
        # A settle that is under way is a slot as soon as the broker answers, and it would not take copies back sooner.
        hopeful = now if self._desk.settling() else max(came, self.taken_at)
        left = min(hopeful + SURPLUS, came + PATIENCE) - now
        if left > 0:
            self._timer = loop.call_later(left, self._relieve)
            return
        copies = list(self.copies)
        self.copies.clear()
        self._relieved(copies)

    def end(self) -> None:
        """Watch no longer: the consumer lets go of everything itself."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
