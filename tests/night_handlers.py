"""The workers of `tests.night`: what goes wrong with them is switched by files in the folder NIGHT.

down        the payment provider answers 503
gate        a step `research-customer-history` goes on only when there is such a file
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from paigeant_core import ActivityContext, RetryPolicy, Worker

FOLDER = Path(os.environ["NIGHT"])

worker = Worker(topic=os.environ["PAIGEANT_TOPIC"], name=os.environ["NIGHT_WORKER"], concurrency=8, lease=1.0)


def step(name: str, result: dict[str, Any]) -> None:
    """Register an activity that does what it should."""

    @worker.activity(name)
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return result


step("validate-order-details", {"order_valid": True})
step("notify-warehouse", {"warehouse": "told"})
step("classify-ticket-priority", {"priority": "high"})
step("generate-initial-response", {"response": "We look into it."})


@worker.activity("process-payment", retry=RetryPolicy(max_attempts=2, initial=0.2))
async def process_payment(ctx: ActivityContext) -> dict[str, Any]:
    """Ask the provider for the money."""
    await asyncio.sleep(0.05)
    if (FOLDER / "down").exists():
        raise ConnectionError(f"payment provider answered 503 (request {ctx.correlation_id[-4:]}), try again later")
    return {"paid": True, "charge": ctx.idempotency_key}


@worker.activity("research-customer-history")
async def research(ctx: ActivityContext) -> dict[str, Any]:
    """Take long, as agents do."""
    while not (FOLDER / "gate").exists():  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(0.05)
    return {"orders_found": 3}


@worker.activity("read-attachment")
async def read_attachment(ctx: ActivityContext) -> dict[str, Any]:
    """Read what kills whoever reads it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
