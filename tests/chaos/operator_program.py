"""An operator's process, to be killed in the middle of a bulk operation.

Retries the workflows whose IDs it reads from stdin, and says each result on stdout as it comes.
"""

from __future__ import annotations

import asyncio
import os
import sys

from paigeant_core.operations import Operations, Result, Retry
from paigeant_core.transports import get_transport


async def operate(workflows: list[str]) -> None:
    def say(result: Result) -> None:
        print(result.correlation_id, result.outcome, result.reason, flush=True)

    async with get_transport() as transport:
        operations = Operations(transport, os.environ["CHAOS_TOPIC"], operator="chaos")
        plan = await operations.plan(Retry(), workflows, reason="mended")
        await operations.execute(plan, progress=say)


if __name__ == "__main__":
    asyncio.run(operate(sys.stdin.read().split()))
