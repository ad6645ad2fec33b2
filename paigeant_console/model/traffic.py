"""The traffic: journal records as lines, the newest last, of a window that does not grow without end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence, Set
from typing import Any, Final

from paigeant_console.model.looks import kind_look
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.query import Query
from paigeant_console.model.record_line import record_summary
from paigeant_console.model.text import EMPTY, short_id, shown
from paigeant_console.model.times import clock
from paigeant_console.model.views import RecordView
from paigeant_console.safe_text import literal
from paigeant_core.erasure import is_marker, stripped
from paigeant_core.journal import Record

__all__ = ["TrafficList", "without_body"]

LONGEST: Final = 2000
"""Characters of one value of a record's detail that are kept."""


def without_body(record: Record) -> Record:
    """The record without its message, for keeping many: a body may have a megabyte."""
    if record.detail_size <= LONGEST:
        # Most are short, and few of them will ever be looked at: nothing is decoded.
        return record.without_body()
    detail: dict[str, Any] = record.detail
    if any(isinstance(value, str) and len(value) > LONGEST for value in detail.values()):
        detail = {
            key: value[:LONGEST] if isinstance(value, str) and len(value) > LONGEST else value
            for key, value in detail.items()
        }
    return record.without_body(detail)


class TrafficList:
    """Rows of records, for a line table; each is named by its number since the console started to read.

    Args:
        size: how many records are kept.
        ascii_only: write ASCII only.
    """

    def __init__(self, size: int, *, ascii_only: bool = False) -> None:
        self._size = size
        self._ascii = ascii_only
        self._first = 0
        self._records: list[Record] = []
        self._shown: list[int] | None = None
        self._query: Query | None = None
        self._forgot = 0
        self.room: dict[str, int] = {}
        """Cells that each column has."""
        self.columns: tuple[str, ...] = ("at", "kind", "id", "what")

    # -- rows, for the table ------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._records) if self._shown is None else len(self._shown)

    def _serial(self, index: int) -> int:
        return self._first + index if self._shown is None else self._shown[index]

    def key(self, index: int) -> str:
        """The number of the record at ``index``."""
        return str(self._serial(index))

    def index_of(self, key: str) -> int | None:
        """Where a record is, or None."""
        serial = int(key)
        if self._shown is None:
            index = serial - self._first
            return index if 0 <= index < len(self._records) else None
        index = bisect_left(self._shown, serial)
        return index if index < len(self._shown) and self._shown[index] == serial else None

    def revision(self, key: str) -> int:
        """A record never changes, but for what is forgotten of it."""
        return self._forgot

    def record(self, key: str) -> Record | None:
        """The record of that number, if it is still kept."""
        index = int(key) - self._first
        return self._records[index] if 0 <= index < len(self._records) else None

    def cells(self, index: int) -> RowCells:
        """What stands in the columns."""
        record = self._records[self._serial(index) - self._first]
        return [self._cell(name, record) for name in self.columns]

    def _cell(self, name: str, record: Record) -> Any:
        if name == "at":
            return clock(record.at), "dim"
        if name == "millis":
            return literal(f"{clock(record.at)}.{int(record.at * 1000) % 1000:03d}"), "dim"
        if name == "kind":
            return kind_look(str(record.kind))
        room = self.room.get(name, 40)
        if name == "id":
            return short_id(record.headers.correlation_id, room, ascii_only=self._ascii), ""
        if name == "name":
            return shown(record.headers.name, room + 1, ascii_only=self._ascii), ""
        return record_summary(record, ascii_only=self._ascii) or (EMPTY, "")

    # -- changes ------------------------------------------------------------------------

    @property
    def next_serial(self) -> int:
        """The number of the next record that is wanted."""
        return self._first + len(self._records)

    @property
    def dropped(self) -> int:
        """How many records were read and are not kept any more."""
        return self._first

    @property
    def query(self) -> Query | None:
        """The filter; None: there is none."""
        return self._query

    def extend(self, first: int, records: Sequence[Record], now: float) -> None:
        """Add records, and let go of the oldest.

        Args:
            first: the number of the first one.
            records: in order.
            now: seconds since the Unix epoch.
        """
        if first > self.next_serial:
            # The feed has let go of some that were never taken.
            self._records, self._shown = [], None if self._shown is None else []
            self._first = first
        elif first < self.next_serial:
            records = records[self.next_serial - first :]
        start = self.next_serial
        self._records.extend(records)
        if self._shown is not None:
            self._shown.extend(serial for serial, record in enumerate(records, start) if self._matches(record, now))
        over = len(self._records) - self._size
        if over > 0:
            del self._records[:over]
            self._first += over
            if self._shown is not None:
                del self._shown[: bisect_left(self._shown, self._first)]

    def forget(self, erased: Set[str], now: float) -> None:
        """Workflows were erased: their records stay without their contents, and are found by these no more.

        Args:
            erased: their IDs.
            now: seconds since the Unix epoch.
        """
        for at, record in enumerate(self._records):
            if record.headers.correlation_id in erased and not is_marker(record):
                self._records[at] = stripped(record)
        self._forgot += 1
        self.set_query(self._query, now)

    def set_query(self, query: Query | None, now: float) -> None:
        """Show the records that ``query`` selects."""
        self._query = None if query is None or query.selects_all else query
        if self._query is None:
            self._shown = None
        else:
            pairs = enumerate(self._records, self._first)
            self._shown = [serial for serial, record in pairs if self._matches(record, now)]

    def _matches(self, record: Record, now: float) -> bool:
        return self._query is None or self._query.matches(RecordView(record, now))
