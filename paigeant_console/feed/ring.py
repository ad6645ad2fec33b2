"""The newest records that were read, for the traffic view, and how many of them come a second."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from paigeant_core.erasure import is_marker, stripped
from paigeant_core.journal import Record
from paigeant_core.transports.types import START

RING: Final = 10_000
"""Traffic records that are kept."""
RATE_OVER: Final = 10
"""Seconds that the rate is the mean of."""
MOST_SECONDS: Final = 200
"""Seconds whose records are counted between two looks at the rate."""


class Ring:
    """So many records, numbered as they are read. It has no lock: whoever owns it has one.

    Args:
        size: records to keep.
    """

    def __init__(self, size: int = RING) -> None:
        self.serial = 0
        """How many were read; the number of the next one."""
        self.last_at: float | None = None
        """When the newest was journalled; None: none was read."""
        self.position: str | float = START
        """Behind which place in the journal to read on: the newest's, or what the reader began with."""
        self.erased: set[str] = set()
        """Workflows of which it was told that they were erased."""
        self._records: deque[Record] = deque(maxlen=size)
        self._per_second: dict[int, int] = {}

    def extend(self, records: Sequence[Record]) -> None:
        """Take the records that come next.

        Args:
            records: without their messages; at least one.
        """
        self._records.extend(records)
        self._count(records)

    def pass_over(self, records: Sequence[Record]) -> None:
        """Count the records that come next, and keep none.

        Args:
            records: at least one.
        """
        self._records.clear()
        self._count(records)

    def begin_anew(self) -> None:
        """The journal is another one: what comes next is its first record. What was read of the old one is kept."""
        self.position = START

    def _count(self, records: Sequence[Record]) -> None:
        self.serial += len(records)
        first, last = int(records[0].at), int(records[-1].at)
        # Most that are read at once were written at once.
        seconds = {first: len(records)} if first == last else Counter([int(record.at) for record in records])
        for second, number in seconds.items():
            self._per_second[second] = self._per_second.get(second, 0) + number
        while len(self._per_second) > MOST_SECONDS:
            del self._per_second[min(self._per_second)]
        self.last_at = records[-1].at
        self.position = records[-1].position

    def forget(self, erased: set[str]) -> None:
        """Workflows were erased: what was read of them is kept without its contents; the word that they were stays."""
        self.erased |= erased
        for at, record in enumerate(self._records):
            if record.headers.correlation_id in erased and not is_marker(record):
                self._records[at] = stripped(record)

    def rate(self, now: float) -> float:
        """Records a second, lately.

        Args:
            now: seconds since the Unix epoch.
        """
        for ahead in [second for second in self._per_second if second > now]:
            # By a clock that is ahead (on RabbitMQ it is the writer's), or before ours was set back: it came now.
            self._per_second[int(now)] = self._per_second.get(int(now), 0) + self._per_second.pop(ahead)
        lately = sum(number for second, number in self._per_second.items() if now - RATE_OVER <= second < now)
        return lately / RATE_OVER

    def since(self, after: int) -> tuple[int, list[Record]]:
        """The records from number ``after`` on, as far as they are kept; the number of the first one before them."""
        first = self.serial - len(self._records)
        start = max(after, first)
        skip = start - first
        if skip == 0:
            return start, list(self._records)
        wanted = len(self._records) - skip
        newest = [record for record, _ in zip(reversed(self._records), range(wanted), strict=False)]
        newest.reverse()
        return start, newest
