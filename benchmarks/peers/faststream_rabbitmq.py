"""FastStream on RabbitMQ's quorum queues: publishes are persistent and confirmed, acknowledged after the handler."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.peers import _peer


def _queue(name: str) -> RabbitQueue:
    return RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True)


async def _declare(broker: RabbitBroker) -> None:
    for name in (*_peer.STEPS, "slow"):
        await broker.declare_queue(_queue(name))


async def fill(url: str, count: int, size: int) -> None:
    payload = _peer.payload(size)
    async with RabbitBroker(url, logger=None) as broker:
        await broker.connect()
        await _declare(broker)
        for start in range(0, count, 200):
            some = range(min(200, count - start))
            await asyncio.gather(*(broker.publish(payload, queue="one", persist=True) for _ in some))


async def ten(url: str) -> None:
    async with RabbitBroker(url, logger=None) as broker:
        await broker.connect()
        await _declare(broker)
        for number in range(10):
            await broker.publish({"number": number}, queue="slow", persist=True)


async def work(url: str, concurrency: int) -> None:
    broker = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=concurrency))

    def serve(name: str) -> None:
        following = _peer.NEXT[name]

        async def step(message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                await broker.publish(message, queue=following, persist=True)

        broker.subscriber(_queue(name))(step)

    for name in _peer.STEPS:
        serve(name)

    @broker.subscriber(_queue("slow"))  # type: ignore[untyped-decorator]
    async def slow(message: dict[str, Any]) -> None:
        await _peer.slow(message["number"])

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
