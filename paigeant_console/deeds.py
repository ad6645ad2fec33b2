"""What the operator began: operations that are carried out on the feed's loop, whatever the screen shows meanwhile.

Nothing waits for them. The screen looks how far each came, and is told once what came of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from paigeant_core.errors import PaigeantError
from paigeant_core.operations import Operations, OperationStatus, Pace, Plan, Report, Result, Running
from paigeant_core.operations.reach import Reach

__all__ = ["AT_ONCE", "Deed", "Deeds"]

AT_ONCE: Final = 10
"""Workflows up to which an operation is done in one go; larger ones can be paused, aborted and taken over."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Deed:
    """An operation that this console carries out, or has carried out.

    Attributes:
        operation_id: its ID.
        action: the name of what is done.
        total: how many workflows it is for.
        done: how many were done so far.
        skipped: how many were not eligible.
        failed: how many moved meanwhile, or could not be done.
        said: why it stands still, or ended early; not yet safe to show.
        report: what came of it; None: it is not over, or came to nothing.
        error: why it came to nothing, or was cut off, for people; empty: it did not.
        on_record: whether it is on record as under way, so that any console can go on with it.
        over: whether it is over.
        told: called once with the deed when it is, by whoever looks; see :meth:`Deeds.take_ended`.
    """

    operation_id: str
    action: str
    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    said: str = ""
    report: Report | None = None
    error: str = ""
    on_record: bool = False
    over: bool = False
    told: Callable[[Deed], object] | None = None

    @property
    def so_far(self) -> int:
        """How many workflows it is through with."""
        return self.done + self.skipped + self.failed

    def count(self, result: Result) -> None:
        """Take up what came of one workflow."""
        if result.outcome == "done":
            self.done += 1
        elif result.outcome == "skipped":
            self.skipped += 1
        else:
            self.failed += 1


