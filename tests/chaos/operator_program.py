"""An operator's process, to be killed in the middle of a bulk operation.

Retries the workflows whose IDs it reads from stdin, and says each result on stdout as it comes. With
CHAOS_KILL_AFTER it dies by SIGKILL a moment after it has said so many.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from paigeant_core.operations import Operations, Result, Retry
from paigeant_core.transports import get_transport


async def operate(workflows: list[str]) -> None:
    left = int(os.environ.get("CHAOS_KILL_AFTER", "0"))

    def say(result: Result) -> None:
        nonlocal left
        print(result.correlation_id, result.outcome, result.reason, flush=True)
        left -= 1
        if left == 0:
            # By its own clock, not the test's: a slow machine slows both.
            asyncio.get_running_loop().call_later(0.003, os.kill, os.getpid(), signal.SIGKILL)

    async with get_transport() as transport:
        operations = Operations(transport, os.environ["CHAOS_TOPIC"], operator="chaos")
        plan = await operations.plan(Retry(), workflows, reason="mended")
        await operations.execute(plan, progress=say)


if __name__ == "__main__":
    asyncio.run(operate(sys.stdin.read().split()))
