"""Where the cursor of a list stands, which rows are in sight and which are marked; kept by key, as rows come and go.

Nothing here knows Textual: `LineTable` turns keys into calls of this and paints what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from paigeant_console.widgets.columns import Cell, RowSource

__all__ = ["NO_ROWS", "RowView"]


class _NoRows:
    def __len__(self) -> int:
        return 0

    def key(self, index: int) -> str:
        raise IndexError(index)

    def index_of(self, _key: str, /) -> int | None:
        return None

    def revision(self, key: str) -> int:
        raise KeyError(key)

    def cells(self, index: int) -> Sequence[Cell]:
        raise IndexError(index)


NO_ROWS: Final[RowSource] = _NoRows()
"""A source without rows."""


class RowView:
    """A window of some lines onto a source that changes underneath.

    The cursor belongs to a key. When rows come in above it the window moves along, so that the row under the cursor
    stays on its line of the screen; when its row is gone the cursor stays on the line.

    Args:
        source: The rows.
        follow: Whether it can follow the end, which it does at first.
    """

    def __init__(self, source: RowSource, *, follow: bool = False) -> None:
        self.source = source
        self.page = 0
        """Lines there are for rows."""
        self.top = 0
        """Index of the row on the first line."""
        self.key: str | None = None
        """The row under the cursor, or None if there are no rows."""
        self.index = 0
        """Where that row was when it was last looked up."""
        self.can_follow = follow
        self.following = follow
        self._marks: dict[str, None] = {}
        self._range_start: str | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """The marked rows in the order in which they were marked."""
        return tuple(self._marks)

    def is_marked(self, key: str) -> bool:
        """Tell whether a row is marked.

        Args:
            key: The row.

        Returns:
            Whether it is.
        """
        return key in self._marks

    def locate(self) -> None:
        """Learn where the cursor's row is now, and move the window with it."""
        index = None if self.key is None else self.source.index_of(self.key)
        if index is not None:
            self.top += index - self.index
            self.index = index

    def place(self, index: int) -> None:
        """Put the cursor on a row, or on the nearest there is, and the window around it.

        Args:
            index: The row, from 0.
        """
        count = len(self.source)
        self.index = max(0, min(index, count - 1))
        self.key = self.source.key(self.index) if count else None
        self.fit(self.page)

    def fit(self, page: int) -> None:
        """Take up how many lines there are for rows; the cursor stays in sight, and no line is left empty for nothing.

        Args:
            page: Lines.
        """
        self.page, lines = page, max(page, 1)
        self.top = max(self.index - lines + 1, min(self.top, self.index))
        self.top = max(0, min(self.top, len(self.source) - lines))

    def sync(self) -> bool:
        """Take up rows that came, went or moved.

        Marks of rows that are gone are dropped, so that no action meets a row that is not in the list.

        Returns:
            Whether marks were dropped.
        """
        gone = [key for key in self._marks if self.source.index_of(key) is None]
        for key in gone:
            del self._marks[key]
        self.locate()
        self.place(len(self.source) - 1 if self.following else self.index)
        return bool(gone)

    def move_to(self, index: int) -> bool:
        """Put the cursor on a row. Any move up pauses following.

        Args:
            index: The row, from 0.

        Returns:
            Whether following was paused.
        """
        self.locate()
        paused = self.following and index < self.index
        self.following = self.following and not paused
        self.place(index)
        return paused

    def toggle_mark(self) -> bool:
        """Mark the row under the cursor, or unmark it.

        Returns:
            Whether there was a row.
        """
        if self.key is None:
            return False
        if self.key in self._marks:
            del self._marks[self.key]
        else:
            self._marks[self.key] = None
        self._range_start = self.key
        return True

    def mark_range(self) -> bool:
        """Mark all rows from the one last marked or unmarked to the cursor.

        Returns:
            Whether there was a row.
        """
        self.locate()
        if self.key is None or self.source.index_of(self.key) is None:
            return False
        start = None if self._range_start is None else self.source.index_of(self._range_start)
        first, last = sorted((self.index if start is None else start, self.index))
        self.mark(self.source.key(index) for index in range(first, last + 1))
        self._range_start = self.key
        return True

    def mark(self, keys: Iterable[str]) -> None:
        """Mark rows.

        Args:
            keys: Which.
        """
        self._marks.update(dict.fromkeys(keys))

    def unmark(self, keys: Iterable[str] | None = None) -> bool:
        """Unmark rows.

        Args:
            keys: Which; all by default.

        Returns:
            Whether any of them was marked.
        """
        gone = [key for key in (self._marks if keys is None else keys) if key in self._marks]
        for key in gone:
            del self._marks[key]
        return bool(gone)
