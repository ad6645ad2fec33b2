"""A worker done by hand, for tests that say when each thing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.admission import admit
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import new_id
from paigeant_core.transition import Outcome, Span
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Delivery, Settled, WorkerInfo

LEASE = 1.0


PATIENCE = 30.0
"""How long a test waits before it says that something never happened; never a measure."""


async def until(check: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Wait until ``check()`` gives something true and return it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if value := await check():
                return value
            await asyncio.sleep(0.02)
    raise AssertionError(what)


class Hands:
    """A worker done by hand: claims and settles step by step."""

    def __init__(
        self, transport: Transport, topic: str, *activities: str, name: str = "", lease: float = LEASE
    ) -> None:
        self.name = name or f"hands-{new_id()[:6]}"
        self.topic = topic
        self.transport = transport
        info = WorkerInfo(
            worker=self.name, activities=activities, concurrency=8, host="test", pid=1, started_at=transport.clock.now()
        )
        self.consumer = transport.consumer(topic, info, lease=lease)

    async def take(self, slots: int = 1) -> list[Delivery]:
        """Admitted deliveries, at least one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                taken = await self.consumer.claim(slots)
                assert 1 <= len(taken) <= slots
                admitted = [delivery for delivery in taken if await self._admit(delivery) is not None]
                if admitted:
                    return admitted

    async def take_one(self) -> Delivery:
        """One admitted delivery."""
        return (await self.take())[0]

    async def nothing(self, seconds: float = 0.3) -> None:
        """Nothing can be claimed."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.take()

    async def _admit(self, delivery: Delivery) -> PaigeantMessage | None:
        return await admit(self.consumer, delivery, self.topic, self.name, self.transport.clock)

    def span(self) -> Span:
        now = self.transport.clock.now()
        return Span(worker=self.name, started_at=now - 0.5, completed_at=now)

    async def finish(
        self, delivery: Delivery, result: dict[str, Any] | None = None, outcome: Outcome | None = None
    ) -> Settled:
        """Settle as done."""
        assert delivery.message is not None
        return await self.consumer.settle(delivery, moves.done(delivery.message, result, self.span(), outcome))

    async def fail(self, delivery: Delivery, delay: float) -> Settled:
        """Settle as failed, to be tried again after ``delay`` seconds."""
        assert delivery.message is not None
        return await self.consumer.settle(delivery, moves.retry(delivery.message, ValueError("no"), delay, self.span()))

    async def bury(self, delivery: Delivery) -> Settled:
        """Settle as a dead letter."""
        assert delivery.message is not None
        transition = moves.failed(delivery.message, ValueError("no"), "not_retryable", self.span(), delivery.body)
        return await self.consumer.settle(delivery, transition)
