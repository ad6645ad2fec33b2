"""View 5: operations in progress and past, and who did what, and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import ClassVar, Final

from textual.css.scalar import Scalar
from textual.widget import Widget

from paigeant_console.model.confirmation import command_line
from paigeant_console.model.deeds import operation_line, operation_rows
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.tables import action_of, audit_keyed, audit_rows, operation_of
from paigeant_console.model.times import at_heading
from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_console.screens.entry import EntryScreen
from paigeant_console.screens.operations import OperationsScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.columns import Column
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.top_table import TopTable
from paigeant_core.errors import PaigeantError
from paigeant_core.operations import OperationState, OperationStatus

__all__ = ["AuditScreen"]

ASK_EVERY: Final = 5.0
"""Seconds between two looks at the audit."""
LOOK_EVERY: Final = 1.0
"""And at operations of which one is in progress."""


def _operation_columns() -> tuple[Column, ...]:
    at = at_heading()
    return (
        Column(at, max(8, len(at)), priority=6),
        Column(literal("OPERATOR"), 18, min_width=8, priority=3),
        Column(literal("OPERATION"), 11, priority=10),
        Column(literal("STATE"), 10, priority=9),
        Column(literal("PROGRESS"), 10, priority=2),
        Column(literal("DONE"), 9, align="right", min_width=7, priority=8),
        Column(literal("FAILED"), 6, align="right", priority=7),
        Column(literal("WHY"), 40, min_width=20, priority=5),
    )


def _audit_columns() -> tuple[Column, ...]:
    at = at_heading()
    return (
        Column(at, max(8, len(at)), priority=9),
        Column(literal("OPERATOR"), 18, min_width=10, priority=5),
        Column(literal("ACTION"), 13, min_width=11, priority=10),
        Column(literal("N"), 4, align="right", min_width=2, priority=6),
        Column(literal("OUTCOME"), 44, min_width=20, priority=7),
        Column(literal("REASON"), 40, min_width=10, priority=8),
    )


class _RunsTable(LineTable):
    """Operations. Unlike in a `TopTable` the cursor stays on its row though it was not moved: pausing asks nothing."""

    def sync(self) -> None:
        """Take up rows that came, went or moved; what is new above the cursor is in sight, if the first row was."""
        from_top = not self.rows_above
        super().sync()
        if from_top and self.rows_above:
            self._view.top = 0
            self._view.fit(self._view.page)
            self._repaint_changes()


class AuditScreen(OperationsScreen):
    """Operations that take their time, and the audit's newest entries; the newest first."""

    view: ClassVar[str] = "audit"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        ascii_only = shared.ascii_only
        self._run_rows, self._rows = PlainRows(), PlainRows()
        self.runs = _RunsTable(
            _operation_columns(),
            self._run_rows,
            empty=literal("asking for operations …"),
            ascii_only=ascii_only,
            id="runs",
        )
        self.table = TopTable(
            _audit_columns(), self._rows, empty=literal("asking for the audit …"), ascii_only=ascii_only, id="audit"
        )
        self._known: dict[str, OperationStatus] = {}
        self._audit: dict[str, bytes] = {}
        self._asked_at = float("-inf")
        self._looked_at_runs = float("-inf")
        self._asking_now = False
        self._chosen = False
        """Whether it is settled which table has the keys."""

    def body(self) -> Iterable[Widget]:
        """The two tables."""
        return self.runs, self.table

    def on_mount(self) -> None:
        """The audit has the keys, unless the first look finds an operation that takes its time."""
        self.table.focus()

    def focus_view(self) -> None:
        """See :meth:`ConsoleScreen.focus_view`."""
        if self.focused not in (self.runs, self.table):
            self.set_focus(self.table, scroll_visible=False)

    def on_screen_resume(self) -> None:
        """Ask at once, by the look that Textual has the screens' common handler take after this one."""
        self.ask_anew()

    def ask_anew(self) -> None:
        """See :meth:`OperationsScreen.ask_anew`."""
        self._asked_at = self._looked_at_runs = float("-inf")

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        self._draw()
        if self._asking_now or not self.status.connected:
            return
        now = time.monotonic()
        moving = any(status.state is OperationState.RUNNING for status in self._known.values())
        every = LOOK_EVERY if moving or self.feed.deeds.current else ASK_EVERY
        entries = now - self._asked_at >= ASK_EVERY
        if entries or now - self._looked_at_runs >= every:
            self._asking_now = True
            self._looked_at_runs = now
            self._asked_at = now if entries else self._asked_at
            self.run_worker(self._fetch(entries), group="audit")

    async def _fetch(self, entries: bool) -> None:
        try:
            known = await asyncio.wrap_future(self.feed.deeds.runs())
            audit: list[bytes] | None = None
            if entries:
                audit = await asyncio.wrap_future(self.feed.audit())
        except PaigeantError as error:
            for table in (self.runs, self.table):
                table.set_empty(safe(str(error), 200))
            return
        finally:
            self._asking_now = False
        if not self.built:
            return
        if known and not self._chosen:
            self.set_focus(self.runs, scroll_visible=False)
        self._chosen = True  # what others begin takes no keys from who is at the audit
        self._known = known
        self.runs.set_empty(literal("no operation has taken its time yet; more than ten workflows at once do"))
        if audit is not None:
            self._audit = audit_keyed(audit)
            self._rows.replace(audit_rows(self._audit, self.feed.now(), ascii_only=self.shared.ascii_only))
            self.table.set_empty(literal("no operator has done anything yet"))
            self.table.sync()
        self._draw()
        self.update_hints()

    def _draw(self) -> None:
        self._run_rows.replace(operation_rows(self._known.values(), self.feed.now(), ascii_only=self.shared.ascii_only))
        self._fit()
        self.runs.sync()
        self.stand()

    def _fit(self) -> None:
        """Give the operations as many lines as they need, but leave half of the screen to the audit."""
        room = self.runs.size.height + self.table.size.height
        height = max(2, min(len(self._run_rows) + 1, room // 2))
        if room and self.runs.styles.height != Scalar.from_number(height):
            self.runs.styles.height = height

    def stand(self) -> None:
        """See :meth:`ActingScreen.stand`: what there is to know of the operation under the cursor."""
        status = self.status_here()
        if status is not None:
            self.prompt.stand((operation_line(status, ascii_only=self.shared.ascii_only), "dim"))
        else:
            self.prompt.stand()

    def on_line_table_cursor_moved(self) -> None:
        """Tell of the operation that the cursor is on now."""
        if self.built:
            self.stand()
            self.update_hints()

    def on_descendant_focus(self) -> None:
        """Show which table has the keys."""
        if self.built and self.focused in (self.runs, self.table):
            self.runs.set_class(self.focused is not self.runs, "-weak")
            self.table.set_class(self.focused is not self.table, "-weak")
            self.stand()
            self.update_hints()

    def do_panes(self) -> None:
        """Go to the other table."""
        self._chosen = True
        self.set_focus(self.table if self.focused is self.runs else self.runs, scroll_visible=False)

    # -- acting -------------------------------------------------------------------------

    def status_here(self) -> OperationStatus | None:
        """See :meth:`OperationsScreen.status_here`: the one under the cursor, where the operations have the keys."""
        return self._known.get(self.runs.cursor_key or "") if self.focused is self.runs else None

    def operation_here(self) -> str:
        """See :meth:`OperationsScreen.operation_here`."""
        focused = self.table if self.focused is self.table else self.runs
        key = focused.cursor_key or ""
        return operation_of(self._audit[key]) if focused is self.table and key in self._audit else key

    def done_here(self) -> str:
        """See :meth:`OperationsScreen.done_here`."""
        entry = self._audit.get(self.table.cursor_key or "") if self.focused is self.table else None
        return super().done_here() if entry is None else action_of(entry)

    def open_row(self, table: object, key: str) -> None:
        """Show all there is to know of the operation, or of the entry."""
        audit = list(self._audit.values())
        if table is self.runs:
            self.app.push_screen(EntryScreen(self.shared, key, None, self._known, audit))
        elif key in self._audit:
            self.app.push_screen(EntryScreen.of_entry(self.shared, self._audit[key], self._known, audit))

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["audit" if self.focused is self.table else "operations"])

    def copied(self) -> tuple[SafeText, bytes] | None:
        """The operation's ID."""
        found = self.operation_here()
        return (literal("the operation's ID"), found.encode()) if found else None
