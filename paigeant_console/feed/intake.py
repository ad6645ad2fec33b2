"""What becomes of the records that the feed reads: they are folded, counted, kept for a while, and let go of.

However long the journal is and however long the console is open, what is kept of it is bounded: the traffic and the
messages by their own sizes, and the workflows that ended by :data:`~paigeant_console.feed.ended.MOST_ENDED`. Those that
have not ended stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from paigeant_console.feed.changes import Changes
from paigeant_console.feed.distance import Distance
from paigeant_console.feed.ended import MOST_ENDED, Ended
from paigeant_console.feed.ring import Ring
from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.fold import Fold
from paigeant_console.model.head_start import HeadStart
from paigeant_console.model.rates import Rates
from paigeant_console.model.row import Row
from paigeant_console.model.traffic import without_body
from paigeant_core.erasure import is_marker
from paigeant_core.journal import Kind, Record

__all__ = ["Intake"]

LEAVE_AT_ONCE: Final = 500
"""Workflows that leave memory in one go: that takes some three milliseconds, for which the screen may have to wait."""
COUNT_EVERY: Final = 500
"""Records after which it is counted again how many have ended."""
_OPERATED: Final = Kind.OPERATED


class Intake:
    """See the module. It has no lock: whoever owns it has one.

    Args:
        ring: traffic records to keep.
        no_worker_after: see :class:`Fold`.
        most_ended: ended workflows to keep.
    """

    def __init__(self, ring: int, *, no_worker_after: float | None = None, most_ended: int = MOST_ENDED) -> None:
        self.fold = Fold(no_worker_after=no_worker_after)
        self.rates = Rates()
        self.bodies = BodyCache()
        self.ring = Ring(ring)
        self._ended = Ended()
        self.changes = Changes(self.fold.rows, self._ended)
        self._most_ended = most_ended
        self._count_at = 0
        self._head_start = HeadStart(self.fold)
        self._distance = Distance(self.fold, ring)

    def take_newest(self, records: Sequence[Record]) -> None:
        """Show the end of the journal before the rest of it is read."""
        changed = self._head_start.take(records)
        self._keep_messages(records)
        self.changes.note(changed)

    def begin(self, ahead: int | None, newest: Sequence[Record], *, all_new: bool) -> None:
        """The journal is read from now on.

        Args:
            ahead: records that there are; None: nobody knows.
            newest: the last of them.
            all_new: all that comes is newer than they.
        """
        if all_new:
            self._head_start.end()
        self._distance.begin(ahead, newest)

    def take(self, records: Sequence[Record], now: float) -> None:
        """Take the records that come next in the journal.

        Args:
            records: at least one.
            now: seconds since the Unix epoch.
        """
        to_fold = self._head_start.rest(records)
        self.changes.note(self.fold.apply(to_fold))
        self.rates.note(records, now)
        far = self._distance.far(len(records))
        if far.messages:
            self.bodies.pass_over(len(records))
        else:
            self._keep_messages(to_fold)
        if far.traffic:
            self.ring.pass_over(records)
        else:
            self._keep(list(map(without_body, records)))

    def take_unknown(self, records: Sequence[Record]) -> bool:
        """Fold what other places than the journal tell of workflows that have no row; whether there were any."""
        rows = self.fold.rows
        unknown = [record for record in records if record.headers.correlation_id not in rows]
        changed = self.fold.apply(unknown)
        self._keep_messages(unknown)
        self.changes.note(changed)
        return bool(changed)

    def end(self) -> None:
        """The end of the journal is reached: what comes now is new."""
        self._head_start.end()
        self._distance.end()

    def drop(self, leaves: Callable[[Row], bool]) -> None:
        """Drop the workflows of which ``leaves`` says so: nobody knows what became of them."""
        self._head_start.end()
        gone = [workflow for workflow, row in self.fold.rows.items() if leaves(row)]
        self.changes.drop(gone)
        self.fold.forget(gone)
        self.bodies.forget(gone)

    def begin_anew(self) -> None:
        """The topic was deleted, or its broker lost it: nothing is left of its workflows but their traffic."""
        self._head_start.end()
        self.bodies.forget(list(self.fold.rows))
        self.changes.begin_anew()
        self.fold.begin_anew()

    def _keep_messages(self, folded: Sequence[Record]) -> None:
        """Keep the messages that workflows stand at, of records that were folded: a late copy is nobody's payload."""
        rows = self.fold.rows
        self.bodies.take(
            record
            for record in folded
            if (row := rows.get(record.headers.correlation_id)) is not None and record.headers.epoch >= row.epoch
        )

    def _keep(self, light: Sequence[Record]) -> None:
        """Keep what was read for the traffic."""
        self.ring.extend(light)
        if erased := {
            record.headers.correlation_id for record in light if record.kind == _OPERATED and is_marker(record)
        }:
            self.ring.forget(erased)

    def let_go(self) -> list[str]:
        """Let go of the workflows that ended the longest ago, where there are too many; asked after every few records.

        Returns:
            Their IDs.
        """
        fold = self.fold
        if fold.records < self._count_at:
            return []
        over = self.changes.ended - self._most_ended
        gone = self._ended.take(fold.rows, min(over, LEAVE_AT_ONCE))
        if gone:
            self.changes.leave(gone)
            fold.forget(gone)
            self.bodies.forget(gone)
        if over <= LEAVE_AT_ONCE:
            # Else the others leave the next time. A record ends one workflow at most.
            self._count_at = fold.records + max(COUNT_EVERY, -over)
        return gone
