"""The line table of workflows: it chooses its columns by its width and tells its source how wide they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.safe_text import SafeText, literal
from paigeant_console.widgets.columns import Column, fit_columns
from paigeant_console.widgets.top_table import TopTable

__all__ = ["WorkflowTable"]

_GUTTER: Final = 2
_AGE: Final = Column(literal("AGE"), 3, align="right", priority=6)


def _columns(names: str, **specs: Column) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    order = tuple(names.split())
    return order, tuple(specs[name] for name in order)


def _layout(
    width: int, *, dead: bool, state: int, absolute: bool = False
) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """The columns for a width; the last one takes what is left."""
    wide, roomy = width >= 140, width >= 105
    specs = {
        "state": Column(literal("STATE"), state, priority=9),
        "id": Column(literal("ID"), 32 if width >= 190 else 12 if roomy else 8, min_width=8, priority=8),
        "name": Column(literal("NAME"), 18 if roomy else 10, min_width=6, priority=5),
        "age": Column(literal("CREATED"), 11, priority=6) if absolute else _AGE,
        "updated": Column(literal("SINCE"), 11 if absolute else 5, align="left" if absolute else "right", priority=6),
        "try": Column(literal("TRY"), 3, align="right", priority=2),
        "hop": Column(literal("DONE"), 6, align="right", priority=3),
        "worker": Column(literal("WORKER"), 18, priority=1),
        "step": Column(literal("STEP"), 22 if roomy else 18, min_width=10, priority=4),
        "slip": Column(
            literal("SLIP"),
            72 if width >= 215 else 58 if width >= 180 else 56 if wide else 24,
            min_width=20,
            priority=10,
        ),
        "why": Column(literal("WHY"), 30, min_width=10, priority=7),
    }
    if dead:
        order = "state id name updated step why" if roomy else "state id updated step why"
    elif wide:
        order = (
            "state id name hop try age updated worker slip why"
            if width >= 170
            else "state id name hop age updated slip"
        )
    elif roomy:
        order = "state id name hop age slip"
    else:
        order = "state id name age slip"
    return _columns(order, **specs)


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

    def columns_for(self, width: int) -> Sequence[Column]:
        """See :meth:`LineTable.columns_for`; they depend on how times are told, too."""
        names, columns = _layout(
            width,
            dead=self._dead and not self.wide,
            state=self._state_cells(self._list.ascii_only),
            absolute=self._list.absolute,
        )
        self._list.columns = names
        self._list.room = {names[index]: room for index, room in fit_columns(columns, width - _GUTTER)}
        return columns
