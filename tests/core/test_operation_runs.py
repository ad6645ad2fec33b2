"""Operations that take their time: ramp, brake, pause, abort, and another console that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from paigeant_core import RetryPolicy, Worker, WorkflowDispatcher
from paigeant_core.activity import ActivityContext
from paigeant_core.clock import ManualClock
from paigeant_core.errors import ConnectError, Refused, WorkflowNotFound
from paigeant_core.journal import Kind, Record
from paigeant_core.operations import (
    Cancel,
    Hold,
    Operations,
    OperationState,
    Pace,
    Replay,
    Retry,
    Running,
)
from paigeant_core.operations import run as run_module
from paigeant_core.operations.log import SILENCE
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.hands import until

TOPIC = "orders"


class Provider:
    """What the handlers call; it may be down."""

    def __init__(self) -> None:
        self.up = False
        self.fails_after: int | None = None
        self.calls: list[str] = []

    def charge(self, key: str) -> None:
        self.calls.append(key)
        if not self.up or (self.fails_after is not None and len(self.calls) > self.fails_after):
            raise ConnectionError("503")


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def transport(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryTransport]:
    for name in ("HEARTBEAT", "RESTING"):
        monkeypatch.setattr(run_module, name, 0.02)
    transport = MemoryTransport(broker=MemoryBroker())
    worker = Worker(TOPIC, concurrency=4)

    @worker.activity("charge", retry=RetryPolicy(max_attempts=1))
    async def charge(context: ActivityContext) -> None:
        provider.charge(context.idempotency_key)

    serving = asyncio.create_task(worker.run(transport))
    yield transport
    worker.stop()
    await serving


async def dead(transport: MemoryTransport, provider: Provider, number: int) -> list[str]:
    dispatcher = WorkflowDispatcher(transport)
    found = [await dispatcher.dispatch_workflow(["charge"], {}, topic=TOPIC) for _ in range(number)]

    async def all_dead() -> bool:
        return len(provider.calls) == number and await states(transport, found) == {"dead": number}

    await until(all_dead, "dead")
    provider.calls.clear()
    provider.up = True
    return found


async def states(transport: MemoryTransport, workflows: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for workflow in workflows:
        state = next(r.state for r in reversed(await transport.history(TOPIC, workflow)) if r.state)
        found[state] = found.get(state, 0) + 1
    return found


async def begun(operations: Operations, workflows: list[str], pace: Pace) -> Running:
    return await operations.start(await operations.plan(Retry(), workflows, reason="the provider is back"), pace)


async def test_a_paced_operation_does_all_and_is_known_as_finished(
    transport: MemoryTransport, provider: Provider
) -> None:
    workflows = await dead(transport, provider, 30)
    operations = Operations(transport, TOPIC, operator="ann")
    running = await begun(operations, workflows, Pace(ramp=True))
    report = await running.go()
    assert report.count("done") == 30
    (status,) = (await operations.runs()).values()
    assert (status.state, status.done, status.again, status.targets) == ("finished", 30, 0, workflows)
    assert status.open == 0
    started, entry = await transport.audit(TOPIC)
    assert b'"outcome":"started"' in started
    assert b'"targets":30' in entry
    assert b'"before":{"dead":30},"after":{"queued":30}' in entry
    assert b"30 done, 0 skipped, 0 failed" in entry


async def test_what_becomes_of_those_that_still_run_when_it_ends_is_said_to_be_unknown(
    transport: MemoryTransport, provider: Provider
) -> None:
    workflows = await dead(transport, provider, 3)
    operations = Operations(transport, TOPIC, operator="ann")
    await operations.pause_activity("charge", reason="none of them ends before the operation does")

    async def heard() -> bool:
        return "charge" in await transport.pauses(TOPIC)

    await until(heard, "the pause")
    running = await begun(operations, workflows, Pace())
    await running.go()
    (status,) = (await operations.runs()).values()
    assert (status.state, status.done, status.again, status.open) == ("finished", 3, 0, 3)
    assert status.to_document(0.0)["open"] == 3
    # Nothing is to be seen of what is taken out of the way.
    running = await operations.start(await operations.plan(Hold(), workflows, reason="later"), Pace())
    await running.go()
    assert (await operations.runs())[running.status.operation_id].open == 0


async def test_the_brake_stops_it_when_they_fail_again_and_the_rest_is_untouched(
    transport: MemoryTransport, provider: Provider
) -> None:
    workflows = await dead(transport, provider, 200)
    provider.fails_after = 10
    operations = Operations(transport, TOPIC)
    report = await (await begun(operations, workflows, Pace(ramp=True, brake=30))).go()
    acted = len(report.results)
    # 1 and 5 went well, of 20 most did not.
    assert acted == 26
    (status,) = (await operations.runs()).values()
    assert status.state is OperationState.BRAKED
    assert "the brake stopped it: " in status.said
    for workflow in workflows[acted:]:
        assert not any(record.kind == Kind.OPERATED for record in await transport.history(TOPIC, workflow))
    # The provider is back for good: whoever goes on does the rest, and nobody of before a second time.
    provider.fails_after = None
    before = len(provider.calls)
    running = await Operations(transport, TOPIC, operator="bo").resume(status.operation_id[:6])
    assert running is not None
    report = await running.go()
    assert report.count("done") == 200

    async def all_called() -> bool:
        return len(provider.calls) - before == 200 - acted

    await until(all_called, "called once each")
    (status,) = (await operations.runs()).values()
    assert status.state is OperationState.FINISHED


class Breaking(Exception):
    """Not the broker's doing."""


