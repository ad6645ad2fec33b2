"""taskiq on Redis streams or on RabbitMQ, by the URL; a message is acknowledged once its task is done."""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq import AsyncBroker
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task

from benchmarks.peers import _peer


def _broker(url: str, concurrency: int) -> AsyncBroker:
    if url.startswith("redis"):
        from taskiq_redis import RedisStreamBroker

        return RedisStreamBroker(url, consumer_id="0", xread_count=concurrency)
    from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

    return AioPikaBroker(url, qos=concurrency, task_queues=[Queue(name="work", type=QueueType.QUORUM, durable=True)])


def _tasks(broker: AsyncBroker) -> dict[str, Any]:
    tasks: dict[str, Any] = {}

    def register(name: str) -> None:
        following = _peer.NEXT[name]

        async def step(message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                await tasks[following].kiq(message)

        tasks[name] = broker.register_task(step, task_name=name)

    for name in _peer.STEPS:
        register(name)

    async def slow(number: int) -> None:
        await _peer.slow(number)

    tasks["slow"] = broker.register_task(slow, task_name="slow")
    return tasks


async def fill(url: str, count: int, size: int) -> None:
    broker = _broker(url, 100)
    payload = _peer.payload(size)
    first = _tasks(broker)["one"]
    await broker.startup()
    for start in range(0, count, 100):
        await asyncio.gather(*(first.kiq(payload) for _ in range(min(100, count - start))))
    await broker.shutdown()


async def ten(url: str) -> None:
    broker = _broker(url, 1)
    task = _tasks(broker)["slow"]
    await broker.startup()
    for number in range(10):
        await task.kiq(number)
    await broker.shutdown()


async def work(url: str, concurrency: int) -> None:
    broker = _broker(url, concurrency)
    _tasks(broker)
    await run_receiver_task(
        broker, run_startup=True, max_async_tasks=concurrency, ack_time=AcknowledgeType.WHEN_EXECUTED
    )


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
