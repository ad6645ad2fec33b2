"""What the tests of the Redis transport share: connected transports and a client behind their back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.transports import Transport
from paigeant_core.transports.redis import RedisTransport
from tests.transports.contract import Connect


@pytest.fixture
async def connect(redis_url: str) -> AsyncIterator[Connect]:
    made: list[RedisTransport] = []

    async def make() -> Transport:
        transport = RedisTransport(redis_url)
        made.append(transport)
        await transport.connect()
        return transport

    yield make
    for transport in made:
        await transport.disconnect()


@pytest.fixture
async def transport(connect: Connect) -> RedisTransport:
    made = await connect()
    assert isinstance(made, RedisTransport)
    return made


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    """redis-py's own client: untyped, for its answers are typed as everything they could be."""
    made = redis.asyncio.Redis.from_url(redis_url)
    yield made
    await made.aclose()


async def dispatch(transport: Transport, topic: str, *steps: str, **options: Any) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow(list(steps), {"n": 1}, topic=topic, **options)


async def states(transport: Transport, topic: str, workflow: str) -> list[str]:
    return [record.state for record in await transport.history(topic, workflow) if record.state]
