"""SAQ on Redis lists: a job is moved to a list of running ones and removed when it is done."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue, Worker

from benchmarks.peers import _peer


async def fill(url: str, count: int, size: int) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    payload = _peer.payload(size)
    for start in range(0, count, 200):
        await asyncio.gather(*(queue.enqueue("one", message=payload) for _ in range(min(200, count - start))))
    await queue.disconnect()


async def ten(url: str) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    for number in range(10):
        await queue.enqueue("slow", number=number, timeout=0)
    await queue.disconnect()


async def work(url: str, concurrency: int) -> None:
    queue = Queue.from_url(url, max_concurrent_ops=max(20, concurrency))
    await queue.connect()

    def task(name: str) -> Any:
        following = _peer.NEXT[name]

        async def step(_: Any, *, message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                await queue.enqueue(following, message=message)

        return name, step

    async def slow(_: Any, *, number: int) -> None:
        await _peer.slow(number)

    functions = [*map(task, _peer.STEPS), ("slow", slow)]
    await Worker(queue, functions=functions, concurrency=concurrency).start()


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
