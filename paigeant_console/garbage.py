"""When Python looks for garbage.

All threads stop while it does, for as long as there are objects to look at. While a program starts it makes hardly any
garbage and many objects, all of which stay: looking through them every time that their number has grown takes a tenth
of the time to the first frame. Later a key must not wait while all that is known of the workflows is looked through.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["as_usual", "started", "starting"]

_USUAL: Final = gc.get_threshold()
_STARTING: Final = (200_000, 10, 10)
"""More objects than are made until the first frame."""
_RUNNING: Final = (20_000, 10, 10)
"""Some milliseconds of looking at a time, where the usual number is for programs with less memory."""


def starting() -> None:
    """Look hardly at all; for a process of our own, before it imports what it needs."""
    gc.set_threshold(*_STARTING)


def started() -> None:
    """Look now and then, and no more at what is there already; nothing in a process that is not our own."""
    _from_now_on(_RUNNING)


def as_usual() -> None:
    """Look as often as Python does by itself; for what runs a user's code, whose garbage may be large."""
    _from_now_on(_USUAL)


def _from_now_on(threshold: tuple[int, int, int]) -> None:
    if gc.get_threshold() == _STARTING:
        gc.freeze()
        gc.set_threshold(*threshold)
