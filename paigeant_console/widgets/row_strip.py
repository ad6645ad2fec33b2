"""How the cells of a table's row lie side by side on a line, and which of them are in sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from paigeant_console.safe_text import literal
from paigeant_console.widgets.columns import Cell, Column, fill_cell, fit_columns
from paigeant_console.widgets.component_styles import NO_STYLE

__all__ = ["NOTHING", "Line", "RowStrips", "changed_cells"]

NOTHING: Final = literal("")
_GUTTER: Final = 2
_NOT_DIM: Final = Style(dim=False)


class Line(NamedTuple):
    """All that decides how a line of a table looks."""

    key: str | None
    revision: int
    selected: bool
    marked: bool
    look: int


class RowStrips:
    """Makes strips of rows: a gutter, which always is in sight, and the cells that the columns have room for.

    Args:
        columns: The columns, from left to right.
        styles: By the names that cells use.
        ascii_only: Write ASCII only.
    """

    def __init__(self, columns: Sequence[Column], styles: Mapping[str, Style], *, ascii_only: bool) -> None:
        self.columns = tuple(columns)
        self.wide = 0
        """Cells that rows have at least; 0: as many as are in sight."""
        self.shift = 0
        """Cells that are out of sight on the left."""
        self._styles = styles
        self._ascii = ascii_only
        self._fitted: list[tuple[int, int]] = []

    @property
    def last_cells(self) -> int:
        """Cells that the last column got."""
        return self._fitted[-1][1] if self._fitted else 0

    def shifted(self, shift: int, sight: int) -> int:
        """The nearest shift to `shift` that leaves the line filled, where `sight` cells are in sight."""
        return max(0, min(shift, max(sight, self.wide) - sight))

    def fit(self, sight: int) -> None:
        """Give the columns the room that there is.

        Args:
            sight: Cells in sight.
        """
        self.shift = self.shifted(self.shift, sight)
        self._fitted = fit_columns(self.columns, max(sight, self.wide) - _GUTTER)

    def draw(self, gutter: str, row: Sequence[Cell], sight: int, base: Style, over: Style = NO_STYLE) -> Strip:
        """Put gutter and cells side by side; neighbours of one style become one segment, which saves bytes.

        Args:
            gutter: What stands before the cells.
            row: The cells, one a column; a single one spans all columns.
            sight: Cells in sight.
            base: The style of the line, which those of the cells add to.
            over: The style that is laid over all of it.
        """
        width = max(sight, self.wide)
        pieces = [(gutter.ljust(_GUTTER)[:width], "")]
        fitted = self._fitted
        if len(row) == 1 < len(self.columns) and width > _GUTTER:
            fitted = [(0, width - _GUTTER)]  # it spans all columns: the head of a group
        for position, (index, room) in enumerate(fitted):
            if position:
                pieces.append((" ", ""))
            cell: Cell = row[index] if index < len(row) else (NOTHING, "")
            pieces += fill_cell(cell, room, align=self.columns[index].align, ascii_only=self._ascii)
        # Under the cursor cells have no colours of their own, nor are they dim: reversed they would be patches.
        styles = {name: self._styles[name] if name else NO_STYLE for _, name in pieces}
        if over.reverse or over.color:
            styles = {name: style.without_color + _NOT_DIM for name, style in styles.items()}
        styled = [(text, base + styles[name] + over) for text, name in pieces if text]
        groups = groupby(styled, key=itemgetter(1))
        segments = [Segment("".join(text for text, _ in group), style) for style, group in groups]
        strip = Strip(segments).adjust_cell_length(width, base + over)
        if width == sight:
            return strip
        start = _GUTTER + self.shift
        return Strip.join([strip.crop(0, _GUTTER), strip.crop(start, start + sight - _GUTTER)])


def changed_cells(old: Strip, new: Strip) -> tuple[int, int]:
    """Where two strips of one width differ: the first cell, and how many from there on; as near as is told quickly."""
    before, after = list(old), list(new)
    start = _alike(before, after)
    before.reverse()
    after.reverse()
    end = new.cell_length - _alike(before, after, backwards=True)
    return start, max(0, end - start)


def _alike(one: Sequence[Segment], other: Sequence[Segment], *, backwards: bool = False) -> int:
    """Cells at the start of two rows of segments that are the same; or at their end, where those come last first."""
    cells = 0
    for mine, its in zip(one, other, strict=False):
        if mine == its:
            cells += mine.cell_length
            continue
        # Letters that may be two cells wide are not taken apart.
        if mine.style == its.style and mine.text.isascii() and its.text.isascii():
            step = -1 if backwards else 1
            for letter, its_letter in zip(mine.text[::step], its.text[::step], strict=False):
                if letter != its_letter:
                    break
                cells += 1
        break
    return cells
