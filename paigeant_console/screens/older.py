"""Older workflows: those of the history on this machine that are not in the console's memory (any more)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from threading import RLock
from typing import ClassVar

from textual.widget import Widget

from paigeant_console.actions import VIEWS, Situation
from paigeant_console.feed.older import Older
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.fold import Fold
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.widgets.filter_line import FilterLine
from paigeant_console.widgets.status_bar import StatusBar
from paigeant_console.widgets.workflow_table import WorkflowTable
from paigeant_core.journal import Record

__all__ = ["OlderScreen", "PastWorkflowScreen"]


class _Rows:
    """The workflows that were found, for a list."""

    def __init__(self, found: Older, shared: Shared) -> None:
        self.fold = found.fold
        self.lock = RLock()
        self.now = shared.feed.now


def _read_only(screen: ConsoleScreen) -> StatusBar:
    """The lines at the top, which say that nothing can be done here."""
    shared = screen.shared
    return StatusBar(replace(shared.place, read_only=True), VIEWS, screen.tab, ascii_only=shared.ascii_only)


class OlderScreen(ConsoleScreen):
    """What the history has of a query, as it was seen last; nothing here can be acted on.

    Args:
        shared: what all screens share.
        found: what was found.
    """

    view: ClassVar[str] = "older"

    def __init__(self, shared: Shared, found: Older) -> None:
        super().__init__(shared)
        self.status_bar = _read_only(self)
        self._found = found
        self._shown = -1
        self.rows = WorkflowList(_Rows(found, shared), order="updated", ascii_only=shared.ascii_only)
        self.filter_line = FilterLine(ascii_only=shared.ascii_only, word="HISTORY")
        self.table = WorkflowTable(self.rows, empty=literal("looking in the history …"), ascii_only=shared.ascii_only)

    @property
    def tab(self) -> str:
        """See :class:`ConsoleScreen`."""
        return "workflows"

    def body(self) -> Iterable[Widget]:
        """What was looked for, and the table."""
        return self.filter_line, self.table

    def on_mount(self) -> None:
        """The table has the keys."""
        self.table.focus()
        self.again()

    def look(self, changed: bool) -> None:
        """Take up what was found meanwhile."""
        found = self._found
        if len(found) != self._shown:
            self._shown = len(found)
            self.rows.rescan()
            self.rows.scan(float("inf"))
        if found.whole:
            self.table.set_empty(literal("the history has no others"))
        self.table.sync()
        query = found.query
        more = "as they were seen last" if found.whole else "looking …"
        if found.failed:
            more = "the history could not be searched to its end"
        text = safe(query.text, 200) if query is not None else literal("all that is not in memory any more")
        self.filter_line.show(text, len(found), None, more)
        if found.more:
            self.prompt.stand((literal(f"the newest {len(found):,}; `history QUERY` lists all of them"), "dim"))

    def targets(self) -> list[str]:
        """The workflow under the cursor."""
        key = self.table.cursor_key
        return [] if key is None else [key]

    def open_row(self, table: object, key: str) -> None:
        """Open the workflow as it was."""
        self.app.push_screen(PastWorkflowScreen(self.shared, key, "workflows", self._found.fold))

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        query = self._found.query
        return command_line(self.shared.target, ["history", *([query.text] if query is not None else [])])


class PastWorkflowScreen(WorkflowScreen):
    """One workflow of the history, with all that was seen of it; nothing can be done to it.

    Args:
        shared: what all screens share.
        correlation_id: which.
        tab: the view that it was opened from.
        fold: that knows how it was seen last.
    """

    def __init__(self, shared: Shared, correlation_id: str, tab: str, fold: Fold) -> None:
        super().__init__(shared, correlation_id, tab, fold)
        self.status_bar = _read_only(self)

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        return replace(super().situation(), past=True)

    @property
    def nothing_can_be_done(self) -> bool:
        """See :attr:`WorkflowScreen.nothing_can_be_done`."""
        return True

    async def records_of_it(self) -> list[Record]:
        """See :meth:`WorkflowScreen.records_of_it`: from the disk."""
        kept = self.feed.kept
        return [] if kept is None else await asyncio.to_thread(kept.of, self.correlation_id)

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        super().look(changed)
        said = f"from the history, as it was seen last; nothing can be done to it, but :open {self.correlation_id[:12]}"
        self.prompt.stand((safe(said + " asks the broker", 200), "info"))

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["history", f"id:{self.correlation_id}"])

    def nothing(self) -> SafeText:
        """See :meth:`WorkflowScreen.nothing`."""
        return literal("the history has no record of it any more")
