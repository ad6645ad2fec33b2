"""The line table of workflows: it chooses its columns by its width and tells its source how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from paigeant_console.model.workflow_list import Order, WorkflowList
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.widgets.columns import Column, fit_columns
from paigeant_console.widgets.top_table import TopTable

__all__ = ["WorkflowTable"]

_GUTTER: Final = 2
_ARROWS: Final = {False: ("↓", "↑"), True: ("v", "^")}
_AGE: Final = Column(literal("AGE"), 3, align="right", priority=6)


_TELLS: Final[Mapping[Order, tuple[str, ...]]] = {
    "created": ("age",),
    "updated": ("updated",),
    "state": ("state",),
    "name": ("name",),
    "activity": ("step", "slip"),
    "attempts": ("try",),
}
"""The columns that an order can be read from, the best first."""


def _layout(
    width: int,
    *,
    dead: bool,
    state: int,
    whole: bool = False,
    absolute: bool = False,
    order: Order = "created",
    arrow: str = "",
) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """The columns for a width, with IDs that are whole if need be; the last column takes what is left."""
    wide, roomy = width >= 140, width >= 105
    ids = (32 if dead or whole else 20) if width >= 190 else 12 if roomy else 10
    specs = {
        "state": Column(literal("STATE"), state, priority=9),
        "id": Column(literal("ID"), ids, min_width=8, priority=8),
        "name": Column(literal("NAME"), 14 if roomy else 10, min_width=6, priority=5),
        "age": Column(literal("CREATED"), 11, priority=6) if absolute else _AGE,
        "updated": Column(literal("SINCE"), 11 if absolute else 5, align="left" if absolute else "right", priority=6),
        "try": Column(literal("TRY"), 3, align="right", priority=2),
        "hop": Column(literal("DONE"), 6, align="right", priority=3),
        "worker": Column(literal("WORKER"), 12, priority=1),
        "step": Column(literal("STEP"), 22 if roomy else 18, min_width=10, priority=4),
        "slip": Column(literal("SLIP"), 58 if width >= 180 else 56 if wide else 24, min_width=20, priority=10),
        "why": Column(literal("WHY"), 30, min_width=10, priority=7),
    }
    if dead:
        names = "state id name updated step why" if roomy else "state id updated step why"
    elif wide:
        names = (
            "state id name hop try age updated worker slip why"
            if width >= 170
            else "state id name hop age updated slip"
        )
    elif roomy:
        names = "state id name hop age slip"
    else:
        names = "state id name age slip"
    return _sorted(names.split(), specs, order, arrow)


def _sorted(
    names: list[str], specs: dict[str, Column], order: Order, arrow: str
) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """The columns with an arrow at the heading of the one that they are ordered by, which is there then."""
    if order == "updated" and "updated" not in names:
        names[names.index("age")] = "updated"
    if order == "attempts" and "try" not in names:
        names.insert(names.index("id") + 1, "try")
    if order == "name" and "name" not in names:
        names.insert(names.index("id") + 1, "name")
    told = next((name for name in _TELLS[order] if name in names), None)
    if told is not None and arrow:
        column = specs[told]
        title = joined((column.title, literal(arrow)))
        width, priority = max(column.width, len(title)), max(column.priority, 6)
        specs[told] = replace(column, title=title, width=width, priority=priority)
    return tuple(names), tuple(specs[name] for name in names)


class WorkflowTable(TopTable):
    """Workflows, one a line.

    Args:
        source: the workflows.
        dead: the columns of the view of dead letters.
        empty: the sentence shown when there are none.
        ascii_only: write ASCII only.
    """

    def __init__(
        self, source: WorkflowList, *, dead: bool = False, empty: SafeText | None = None, ascii_only: bool = False
    ) -> None:
        self._dead = dead
        self._list = source
        self.home_key: str | None = None
        """The row that a filter may have hidden, to come back to; None once the operator has moved."""
        names, columns = _layout(80, dead=dead, state=self._state_cells(ascii_only))
        source.columns = names
        super().__init__(columns, source, empty=empty, ascii_only=ascii_only)

    def _state_cells(self, ascii_only: bool) -> int:
        # The longest word is `compensating`; in the dead letters it is `quarantined`.
        return 15 if ascii_only else 13

    def move_to_index(self, index: int) -> None:
        """Put the cursor on a row, as the operator wants it.

        Args:
            index: the row, from 0.
        """
        self.home_key = None
        super().move_to_index(index)

    def return_to(self, key: str | None) -> None:
        """Put the cursor back on a row, if it is in the list.

        Args:
            key: the row.
        """
        if key is not None and key != self.cursor_key and (index := self.source.index_of(key)) is not None:
            on_top, self.on_top = self.on_top, False
            super().move_to_index(index)
            self.on_top = on_top and index == 0

    def _arrow(self) -> str:
        """Down: as the order goes by itself; up: turned round."""
        return _ARROWS[self._list.ascii_only][self._list.backwards]

    def columns_for(self, width: int) -> Sequence[Column]:
        """See :meth:`LineTable.columns_for`; they depend on the order and on how times are told, too."""
        names, columns = _layout(
            width,
            dead=self._dead and not self.wide,
            state=self._state_cells(self._list.ascii_only),
            whole=self.wide > 0,
            absolute=self._list.absolute,
            order=self._list.order,
            arrow=self._arrow(),
        )
        self._list.columns = names
        self._list.room = {names[index]: room for index, room in fit_columns(columns, width - _GUTTER)}
        return columns
