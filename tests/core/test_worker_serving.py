"""The worker: concurrency, start and stop, and the transport it works on."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConfigError
from paigeant_core.journal import State
from paigeant_core.transports.memory.transport import MemoryConsumer, MemoryTransport
from paigeant_core.worker import Worker
from tests.core.bench import PATIENCE, Bench, stopped
from tests.core.handlers import Gate, run_one, step


async def test_no_more_steps_run_than_allowed(bench: Bench) -> None:
    worker, gate = bench.worker(concurrency=2), Gate()

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> None:
        await gate.wait()

    workflows = [await bench.dispatch("a") for _ in range(6)]
    async with bench.serving(worker):
        await gate.entered(2)
        # A worker never claims what it has no slot for: others may have one.
        queue = await bench.queue("a")
        assert (queue.ready, queue.in_flight) == (4, 2)
        gate.open()
        for workflow in workflows:
            await bench.reaches(workflow, State.COMPLETED)
    assert gate.peak == 2


async def test_a_worker_that_stops_lets_its_steps_finish_and_claims_no_more(bench: Bench) -> None:
    worker, gate = bench.worker(concurrency=1), Gate()

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        await gate.wait()
        return {"finished": True}

    running = await bench.dispatch("a")
    task = asyncio.create_task(worker.run())
    await gate.entered()
    waiting = await bench.dispatch("a")
    worker.stop()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    gate.open()
    await asyncio.wait_for(task, PATIENCE)
    record = await bench.last(running)
    assert record.state == State.COMPLETED
    assert record.message is not None
    assert record.message.payload == {"finished": True}
    assert (await bench.last(waiting)).state == State.QUEUED
    assert (await bench.queue("a")).ready == 1


async def test_a_worker_that_is_stopped_in_a_handler_runs_nothing_after_it(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[str] = []

    @worker.activity("a")
    async def last(ctx: ActivityContext) -> None:
        seen.append("a")
        worker.stop()

    step(worker, "b", seen=seen)
    workflow = await bench.dispatch("a", "b")
    await asyncio.wait_for(worker.run(), PATIENCE)
    assert seen == ["a"]
    assert (await bench.last(workflow)).headers.activity == "b"
    assert (await bench.queue("b")).ready == 1


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_what_does_not_finish_in_time_is_handed_back_and_run_by_another(bench: Bench, kind: str) -> None:
    slow, gate = bench.worker(drain=0.01), Gate()
    entered, leave = threading.Event(), threading.Event()
    keys: list[str] = []

    if kind == "async":

        @slow.activity("a")
        async def never(ctx: ActivityContext) -> None:
            keys.append(ctx.idempotency_key)
            entered.set()
            await gate.wait()
    else:

        @slow.activity("a")
        def blocked(ctx: ActivityContext) -> None:
            keys.append(ctx.idempotency_key)
            entered.set()
            leave.wait(PATIENCE)

    workflow = await bench.dispatch("a")
    task = asyncio.create_task(slow.run())
    await asyncio.to_thread(entered.wait, PATIENCE)
    try:
        await stopped(slow, task)
        assert await bench.kinds(workflow) == ["dispatched"]
        assert (await bench.queue("a")).ready == 1

        heir = bench.worker()

        @heir.activity("a")
        async def quick(ctx: ActivityContext) -> dict[str, Any]:
            keys.append(ctx.idempotency_key)
            return {"attempt": ctx.attempt}

        async with bench.serving(heir):
            record = await bench.reaches(workflow, State.COMPLETED)
    finally:
        leave.set()
    # It is no attempt, and a provider that was given the key can see that it is the same work.
    assert keys[0] == keys[1]
    assert record.message is not None
    assert record.message.payload == {"attempt": 1}
    assert record.worker == heir.name


async def test_a_worker_whose_task_is_cancelled_drains_too(bench: Bench) -> None:
    worker, gate = bench.worker(), Gate()

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> None:
        await gate.wait()

    workflow = await bench.dispatch("a")
    task = asyncio.create_task(worker.run())
    await gate.entered()
    task.cancel()
    await asyncio.sleep(0)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    await bench.reaches(workflow, State.COMPLETED)


async def test_a_settle_that_fails_does_not_lose_the_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settle = MemoryConsumer.settle
    broken = asyncio.Event()

    async def refuse(self: MemoryConsumer, *args: Any) -> Any:
        broken.set()
        raise OSError("the disk is full")

    monkeypatch.setattr(MemoryConsumer, "settle", refuse)
    worker, seen = bench.worker(), []  # type: ignore[var-annotated]
    step(worker, "a", seen=seen)
    workflow = await bench.dispatch("a")
    with caplog.at_level(logging.ERROR, "paigeant"):
        async with bench.serving(worker):
            await asyncio.wait_for(broken.wait(), PATIENCE)
            monkeypatch.setattr(MemoryConsumer, "settle", settle)
            other = await bench.dispatch("a")
            await bench.reaches(other, State.COMPLETED)  # it goes on with the others
    assert "could not be settled: OSError: the disk is full" in caplog.text
    heir = bench.worker()
    step(heir, "a", seen=seen)
    async with bench.serving(heir):
        await bench.reaches(workflow, State.COMPLETED)
    assert seen == ["a", "a", "a"]


async def test_a_step_that_could_not_be_settled_is_run_again_when_its_lease_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settle = MemoryConsumer.settle

    async def refuse(self: MemoryConsumer, *args: Any) -> Any:
        monkeypatch.setattr(MemoryConsumer, "settle", settle)
        raise OSError("the disk is full")

    monkeypatch.setattr(MemoryConsumer, "settle", refuse)
    worker, seen = bench.worker(), []  # type: ignore[var-annotated]
    step(worker, "a", seen=seen)
    workflow = await bench.dispatch("a")

    async def told() -> bool:
        return "could not be settled" in caplog.text

    async with bench.serving(worker):
        await bench.until(told, "the end of the step")
        assert (await bench.last(workflow)).state == State.QUEUED
        bench.clock.advance(worker.lease)
        ended = await bench.reaches(workflow, State.COMPLETED)
    assert seen == ["a", "a"]
    assert ended.detail["deaths"] == 1


async def test_what_cannot_be_served_is_told_before_anything_is_claimed(bench: Bench) -> None:
    worker = bench.worker()
    with pytest.raises(ConfigError, match="no activities"):
        await worker.run()
    step(worker, "a")
    with pytest.raises(ConfigError, match="activity 'b' is not registered; this worker has: a"):
        await worker.run(activities=["a", "b"])
    assert [record async for batch in bench.transport.records(bench.topic) for record in batch] == []


async def test_a_worker_may_serve_some_of_its_activities(bench: Bench) -> None:
    worker = bench.worker()
    for name in "ab":
        step(worker, name)
    workflow = await bench.dispatch("a", "b")
    task = asyncio.create_task(worker.run(activities=["a"]))
    await bench.until(lambda: _advanced(bench, workflow), "the second step")
    await stopped(worker, task)
    assert (await bench.queue("b")).ready == 1


async def _advanced(bench: Bench, workflow: str) -> bool:
    return (await bench.last(workflow)).headers.activity == "b"


async def test_a_worker_finds_its_transport_in_the_environment(monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    monkeypatch.setenv("PAIGEANT_URL", f"memory://{topic}")
    worker, done = Worker(topic), asyncio.Event()

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> None:
        done.set()

    from paigeant_core import get_transport

    await WorkflowDispatcher(get_transport()).dispatch_workflow(["a"], topic=topic)
    closed: list[bool] = []

    async def disconnect(self: MemoryTransport) -> None:
        closed.append(True)

    monkeypatch.setattr(MemoryTransport, "disconnect", disconnect)
    task = asyncio.create_task(worker.run())
    await asyncio.wait_for(done.wait(), PATIENCE)
    await stopped(worker, task)
    assert closed == [True]  # what it opened itself


async def test_a_worker_leaves_a_transport_that_it_was_given_connected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: MemoryTransport) -> None:
        raise AssertionError("it is not the worker's to close")

    monkeypatch.setattr(MemoryTransport, "disconnect", never)
    await run_one(bench, lambda ctx: None)


def test_a_worker_may_run_again_in_another_loop() -> None:
    bench = Bench()
    worker = bench.worker(concurrency=1)

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> None:
        await asyncio.sleep(0)

    async def once() -> None:
        # Two, so that the second waits for a free slot.
        workflows = [await bench.dispatch("a") for _ in range(2)]
        async with bench.serving(worker):
            for workflow in workflows:
                await bench.reaches(workflow, State.COMPLETED)

    asyncio.run(once())
    asyncio.run(once())
