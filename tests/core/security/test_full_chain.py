"""A chain that is nearly full: nothing is run any more, and the workflow can be taken out of the way all the same."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core import ActivityContext, RetryPolicy, State, Worker, WorkflowDispatcher
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
    Insert,
    Operations,
    Release,
    Replay,
    Restore,
    Result,
    Retry,
    Skip,
)
from paigeant_core.routing import Step
from paigeant_core.security import intervention
from paigeant_core.security.account import account
from paigeant_core.security.chain import MAX_CHAIN, MAX_RUN
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.transition import Place
from tests.core.bench import Bench
from tests.core.security.kit import names, trusted

SHOP, CREW, ANN = (SigningKey.generate(name) for name in ("shop", "crew", "ann"))
FULL = "signed records, too many for another run: cancel, dead-letter or hold it, or start a copy of it"


def policy() -> Trust:
    return Trust(
        [
            trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
            trusted(CREW, Principal(name="crew", roles=names("worker"), activities=names("*"))),
            trusted(ANN, Principal(name="ann", roles=names("operator", "dispatcher"), operations=names("*"))),
        ]
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ann(bench: Bench) -> Operations:
    return Operations(bench.transport, bench.topic, signer=ANN, trust=policy())


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def crew(bench: Bench, gate: asyncio.Event) -> Worker:
    worker = bench.worker(signer=CREW, trust=policy())

    @worker.activity("charge")
    async def charge(ctx: ActivityContext) -> dict[str, str]:
        await gate.wait()
        return {"charged": ctx.idempotency_key}

    @worker.activity("fail", retry=RetryPolicy(max_attempts=1))
    async def fail(ctx: ActivityContext) -> None:
        raise RuntimeError("503")

    return worker


async def act(bus: Operations, action: Action, workflow: str) -> Result:
    (result,) = (await bus.execute(await bus.plan(action, [workflow], reason="because"))).results
    return result


async def retried_out(bench: Bench, ann: Operations, *steps: str) -> str:
    """A workflow that waits for its step, and was retried until that was refused."""
    dispatcher = WorkflowDispatcher(bench.transport, signer=SHOP)
    workflow = await dispatcher.dispatch_workflow(list(steps), {"amount": 5}, topic=bench.topic)
    while (result := await act(ann, Retry(), workflow)).outcome == "done":
        pass
    assert (result.outcome, result.reason.split(maxsplit=3)[2]) == ("skipped", str(MAX_RUN - 1))
    await stands(ann, workflow, State.QUEUED, MAX_RUN - 1)
    await refuses(ann, workflow, Retry(), Replay(), Skip(), Compensate(), Insert((Step("charge"),)))
    return workflow


async def stands(ann: Operations, workflow: str, state: str, records: int) -> None:
    """It is so, with so many records that workers take."""
    standing = await ann.standing(workflow)
    assert standing is not None
    assert (standing.state, len(standing.message().records)) == (state, records)
    assert standing.record.body is not None
    at = ann.transport.clock.now()
    assert account(standing.record.body, policy(), at, at).reason == ""


async def refuses(ann: Operations, workflow: str, *actions: Action) -> None:
    for action in actions:
        (line,) = (await ann.plan(action, [workflow], reason="because")).lines
        assert (line.eligible, FULL in line.why) == (False, True), f"{action.name}: {line.why}"


async def running(bench: Bench, ann: Operations, workflow: str) -> None:
    async def there() -> bool:
        standing = await ann.standing(workflow)
        return standing is not None and standing.state == State.RUNNING

    await bench.until(there, "running")


async def test_the_step_of_the_last_retry_is_signed(
    bench: Bench, ann: Operations, crew: Worker, gate: asyncio.Event
) -> None:
    gate.set()
    workflow = await retried_out(bench, ann, "charge")
    async with bench.serving(crew):
        await bench.reaches(workflow, State.COMPLETED)
    await stands(ann, workflow, State.COMPLETED, MAX_RUN)


async def test_what_failed_once_more_can_be_cancelled_or_copied(bench: Bench, ann: Operations, crew: Worker) -> None:
    workflow = await retried_out(bench, ann, "fail")
    async with bench.serving(crew):
        await bench.reaches(workflow, State.DEAD)
        await refuses(ann, workflow, Retry(), Restore(), Replay(from_step=1))
        copy = await act(ann, Replay(as_new=True), workflow)
        await bench.reaches(copy.new_correlation_id, State.DEAD)
    assert await bench.transport.parked(bench.topic, Place.QUARANTINE) == []
    assert (await act(ann, Cancel(), workflow)).outcome == "done"
    await stands(ann, workflow, State.CANCELLED, MAX_RUN)


async def test_there_is_room_for_all_that_takes_it_out_of_the_way(
    bench: Bench, ann: Operations, crew: Worker, gate: asyncio.Event
) -> None:
    workflow = await retried_out(bench, ann, "charge", "fail")
    async with bench.serving(crew):
        await running(bench, ann, workflow)
        await refuses(ann, workflow, Compensate(), Insert((Step("charge"),)))
        for wish in (Hold(), Release(), Hold()):
            # To take back what was asked is no record.
            assert (await act(ann, wish, workflow)).outcome == "done"
        gate.set()
        await bench.reaches(workflow, State.HELD)
    await stands(ann, workflow, State.HELD, MAX_RUN + 1)
    await refuses(ann, workflow, Release())
    for action, state in ((DeadLetter(), State.DEAD), (Cancel(), State.CANCELLED)):
        assert (await act(ann, action, workflow)).outcome == "done"
        await bench.reaches(workflow, state)
    await stands(ann, workflow, State.CANCELLED, MAX_CHAIN)


async def test_a_step_that_nobody_can_sign_any_more_is_a_dead_letter_that_can_be_cancelled(
    bench: Bench, ann: Operations, crew: Worker, gate: asyncio.Event
) -> None:
    workflow = await retried_out(bench, ann, "charge", "charge")
    gate.set()
    async with bench.serving(crew):
        record = await bench.reaches(workflow, State.DEAD)
    assert record.detail["reason"] == "cannot_sign"
    await stands(ann, workflow, State.DEAD, MAX_RUN)
    await refuses(ann, workflow, Retry(), Restore())
    assert (await act(ann, Cancel(), workflow)).outcome == "done"
    await stands(ann, workflow, State.CANCELLED, MAX_RUN + 1)


async def test_no_record_is_added_to_a_chain_that_is_full(
    bench: Bench, ann: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = WorkflowDispatcher(bench.transport, signer=SHOP)
    workflow = await dispatcher.dispatch_workflow(["charge"], {}, topic=bench.topic)
    monkeypatch.setattr(intervention, "MAX_CHAIN", 1)
    for action in (Hold(), Cancel(), DeadLetter()):
        result = await act(ann, action, workflow)
        assert (result.outcome, result.reason) == ("skipped", "it has 1 signed records, and a chain holds no more")
    await stands(ann, workflow, State.QUEUED, 1)
