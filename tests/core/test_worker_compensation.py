"""The worker: a failure undoes what was done, last first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from paigeant_core.activity import ActivityContext, Handler
from paigeant_core.journal import Kind, State
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec
from paigeant_core.transition import Place
from paigeant_core.worker import Worker
from tests.core.bench import Bench
from tests.core.handlers import ONCE, _raise, step


def register_undoable(worker: Worker, names: str, ledger: list[Any], *, failing: str = "") -> None:
    """Activities that write down what they do and undo; one of the compensators may fail."""
    for name in names:

        @worker.activity(name, retry=ONCE)
        async def handler(ctx: ActivityContext) -> dict[str, Any]:
            ledger.append(("do", ctx.activity, ctx.idempotency_key))
            return {ctx.activity: ctx.hop}

        @handler.compensate
        async def undo(ctx: ActivityContext) -> None:
            ledger.append(("undo", ctx.activity, ctx.idempotency_key))
            if ctx.activity == failing:
                raise ConnectionError("the bank is closed")


async def test_a_failure_undoes_the_executed_steps_last_first(bench: Bench) -> None:
    worker = bench.worker()
    ledger: list[Any] = []
    register_undoable(worker, "ab", ledger)
    step(worker, "plain")
    payloads: list[dict[str, Any]] = []

    @worker.activity("failing", retry=ONCE)
    async def failing(ctx: ActivityContext) -> None:
        payloads.append(dict(ctx.payload))
        raise ValueError("no")

    @failing.compensate
    async def never(ctx: ActivityContext) -> None:
        ledger.append("a step that failed has nothing to undo")

    workflow = await bench.dispatch(
        "a", "plain", "b", "failing", "a", variables={"x": 1}, on_failure="compensate", correlation_id="c-1"
    )
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPENSATED)
    assert ledger == [
        ("do", "a", "c-1/1/1"),
        ("do", "b", "c-1/1/3"),
        ("undo", "b", "c-1/1/3/undo"),
        ("undo", "a", "c-1/1/1/undo"),
    ]
    history = await bench.history(workflow)
    assert [record.kind for record in history[4:]] == [
        Kind.FAILED,
        Kind.COMPENSATING,
        Kind.COMPENSATING,
        Kind.COMPENSATING,
        Kind.COMPENSATED,
    ]
    assert history[4].detail["error"] == {"type": "ValueError", "message": "no"}
    undone = [(item.detail["step"], item.detail["undo"]) for item in history[6:]]
    assert undone == [("b", "done"), ("plain", "no compensator"), ("a", "done")]
    # A compensated workflow is no dead letter.
    assert await bench.transport.parked(bench.topic, Place.DEAD) == []
    assert record.message is not None
    assert record.message.payload == {"x": 1, "a": 1, "b": 3}


async def test_a_compensator_sees_the_latest_payload(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[dict[str, Any]] = []

    @worker.activity("a")
    async def first(ctx: ActivityContext) -> dict[str, Any]:
        return {"payment_id": "p-1"}

    @first.compensate
    def refund(ctx: ActivityContext) -> dict[str, Any]:
        seen.append({**ctx.payload, "arguments": dict(ctx.arguments)})
        return {"ignored": True}

    worker.activity("b", retry=ONCE)(_raise(ValueError("no")))
    workflow = await bench.dispatch(ActivitySpec(name="a", arguments={"n": 1}), "b", on_failure="compensate")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPENSATED)
    assert seen == [{"payment_id": "p-1", "arguments": {}}]
    assert record.message is not None
    assert record.message.payload == {"payment_id": "p-1"}


async def test_a_failing_compensator_parks_the_chain_at_that_entry(bench: Bench) -> None:
    worker = bench.worker()
    ledger: list[Any] = []
    register_undoable(worker, "abc", ledger, failing="b")
    worker.activity("d", retry=ONCE)(_raise(ValueError("no")))
    workflow = await bench.dispatch("a", "b", "c", "d", on_failure="compensate", correlation_id="c-1")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPENSATION_FAILED)
    assert [entry[:2] for entry in ledger if entry[0] == "undo"] == [("undo", "c"), ("undo", "b")]
    assert record.kind == Kind.COMPENSATION_FAILED
    assert record.detail["error"] == {"type": "ConnectionError", "message": "the bank is closed"}
    assert record.message is not None
    assert (record.message.routing_slip.undoing, record.headers.activity, record.headers.hop) == (2, "b", 2)
    (parked,) = await bench.transport.parked(bench.topic, Place.DEAD)
    assert parked.id == record.id


def _holds(ctx: ActivityContext) -> None:
    ctx.hold("refund it by hand first")


async def _inserts(ctx: ActivityContext) -> None:
    ctx.insert_next("b")


def _finishes(ctx: ActivityContext) -> None:
    ctx.finish()


def _yields(ctx: ActivityContext) -> Iterator[None]:
    yield


async def _yields_as_a_coroutine(ctx: ActivityContext) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("undo", "reason", "message"),
    [
        (_holds, "not_retryable", "a compensator cannot hold its workflow"),
        (_inserts, "not_retryable", "a compensator cannot insert steps"),
        (_finishes, "not_retryable", "a compensator cannot finish its workflow"),
        (_yields, "result_invalid", "the compensator is a generator"),
        (_yields_as_a_coroutine, "result_invalid", "the compensator is a generator"),
    ],
)
async def test_what_a_compensator_cannot_do_does_not_count_as_undone(
    bench: Bench, undo: Handler, reason: str, message: str
) -> None:
    worker = bench.worker()
    worker.activity("a")(lambda ctx: None).compensate(undo)
    worker.activity("b", retry=ONCE)(_raise(ValueError("no")))
    workflow = await bench.dispatch("a", "b", on_failure="compensate")

    async def rests() -> bool:
        return (await bench.last(workflow)).state in (State.COMPENSATED, State.COMPENSATION_FAILED)

    async with bench.serving(worker):
        await bench.until(rests, "an end of its compensation")
    record = await bench.last(workflow)
    assert (record.state, record.detail["reason"]) == (State.COMPENSATION_FAILED, reason)
    assert message in record.detail["error"]["message"]


async def test_a_compensator_is_tried_again_as_its_activity_is(bench: Bench) -> None:
    worker = bench.worker()
    tries: list[tuple[int, str]] = []

    @worker.activity("a", retry=RetryPolicy(max_attempts=2, initial=5, jitter=0))
    async def first(ctx: ActivityContext) -> None: ...

    @first.compensate
    async def undo(ctx: ActivityContext) -> None:
        tries.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 1:
            raise ConnectionError

    worker.activity("b", retry=ONCE)(_raise(ValueError("no")))
    workflow = await bench.dispatch("a", "b", on_failure="compensate", correlation_id="c-1")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(5)
        await bench.reaches(workflow, State.COMPENSATED)
    assert tries == [(1, "c-1/1/1/undo"), (2, "c-1/1/1/undo")]


async def test_without_asking_a_failure_undoes_nothing(bench: Bench) -> None:
    worker = bench.worker()
    ledger: list[Any] = []
    register_undoable(worker, "a", ledger)
    worker.activity("b", retry=ONCE)(_raise(ValueError("no")))
    workflow = await bench.dispatch("a", "b", correlation_id="c-1")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.DEAD)
    assert ledger == [("do", "a", "c-1/1/1")]
