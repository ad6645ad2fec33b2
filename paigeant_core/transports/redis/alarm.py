"""A timer that is set anew as what it waits for changes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls once, at the time it was set to last.

    It keeps that time itself: not every loop's handle can be asked for it (uvloop's of a time that is past cannot).

    Args:
        ring: called within the running loop.

    Attributes:
        at: when it rings, by the loop's clock; infinity: it is not set.
    """

    __slots__ = ("_handle", "_ring", "at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self.at = math.inf
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at ``at``, and no more at the time before."""
        if at != self.at:
            self.cancel()
            self.at = at
            self._handle = asyncio.get_running_loop().call_at(at, self._rings)

    def cancel(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.at = math.inf

    def _rings(self) -> None:
        self._handle, self.at = None, math.inf
        self._ring()
