"""What becomes of the view when something was missed while the console runs: as at a start, see :mod:`.past`."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from paigeant_console.feed.intake import Intake
from paigeant_console.feed.past import Past
from paigeant_core.journal import ENDED, Record
from paigeant_core.transports.following import Follower, Missed

__all__ = ["Mending"]


class Mending:
    """See the module. On the feed's loop.

    Args:
        intake: what is kept of the journal.
        past: told what nobody saw.
    """

    def __init__(self, intake: Intake, past: Past) -> None:
        self.follower = Follower(self._miss)
        """Who reads."""
        self._intake = intake
        self._past = past
        self._missed: Missed | None = None

    def _miss(self, missed: Missed) -> None:
        if missed is Missed.ANEW:
            # At once: the line may break before anything comes of the new one.
            self._intake.ring.begin_anew()
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
        seen = self._intake.ring.last_at
        after = until if seen is None else min(seen, until)
        with lock:
            if missed is Missed.ANEW:
                self._intake.begin_anew()
            else:
                self._intake.drop(lambda row: row.base not in ENDED)
            self._past.miss(missed, after, until)
        return True
