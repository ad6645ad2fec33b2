"""Workflows that ended: how many of them stay in memory, and in which order the others leave it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

from paigeant_console.model.row import Row
from paigeant_core.journal import ENDED

__all__ = ["MOST_ENDED", "Ended"]

MOST_ENDED: Final = 200_000
"""Ended workflows that stay in memory: of 500 to 700 bytes each, and 250 to 300 more of the list that shows them.

That is less than 200 MB however long a console is open, and of 200 workflows a second the last quarter of an hour. What
has not ended stays, however much it is: it is what somebody has to see to.
"""


class Ended:
    """The ended workflows, by when they moved last. It has no lock: whoever owns it has one.

    Each is put in by a push onto a heap and comes out by a pop: nothing ever looks at all of them. A row that moves
    meanwhile keeps its place until that is the first one, and gets another one then, or none.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, row: Row) -> None:
        """A workflow ended; one that is known to have done so is left alone."""
        if not row.queued_to_leave:
            row.queued_to_leave = True
            heapq.heappush(self._waiting, (row.at, row.correlation_id))

    def take(self, rows: Mapping[str, Row], most: int) -> list[str]:
        """Take out those that ended the longest ago.

        Args:
            rows: by ID.
            most: so many, if there are as many.

        Returns:
            Their IDs, the one that moved the longest ago first.
        """
        waiting = self._waiting
        taken: list[str] = []
        while waiting and len(taken) < most:
            at, workflow = waiting[0]
            row = rows.get(workflow)
            if row is None or not row.queued_to_leave:
                # It left for another reason; or it did, came back, ended, and was taken by its other place.
                heapq.heappop(waiting)
            elif row.state not in ENDED:
                # Replayed. It is added again when it ends.
                heapq.heappop(waiting)
                row.queued_to_leave = False
            elif row.at > at:
                # Replayed and ended again, or erased.
                heapq.heapreplace(waiting, (row.at, workflow))
            else:
                heapq.heappop(waiting)
                row.queued_to_leave = False
                taken.append(workflow)
        return taken
