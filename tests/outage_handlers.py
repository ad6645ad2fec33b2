"""The workers of the outage: a provider whose state is in a folder outside the library, and a ledger there.

`OUTAGE` names the folder. In it `limit` says how many calls the provider still answers, `calls` has a byte for each
that was made since, and `ledger` a line for each step that began or was done.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from paigeant_core import ActivityContext, RetryPolicy, Worker
from tests.chaos.ledger import FINISHED, STARTED, Ledger

FOLDER = Path(os.environ.get("OUTAGE", "."))

worker = Worker(concurrency=16)
ledger = Ledger(FOLDER / "ledger")


class ProviderDown(Exception):
    """Nobody answers there."""


class CardExpired(Exception):
    """It is refused for good."""


def answers() -> bool:
    """Call the provider once: whether it answered."""
    with (FOLDER / "calls").open("ab") as calls:
        calls.write(b".")
        calls.flush()
        made = calls.tell()
    return made <= int((FOLDER / "limit").read_text())


@worker.activity("validate")
async def validate(ctx: ActivityContext) -> None:
    """Nothing can go wrong here."""
    ledger.step(STARTED, ctx)
    ledger.step(FINISHED, ctx)


@worker.activity("charge", retry=RetryPolicy(max_attempts=1))
async def charge(ctx: ActivityContext) -> dict[str, str]:
    """Fail for the cause that the payload names, or as long as the provider is down."""
    ledger.step(STARTED, ctx)
    if ctx.payload["cause"] == "card":
        raise CardExpired("the card is expired")
    if not answers():
        raise ProviderDown("503" if ctx.payload["cause"] == "down" else "no answer within 30 s")
    for _ in range(6000):  # while whoever watches over it says so, two minutes at most
        if not (FOLDER / "closed").exists():
            break
        await asyncio.sleep(0.02)
    ledger.step(FINISHED, ctx)
    return {"charged": ctx.idempotency_key}


@worker.activity("notify")
async def notify(ctx: ActivityContext) -> None:
    """Tell somebody."""
    ledger.step(STARTED, ctx)
    ledger.step(FINISHED, ctx)
