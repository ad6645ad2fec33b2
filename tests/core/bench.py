"""A broker in memory with its clock held, and workers on it: what the tests of the worker stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from paigeant_core.clock import ManualClock
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.journal import Record
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.transports.types import QueueStatus
from paigeant_core.worker import Worker

PATIENCE = 30.0
"""How long a test waits before it says that something never happened; never a measure."""


class Bench:
    """One broker of its own. Its time stands still until `clock.advance` moves it."""

    def __init__(self, topic: str = "t") -> None:
        self.topic = topic
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock)
        self.transport = MemoryTransport("bench", broker=self.broker)

    def worker(self, **options: Any) -> Worker:
        # A test that fails with a handler in the middle of its work is not to wait for it.
        return Worker(self.topic, transport=self.transport, **{"drain": 5.0, **options})

    async def dispatch(self, *steps: object, variables: Any = None, **options: Any) -> str:
        dispatcher = WorkflowDispatcher(self.transport)
        return await dispatcher.dispatch_workflow(list(steps), variables, topic=self.topic, **options)

    async def history(self, workflow: str) -> list[Record]:
        return await self.transport.history(self.topic, workflow)

    async def kinds(self, workflow: str) -> list[str]:
        return [record.kind for record in await self.history(workflow)]

    async def last(self, workflow: str) -> Record:
        """The last record that named a state."""
        return [record for record in await self.history(workflow) if record.state][-1]

    async def queue(self, activity: str) -> QueueStatus:
        (found,) = [queue for queue in await self.transport.queues(self.topic) if queue.activity == activity]
        return found

    async def until(self, check: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    if await check():
                        return
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"it never came to {what}") from None

    async def reaches(self, workflow: str, state: str, *, attempt: int | None = None) -> Record:
        """Wait until the workflow is in `state` (and asks for that attempt)."""

        async def there() -> bool:
            record = await self.last(workflow)
            return record.state == state and attempt in (None, record.headers.attempt)

        await self.until(there, f"{workflow} {state}")
        return await self.last(workflow)

    @asynccontextmanager
    async def serving(self, *workers: Worker) -> AsyncIterator[None]:
        """The workers run while the block does, and are stopped as an operator stops them."""
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            yield
        finally:
            for worker, task in zip(workers, tasks, strict=True):
                await stopped(worker, task)


async def stopped(worker: Worker, task: asyncio.Task[None]) -> None:
    """Stop a worker and wait for its end; what ended it early is raised."""
    await asyncio.sleep(0)  # it may not have begun
    worker.stop()
    await asyncio.wait_for(task, PATIENCE)
