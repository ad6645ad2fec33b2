"""Operations that take their time: how fast they go, and what they know when another console goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paigeant_core import WorkflowDispatcher
from paigeant_core.operations import Hold, Operations, Pace
from paigeant_core.operations import run as run_module
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport

TOPIC = "orders"


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> MemoryTransport:
    for name in ("HEARTBEAT", "RESTING"):
        monkeypatch.setattr(run_module, name, 0.02)
    return MemoryTransport(broker=MemoryBroker())


async def waiting(transport: MemoryTransport, number: int) -> list[str]:
    dispatcher = WorkflowDispatcher(transport)
    return [await dispatcher.dispatch_workflow(["a"], {}, topic=TOPIC) for _ in range(number)]


@pytest.mark.parametrize("rest", ["delay", "pause"])
async def test_time_in_which_nothing_was_done_is_not_made_up_for_in_a_burst(
    transport: MemoryTransport, rest: str
) -> None:
    ann, bo = Operations(transport, TOPIC, operator="ann"), Operations(transport, TOPIC, operator="bo")
    plan = await ann.plan(Hold(), await waiting(transport, 20), reason="stop")
    running = await ann.start(plan, Pace(rate=50, delay=0.5 if rest == "delay" else 0.0))
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def paused() -> None:
        await bo.pause(plan.operation_id)
        await asyncio.sleep(0.5)
        await bo.resume(plan.operation_id)

    pauses: list[asyncio.Task[None]] = []

    def note(_: Any) -> None:
        times.append(loop.time())
        if rest == "pause" and len(times) == 5:
            pauses.append(asyncio.create_task(paused()))

    await running.go(note)
    await asyncio.gather(*pauses)
    assert len(times) == 20
    # Of any ten in a row the first and the last lie nine intervals apart, less what one timer was late by.
    assert min(last - first for first, last in zip(times, times[9:], strict=False)) >= 8 / 50 - 0.01
