"""Operations that take their time: how fast they go, and what they know when another console goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paigeant_core import RetryPolicy, Worker, WorkflowDispatcher
from paigeant_core.activity import ActivityContext
from paigeant_core.operations import Cancel, Hold, Operations, Pace, Replay, Undo
from paigeant_core.operations import run as run_module
from paigeant_core.operations.plan import BEFORE, Result
from paigeant_core.transition import Place
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.hands import until

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


class Shop:
    """A worker whose provider takes the money and answers 503, and whom it charged."""

    def __init__(self) -> None:
        self.worker = Worker(TOPIC)
        self.charged: list[str] = []

        @self.worker.activity("charge", retry=RetryPolicy(max_attempts=1))
        async def charge(context: ActivityContext) -> None:
            self.charged.append(context.correlation_id)
            raise ConnectionError("503")

    async def sold(self, transport: MemoryTransport, number: int) -> list[str]:
        dispatcher = WorkflowDispatcher(transport)
        found = [await dispatcher.dispatch_workflow(["charge"], {}, topic=TOPIC) for _ in range(number)]
        await self.dead(transport, number)
        await asyncio.sleep(run_module.BLUR)
        self.charged.clear()
        return found

    async def dead(self, transport: MemoryTransport, number: int) -> None:
        async def are() -> bool:
            return len(await transport.parked(TOPIC, Place.DEAD)) == number

        await until(are, "they are not all dead")


async def forget(transport: MemoryTransport) -> None:
    """Let what the journal has be trimmed."""
    kept = transport.broker._topics[TOPIC]
    before, kept.max_bytes = kept.max_bytes, 1
    await WorkflowDispatcher(transport).dispatch_workflow(["other"], {}, topic=TOPIC)
    kept.max_bytes = before


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
async def test_who_goes_on_does_nothing_twice_though_the_journal_was_trimmed_in_between(
    transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    shop = Shop()
    serving = asyncio.create_task(shop.worker.run(transport))
    workflows = await shop.sold(transport, 10)
    ann, bo = Operations(transport, TOPIC, operator="ann"), Operations(transport, TOPIC, operator="bo")
    plan = await ann.plan(Replay(), workflows, reason="mended")
    running = await ann.start(plan, Pace(rate=20))
    came: list[str] = []
    going = asyncio.create_task(running.go(lambda result: came.append(result.correlation_id)))

    async def some() -> bool:
        return len(came) >= 4

    if killed:
        # After its first word it has no time for another one.
        monkeypatch.setattr(run_module, "HEARTBEAT", 100.0)
        monkeypatch.setattr(run_module.Running, "_leave", lambda _: asyncio.sleep(0))
    await until(some, "it does nothing")
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    monkeypatch.setattr(run_module, "HEARTBEAT", 0.02)
    acted = len(came)

    async def charged() -> bool:
        return sorted(shop.charged) == sorted(came)

    await until(charged, "not charged")
    await shop.dead(transport, 10)
    await forget(transport)
    monkeypatch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
    other = await bo.resume(plan.operation_id)
    assert other is not None
    report = await other.go()

    async def all_charged() -> bool:
        return len(shop.charged) >= 10

    await until(all_charged, "not all were charged")
    await shop.dead(transport, 10)
    assert sorted(shop.charged) == sorted(workflows)
    # What nobody wrote down and the journal does not tell is left alone, and said.
    failed = [result for result in report.results if result.outcome == "failed"]
    assert {result.reason for result in failed} <= {run_module.FORGOTTEN}
    assert [result.correlation_id for result in failed] == (workflows[:acted] if killed else [])
    assert report.count("done") == 10 - len(failed)
    (status,) = [status for status in await bo.listed() if status.operation_id == plan.operation_id]
    assert (status.done, status.failed) == (10 - len(failed), len(failed))
    shop.worker.stop()
    await serving


async def test_who_goes_on_tries_what_was_not_done_again(
    transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo = Operations(transport, TOPIC, operator="ann"), Operations(transport, TOPIC, operator="bo")
    workflows = await waiting(transport, 6)
    plan = await ann.plan(Hold(), workflows, reason="stop")
    running = await ann.start(plan, Pace(rate=20))
    mine = await bo.plan(Hold(), workflows[1:2], reason="mine")
    await bo.execute(mine)

    def stop(result: Result) -> None:
        if result.correlation_id == workflows[3]:
            task.cancel()

    task = asyncio.create_task(running.go(stop))
    await asyncio.gather(task, return_exceptions=True)
    await bo.execute(await bo.plan(Undo(mine.operation_id), workflows[1:2], reason="not mine"))
    monkeypatch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
    other = await bo.resume(plan.operation_id)
    assert other is not None
    assert (other.status.handled, other.status.missed) == (4, {1})
    report = await other.go()
    assert [result.reason for result in report.results] == [BEFORE, "", BEFORE, BEFORE, "", ""]
    assert report.count("done") == 6


async def test_what_an_operation_was_done_to_is_told_by_its_log_where_the_journal_was_trimmed(
    transport: MemoryTransport,
) -> None:
    operations = Operations(transport, TOPIC)
    workflows = await waiting(transport, 6)
    plan = await operations.plan(Cancel(), workflows, reason="stop")
    running = await operations.start(plan, Pace(rate=50))
    await operations.execute(await operations.plan(Cancel(), workflows[1:2], reason="somebody else"))
    ended = asyncio.Event()

    async def stop() -> None:
        await ended.wait()
        await operations.abort(plan.operation_id)

    stopping = asyncio.create_task(stop())
    report = await running.go(lambda result: ended.set() if result.correlation_id == workflows[3] else None)
    await stopping
    done = [result.correlation_id for result in report.results if result.outcome == "done"]
    assert workflows[1] not in done
    await forget(transport)
    assert await operations.acted(plan.operation_id) == (plan.operation_id, done, 0)
