"""A head start: the journal's newest records are folded at once, and what lies before them is filled in behind.

A long journal takes a while to read, and what somebody wants to see first stands at its end. Of a workflow that the
head start told of, an older record then changes nothing but what it alone can tell: its steps' names, and how long
steps take.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from paigeant_console.model.fold import Fold
from paigeant_core.journal import Kind, Record

__all__ = ["NEWEST", "HeadStart"]

NEWEST: Final = 500
"""Records that are read first: more than fit on a screen."""

_OPERATED: Final = Kind.OPERATED
_position, _workflow = attrgetter("position"), attrgetter("headers.correlation_id")


class HeadStart:
    """See the module.

    Args:
        fold: what the records are folded into.
    """

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._ahead: set[str] = set()
        """Workflows that stand further on than the reader is."""
        self._folded: set[str] = set()
        """Positions of records that were folded, and that the reader has still to come to."""
        self._last = ""
        """The last of them."""

    @property
    def under_way(self) -> bool:
        """Whether the reader is still behind it."""
        return bool(self._folded)

    def take(self, newest: Sequence[Record]) -> set[str]:
        """Fold the newest records, oldest of them first; return the IDs of the workflows that changed."""
        changed = self._fold.apply(newest)
        self._ahead = set(changed)
        self._folded = {record.position for record in newest}
        self._last = newest[-1].position if newest else ""
        return changed

    def rest(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of ``records`` that are to be folded: not the ones of workflows that the head start is ahead with."""
        if not self._folded or self._behind(records):
            return records
        left: list[Record] = []
        ahead, folded, last = self._ahead, self._folded, self._last
        for at, record in enumerate(records, start=1):
            if record.state and record.headers.correlation_id not in ahead:
                left.append(record)
            elif record.position in folded:
                folded.discard(record.position)
                if record.kind == _OPERATED and not record.state and record.headers.correlation_id not in ahead:
                    # When it was folded, nobody knew yet of the step that it asks something of.
                    left.append(record)
            elif record.state:
                self._fold.before(record)
            else:
                left.append(record)
            if record.position == last:
                # What comes behind it is new, wherever the reader began.
                self.end()
                left += records[at:]
                break
        return left

    def _behind(self, records: Sequence[Record]) -> bool:
        """Whether none of ``records`` was folded, nor comes of a workflow that stands further on: most by far."""
        return self._folded.isdisjoint(map(_position, records)) and self._ahead.isdisjoint(map(_workflow, records))

    def end(self) -> None:
        """The reader has come to the end of the journal: nothing is behind any more."""
        self._ahead.clear()
        self._folded.clear()
