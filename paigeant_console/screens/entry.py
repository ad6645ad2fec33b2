"""One operation, or one entry of the audit, in full; opened from view 5."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from textual.widget import Widget

from paigeant_console.model.confirmation import command_line
from paigeant_console.model.entry_details import (
    audit_document,
    audit_lines,
    entry_command,
    operation_command,
    operation_lines,
)
from paigeant_console.model.tables import action_of, operation_of
from paigeant_console.model.text import plural
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.screens.operations import OperationsScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.payload_view import TextView
from paigeant_core.errors import PaigeantError
from paigeant_core.operations import OperationStatus

__all__ = ["EntryScreen"]

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at what became of an operation."""


class EntryScreen(OperationsScreen):
    """All there is to know of an operation, as it goes on, or of an entry of the audit.

    Args:
        shared: what all screens share.
        operation_id: of the operation; empty: it is of none.
        entry: of the audit; None: the operation itself is shown.
        known: the operations that are known.
        audit: the audit, for what came of each workflow.
    """

    view: ClassVar[str] = "entry"

    def __init__(
        self,
        shared: Shared,
        operation_id: str,
        entry: bytes | None,
        known: Mapping[str, OperationStatus],
        audit: Sequence[bytes],
    ) -> None:
        super().__init__(shared)
        self.text = TextView(ascii_only=shared.ascii_only, id="entry-text")
        self._operation_id = operation_id
        self._entry = entry
        self._known, self._audit = known, audit
        self._looked = time.monotonic()
        self._looking = False

    @classmethod
    def of_entry(
        cls, shared: Shared, entry: bytes, known: Mapping[str, OperationStatus], audit: Sequence[bytes]
    ) -> EntryScreen:
        """The screen of an entry of the audit."""
        return cls(shared, operation_of(entry), entry, known, audit)

    @property
    def tab(self) -> str:
        """See :class:`ConsoleScreen`."""
        return "audit"

    def body(self) -> Iterable[Widget]:
        """The text."""
        return (self.text,)

    def on_mount(self) -> None:
        """The text has the keys."""
        self.text.focus()

    def focus_view(self) -> None:
        """See :meth:`ConsoleScreen.focus_view`."""
        self.set_focus(self.text, scroll_visible=False)

    def on_resize(self) -> None:
        """Fit the text to the width."""
        self.call_after_refresh(self._draw)

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        self._draw()
        due = time.monotonic() - self._looked >= LOOK_EVERY
        if due and not self._looking and self._operation_id and self.status.connected:
            self._looking = True
            self._looked = time.monotonic()
            self.run_worker(self._fetch(), group="entry")

    async def _fetch(self) -> None:
        try:
            known = await asyncio.wrap_future(self.feed.deeds.runs())
            self._known = known
            if self._entry is None:
                audit = await asyncio.wrap_future(self.feed.audit())
                self._audit = audit
        except PaigeantError:
            return  # the line above the keys says what is wrong
        finally:
            self._looking = False
        if self.built:
            self._draw()
            self.update_hints()

    def ask_anew(self) -> None:
        """See :meth:`OperationsScreen.ask_anew`."""
        self._looked = float("-inf")

    def _draw(self) -> None:
        width = self.text.size.width
        if not self.built or not width:
            return
        status, target, now = self.status_here(), self.shared.target, self.feed.now()
        ascii_only = self.shared.ascii_only
        if self._entry is not None:
            lines = audit_lines(self._entry, status, target, now, width, ascii_only=ascii_only)
        elif status is not None:
            lines = operation_lines(status, self._audit, target, now, width, ascii_only=ascii_only)
        else:
            lines = [[(literal("this operation is on no record any more"), "warn")]]
        self.text.show(lines)
        below = self.text.hidden_below
        self.prompt.stand(*([(joined((plural(below, "more line"), literal(" below"))), "dim")] if below else []))

    # -- acting -------------------------------------------------------------------------

    def status_here(self) -> OperationStatus | None:
        """See :meth:`OperationsScreen.status_here`."""
        return self._known.get(self._operation_id) if self._operation_id else None

    def operation_here(self) -> str:
        """See :meth:`OperationsScreen.operation_here`."""
        return self._operation_id

    def done_here(self) -> str:
        """See :meth:`OperationsScreen.done_here`."""
        return super().done_here() if self._entry is None else action_of(self._entry)

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`: the one that does the same."""
        status, target = self.status_here(), self.shared.target
        if self._entry is not None:
            found = entry_command(audit_document(self._entry), target, status)
            return found if found is not None else command_line(target, ["audit", "--full"])
        return command_line(target, ["operations"]) if status is None else operation_command(status, target)

    def copied(self) -> tuple[SafeText, bytes] | None:
        """The entry as it stands in the audit, else the operation's ID."""
        if self._entry is not None:
            return literal("the entry"), self._entry
        return (literal("the operation's ID"), self._operation_id.encode()) if self._operation_id else None
