"""Hops a second of a 4-step chain of no-op steps, beside the floor in the same run.

    python -m benchmarks.hop [redis] [rabbitmq] [--seconds 10] [--rounds 3] [--concurrency 64]

One worker process, 1 KB payload, durable, journalled, fenced. The floor makes the same
broker commands without the library. Product and floor are interleaved, and what counts
is the ratio of their medians: absolute figures depend on the machine and its neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import floor_rabbitmq, floor_redis
from paigeant_core import Worker, WorkflowDispatcher, get_transport
from paigeant_core.names import new_id
from tests.servers import RabbitServer, RedisServer

STEPS = ["one", "two", "three", "four"]
PAYLOAD = json.dumps({"customer_email": "ann@example.com", "pad": "x" * 980}).encode()


async def paigeant(url: str, *, seconds: float, concurrency: int) -> float:
    """Hops a second that one worker makes, with enough workflows waiting all the time."""
    topic = f"bench-{new_id()[:8]}"
    worker = Worker(topic=topic, concurrency=concurrency, name="bench")
    hops = 0

    def register(name: str) -> None:
        @worker.activity(name)
        async def nothing(_: object) -> None:
            nonlocal hops
            hops += 1

    for name in STEPS:
        register(name)
    async with get_transport(url) as producing, get_transport(url) as working:
        dispatcher = WorkflowDispatcher(producing)
        # Dispatched beforehand, so that what is measured is the hop alone.
        needed = int(seconds * (12_000 if url.startswith("redis") else floor_rabbitmq.RATE) / len(STEPS)) + concurrency
        for start in range(0, needed, 200):
            await asyncio.gather(
                *(dispatcher.dispatch_workflow(STEPS, PAYLOAD, topic=topic) for _ in range(min(200, needed - start)))
            )
        running = asyncio.create_task(worker.run(working))
        await asyncio.sleep(0.5)
        first, begun = hops, time.perf_counter()
        await asyncio.sleep(seconds)
        made, took = hops - first, time.perf_counter() - begun
        if first + made >= needed * len(STEPS):
            print("    the workflows ran out: the figure is too low; ask for fewer seconds", file=sys.stderr)
        worker.stop()
        await running
    return made / took


Contender = Callable[[], Awaitable[float]]


async def compare(title: str, contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Run each contender in turn, ``rounds`` times, and print a line each."""
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            figure = await run()
            results[name].append(figure)
            print(f"  {title} round {number + 1}: {name} {figure:,.0f} hops/s", file=sys.stderr)
    medians = {name: statistics.median(figures) for name, figures in results.items()}
    own = medians["paigeant"]
    print(f"{title}")
    for name, figures in results.items():
        ratio = "" if name == "paigeant" else f"   paigeant is {own / medians[name]:.2f} of it"
        print(f"  {name:<34} {medians[name]:>9,.0f} hops/s  ({min(figures):,.0f} to {max(figures):,.0f}){ratio}")
    return results


async def redis(options: argparse.Namespace) -> Any:
    """Redis, private, appendonly everysec."""
    with RedisServer() as server:
        own = {"seconds": options.seconds, "concurrency": options.concurrency}
        return await compare(
            "Redis Streams",
            {
                "paigeant": lambda: paigeant(server.url, **own),
                "floor, one script call a message": lambda: floor_redis.run(server.url, batch=False, **own),
                "floor, coalesced with the read": lambda: floor_redis.run(server.url, batch=True, **own),
            },
            options.rounds,
        )


async def rabbitmq(options: argparse.Namespace) -> Any:
    """RabbitMQ, private: quorum queues and a stream journal."""
    with RabbitServer() as server:
        own = {"seconds": options.seconds, "concurrency": options.concurrency}
        return await compare(
            "RabbitMQ",
            {
                "paigeant": lambda: paigeant(server.url, **own),
                "floor, the same publishes (aio-pika)": lambda: floor_rabbitmq.run(server.url, **own),
            },
            options.rounds,
        )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("brokers", nargs="*", choices=[[], "redis", "rabbitmq"], default=[])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    for broker in options.brokers or ["redis", "rabbitmq"]:
        asyncio.run({"redis": redis, "rabbitmq": rabbitmq}[broker](options))


if __name__ == "__main__":
    main()
