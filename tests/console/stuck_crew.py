"""Workers that get workflows stuck in every way there is: `python -m tests.console.stuck_crew URL TOPIC`.

Three workers, each a process of its own. The first does what it can. The second dies in the middle of a step. The third
dies whenever it runs its step, and another one takes its place.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from paigeant_core import ActivityContext, RetryPolicy, Worker, get_transport
from paigeant_core.transports.rabbitmq import presence

LEASE = 1.0
SLOWLY = RetryPolicy(max_attempts=5, initial=600, cap=600, jitter=0)
SOON = RetryPolicy(max_attempts=3, initial=4, jitter=0)


def able(topic: str) -> Worker:
    worker = Worker(topic, name="mill", lease=LEASE)

    @worker.activity("charge", retry=SLOWLY)
    async def charge(ctx: ActivityContext) -> None:
        raise TimeoutError("the provider did not answer")

    @worker.activity("review")
    async def review(ctx: ActivityContext) -> None:
        ctx.hold("a person has to look", until=time.time() + 3600, on_deadline="release")

    @worker.activity("mint")
    async def mint(ctx: ActivityContext) -> None: ...

    @worker.activity("print")
    async def print_(ctx: ActivityContext) -> None:
        await asyncio.sleep(ctx.payload["seconds"])

    return worker


def frail(topic: str) -> Worker:
    worker = Worker(topic, name="frail", lease=LEASE)
    failed = asyncio.Event()

    @worker.activity("brittle", retry=SOON)
    async def brittle(ctx: ActivityContext) -> None:
        failed.set()
        raise ConnectionError("refused")

    @worker.activity("sleep")
    async def sleep(ctx: ActivityContext) -> None:
        await failed.wait()
        # What failed is on record by then, and what runs is told.
        await asyncio.sleep(1.5)
        os._exit(9)

    return worker


def doomed(topic: str) -> Worker:
    worker = Worker(topic, name="doomed", lease=LEASE)

    @worker.activity("crash")
    async def crash(ctx: ActivityContext) -> None:
        os._exit(9)

    return worker


def fork(make: Callable[[str], Worker], url: str, topic: str) -> int:
    """Run a worker in a process of its own; its ID."""
    if pid := os.fork():
        return pid
    asyncio.run(make(topic).run(get_transport(url)))
    os._exit(0)


def main(url: str, topic: str) -> NoReturn:
    # So that one that is silent is soon known to be.
    vars(presence)["RENEW_EVERY"] = 0.3
    for make in (able, frail):
        fork(make, url, topic)
    dying = fork(doomed, url, topic)
    while True:
        pid, _ = os.wait()
        if pid == dying:
            dying = fork(doomed, url, topic)


if __name__ == "__main__":
    main(*sys.argv[1:3])
