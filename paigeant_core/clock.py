"""Time, given to whatever needs it, so that tests and the demo can hold it.

Times are seconds since the Unix epoch (UTC) as ``float``; text is RFC 3339 UTC
with milliseconds, as in `--json`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()


def ticks_of(clock: Clock) -> Callable[[], float]:
    """What tells how long something takes: seconds since some moment.

    Args:
        clock: what tells when. The machine's can be set meanwhile, so beside it stands the one that nobody sets
            (:func:`time.monotonic`); any other is its own measure.
    """
    return time.monotonic if isinstance(clock, SystemClock) else clock.now


class ManualClock:
    """A clock that stands until it is moved; the in-memory broker wakes what comes due.

    Args:
        start: seconds since the Unix epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` and tell whoever waits for a time."""
        with self._lock:
            self._now += seconds
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each move."""
        self._listeners.append(listener)


def rfc3339(at: float) -> str:
    """``at`` as RFC 3339 UTC with milliseconds: ``2026-01-31T09:05:00.123Z``."""
    whole, millis = divmod(int(at * 1000 + 0.5), 1000)
    return _second(whole) + _MILLIS[millis]


_MILLIS = [f"{millis:03d}Z" for millis in range(1000)]


@lru_cache(maxsize=8)
def _second(whole: int) -> str:
    # One hop formats two or three times of the same second.
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))


def parse_rfc3339(text: str) -> float:
    """The time in ``text``, in seconds since the Unix epoch.

    Raises:
        ValueError: it is no RFC 3339 time.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value.timestamp()
