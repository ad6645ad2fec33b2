"""A worker and a dispatcher on uvloop's event loop, which many servers run on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport


@pytest.mark.parametrize("kind", ["memory", "redis", "rabbitmq"])
def test_a_chain_is_run_to_its_end(kind: str, topic: str, request: pytest.FixtureRequest) -> None:
    fixture = {"redis": "redis_url", "rabbitmq": "rabbit_url"}.get(kind)
    url = request.getfixturevalue(fixture) if fixture else "memory://"
    loops: list[type] = []
    worker = Worker(topic)

    @worker.activity("first")
    async def first(ctx: ActivityContext) -> None:
        loops.append(type(asyncio.get_running_loop()))

    @worker.activity("second")
    async def second(ctx: ActivityContext) -> None:
        loops.append(type(asyncio.get_running_loop()))
        worker.stop()

    async def chain() -> str:
        async with get_transport(url) as transport:
            workflow = await WorkflowDispatcher(transport).dispatch_workflow(["first", "second"], {"n": 1}, topic=topic)
            await asyncio.wait_for(worker.run(transport), 30)
            return [record.state for record in await transport.history(topic, workflow) if record.state][-1]

    assert uvloop.run(chain()) == "completed"
    assert loops == [uvloop.Loop, uvloop.Loop]
