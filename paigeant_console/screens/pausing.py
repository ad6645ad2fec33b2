"""Pausing an activity for all its workers, and letting it go on: the reason, the confirmation, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from paigeant_console.actions import key_of
from paigeant_console.model.confirmation import pause_confirmation
from paigeant_console.model.text import shown
from paigeant_console.safe_text import joined, literal, safe
from paigeant_console.screens.acting import ActingScreen
from paigeant_console.screens.confirming import confirmed
from paigeant_core.operations import Operations
from paigeant_core.pauses import Pause
from paigeant_core.transports.types import QueueStatus

__all__ = ["PausingScreen"]


class PausingScreen(ActingScreen):
    """A screen on which activities can be paused, by their name at least."""

    def order(self, what: str, order: str, name: str) -> bool:
        """See :meth:`ConsoleScreen.order`; it takes activities.

        Args:
            what: ``activity``.
            order: ``pause`` or ``resume``.
            name: the activity's, or the beginning of it.
        """
        if what != "activity":
            return super().order(what, order, name)
        self.ask(self._safely(self._named(order, name), f"activity {order}"))
        return True

    async def _named(self, order: str, name: str) -> None:
        async def ask(operations: Operations) -> Sequence[QueueStatus]:
            return await operations.transport.queues(operations.topic)

        queues = {queue.activity: queue for queue in await asyncio.wrap_future(self.feed.ask(ask))}
        found = [name] if name in queues else [activity for activity in queues if activity.startswith(name)]
        if len(found) != 1:
            said = " is the beginning of more than one activity" if found else ": there is no such activity"
            self.say((joined((literal(f"activity {order}: "), safe(name, 64), literal(said))), "warn"))
            return
        resume = order == "resume"
        if (queues[found[0]].paused is not None) != resume:
            said = " is not paused" if resume else " is paused already"
            self.say((joined((literal(f"activity {order}: "), shown(found[0], 64), literal(said))), "warn"))
        else:
            self.say()
            self.why_pause(found[0], resume=resume)

    def why_pause(self, activity: str, *, resume: bool, more: str = " because:") -> None:
        """Ask for the reason, and go on with it.

        Args:
            activity: which.
            resume: let it go on; else pause it.
            more: what stands behind the question.
        """

        def given(reason: str | None) -> None:
            if reason is None:
                self.say((literal("nothing was done"), "dim"))
            elif not reason.strip():
                needed = f", a reason is needed ({key_of('prompt.cancel')} cancels):"
                self.why_pause(activity, resume=resume, more=needed)
            else:
                flow = self._switch(activity, reason.strip(), resume=resume)
                self.ask(self._safely(flow, "resume" if resume else "pause"))
            self.update_hints()

        word = literal("resume activity " if resume else "pause activity ")
        self.prompt.ask(joined((word, shown(activity, 30), literal(more))), given, remember="reason")
        self.update_hints()

    async def _switch(self, activity: str, reason: str, *, resume: bool) -> None:
        ascii_only = self.shared.ascii_only
        asked = pause_confirmation(activity, reason, self.shared.target, resume=resume, ascii_only=ascii_only)
        if not await confirmed(self, asked):
            self.say((literal("nothing was done"), "dim"))
            return

        async def switch(operations: Operations) -> Pause | None:
            do = operations.resume_activity if resume else operations.pause_activity
            return await do(activity, reason=reason)

        before = await asyncio.wrap_future(self.feed.deeds.whole(switch))
        name = shown(activity, 64, ascii_only=ascii_only)
        if (before is not None) != resume:
            # Somebody was first.
            said = before.said if before is not None else "it is not paused any more"
            self.say((joined((name, literal(": "))), "strong"), (safe(said, 300), "warn"))
        else:
            self.say((joined((name, literal(" goes on" if resume else " is paused for all its workers"))), "info"))
        self.switched()
        self.again()

    def switched(self) -> None:
        """Look soon at what became of the activity."""
