"""When Python looks for garbage.

All threads stop while it does, for as long as there are objects to look at. While a program starts it makes hardly any
garbage and many objects, all of which stay: looking through them every time that their number has grown takes a tenth
of the time to the first frame. Later a key must not wait while all that is known of the workflows is looked through:
that is done when nobody has typed for a while.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["as_usual", "quiet", "started", "starting"]

_USUAL: Final = gc.get_threshold()
_STARTING: Final = (200_000, 10, 10)
"""More objects than are made until the first frame."""
_RUNNING: Final = (5_000, 1, 1_000)
"""A millisecond or two of looking at a time, at what was made lately; at everything hardly ever by itself."""
QUIET_S: Final = 10.0
"""Seconds without a key after which looking at everything is in nobody's way."""
_ENOUGH: Final = 200
"""Looks at what was made lately, after which some of it may have become garbage since: about two million objects."""


def starting() -> None:
    """Look hardly at all; for a process of our own, before it imports what it needs."""
    gc.set_threshold(*_STARTING)


def started() -> None:
    """Look now and then, and no more at what is there already; nothing in a process that is not our own."""
    _from_now_on(_RUNNING)


def as_usual() -> None:
    """Look as often as Python does by itself; for what runs a user's code, whose garbage may be large."""
    _from_now_on(_USUAL)


def quiet(seconds: float) -> None:
    """Look at everything where that is in nobody's way, and enough was made since the last time.

    Args:
        seconds: without a key.
    """
    if seconds >= QUIET_S and gc.get_threshold() == _RUNNING and gc.get_count()[2] >= _ENOUGH:
        gc.collect()


def _from_now_on(threshold: tuple[int, int, int]) -> None:
    if gc.get_threshold() == _STARTING:
        gc.freeze()
        gc.set_threshold(*threshold)