class Asks(Protocol):
    """Runs what needs the broker on the loop that owns it; the feed."""

    def ask(self, question: Callable[[Operations], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Run it, and give its result."""
        ...

    def bump(self) -> None:
        """Something changed that a screen may show."""
        ...


class Deeds:
    """The operations of this console.

    Args:
        feed: on whose loop they are carried out.
    """

    def __init__(self, feed: Asks) -> None:
        self._feed = feed
        self._lock = threading.Lock()
        self._current: list[Deed] = []
        self._ended: list[Deed] = []
        self._brief: set[asyncio.Task[Any]] = set()
        self._long: set[asyncio.Task[Any]] = set()

    # -- for the screen -----------------------------------------------------------------

    @property
    def current(self) -> list[Deed]:
        """Those that are carried out now, the oldest first."""
        with self._lock:
            return list(self._current)

    def take_ended(self) -> list[Deed]:
        """Those that ended since this was asked last."""
        with self._lock:
            ended, self._ended = self._ended, []
            return ended

    def begin(self, plan: Plan, pace: Pace | None = None, *, told: Callable[[Deed], object] | None = None) -> Deed:
        """Carry a plan out.

        A large one, and one with a pace, is put on record first: any console can see, pause
        and abort it, and go on with it when this one is left. A small one is done to its end
        even then: half of an operation, and no word of it in the audit, would be the worst of all.

        Args:
            plan: what was planned and confirmed.
            pace: how fast, and when it stops by itself.
            told: see :class:`Deed`.
        """
        long = bool(pace) or len(plan.lines) > AT_ONCE
        deed = Deed(plan.operation_id, plan.action.name, len(plan.lines), on_record=long, told=told)

        async def carry_out(operations: Operations) -> Report:
            if not long:
                return await operations.execute(plan, progress=lambda result: self._count(deed, result))
            running = await operations.start(plan, pace)
            return await self._go(deed, running)

        self._start(deed, carry_out, long=long)
        return deed

    def resume(self, operation_id: str, *, told: Callable[[Deed], object] | None = None) -> Future[Deed | None]:
        """Go on with an operation, here if nobody else carries it out; None: whoever paused it goes on."""

        async def ask(operations: Operations) -> Deed | None:
            running = await operations.resume(operation_id)
            if running is None:
                return None
            status = running.status
            name = str(status.action.get("name", ""))
            deed = Deed(status.operation_id, name, len(status.targets), on_record=True, told=told)

            async def carry_out(_: Operations) -> Report:
                return await self._go(deed, running)

            self._start(deed, carry_out, long=True)
            return deed

        return self.whole(ask)

    def whole(self, act: Callable[[Operations], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Do what was confirmed, to its end, whoever stops waiting for it: half of it might be on no record.

        Args:
            act: what to do.
        """

        async def shielded(operations: Operations) -> _T:
            return await self._shielded(act(operations), self._brief)

        return self._feed.ask(shielded)

    def pause(self, operation_id: str) -> Future[OperationStatus]:
        """See :meth:`Operations.pause`."""
        return self.whole(lambda operations: operations.pause(operation_id))

    def abort(self, operation_id: str) -> Future[OperationStatus]:
        """See :meth:`Operations.abort`."""
        return self.whole(lambda operations: operations.abort(operation_id))

    def second(self, plan: Plan) -> Future[str]:
        """Why a plan needs a second person; empty: it needs none. See :meth:`Operations.second`."""

        async def ask(operations: Operations) -> str:
            return operations.second(plan)

        return self._feed.ask(ask)

    def propose(self, plan: Plan) -> Future[OperationStatus]:
        """See :meth:`Operations.propose`."""
        return self.whole(lambda operations: operations.propose(plan))

    def proposed(self, operation_id: str) -> Future[Plan]:
        """See :meth:`Operations.proposed`."""
        return self._feed.ask(lambda operations: operations.proposed(operation_id))

    def approve(self, plan: Plan, *, told: Callable[[Deed], object] | None = None) -> Deed:
        """Carry out what another operator proposed, to its end even if this console is left.

        Args:
            plan: from :meth:`proposed`.
            told: see :class:`Deed`.
        """
        deed = Deed(plan.operation_id, plan.action.name, len(plan.lines), told=told)

        async def carry_out(operations: Operations) -> Report:
            return await operations.approve(plan, progress=lambda result: self._count(deed, result))

        self._start(deed, carry_out, long=False)
        return deed

    def reject(self, operation_id: str, reason: str) -> Future[OperationStatus]:
        """See :meth:`Operations.reject`."""
        return self.whole(lambda operations: operations.reject(operation_id, reason=reason))

    def runs(self) -> Future[dict[str, OperationStatus]]:
        """See :meth:`Operations.runs`."""
        return self._feed.ask(lambda operations: operations.runs())

    def acted(self, operation_id: str) -> Future[Reach]:
        """See :meth:`Operations.acted`."""
        return self._feed.ask(lambda operations: operations.acted(operation_id))

    # -- on the feed's loop -------------------------------------------------------------

    @property
    def unfinished(self) -> set[asyncio.Task[Any]]:
        """What has to come to its end before the feed's loop may end."""
        return set(self._brief)

    @property
    def waits(self) -> bool:
        """Whether there is any of that."""
        return bool(self._brief)

    async def _go(self, deed: Deed, running: Running) -> Report:
        def count(result: Result) -> None:
            deed.said = running.status.said
            self._count(deed, result)

        try:
            return await running.go(count)
        finally:
            deed.said = running.status.said

    def _count(self, deed: Deed, result: Result) -> None:
        deed.count(result)
        self._feed.bump()

    def _start(self, deed: Deed, carry_out: Callable[[Operations], Coroutine[Any, Any, Report]], *, long: bool) -> None:
        with self._lock:
            self._current.append(deed)
        tasks = self._long if long else self._brief

        async def shielded(operations: Operations) -> Report:
            return await self._shielded(carry_out(operations), tasks)

        self._feed.ask(shielded).add_done_callback(lambda future: self._end(deed, future))

    @staticmethod
    async def _shielded(work: Coroutine[Any, Any, _T], tasks: set[asyncio.Task[Any]]) -> _T:
        def ended(task: asyncio.Task[Any]) -> None:
            tasks.discard(task)
            # Where nobody waits for it any more, nobody asks what went wrong either.
            _ = task.cancelled() or task.exception()

        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(ended)
        return await asyncio.shield(task)

    def _end(self, deed: Deed, future: Future[Report]) -> None:
        error: BaseException | None = None
        if future.cancelled():
            deed.error = "the console was left"
        elif (error := future.exception()) is None:
            deed.report = future.result()
        elif isinstance(error, PaigeantError):
            deed.error = str(error)
        else:
            # Its text may quote anything, its class does not.
            deed.error = f"it came to nothing ({type(error).__name__})"
        deed.over = True
        with self._lock:
            self._current.remove(deed)
            self._ended.append(deed)
        self._feed.bump()
