"""Rows that are few and made anew each time: a row source that tells which of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from paigeant_console.model.text import Span

__all__ = ["PlainRows", "RowCells"]

RowCells: TypeAlias = Sequence[Span | Sequence[Span]]


class PlainRows:
    """A list of rows for a line table.

    A row's revision is made of what its cells say, so that rows that were made anew and say
    the same are not painted.
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._places: dict[str, int] = {}
        self._cells: list[RowCells] = []
        self._revisions: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """What names the row at ``index``."""
        return self._keys[index]

    def index_of(self, key: str) -> int | None:
        """Where a row is, or None."""
        return self._places.get(key)

    def revision(self, key: str) -> int:
        """Changes when what its cells say does."""
        return self._revisions[self._places[key]]

    def cells(self, index: int) -> RowCells:
        """What stands in the columns."""
        return self._cells[index]

    def replace(self, rows: Sequence[tuple[str, RowCells]]) -> None:
        """Hold these rows: each a key, no two the same, and its cells."""
        self._keys = [key for key, _ in rows]
        self._places = {key: index for index, key in enumerate(self._keys)}
        self._cells = [cells for _, cells in rows]
        self._revisions = [_revision(cells) for cells in self._cells]


def _revision(cells: RowCells) -> int:
    said = tuple(cell if isinstance(cell, tuple) else tuple(cell) for cell in cells)
    return hash(said) & 0x7FFF_FFFF_FFFF_FFFF
