"""View 5: operations in progress and past, and who did what, and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import ClassVar, Final

from textual.css.scalar import Scalar
from textual.widget import Widget

from paigeant_console.actions import Situation
from paigeant_console.model.confirmation import command_line, stop_confirmation
from paigeant_console.model.deeds import operation_line, operation_rows
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.tables import audit_rows, operation_of
from paigeant_console.model.text import plural
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.acting import ActingScreen
from paigeant_console.screens.base import Shared
from paigeant_console.widgets.columns import Column
from paigeant_console.widgets.top_table import TopTable
from paigeant_core.errors import PaigeantError
from paigeant_core.operations import OperationState, OperationStatus, Undo

__all__ = ["AuditScreen"]

ASK_EVERY: Final = 5.0
"""Seconds between two looks at the audit."""
LOOK_EVERY: Final = 1.0
"""And at operations of which one is in progress."""

_OPERATIONS: Final = (
    Column(literal("AT"), 8, priority=6),
    Column(literal("OPERATOR"), 18, min_width=8, priority=3),
    Column(literal("OPERATION"), 11, priority=10),
    Column(literal("STATE"), 10, priority=9),
    Column(literal("PROGRESS"), 10, priority=4),
    Column(literal("DONE"), 9, align="right", min_width=7, priority=8),
    Column(literal("FAILED"), 6, align="right", priority=7),
    Column(literal("WHY"), 40, min_width=10, priority=5),
)
_AUDIT: Final = (
    Column(literal("AT"), 8, priority=9),
    Column(literal("OPERATOR"), 18, min_width=10, priority=5),
    Column(literal("ACTION"), 11, priority=10),
    Column(literal("N"), 4, align="right", min_width=2, priority=6),
    Column(literal("OUTCOME"), 24, min_width=16, priority=8),
    Column(literal("REASON"), 40, min_width=10, priority=7),
)


class AuditScreen(ActingScreen):
    """Operations that take their time, and the audit's newest entries; the newest first."""

    view: ClassVar[str] = "audit"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        ascii_only = shared.ascii_only
        self._run_rows, self._rows = PlainRows(), PlainRows()
        self.runs = TopTable(
            _OPERATIONS, self._run_rows, empty=literal("asking for operations …"), ascii_only=ascii_only, id="runs"
        )
        self.table = TopTable(
            _AUDIT, self._rows, empty=literal("asking for the audit …"), ascii_only=ascii_only, id="audit"
        )
        self._known: dict[str, OperationStatus] = {}
        self._operations: dict[str, str] = {}
        self._asked_at = float("-inf")
        self._looked_at_runs = float("-inf")
        self._asking_now = False
        self._chosen = False

    def body(self) -> Iterable[Widget]:
        """The two tables."""
        return self.runs, self.table

    def on_mount(self) -> None:
        """The audit has the keys, until there is an operation that takes its time."""
        self.table.focus()

    def focus_view(self) -> None:
        """See :meth:`ActingScreen.focus_view`."""
        if self.focused not in (self.runs, self.table):
            self.set_focus(self.table, scroll_visible=False)

    def on_screen_resume(self) -> None:
        """Ask at once."""
        self._ask_anew()
        super().on_screen_resume()

    def _ask_anew(self) -> None:
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
        if known and not self._known and not self._chosen:
            self.set_focus(self.runs, scroll_visible=False)
        self._known = known
        if audit is not None:
            self._operations = {str(place): operation_of(entry) for place, entry in enumerate(audit)}
            self._rows.replace(audit_rows(audit, self.feed.now(), ascii_only=self.shared.ascii_only))
            self.table.set_empty(literal("no operator has done anything yet"))
            self.table.sync()
        self._draw()
        self.update_hints()

    def _draw(self) -> None:
        if self._looked_at_runs > float("-inf") and not self._asking_now:
            self.runs.set_empty(literal("no operation has taken its time yet; more than ten workflows at once do"))
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
        status = self._status_here()
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

    def _status_here(self) -> OperationStatus | None:
        """The operation under the cursor, where the operations have the keys."""
        return self._known.get(self.runs.cursor_key or "") if self.focused is self.runs else None

    def _operation_here(self) -> str:
        """The ID of the operation that the row under the cursor tells of; empty: it tells of none."""
        focused = self.table if self.focused is self.table else self.runs
        key = focused.cursor_key or ""
        return self._operations.get(key, "") if focused is self.table else key

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        from dataclasses import replace

        situation = super().situation()
        if situation.view != self.view:
            return situation
        status = self._status_here() if self.built else None
        return replace(situation, operation=None if status is None else self._word(status))

    def _word(self, status: OperationStatus) -> str:
        return "alone" if status.silent(self.feed.now()) else status.state.value

    def has_targets(self) -> bool:
        """See :meth:`ConsoleScreen.has_targets`."""
        return bool(self._operation_here())

    def do_operation_pause(self) -> None:
        """Pause the operation, or let it go on."""
        status = self._status_here()
        if status is not None:
            self.ask(self._safely(self._pause(status)))

    async def _pause(self, status: OperationStatus) -> None:
        deeds = self.feed.deeds
        if status.state is OperationState.RUNNING and not status.silent(self.feed.now()):
            await asyncio.wrap_future(deeds.pause(status.operation_id))
            self.say((literal("paused as soon as whoever carries it out looks, within 2 s; P lets it go on"), "info"))
        elif await asyncio.wrap_future(deeds.resume(status.operation_id)) is None:
            self.say((literal("whoever paused it goes on with it, within 2 s"), "info"))
        else:
            self.say((literal("goes on, carried out by this console now"), "info"))
        self._ask_anew()
        self.again()

    def do_operation_abort(self) -> None:
        """Abort the operation, once that is confirmed."""
        status = self._status_here()
        if status is not None:
            self.ask(self._safely(self._abort(status)))

    async def _abort(self, status: OperationStatus) -> None:
        asked = stop_confirmation(status, self.shared.target, ascii_only=self.shared.ascii_only)
        if not await self.confirmed(asked):
            self.say((literal("it goes on as it was"), "dim"))
            return
        await asyncio.wrap_future(self.feed.deeds.abort(status.operation_id))
        self.say((literal("aborted; whoever carries it out stops within 2 s"), "info"))
        self._ask_anew()
        self.again()

    def do_undo(self) -> None:
        """Undo the operation of the row, for all workflows that it was done to."""
        operation_id = self._operation_here()
        if operation_id:
            self.ask(self._safely(self._undo_all(operation_id)))

    async def _undo_all(self, operation_id: str) -> None:
        status = self._known.get(operation_id)
        if status is not None:
            ids = status.targets
        else:
            self.say((literal("undo: looking in the journal for what it was done to …"), "dim"))
            ids = await asyncio.wrap_future(self.feed.deeds.touched(operation_id))
        self.say((joined((literal("undo: "), plural(len(ids), "workflow"))), "dim"))
        self.act(Undo(operation_id), list(ids))

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["audit" if self.focused is self.table else "operations"])

    def copied(self) -> tuple[SafeText, bytes] | None:
        """The operation's ID."""
        found = self._operation_here()
        return (literal("the operation's ID"), found.encode()) if found else None
