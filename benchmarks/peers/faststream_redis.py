"""FastStream on Redis streams with a consumer group: a message is acknowledged once its handler is done."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from redis.asyncio import Redis

from benchmarks.peers import _peer

GROUP = "workers"
CONNECTIONS = 1000
"""redis-py stops at 100, which publishing so many at a time needs more of."""


async def _groups(url: str) -> None:
    """From the start of each stream, which is before any worker is there."""
    async with Redis.from_url(url) as client:
        for name in (*_peer.STEPS, "slow"):
            await client.xgroup_create(name, GROUP, "0", mkstream=True)


async def fill(url: str, count: int, size: int) -> None:
    await _groups(url)
    payload = _peer.payload(size)
    async with RedisBroker(url, logger=None, max_connections=CONNECTIONS) as broker:
        await broker.connect()
        for start in range(0, count, 200):
            await asyncio.gather(*(broker.publish(payload, stream="one") for _ in range(min(200, count - start))))


async def ten(url: str) -> None:
    await _groups(url)
    async with RedisBroker(url, logger=None, max_connections=CONNECTIONS) as broker:
        await broker.connect()
        for number in range(10):
            await broker.publish({"number": number}, stream="slow")


async def work(url: str, concurrency: int) -> None:
    broker = RedisBroker(url, logger=None, max_connections=CONNECTIONS)
    # One after the other it is faster, where its tasks wait for nothing.
    workers = concurrency if "PAIGEANT_LEDGER" in os.environ else 1

    def source(name: str) -> Any:
        stream = StreamSub(name, group=GROUP, consumer=f"w-{os.getpid()}", last_id=">", max_records=concurrency)
        return broker.subscriber(stream=stream, max_workers=workers)

    def serve(name: str) -> None:
        following = _peer.NEXT[name]

        async def step(message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                await broker.publish(message, stream=following)

        source(name)(step)

    for name in _peer.STEPS:
        serve(name)

    @source("slow")  # type: ignore[untyped-decorator]
    async def slow(message: dict[str, Any]) -> None:
        await _peer.slow(message["number"])

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