def breaking(transport: MemoryTransport, patch: pytest.MonkeyPatch, error: Exception) -> Callable[[], None]:
    """What breaks, once, the line on which the journal is followed."""
    broken, records = False, transport.records

    async def breaks(*args: Any, **options: Any) -> AsyncIterator[list[Record]]:
        nonlocal broken
        async for batch in records(*args, **options):
            if broken:
                broken = False
                raise error
            yield batch

    def break_() -> None:
        nonlocal broken
        broken = True

    patch.setattr(transport, "records", breaks)
    patch.setattr(run_module, "AGAIN", 0.1)
    return break_


async def test_the_brake_sees_what_became_of_them_while_the_line_was_down(
    transport: MemoryTransport, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = await dead(transport, provider, 200)
    provider.fails_after = 10
    # Without the figures of the outage the ramp would wait for so long, and go on as if all were well.
    monkeypatch.setattr(run_module, "PATIENCE", 5.0)
    break_ = breaking(transport, monkeypatch, ConnectError("the line broke"))
    running = await begun(Operations(transport, TOPIC), workflows, Pace(ramp=True, brake=30))

    def at_the_third(_: Any) -> None:
        if running.status.done == 3:
            break_()

    report = await running.go(at_the_third)
    assert running.status.state is OperationState.BRAKED
    assert "failed (" in running.status.said
    assert len(report.results) <= 26


async def test_without_a_brake_that_sees_nothing_is_done(
    transport: MemoryTransport, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = await dead(transport, provider, 30)
    monkeypatch.setattr(run_module, "PATIENCE", 1.0)
    break_ = breaking(transport, monkeypatch, Breaking())
    running = await begun(Operations(transport, TOPIC), workflows, Pace(ramp=True, brake=30))

    def at_the_third(_: Any) -> None:
        if running.status.done == 3:
            break_()

    assert len((await running.go(at_the_third)).results) < 30
    assert running.status.state is OperationState.BRAKED
    assert running.status.said == "the brake stopped it: it cannot be seen what becomes of them"


async def test_the_first_of_a_ramp_that_fails_stops_it(transport: MemoryTransport, provider: Provider) -> None:
    workflows = await dead(transport, provider, 20)
    provider.up = False
    report = await (await begun(Operations(transport, TOPIC), workflows, Pace(ramp=True, brake=50))).go()
    assert len(report.results) == 1


async def test_another_console_pauses_resumes_and_aborts(transport: MemoryTransport, provider: Provider) -> None:
    workflows = await dead(transport, provider, 40)
    ann, bo = Operations(transport, TOPIC, operator="ann"), Operations(transport, TOPIC, operator="bo")
    done = 0

    def count(_: Any) -> None:
        nonlocal done
        done += 1

    running = await begun(ann, workflows, Pace(rate=10))
    going = asyncio.create_task(running.go(count))
    await until(_async(lambda: done >= 3), "some done")
    await bo.pause(running.status.operation_id)
    await until(_async(lambda: running.status.state == "paused"), "paused")
    stood = done
    await asyncio.sleep(0.1)
    assert done == stood
    assert await bo.resume(running.status.operation_id) is None, "ann goes on with it"
    await until(_async(lambda: done > stood), "going on")
    await bo.abort(running.status.operation_id)
    report = await going
    assert len(report.results) < 40
    (status,) = (await ann.runs()).values()
    assert (status.state, status.said) == ("aborted", "aborted by bo")
    with pytest.raises(Refused, match="is aborted"):
        await bo.resume(running.status.operation_id)


async def test_when_its_console_died_another_one_goes_on_and_nothing_is_done_twice(provider: Provider) -> None:
    clock = ManualClock()
    transport = MemoryTransport(broker=MemoryBroker(clock))
    workflows = [await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=TOPIC) for _ in range(20)]
    ann, bo = Operations(transport, TOPIC, operator="ann"), Operations(transport, TOPIC, operator="bo")
    plan = await ann.plan(Hold(), workflows, reason="stop")
    running = await ann.start(plan, Pace(rate=200))
    going = asyncio.create_task(running.go())
    await until(_async(lambda: running.status.done >= 5), "some done")
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    with pytest.raises(Refused, match="ann carries it out now"):
        await bo.resume(plan.operation_id)
    clock.advance(SILENCE + 1)
    other = await bo.resume(plan.operation_id)
    assert other is not None
    report = await other.go()
    assert report.count("done") == 20
    assert await states(transport, workflows) == {"held": 20}
    for workflow in workflows:
        history = await transport.history(TOPIC, workflow)
        assert sum(record.kind == Kind.OPERATED for record in history) == 1


async def test_who_comes_back_after_somebody_went_on_stops(transport: MemoryTransport, provider: Provider) -> None:
    workflows = await dead(transport, provider, 40)
    operations = Operations(transport, TOPIC)
    running = await begun(operations, workflows, Pace(rate=5))
    going = asyncio.create_task(running.go())
    await until(_async(lambda: running.status.done >= 2), "some done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
        other = await operations.resume(running.status.operation_id)
    assert other is not None
    report = await going
    assert len(report.results) < 40
    other.status.pace = Pace()
    assert (await other.go()).count("done") == 40
    assert len(set(provider.calls)) == len(provider.calls)


async def test_read_only_and_unknown_operations_are_refused() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    with pytest.raises(WorkflowNotFound, match="no operation"):
        await Operations(transport, TOPIC).abort("abc")
    closed = Operations(transport, TOPIC, read_only=True)
    for act in (closed.abort, closed.pause, closed.resume):
        with pytest.raises(Refused, match="read-only"):
            await act("abc")


async def test_no_name_at_all_is_not_the_beginning_of_the_only_operation(
    transport: MemoryTransport, provider: Provider
) -> None:
    operations = Operations(transport, TOPIC)
    await begun(operations, await dead(transport, provider, 1), Pace(delay=3600))
    for order in (operations.pause, operations.abort, operations.resume, operations.proposed):
        with pytest.raises(WorkflowNotFound, match="no operation ''"):
            await order("")
    with pytest.raises(WorkflowNotFound, match="no operation ''"):
        await operations.reject("", reason="x")
    (status,) = await operations.listed()
    assert status.state is OperationState.ARMED


def _async(check: Callable[[], Any]) -> Callable[[], Any]:
    async def looked() -> Any:
        return check()

    return looked


async def test_what_is_armed_does_nothing_before_its_time(transport: MemoryTransport, provider: Provider) -> None:
    workflows = await dead(transport, provider, 6)
    operations = Operations(transport, TOPIC, operator="ann")
    running = await begun(operations, workflows, Pace(delay=0.3))
    going = asyncio.create_task(running.go())

    async def armed() -> bool:
        (status,) = (await operations.runs()).values()
        return status.state is OperationState.ARMED and status.updated_at > status.at

    await until(armed, "it is armed, and somebody watches it")
    assert await states(transport, workflows) == {"dead": 6}
    assert (await going).count("done") == 6
    (status,) = (await operations.runs()).values()
    assert status.state is OperationState.FINISHED


async def test_what_is_armed_can_be_called_off(transport: MemoryTransport, provider: Provider) -> None:
    workflows = await dead(transport, provider, 6)
    operations, other = Operations(transport, TOPIC), Operations(transport, TOPIC, operator="bob")
    running = await begun(operations, workflows, Pace(delay=3600))
    going = asyncio.create_task(running.go())
    await other.abort(running.status.operation_id)
    report = await going
    assert report.results == ()
    assert await states(transport, workflows) == {"dead": 6}
    outcomes = [msgspec.json.decode(entry)["outcome"] for entry in await transport.audit(TOPIC)]
    assert outcomes == ["armed", "aborted", "0 done, 0 skipped, 0 failed, aborted by bob"]


async def test_an_armed_operation_keeps_its_time_when_its_console_dies(
    transport: MemoryTransport, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = await dead(transport, provider, 2)
    operations, other = Operations(transport, TOPIC), Operations(transport, TOPIC, operator="bob")
    first = await begun(operations, workflows, Pace(delay=3600))
    monkeypatch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
    again = await other.resume(first.status.operation_id)
    assert again is not None
    assert again.status.begins_at == pytest.approx(first.status.begins_at, abs=0.01)
    going = asyncio.create_task(again.go())
    await asyncio.sleep(0.1)
    assert await states(transport, workflows) == {"dead": 2}
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


async def test_what_was_not_eligible_when_it_was_confirmed_is_left_alone(
    transport: MemoryTransport, provider: Provider
) -> None:
    (failed,) = await dead(transport, provider, 1)
    over = await WorkflowDispatcher(transport).dispatch_workflow(["charge"], {}, topic=TOPIC)
    await until(_async(lambda: len(provider.calls) == 1), "it ran")
    operations = Operations(transport, TOPIC)

    async def is_over() -> bool:
        return await states(transport, [over]) == {"completed": 1}

    await until(is_over, "completed")
    plan = await operations.plan(Retry(), [failed, over], reason="the provider is back")
    assert plan.eligible == 1
    running = await operations.start(plan, Pace(rate=100))
    # Before its turn comes somebody makes it what a retry is for.
    copy = await operations.execute(await operations.plan(Replay(from_step=1), [over], reason="once more"))
    assert copy.count("done") == 1
    told: list[tuple[str, str]] = []
    report = await running.go(lambda result: told.append((result.correlation_id, result.outcome)))
    assert told == [(over, "skipped"), (failed, "done")]
    assert (report.matched, report.count("done"), report.count("skipped")) == (2, 1, 1)
    assert [record.kind for record in await transport.history(TOPIC, over)].count(Kind.OPERATED) == 1
    (status,) = (await operations.runs()).values()
    assert (status.targets, status.state) == ([failed], "finished")


async def test_a_copy_is_started_once_however_often_the_operation_is_gone_on_with(
    transport: MemoryTransport, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = await dead(transport, provider, 6)
    operations = Operations(transport, TOPIC)
    plan = await operations.plan(Replay(as_new=True), workflows, reason="once more")
    first = await operations.start(plan, Pace(rate=20))
    going = asyncio.create_task(first.go())
    await until(_async(lambda: first.status.done >= 3), "some done")
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    monkeypatch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
    second = await operations.resume(plan.operation_id)
    assert second is not None
    second.status.pace = Pace()
    assert (await second.go()).count("done") == 6

    async def all_called() -> bool:
        return len(provider.calls) == 6

    await until(all_called, "each copy ran")
    assert len(await transport.find(TOPIC, "", 100)) == 12, "six, and a copy of each"


async def test_what_was_done_is_on_record_when_the_rest_is_broken_off(
    transport: MemoryTransport, provider: Provider
) -> None:
    workflows = await dead(transport, provider, 3)
    operations = Operations(transport, TOPIC)

    def nobody_reads(_: Any) -> None:
        raise BrokenPipeError

    plan = await operations.plan(Cancel(), workflows, reason="no more")
    with pytest.raises(BrokenPipeError):
        await operations.execute(plan, progress=nobody_reads)
    (entry,) = await transport.audit(TOPIC)
    document = msgspec.json.decode(entry)
    assert (document["targets"], document["outcome"]) == (3, "1 done, 0 skipped, 0 failed, broken off")
    assert [item["correlation_id"] for item in document["workflows"]] == workflows[:1]


async def test_what_somebody_else_retried_meanwhile_is_not_run_a_second_time(
    transport: MemoryTransport, provider: Provider
) -> None:
    workflows = await dead(transport, provider, 2)
    operations, other = Operations(transport, TOPIC), Operations(transport, TOPIC, operator="bo")
    running = await begun(operations, workflows, Pace(rate=100))
    await other.pause_activity("charge", reason="so that it waits")
    first = await other.execute(await other.plan(Retry(), workflows[:1], reason="just this one"))
    assert first.count("done") == 1
    report = await running.go()
    assert [result.outcome for result in report.results] == ["failed", "done"]
    assert "bo" in report.results[0].reason
    await other.resume_activity("charge", reason="now")
    await until(_async(lambda: len(provider.calls) == 2), "each ran once")
