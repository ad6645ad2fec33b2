"""Journal records at a rate, cheaply: what a fleet of workers writes, without the fleet on the same two cores.

    python -m benchmarks.traffic URL TOPIC --rate 2000
    python -m benchmarks.traffic URL TOPIC --total 100000

One workflow is dispatched and run for real, on a topic of its own; its records are then written again and again, byte
for byte but for ID, name and time. A real dispatch costs the client thirty times as much as such a write, and would
leave a console that is measured on the same machine no core to run on.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import redis.asyncio

from paigeant_core import Worker, WorkflowDispatcher, get_transport
from paigeant_core.names import new_id
from paigeant_core.transports.redis.keys import Keys

STEPS = ["validate", "charge", "notify"]
NAME = "order-00"
IN_FLIGHT = 500
"""Workflows that move at the same time."""

Entry = dict[bytes, bytes]


async def recorded(url: str, topic: str) -> tuple[dict[str, str], list[Entry]]:
    """The journal of one workflow that was really run: what in it is its own, by meaning, and its records."""
    # As long as the real one, so that lengths that are written in a record stay true.
    model = f"m{new_id()}"[: len(topic)]
    worker = Worker(topic=model, name="worker-1")
    for step in STEPS:
        worker.activity(step)(_nothing)
    async with get_transport(url) as transport, get_transport(url) as working:
        running = asyncio.create_task(worker.run(working))
        variables = {"customer_email": "ann@example.com", "amount": 12}
        own = await WorkflowDispatcher(transport).dispatch_workflow(STEPS, variables, topic=model, name=NAME)
        last = (await transport.history(model, own))[-1]
        while last.state != "completed":
            await asyncio.sleep(0.02)
            last = (await transport.history(model, own))[-1]
        worker.stop()
        await running
    client: Any = redis.asyncio.Redis.from_url(url)
    entries = [
        entry
        for _, entry in await client.xrange(Keys(model).journal)
        if any(own.encode() in value for value in entry.values())
    ]
    await client.delete(*[key async for key in client.scan_iter(f"*{{paigeant:{model}}}*")])
    await client.aclose()
    return {"id": own, "created": last.headers.created_at, "topic": model}, entries


async def _nothing(_: object) -> None:
    return None


def workflow(own: dict[str, str], entries: list[Entry], topic: str, number: int) -> Iterator[Entry]:
    """The records of one more workflow like the recorded one."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    pairs = [(own["id"], new_id()), (own["created"], now), (own["topic"], topic), (NAME, f"order-{number % 100:02}")]
    assert all(len(old) == len(new) for old, new in pairs)
    for entry in entries:
        copy = dict(entry)
        for key, value in copy.items():
            for old, new in pairs:
                value = value.replace(old.encode(), new.encode())
            copy[key] = value
        yield copy


async def write(url: str, topic: str, *, rate: int = 0, total: int = 0) -> None:
    """Write records at ``rate`` a second for ever; or the first record of ``total`` workflows, as fast as can be."""
    model = await recorded(url, topic)
    journal = Keys(topic).journal
    client: Any = redis.asyncio.Redis.from_url(url)
    if total:
        for start in range(0, total, 500):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, min(total, start + 500)):
                pipeline.xadd(journal, next(workflow(*model, topic, number)))
            await pipeline.execute()
        await client.aclose()
        return
    moving: deque[Iterator[Entry]] = deque()
    begun, made, started = time.perf_counter(), 0, 0
    while True:
        due = int((time.perf_counter() - begun) * rate) - made
        pipeline = client.pipeline(transaction=False)
        for _ in range(due):
            if len(moving) < IN_FLIGHT:
                moving.append(workflow(*model, topic, started))
                started += 1
            one = moving.popleft()
            entry = next(one, None)
            while entry is None:
                one = workflow(*model, topic, started)
                started += 1
                entry = next(one, None)
            moving.append(one)
            pipeline.xadd(journal, entry)
        await pipeline.execute()
        made += due
        await asyncio.sleep(0.05)


def main() -> None:
    """Write until killed, or until there are enough."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("topic")
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--total", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(write(options.url, options.topic, rate=options.rate, total=options.total))


if __name__ == "__main__":
    main()
