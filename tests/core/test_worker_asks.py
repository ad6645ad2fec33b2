"""The worker: what a handler may ask for: more steps, the end, a hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from paigeant_core.activity import ActivityContext
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import HandlerError, InvalidMessage
from paigeant_core.journal import State
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec
from tests.core.bench import Bench
from tests.core.handlers import run_one, step


async def test_inserted_steps_come_next(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[Any] = []

    @worker.activity("a")
    async def first(ctx: ActivityContext) -> None:
        ctx.insert_next("x", ActivitySpec(name="y", arguments={"n": 1}))
        ctx.insert_next({"name": "z"})

    @worker.activity("y")
    async def with_arguments(ctx: ActivityContext) -> None:
        seen.append(dict(ctx.arguments))

    for name in "xzb":
        step(worker, name, seen=seen)
    workflow = await bench.dispatch("a", "b")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)
    assert seen == ["x", {"n": 1}, "z", "b"]
    advanced = (await bench.history(workflow))[1]
    assert advanced.detail["inserted"] == ["x", "y", "z"]


async def test_a_failed_attempt_inserts_nothing(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[Any] = []

    @worker.activity("a", retry=RetryPolicy(initial=1, jitter=0))
    async def first(ctx: ActivityContext) -> None:
        ctx.insert_next("x")
        if ctx.attempt == 1:
            raise ValueError

    step(worker, "x", seen=seen)
    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(1)
        await bench.reaches(workflow, State.COMPLETED)
    assert seen == ["x"]


async def test_too_many_inserted_steps_are_result_invalid(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        ctx.insert_next(*["x"] * 100)

    record = await bench.last(await run_one(bench, handler))
    assert record.detail["reason"] == "result_invalid"


async def test_what_is_no_step_is_refused_in_the_handler(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        with pytest.raises(InvalidMessage):
            ctx.insert_next("no name")
        with pytest.raises(InvalidMessage):
            ctx.insert_next(ActivitySpec(name="x", arguments={"n": {1}}))

    assert (await bench.last(await run_one(bench, handler))).state == State.COMPLETED


async def test_finish_leaves_the_rest_out_on_record(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[Any] = []

    @worker.activity("a")
    async def first(ctx: ActivityContext) -> dict[str, Any]:
        ctx.finish()
        return {"enough": True}

    for name in "bc":
        step(worker, name, seen=seen)
    workflow = await bench.dispatch("a", "b", "c")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPLETED)
    assert seen == []
    assert record.detail["discarded"] == ["b", "c"]
    assert record.message is not None
    assert record.message.payload == {"enough": True}
    assert [str(entry) for entry in record.message.routing_slip.executed] == ["a"]


@pytest.mark.parametrize(("on_deadline", "state"), [("release", State.COMPLETED), ("dead_letter", State.DEAD)])
async def test_a_held_workflow_waits_for_its_deadline(bench: Bench, on_deadline: Any, state: str) -> None:
    worker = bench.worker()
    seen: list[Any] = []
    began = bench.clock.now()

    @worker.activity("a")
    async def first(ctx: ActivityContext) -> dict[str, Any]:
        ctx.hold("needs a signature", until=began + 60, on_deadline=on_deadline)
        # The deadline is a time, so a slow handler does not move it.
        bench.clock.advance(20)
        return {"asked": True}

    step(worker, "b", seen=seen)
    workflow = await bench.dispatch("a", "b")
    async with bench.serving(worker):
        held = await bench.reaches(workflow, State.HELD)
        assert held.detail["reason"] == "needs a signature"
        assert held.detail["until"] == rfc3339(began + 60)
        assert held.message is not None
        assert held.message.payload == {"asked": True}
        assert held.headers.activity == "b"
        bench.clock.advance(39.9)
        assert (await bench.last(workflow)).state == State.HELD
        bench.clock.advance(0.1)
        record = await bench.reaches(workflow, state)
    assert seen == (["b"] if on_deadline == "release" else [])
    if on_deadline == "dead_letter":
        assert record.detail["reason"] == "hold_deadline"


async def test_a_deadline_that_passed_while_the_handler_ran_is_due_at_once(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        ctx.hold("wait", until=bench.clock.now() + 5, on_deadline="release")
        bench.clock.advance(60)

    worker = bench.worker()
    worker.activity("a")(handler)
    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)
    assert await bench.kinds(workflow) == ["dispatched", "held", "finished"]


async def test_a_hold_without_a_deadline_stays(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        ctx.hold("reason \ud800 of any kind")

    workflow = await run_one(bench, handler)
    bench.clock.advance(365 * 86400)
    record = await bench.last(workflow)
    assert record.state == State.HELD
    assert record.detail["reason"] == "reason \\ud800 of any kind"
    assert "until" not in record.detail


def test_a_deadline_may_be_a_datetime() -> None:
    message = new_workflow(["a"], {}, topic="t", at=0.0)
    context = ActivityContext(message, worker="w", now=1000.0)
    context.hold("r", until=datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=1))))
    assert context.outcome.until == 2600


@pytest.mark.parametrize(
    "arguments",
    [
        {"reason": ""},
        {"reason": "  "},
        {"reason": None},
        {"reason": "r", "until": 5.0},
        {"reason": "r", "until": float("nan")},
        {"reason": "r", "until": float("inf")},
        {"reason": "r", "until": 1e300},
        {"reason": "r", "until": "2030-01-01T00:00:00Z"},
        {"reason": "r", "until": timedelta(hours=1)},
        {"reason": "r", "until": datetime(2001, 1, 1)},  # noqa: DTZ001 - of no time zone
        {"reason": "r", "until": datetime(1970, 1, 1, tzinfo=UTC)},
        {"reason": "r", "on_deadline": "explode"},
    ],
    ids=lambda arguments: repr(arguments)[:60],
)
def test_a_hold_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    message = new_workflow(["a"], {}, topic="t", at=0.0)
    context = ActivityContext(message, worker="w", now=1000.0)
    with pytest.raises(HandlerError, match="hold: "):
        context.hold(**arguments)
    assert context.outcome.hold is None
