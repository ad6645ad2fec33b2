"""What a console cannot have seen: between the end of its history and the beginning of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paigeant_console.history import Progress, order
from paigeant_core.journal import Record

__all__ = ["Gap", "gap_behind"]


class Gap(NamedTuple):
    """What nobody saw: the journal was trimmed past the last record of the history, or is another one by now.

    Attributes:
        after: when the last record before it was journalled, seconds since the Unix epoch.
        until: when the first one behind it was.
    """

    after: float
    until: float


def gap_behind(progress: Progress, oldest: Record | None, newest: Sequence[Record], now: float) -> Gap | None:
    """What a console that was started again cannot have seen; None: it can go on where the history ends.

    Args:
        progress: how far the history has come.
        oldest: the first record of the journal; None: it is empty.
        newest: the last one, if there is any.
        now: seconds since the Unix epoch.
    """
    if oldest is None:
        return Gap(progress.at, now)
    known, first = order(progress.position), order(oldest.position)
    # Where positions are counted through, the one behind the last known is no gap; a Redis stream's are times.
    follows = len(known) == len(first) == 1 and first[0] == known[0] + 1
    if known < first and not follows:
        return Gap(progress.at, oldest.at)
    if first <= known and (oldest.at > progress.at or (newest and known > order(newest[-1].position))):
        # The journal was begun anew, and counts from the start again.
        return Gap(progress.at, oldest.at)
    return None
