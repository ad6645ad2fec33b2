"""View 5: who did what, and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import ClassVar, Final

from textual.widget import Widget

from paigeant_console.model.confirmation import command_line
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.tables import audit_rows
from paigeant_console.safe_text import literal, safe
from paigeant_console.screens.base import ConsoleScreen, Shared
from paigeant_console.widgets.columns import Column
from paigeant_console.widgets.top_table import TopTable
from paigeant_core.errors import PaigeantError

__all__ = ["AuditScreen"]

ASK_EVERY: Final = 5.0

_COLUMNS: Final = (
    Column(literal("AT"), 8, priority=9),
    Column(literal("OPERATOR"), 18, min_width=10, priority=5),
    Column(literal("ACTION"), 11, priority=10),
    Column(literal("N"), 4, align="right", min_width=2, priority=6),
    Column(literal("OUTCOME"), 24, min_width=16, priority=8),
    Column(literal("REASON"), 40, min_width=10, priority=7),
)


class AuditScreen(ConsoleScreen):
    """The audit's newest entries, the newest first."""

    view: ClassVar[str] = "audit"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._rows = PlainRows()
        self.table = TopTable(
            _COLUMNS, self._rows, empty=literal("asking for the audit …"), ascii_only=shared.ascii_only
        )
        self._asked_at = float("-inf")
        self._asking_now = False

    def body(self) -> Iterable[Widget]:
        """The table."""
        return (self.table,)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.table.focus()

    def on_screen_resume(self) -> None:
        """Ask at once."""
        self._asked_at = float("-inf")
        super().on_screen_resume()

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        if not self._asking_now and time.monotonic() - self._asked_at >= ASK_EVERY and self.status.connected:
            self._asking_now = True
            self._asked_at = time.monotonic()
            self.run_worker(self._fetch(), group="audit")

    async def _fetch(self) -> None:
        try:
            entries = await asyncio.wrap_future(self.feed.audit())
        except PaigeantError as error:
            self.table.set_empty(safe(str(error), 200))
            return
        finally:
            self._asking_now = False
        if not self.built:
            return
        self._rows.replace(audit_rows(entries, self.feed.now(), ascii_only=self.shared.ascii_only))
        self.table.set_empty(literal("no operator has done anything yet"))
        self.table.sync()

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["audit"])
