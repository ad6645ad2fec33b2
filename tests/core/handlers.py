"""What the tests of the worker share: handlers that write down or wait, and a workflow of one step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from paigeant_core.activity import ActivityContext
from paigeant_core.journal import State
from paigeant_core.retry import RetryPolicy
from paigeant_core.worker import Worker
from tests.core.bench import PATIENCE, Bench

ONCE = RetryPolicy(max_attempts=1)


class Gate:
    """Holds handlers in the middle of their work until the test lets them go on."""

    def __init__(self) -> None:
        self.inside = 0
        self.peak = 0
        self._entered = asyncio.Condition()
        self._open = asyncio.Event()

    async def wait(self) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        async with self._entered:
            self._entered.notify_all()
        try:
            await self._open.wait()
        finally:
            self.inside -= 1

    async def entered(self, number: int = 1) -> None:
        async with asyncio.timeout(PATIENCE), self._entered:
            await self._entered.wait_for(lambda: self.inside >= number)

    def open(self) -> None:
        self._open.set()


def step(worker: Worker, name: str, *, seen: list[Any] | None = None, **options: Any) -> None:
    """An activity that writes its name down and returns nothing."""

    @worker.activity(name, **options)
    async def handler(ctx: ActivityContext) -> None:
        if seen is not None:
            seen.append(name)


async def run_one(bench: Bench, handler: Callable[[ActivityContext], Any], **options: Any) -> str:
    """Run one workflow of one step through `handler`, to wherever it leads."""
    worker = bench.worker()
    worker.activity("a", **{"retry": ONCE, **options})(handler)
    workflow = await bench.dispatch("a")
    async with bench.serving(worker):

        async def settled() -> bool:
            return (await bench.last(workflow)).state != State.QUEUED

        await bench.until(settled, "a settle")
    return workflow


def _raise(error: BaseException) -> Callable[[ActivityContext], Any]:
    async def handler(ctx: ActivityContext) -> None:
        raise error

    return handler
