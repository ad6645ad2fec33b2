"""arq on Redis, polling as often as it pays (its own default is twice a second)."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.peers import _peer


async def fill(url: str, count: int, size: int) -> None:
    pool, payload = await create_pool(RedisSettings.from_dsn(url)), _peer.payload(size)
    for start in range(0, count, 50):
        await asyncio.gather(*(pool.enqueue_job("one", payload) for _ in range(min(50, count - start))))


async def ten(url: str) -> None:
    pool = await create_pool(RedisSettings.from_dsn(url))
    for number in range(10):
        await pool.enqueue_job("slow", number)


async def work(url: str, concurrency: int) -> None:
    def task(name: str) -> Any:
        following = _peer.NEXT[name]

        async def step(ctx: dict[str, Any], message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                await ctx["redis"].enqueue_job(following, message)

        return func(step, name=name, keep_result=0)

    async def slow(_: dict[str, Any], number: int) -> None:
        await _peer.slow(number)

    worker = Worker(
        [*map(task, _peer.STEPS), func(slow, name="slow", keep_result=0)],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=concurrency,
        queue_read_limit=concurrency * 4,
        poll_delay=0.005,
        handle_signals=False,
    )
    await worker.async_run()


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
