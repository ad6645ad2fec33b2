"""RabbitMQ: a transport that a module holds is used in one event loop after the other."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.transports.rabbitmq import RabbitTransport

pytestmark = pytest.mark.xdist_group("rabbitmq")


def test_one_transport_serves_one_loop_after_the_other(rabbit_url: str, topic: str) -> None:
    transport = RabbitTransport(rabbit_url)
    dispatcher = WorkflowDispatcher(transport)

    async def some() -> list[str]:
        made = await asyncio.gather(*(dispatcher.dispatch_workflow(["a"], {}, topic=topic) for _ in range(20)))
        watches.append(transport._publisher._watch)
        return made

    async def journalled() -> set[str]:
        both = asyncio.gather(*(transport.history(topic, workflow) for workflow in dispatched))
        return {record.headers.correlation_id for records in await both for record in records}

    async def over() -> None:
        await transport.disconnect()

    dispatched: list[str] = []
    watches: list[asyncio.TimerHandle | None] = []
    for _ in range(3):
        dispatched += asyncio.run(some())
    assert len(set(watches) - {None}) == 3  # each loop its own
    assert asyncio.run(journalled()) == set(dispatched)
    assert asyncio.run(journalled()) == set(dispatched)
    asyncio.run(over())
