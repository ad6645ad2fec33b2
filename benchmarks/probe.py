"""Programs of their own for what a section measures in a fresh process; each prints one JSON object.

python -m benchmarks.probe fold WORKFLOWS STEPS [ACTIVITIES]   fold so many workflows: seconds, and bytes of memory
python -m benchmarks.probe rows URL                  read the whole journal and fold it, as `list` does
python -m benchmarks.probe console URL COUNT         the console's feed: the first rows, and all of so many records
python -m benchmarks.probe xread URL                 read the same Redis stream, and do nothing
python -m benchmarks.probe stream URL COUNT          read the same RabbitMQ stream by aio-pika, and do nothing
python -m benchmarks.probe idle URL                  a worker with nothing to do; it says its processor time
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.journal_data import journal
from benchmarks.peers.paigeant import TOPIC
from paigeant_core.journal import Record


def memory() -> int:
    """Bytes that this process holds, after a collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fold(workflows: str, steps: str, activities: str = "10") -> dict[str, Any]:
    from paigeant_console.model.fold import Fold

    into = Fold()
    source = journal(int(workflows), int(steps), activities=int(activities))
    before, folding, decoding, number = memory(), 0.0, 0.0, 0
    records: list[Record] = []
    while batch := list(itertools.islice(source, 1000)):
        begun = time.perf_counter()
        records = [Record.decode(meta, body, position=str(number), at=1.79e9) for meta, body in batch]
        between = time.perf_counter()
        into.apply(records)
        folding += time.perf_counter() - between
        decoding += between - begun
        number += len(batch)
    del batch, source
    records = []
    used = memory() - before
    return {"records": number, "fold_s": folding, "decode_s": decoding, "bytes": used / int(workflows)}


async def rows(url: str) -> dict[str, Any]:
    from paigeant_console import garbage
    from paigeant_console.model.snapshot import read_rows
    from paigeant_core import get_transport

    # As the program does.
    garbage.starting()
    async with get_transport(url) as transport:
        begun = time.perf_counter()
        snapshot = await read_rows(transport, TOPIC)
        return {"s": time.perf_counter() - begun, "records": snapshot.fold.records}


LOOK_EVERY = 0.25
"""Seconds between two looks of a screen at the feed."""


def console(url: str, count: str) -> dict[str, Any]:
    from paigeant_console import garbage
    from paigeant_console.feed import Feed, Phase
    from paigeant_core import get_transport

    # As the program does.
    garbage.starting()
    garbage.started()
    feed = Feed(url, TOPIC)
    loading = time.perf_counter()
    # The driver: what is seen first waits for it, but reading does not begin before.
    get_transport(url)
    begun = time.perf_counter()
    feed.start()
    while not feed.status().workflows:
        time.sleep(0.01)
    first = time.perf_counter() - loading
    # Looked at as often as a screen does; one that is woken by each change would be measured too.
    looked = time.perf_counter()
    while feed.serial < int(count):
        time.sleep(0.02)
        if time.perf_counter() - looked >= LOOK_EVERY:
            looked = time.perf_counter()
            feed.status()
    while feed.status().phase is not Phase.LIVE:
        time.sleep(0.01)
    took = time.perf_counter() - begun
    feed.stop()
    return {"first_s": first, "s": took, "records": feed.serial, "bytes": memory()}


async def xread(url: str) -> dict[str, Any]:
    from redis.asyncio import Redis

    key = f"{{paigeant:{TOPIC}}}:journal"
    async with Redis.from_url(url) as client:
        position, number, begun = "0-0", 0, time.perf_counter()
        while True:
            answer: Any = await client.xread({key: position}, count=1000)
            if not answer:
                return {"s": time.perf_counter() - begun, "records": number}
            entries = answer[key.encode()][0] if isinstance(answer, dict) else answer[0][1]
            position = entries[-1][0]
            number += len(entries)


async def stream(url: str, count: str) -> dict[str, Any]:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        queue = await channel.get_queue(f"paigeant.{TOPIC}.journal")
        number, all_of_it = 0, asyncio.Event()

        async def took(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal number
            number += 1
            if number % 100 == 0:
                await message.channel.basic_ack(message.delivery_tag or 0, multiple=True)
            if number >= int(count):
                all_of_it.set()

        begun = time.perf_counter()
        await queue.consume(took, arguments={"x-stream-offset": "first"})
        await all_of_it.wait()
        return {"s": time.perf_counter() - begun, "records": number}


async def idle(url: str) -> dict[str, Any]:
    """Serves for ten seconds; counts the last eight of them."""
    from paigeant_core import ActivityContext, Worker, get_transport

    worker = Worker(topic=TOPIC, concurrency=16)

    @worker.activity("one")
    async def one(_: ActivityContext) -> None:
        """Never called."""

    async with get_transport(url) as transport:
        running = asyncio.create_task(worker.run(transport))
        await asyncio.sleep(2.0)
        print("ready", flush=True)
        cpu = time.process_time()
        await asyncio.sleep(8.0)
        spent = time.process_time() - cpu
        worker.stop()
        await running
    return {"cpu": spent / 8.0}


def main() -> None:
    roles: dict[str, Callable[..., Any]] = {
        "fold": fold,
        "rows": rows,
        "console": console,
        "xread": xread,
        "stream": stream,
        "idle": idle,
    }
    called = roles[sys.argv[1]](*sys.argv[2:])
    result = asyncio.run(called) if asyncio.iscoroutine(called) else called
    print(json.dumps(result))


if __name__ == "__main__":
    main()
