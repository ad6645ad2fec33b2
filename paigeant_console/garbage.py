"""When Python looks for garbage.

All threads stop while it does, for as long as there are objects to look at. While a program starts it makes hardly any
garbage and many objects, all of which stay: looking through them every time that their number has grown takes a tenth
of the time to the first frame. Later a key must not wait for it: what was made lately is looked through between keys,
four times a second at most, and all that is known of the workflows when nobody has typed for a while.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["as_usual", "between_keys", "started", "starting"]

_USUAL: Final = gc.get_threshold()
_STARTING: Final = (200_000, 10, 10)
"""More objects than are made until the first frame."""
_RUNNING: Final = (20_000, 1, 1_000)
"""More objects than a key makes, whatever arrives meanwhile: Python looks by itself only where keys leave no pause."""
_NEW: Final = 5_000
"""New objects that are worth a look, of a millisecond or two."""
PAUSE_S: Final = 0.2
"""Seconds after a key in which it is painted."""
QUIET_S: Final = 10.0
"""Seconds without a key after which looking at everything is in nobody's way."""
_ENOUGH: Final = 500
"""Looks at what was made lately, after which much of it may have become garbage since."""


def starting() -> None:
    """Look hardly at all; for a process of our own, before it imports what it needs."""
    gc.set_threshold(*_STARTING)


def started() -> None:
    """Look now and then, and no more at what is there already; nothing in a process that is not our own."""
    _from_now_on(_RUNNING)


def as_usual() -> None:
    """Look as often as Python does by itself; for what runs a user's code, whose garbage may be large."""
    _from_now_on(_USUAL)


def between_keys(quiet: float) -> None:
    """Look where that is in nobody's way, and enough was made since the last time.

    Args:
        quiet: seconds since the last key.
    """
    if gc.get_threshold() != _RUNNING:
        return
    new, _, looks = gc.get_count()
    if quiet >= QUIET_S and looks >= _ENOUGH:
        gc.collect()
    elif quiet >= PAUSE_S and new >= _NEW:
        gc.collect(1)


def _from_now_on(threshold: tuple[int, int, int]) -> None:
    if gc.get_threshold() == _STARTING:
        gc.freeze()
        gc.set_threshold(*threshold)
