"""Acting on operations: approving and rejecting what another operator asks for, pausing, aborting, undoing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from paigeant_console.actions import Situation, by_id, key_of, refusal
from paigeant_console.deeds import Deed
from paigeant_console.model.confirmation import approval_confirmation, reject_confirmation, stop_confirmation
from paigeant_console.model.text import plural, shown
from paigeant_console.safe_text import joined, literal
from paigeant_console.screens.confirming import confirmed
from paigeant_console.screens.pausing import PausingScreen
from paigeant_core.errors import AmbiguousID, WorkflowNotFound
from paigeant_core.operations import UNDOABLE, OperationState, OperationStatus, Undo

__all__ = ["OperationsScreen"]

_KEYS: Final = {"resume": "pause", "reject": "abort"}
"""Orders that have their key with another one."""
_TAKEN_BY: Final = {
    "pause": ("running",),
    "resume": ("paused", "braked", "alone"),
    "reject": ("waiting",),
}
"""How an operation stands that takes an order which its key gives to others too."""


class OperationsScreen(PausingScreen):
    """A screen on which operations can be acted on."""

    def status_here(self) -> OperationStatus | None:
        """The operation that is acted on; None: there is none."""
        return None

    def operation_here(self) -> str:
        """The ID of the operation that the row under the cursor tells of; empty: it tells of none."""
        status = self.status_here()
        return "" if status is None else status.operation_id

    def done_here(self) -> str:
        """What the operation of :meth:`operation_here` does, as it is on record: its verb, behind an order to it."""
        status = self.status_here()
        return "" if status is None else str(status.action.get("name", ""))

    def ask_anew(self) -> None:
        """Look soon at what became of it."""

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        situation = super().situation()
        if situation.view != self.view:
            return situation
        status = self.status_here() if self.built else None
        return replace(situation, operation=None if status is None else self._word(status))

    def _word(self, status: OperationStatus) -> str:
        return "alone" if status.silent(self.feed.now()) else status.state.value

    def has_targets(self) -> bool:
        """See :meth:`ConsoleScreen.has_targets`."""
        return bool(self.operation_here())

    # -- by its ID ----------------------------------------------------------------------

    def order(self, what: str, order: str, name: str) -> bool:
        """See :meth:`ConsoleScreen.order`; it takes operations, too.

        Args:
            what: ``operations`` or ``activity``.
            order: ``pause``, ``resume``, ``abort``, ``undo``, ``approve`` or ``reject``.
            name: the beginning of the operation's ID.
        """
        if what != "operations":
            return super().order(what, order, name)
        self.ask(self._safely(self._identified(order, name), f"operations {order}"))
        return True

    async def _identified(self, order: str, prefix: str) -> None:
        """Do to the operation whose ID begins so what the key does to the one under the cursor."""
        known = await asyncio.wrap_future(self.feed.deeds.runs())
        found = [prefix] if prefix in known else [item for item in known if item.startswith(prefix)]
        if len(found) > 1:
            raise AmbiguousID(f"{ascii(prefix)[:60]} is the beginning of more than one operation")
        self.say()
        if order == "undo":
            status = known[found[0]] if found else None
            if status is None or self._can_be_undone(str(status.action.get("name", ""))):
                await self._undo_all(found[0] if found else prefix)
            return
        if not found:
            raise WorkflowNotFound(f"no operation {ascii(prefix)[:60]} that takes its time")
        status = known[found[0]]
        stands = self._word(status)
        action = by_id(f"operation.{_KEYS.get(order, order)}")
        why_not = refusal(action, replace(self.situation(), has_row=True, operation=stands))
        if why_not is None and stands not in _TAKEN_BY.get(order, (stands,)):
            why_not = joined((literal(f"operations {order}: the operation is "), literal(stands)))
        if why_not is not None:
            self.say((why_not, "warn"))
        elif order in ("pause", "resume"):
            await self._pause(status)
        elif order == "approve":
            await self._approve(status)
        elif status.state is OperationState.WAITING:
            self._why_reject(status)
        else:
            await self._abort(status)

    # -- a second person ----------------------------------------------------------------

    def do_operation_approve(self) -> None:
        """Approve the operation, and so carry it out, once that is confirmed."""
        status = self.status_here()
        if status is not None:
            self.ask(self._safely(self._approve(status), "approve"))

    async def _approve(self, status: OperationStatus) -> None:
        """Preflight, confirmation, deed."""
        self.say((literal("approve: looking at "), "dim"), (plural(len(status.targets), "workflow"), ""))
        plan = await asyncio.wrap_future(self.feed.deeds.proposed(status.operation_id))
        asked = approval_confirmation(plan, status, self.shared.target, ascii_only=self.shared.ascii_only)
        if not await confirmed(self, asked):
            self.say((literal("nothing was done; it still waits for a second person"), "dim"))
            return
        self.say()
        self.feed.deeds.approve(plan, told=lambda _: self.ask_anew())
        self.ask_anew()
        self.again()

    def _why_reject(self, status: OperationStatus, more: str = " because:") -> None:
        def given(reason: str | None) -> None:
            if reason is None:
                self.say((literal("nothing was done"), "dim"))
            elif not reason.strip():
                self._why_reject(status, f", a reason is needed ({key_of('prompt.cancel')} cancels):")
            else:
                self.ask(self._safely(self._reject(status, reason.strip()), "reject"))
            self.update_hints()

        name = shown(str(status.action.get("name", "")), 20, ascii_only=self.shared.ascii_only)
        label = joined(
            (literal("reject "), name, literal(" of "), plural(len(status.targets), "workflow"), literal(more))
        )
        self.prompt.ask(label, given, placeholder=literal("nothing of it is done"), remember="reason")
        self.update_hints()

    async def _reject(self, status: OperationStatus, reason: str) -> None:
        asked = reject_confirmation(status, reason, self.shared.target, ascii_only=self.shared.ascii_only)
        if not await confirmed(self, asked):
            self.say((literal("nothing was done; it still waits for a second person"), "dim"))
            return
        await asyncio.wrap_future(self.feed.deeds.reject(status.operation_id, reason))
        self.say((literal("rejected; nothing of it was done"), "info"))
        self.ask_anew()
        self.again()

    # -- pausing and ending -------------------------------------------------------------

    def do_operation_pause(self) -> None:
        """Pause the operation, or let it go on."""
        status = self.status_here()
        if status is not None:
            self.ask(self._safely(self._pause(status), "pause"))

    async def _pause(self, status: OperationStatus) -> None:
        deeds = self.feed.deeds
        if status.state is OperationState.RUNNING and not status.silent(self.feed.now()):
            await asyncio.wrap_future(deeds.pause(status.operation_id))
            go_on = literal(f"paused as soon as whoever carries it out looks, within 2 s; {self._pauses} lets it go on")
            self.say((go_on, "info"))
        elif await asyncio.wrap_future(deeds.resume(status.operation_id, told=self._over)) is None:
            self.say((literal("whoever paused it goes on with it, within 2 s"), "info"))
        else:
            self.say((literal("goes on, carried out by this console now"), "info"))
        self.ask_anew()
        self.again()

    def _over(self, deed: Deed) -> None:
        """What went on here is over; where another screen tells it, this one may not go on saying that it goes on."""
        if self.built and self.app.screen is not self:
            self.say()

    @property
    def _pauses(self) -> str:
        return key_of("operation.pause")

    def do_operation_abort(self) -> None:
        """Abort the operation, once that is confirmed; reject one that waits for a second person."""
        status = self.status_here()
        if status is None:
            return
        if status.state is OperationState.WAITING:
            self._why_reject(status)
        else:
            self.ask(self._safely(self._abort(status), "abort"))

    async def _abort(self, status: OperationStatus) -> None:
        asked = stop_confirmation(status, self.shared.target, ascii_only=self.shared.ascii_only)
        if not await confirmed(self, asked):
            self.say((literal("it goes on as it was"), "dim"))
            return
        await asyncio.wrap_future(self.feed.deeds.abort(status.operation_id))
        self.say((literal("aborted; whoever carries it out stops within 2 s"), "info"))
        self.ask_anew()
        self.again()

    # -- undoing ------------------------------------------------------------------------

    def do_undo(self) -> None:
        """Undo the operation of the row, for all workflows that it was done to."""
        operation_id = self.operation_here()
        if operation_id and self._can_be_undone(self.done_here()):
            self._undo_within(
                lambda limit: self.ask(self._safely(self._undo_all(operation_id, limit), "undo: nothing was done"))
            )

    def _can_be_undone(self, done: str) -> bool:
        """Whether what was done can be undone; that it cannot is said."""
        if done.rpartition(" ")[2] in UNDOABLE:
            return True
        what = shown(done or "it", 60, ascii_only=self.shared.ascii_only)
        self.say((joined((literal("undo: "), what, literal(" cannot be undone"))), "warn"))
        return False

    async def _undo_all(self, operation_id: str, limit: int | None = None) -> None:
        """Undo what it was done to: its other workflows it left as they were, or has not come to."""
        self.say((literal("undo: looking for what it was done to …"), "dim"))
        found = await asyncio.wrap_future(self.feed.deeds.acted(operation_id))
        self.say((joined((literal("undo: "), plural(len(found.workflows), "workflow"))), "dim"))
        self.act(Undo(found.operation_id), found.workflows, limit=limit, whole=True)
        if found.unnamed:
            self.prompt.note([(literal(f"and {found.unnamed} more, which nothing names any more"), "warn")])
