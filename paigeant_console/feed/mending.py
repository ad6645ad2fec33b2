"""What becomes of the view when something was missed while the console runs: as at a start, see :mod:`.past`."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from paigeant_console.feed.changes import Changes
from paigeant_console.feed.past import Past
from paigeant_console.feed.ring import Ring
from paigeant_console.model.fold import Fold
from paigeant_console.model.head_start import HeadStart
from paigeant_core.journal import ENDED, Record
from paigeant_core.transports.following import Follower, Missed

__all__ = ["Mending"]


class Mending:
    """See the module. On the feed's loop.

    Args:
        fold: the rows.
        changes: told of those that leave.
        head_start: given up: what it was ahead with is read once more.
        ring: the traffic, which stays.
        past: told what nobody saw.
    """

    def __init__(self, fold: Fold, changes: Changes, head_start: HeadStart, ring: Ring, past: Past) -> None:
        self.follower = Follower(self._miss)
        """Who reads."""
        self._fold = fold
        self._changes = changes
        self._head_start = head_start
        self._ring = ring
        self._past = past
        self._missed: Missed | None = None

    def _miss(self, missed: Missed) -> None:
        if missed is Missed.ANEW:
            # At once: the line may break before anything comes of the new one.
            self._ring.begin_anew()
        if self._missed is not Missed.ANEW:
            self._missed = missed

    def mend(self, lock: threading.RLock, batch: Sequence[Record], now: float) -> bool:
        """Take out the rows that cannot be trusted any more, before ``batch`` is folded; whether anything was missed.

        Of a trimmed journal those of what had not ended: what became of them nobody saw, but for what ``batch`` and the
        next ones tell, and the broker itself of what is parked. Of a deleted topic all.

        Args:
            lock: held while rows go.
            batch: what comes behind the gap.
            now: seconds since the Unix epoch.
        """
        missed, self._missed = self._missed, None
        if missed is None:
            return False
        until = batch[0].at if batch else now
        # Clocks differ, and of a topic that is used again something may have been read before that was found out.
        after = until if self._ring.last_at is None else min(self._ring.last_at, until)
        with lock:
            self._head_start.end()
            self._changes.leave(self._fold.drop(lambda row: missed is Missed.ANEW or row.base not in ENDED))
            self._past.miss(missed, after, until)
        return True
