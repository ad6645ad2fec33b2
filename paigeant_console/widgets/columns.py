"""Rows and columns of a line table as plain data: where rows come from, who opens one, which columns fit, what fits in.

Nothing here knows Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast, runtime_checkable

from rich.cells import cell_len

from paigeant_console.safe_text import Align, SafeText, ascii_safe, cells, joined, literal, safe

__all__ = ["Cell", "Column", "OpensRows", "RowSource", "Span", "fill_cell", "fit_columns", "spans_of"]

Span: TypeAlias = tuple[SafeText, str]
"""A text and the name of its style."""
Cell: TypeAlias = Span | Sequence[Span]
"""One span or several. A style's name is the end of a component class: `error` is `line-table--error`; the empty string
and names that do not exist are the row's own style."""

_SPACE: Final = literal(" ")


class RowSource(Protocol):
    """Where rows come from. All of it is called while painting, so each call must be cheap and none may wait."""

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def key(self, index: int, /) -> str:
        """What names the row at `index`, from 0, for as long as it lives."""
        ...

    def index_of(self, key: str, /) -> int | None:
        """Where a row is now, or None if it is gone."""
        ...

    def revision(self, key: str, /) -> int:
        """A number from 0 that changes when the row's cells do."""
        ...

    def cells(self, index: int, /) -> Sequence[Cell]:
        """The row's cells, one for each column of the table; a single one spans them all."""
        ...


@runtime_checkable
class OpensRows(Protocol):
    """What holds a table whose rows can be opened."""

    def open_row(self, table: object, key: str, /) -> None:
        """Open the row `key` of that table."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """A column. The last one that fits takes what is left of the line, so put free text there."""

    title: SafeText
    """Its heading."""
    width: int
    """Cells it wants."""
    align: Align = "left"
    """Where short text stands."""
    min_width: int = 0
    """Cells below which it is dropped; 0 for `width`: it does not shrink."""
    priority: int = 0
    """When the line is too short the column of the lowest priority goes first, of two equals the right one."""


def fit_columns(columns: Sequence[Column], width: int) -> list[tuple[int, int]]:
    """Choose the columns that fit, and their widths.

    Columns shrink to their minimum, lowest priority first, before any is dropped; one cell stands between two.

    Args:
        columns: The columns wanted.
        width: Cells there are.

    Returns:
        Index and cells of each column that is shown, from left to right; together with gaps they take `width` cells.
        None at all if there is no room for one.
    """
    if not columns or width <= 0:
        return []
    widths = {index: max(column.width, 1) for index, column in enumerate(columns)}
    weakest_first = sorted(widths, key=lambda index: (columns[index].priority, -index))

    def excess() -> int:
        return sum(widths.values()) + len(widths) - 1 - width

    for index in weakest_first:
        floor = max(columns[index].min_width or columns[index].width, 1)
        widths[index] = max(widths[index] - max(excess(), 0), min(floor, widths[index]))
    for index in weakest_first[:-1]:
        if excess() <= 0:
            break
        del widths[index]
    # What was shrunk for the sake of one that went after all may grow again.
    for index in reversed(weakest_first):
        if index in widths and (room := -excess()) > 0:
            widths[index] += max(0, min(columns[index].width - widths[index], room))
    widths[max(widths)] -= excess()
    return sorted(widths.items())


def fill_cell(cell: Cell, width: int, *, align: Align, ascii_only: bool) -> list[tuple[str, str]]:
    """Cut or pad a cell to its column.

    Args:
        cell: The cell. (Text that is no `SafeText`, past the type checker, is made safe here.)
        width: Cells of the column, at least 1.
        align: Where a shorter text stands.
        ascii_only: Write ASCII only.

    Returns:
        Texts and names of styles, which together take exactly `width` cells.
    """
    ellipsis = "~" if ascii_only else "…"
    spans = spans_of(cell)
    texts = [text if type(text) is SafeText else safe(text) for text, _ in spans]
    if ascii_only:
        texts = [ascii_safe(text) for text in texts]
    if len(texts) == 1:
        return [(cells(texts[0], width, align=align, ellipsis=ellipsis), spans[0][1])]
    room = width - sum(map(cell_len, texts))
    if room >= 0:
        left = {"left": 0, "right": room, "center": room // 2}[align]
        filled = [(str(text), style) for text, (_, style) in zip(texts, spans, strict=True)]
        return [(" " * left, ""), *filled, (" " * (room - left), "")]
    result: list[tuple[str, str]] = []
    for text, (_, style) in zip(texts, spans, strict=True):
        size = cell_len(text)
        if size >= width:
            # More follows, so this is cut even where it would just fit: the added cell makes `cells` say so.
            result.append((cells(joined((text, _SPACE)), width, ellipsis=ellipsis), style))
            break
        result.append((text, style))
        width -= size
    return result


def spans_of(cell: Cell) -> list[Span]:
    """What a cell holds, one span or several."""
    return [cast(Span, cell)] if _is_span(cell) else list(cast("Sequence[Span]", cell))


def _is_span(cell: Cell) -> bool:
    """Tell one span from a sequence of two."""
    return isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[0], str)
