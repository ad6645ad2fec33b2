"""RabbitMQ: a topic that is deleted leaves no queue behind."""

from __future__ import annotations

import asyncio

import aiormq
import pytest

from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.rabbitmq.topology import Names
from tests.transports.hands import Hands, until

pytestmark = pytest.mark.xdist_group("rabbitmq")


async def is_there(rabbit_url: str, queue: str) -> bool:
    driver = await aiormq.connect(rabbit_url)
    try:
        await (await driver.channel()).queue_declare(queue, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return False
    finally:
        await driver.close()
    return True


async def test_the_queue_of_an_activity_that_no_message_ever_came_to_goes_with_its_topic(
    rabbit_url: str, topic: str
) -> None:
    queue = Names(topic).work("never-asked-for")
    async with RabbitTransport(rabbit_url) as transport:
        worker = Hands(transport, topic, "never-asked-for")
        claiming = asyncio.create_task(worker.consumer.claim(1))
        await until(lambda: transport.workers(topic), "the worker says that it lives")
        assert await is_there(rabbit_url, queue)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        await worker.consumer.close()
        await transport.delete_topic(topic)
    assert not await is_there(rabbit_url, queue)
