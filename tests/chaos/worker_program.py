"""The worker that chaos is made with: its handlers write into the ledger and take their time.

    python -m tests.chaos.worker_program                 # with the environment below
    paigeant-console worker tests.chaos.worker_program   # the same by the command

Its environment:

    PAIGEANT_URL, CHAOS_TOPIC   where
    CHAOS_LEDGER                the file that the handlers append to
    CHAOS_STEP_MS               how long a step takes: a number, or two with a dash
    CHAOS_GATE                  no step comes to its end until there is such a file
    CHAOS_BLOCK_MS              the step `block` holds up the whole loop for so long
    CHAOS_LEASE, CHAOS_CONCURRENCY, CHAOS_DRAIN
    CHAOS_LOOKOUT               seconds between two looks for what RabbitMQ lost, and twice as many of grace
    CHAOS_CLOCK                 seconds by which the clock jumps to and fro
    CHAOS_FAULT                 a point to die at, see `tests.chaos.faults`
    CHAOS_MENDED                the step `fragile` fails for good until there is such a file
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paigeant_core import ActivityContext, NonRetryable, Worker
from paigeant_core.errors import ConnectError
from paigeant_core.transports import get_transport
from paigeant_core.transports.rabbitmq import lookout
from tests.chaos import ledger
from tests.chaos.faults import arm

NO_BROKER = 4
"""Exit code where no broker answers at the start."""
STEPS = ("one", "two", "three", "four", "five")


class JumpingClock:
    """The machine's clock, set forward and back by so many seconds every now and then.

    Args:
        seconds: how far it may be off.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        """Seconds since the Unix epoch, more or less."""
        return time.time() + self._seconds * random.Random(os.getpid() + int(time.monotonic())).uniform(-1, 1)


def build(environ: Mapping[str, str], book: ledger.Ledger) -> Worker:
    """The worker that an environment asks for.

    Args:
        environ: see above.
        book: where the handlers write.
    """
    least, _, most = environ.get("CHAOS_STEP_MS", "20").partition("-")
    shortest, longest = float(least) / 1000, float(most or least) / 1000
    gate = environ.get("CHAOS_GATE")
    made = Worker(
        environ.get("CHAOS_TOPIC", "chaos"),
        concurrency=int(environ.get("CHAOS_CONCURRENCY", "8")),
        lease=float(environ.get("CHAOS_LEASE", "10")),
        drain=float(environ.get("CHAOS_DRAIN", "30")),
    )
    book.note(ledger.BORN, worker=made.name, pid=os.getpid())

    async def step(ctx: ActivityContext) -> dict[str, Any]:
        book.step(ledger.STARTED, ctx)
        while gate is not None and not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)
        await asyncio.sleep(random.uniform(shortest, longest))
        book.step(ledger.FINISHED, ctx)
        return {ctx.activity: ctx.idempotency_key}

    for name in STEPS:
        made.activity(name)(step)

    @made.activity("block")
    async def block(ctx: ActivityContext) -> None:
        book.step(ledger.STARTED, ctx)
        time.sleep(float(environ.get("CHAOS_BLOCK_MS", "1000")) / 1000)  # noqa: ASYNC251 - that is the point
        book.step(ledger.FINISHED, ctx)

    @made.activity("fragile")
    async def fragile(ctx: ActivityContext) -> None:
        book.step(ledger.STARTED, ctx)
        if not await asyncio.to_thread(Path(environ["CHAOS_MENDED"]).exists):
            raise NonRetryable("not mended")
        book.step(ledger.FINISHED, ctx)

    return made


def program() -> Worker:
    """The worker of this process, by its environment."""
    book = ledger.Ledger(os.environ["CHAOS_LEDGER"])
    if seconds := os.environ.get("CHAOS_LOOKOUT"):
        lookout.EVERY, lookout.GRACE = float(seconds), 2 * float(seconds)
    if fault := os.environ.get("CHAOS_FAULT"):
        arm(fault, os.environ["PAIGEANT_URL"], book)
    return build(os.environ, book)


async def serve(served: Worker) -> None:
    """Serve until SIGTERM."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, served.stop)
    jumps = float(os.environ.get("CHAOS_CLOCK", "0"))
    async with get_transport(clock=JumpingClock(jumps) if jumps else None) as transport:
        await served.run(transport)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(program()))
    except ConnectError as error:
        # As the command does, and a service manager starts it again.
        logging.error("%s", error)  # noqa: LOG015
        sys.exit(NO_BROKER)
elif "CHAOS_LEDGER" in os.environ:
    worker = program()
