"""Paigeant itself, in the same roles as its peers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks.peers import _peer
from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport

TOPIC = "bench"
AT_ONCE = 500


async def fill(url: str, count: int, size: int) -> None:
    payload = json.dumps(_peer.payload(size)).encode()
    async with get_transport(url) as transport:
        dispatcher = WorkflowDispatcher(transport)
        for start in range(0, count, AT_ONCE):
            some = range(min(AT_ONCE, count - start))
            await asyncio.gather(*(dispatcher.dispatch_workflow(list(_peer.STEPS), payload, topic=TOPIC) for _ in some))


async def ten(url: str) -> None:
    async with get_transport(url) as transport:
        for number in range(10):
            await WorkflowDispatcher(transport).dispatch_workflow(["slow"], {"number": number}, topic=TOPIC)


async def work(url: str, concurrency: int) -> None:
    worker = Worker(topic=TOPIC, concurrency=concurrency)
    transport = get_transport(url)
    dispatcher = WorkflowDispatcher(transport)

    def serve(name: str) -> None:
        again = _peer.ALONE and name == _peer.STEPS[-1]

        @worker.activity(name)
        async def step(ctx: ActivityContext) -> None:
            _peer.hop()
            if again:
                await dispatcher.dispatch_workflow(list(_peer.STEPS), ctx.payload, topic=TOPIC)

    for name in _peer.STEPS:
        serve(name)

    @worker.activity("slow")
    async def slow(ctx: ActivityContext) -> dict[str, Any] | None:
        await _peer.slow(ctx.payload["number"])
        return None

    async with transport:
        await worker.run(transport)


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
