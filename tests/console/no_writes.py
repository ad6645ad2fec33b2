"""What a console says of a broker that takes no writes for a while, and of the worker that it hears nothing of."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from paigeant_console.config import Look
from paigeant_console.feed import rounds
from paigeant_console.model.snapshot import read_rows
from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport
from paigeant_core.journal import State
from paigeant_core.transports.rabbitmq import presence
from tests.console.test_stuck_situations import look_at, opened
from tests.core.bench import stopped

ROOT = Path(__file__).parents[2]


async def no_writes(
    url: str, topic: str, tmp_path: Path, *, refuse: Callable[[], object], accept: Callable[[], object], why: str
) -> None:
    """A step runs, the broker takes no writes until its worker is silent, and then it does again.

    Args:
        url: of a broker of the test's own.
        topic: a topic.
        tmp_path: for what the console writes.
        refuse: lets the broker take no more writes.
        accept: lets it take them again.
        why: what is to be said.
    """
    worker, done = Worker(topic, name="mill", lease=1.0), asyncio.Event()

    @worker.activity("weigh")
    async def weigh(ctx: ActivityContext) -> None:
        await done.wait()

    soon = patch.dict(vars(presence), LEASE=1.0, RENEW_EVERY=0.2)
    with soon, patch.object(rounds, "HEARD_AGAIN", 2.0):
        async with (
            get_transport(url) as theirs,
            get_transport(url) as transport,
            opened(url, topic, tmp_path, Look()) as console,
        ):
            working = asyncio.create_task(worker.run(theirs))
            await WorkflowDispatcher(transport).dispatch_workflow(
                ["weigh"], {}, topic=topic, correlation_id="order-1001"
            )
            fold = console.app.feed.fold
            await look_at(console, "order-1001")
            await console.until(lambda: "order-1001" in fold.rows, "it is known")
            await console.until(lambda: fold.rows["order-1001"].state == State.RUNNING, "running")
            assert await transport.refusal(topic) == ""
            await asyncio.to_thread(refuse)
            said = f"no workflow moves: {why}, and takes no writes; `doctor` tells more"
            await console.shows(said)
            await console.shows(" no writes ")
            async with asyncio.timeout(60):
                while await transport.workers(topic):  # noqa: ASYNC110 - nobody tells that a worker became silent
                    await asyncio.sleep(0.05)
            snapshot = await read_rows(transport, topic)
            assert (snapshot.fold.stuck(snapshot.fold.rows["order-1001"], snapshot.now), snapshot.refusal) == (
                None,
                why,
            )
            command = [sys.executable, "-m", "paigeant_console", "--topic", topic]
            environment = os.environ | {"PAIGEANT_URL": url}
            for words in (["show", "order-1001"], ["list"]):
                found = await asyncio.to_thread(
                    subprocess.run, [*command, *words], env=environment, cwd=ROOT, capture_output=True, text=True
                )
                assert (found.returncode, found.stderr) == (0, f"paigeant-console: {said}\n")
                assert "worker_lost" not in found.stdout
            await console.again()
            assert said in console.text()
            assert (fold.rows["order-1001"].state, fold.rows["order-1001"].lost) == (State.RUNNING, "")
            asked_at = fold.observed_at
            await asyncio.to_thread(accept)
            await console.until(lambda: fold.observed_at > asked_at, "workers are looked at again")
            assert said not in console.text()
            assert (fold.rows["order-1001"].state, fold.rows["order-1001"].lost) == (State.RUNNING, "")
            done.set()
            await console.until(lambda: fold.rows["order-1001"].state == State.COMPLETED, "completed")
            await stopped(worker, working)
