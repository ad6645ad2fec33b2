"""What the tests of the RabbitMQ transport share: connected transports, the driver behind their back, workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest

from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.transports.rabbitmq import RabbitConsumer, RabbitTransport
from paigeant_core.transports.rabbitmq.connection import Channel, Properties
from paigeant_core.transports.types import Delivery
from tests.transports.contract import Connect, PutRaw
from tests.transports.hands import Hands, until


@pytest.fixture
async def connect(rabbit_url: str) -> AsyncIterator[Connect]:
    made: list[RabbitTransport] = []

    async def make() -> RabbitTransport:
        transport = RabbitTransport(rabbit_url)
        await transport.connect()
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.disconnect()


@pytest.fixture
async def channel(rabbit_url: str) -> AsyncIterator[Channel]:
    """The driver itself, to look and act behind the library's back."""
    driver = await aiormq.connect(rabbit_url)
    yield await driver.channel()
    await driver.close()


@pytest.fixture
def put_raw(channel: Channel) -> PutRaw:
    async def put(topic: str, activity: str, raw: bytes) -> None:
        await channel.basic_publish(
            raw, routing_key=f"paigeant.{topic}.work.{activity}", properties=Properties(delivery_mode=2)
        )

    return put


async def dispatch(transport: RabbitTransport, topic: str, *steps: str, **options: Any) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow(list(steps), {"n": 1}, topic=topic, **options)


@asynccontextmanager
async def hands(transport: RabbitTransport, topic: str, *activities: str) -> AsyncIterator[Hands]:
    worker = Hands(transport, topic, *activities)
    try:
        yield worker
    finally:
        await worker.consumer.close()


def consumer_of(worker: Hands) -> RabbitConsumer:
    assert isinstance(worker.consumer, RabbitConsumer)
    return worker.consumer


async def kinds(transport: RabbitTransport, topic: str, workflow: str) -> list[str]:
    return [str(record.kind) for record in await transport.history(topic, workflow)]


@asynccontextmanager
async def dying_before_its_ack(
    transport: RabbitTransport, topic: str, workflow: str, patch: pytest.MonkeyPatch
) -> AsyncIterator[Delivery]:
    """A worker that has handed on step ``a``, and dies when this is left: its copy, not acknowledged, comes again."""
    worker = Hands(transport, topic, "a")
    delivery = await worker.take_one()
    patch.setattr(consumer_of(worker)._desk, "ack", never)
    settling = asyncio.create_task(worker.finish(delivery))

    async def journalled() -> bool:
        return "advanced" in await kinds(transport, topic, workflow)

    await until(journalled, "never journalled")
    yield delivery
    await consumer_of(worker)._crash()
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)


async def never(*_: Any) -> None:
    await asyncio.Event().wait()
