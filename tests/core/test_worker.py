"""The worker on the in-memory broker: what a handler is, what it knows, and what becomes of its result.

Time is held by hand. Where a handler has to be in the middle of its work, it says so and waits to be let go on.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from paigeant_core.activity import ActivityContext
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import ConfigError, InvalidMessage
from paigeant_core.journal import State
from paigeant_core.limits import MAX_PAYLOAD
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec
from paigeant_core.transports.types import Holding
from paigeant_core.worker import Worker
from tests.core.bench import PATIENCE, Bench
from tests.core.handlers import Gate, run_one, step

# -- a hop ------------------------------------------------------------------------------


async def test_a_handler_knows_its_step(bench: Bench) -> None:
    worker = bench.worker(name="w")
    seen: list[ActivityContext] = []

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        seen.append(ctx)
        with pytest.raises(TypeError):
            ctx.payload["x"] = 2  # type: ignore[index]
        with pytest.raises(TypeError):
            ctx.arguments["n"] = 2  # type: ignore[index]
        return {"y": ctx.payload["x"] + 1, "arguments": ctx.arguments}

    workflow = await bench.dispatch(
        ActivitySpec(name="a", arguments={"n": 1}),
        variables={"x": 1},
        obo_token="token",
        name="onboarding",
        labels={"tier": "premium"},
        traceparent="00-1-2-01",
        correlation_id="c-1",
    )
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPLETED)
    (ctx,) = seen
    assert (ctx.activity, ctx.correlation_id, ctx.hop, ctx.run, ctx.attempt, ctx.epoch) == ("a", "c-1", 1, 1, 1, 1)
    assert (ctx.idempotency_key, ctx.arguments, ctx.obo_token) == ("c-1/1/1", {"n": 1}, "token")
    assert (ctx.name, ctx.labels, ctx.traceparent) == ("onboarding", {"tier": "premium"}, "00-1-2-01")
    assert ctx.worker == record.worker == worker.name
    assert record.message is not None
    assert record.message.payload == {"x": 1, "y": 2, "arguments": {"n": 1}}


async def test_steps_run_in_order_and_see_what_was_returned_before(bench: Bench) -> None:
    worker = bench.worker()
    for name in "abc":

        @worker.activity(name)
        async def handler(ctx: ActivityContext) -> dict[str, Any]:
            return {"path": [*ctx.payload["path"], (ctx.activity, ctx.hop)]}

    workflow = await bench.dispatch("a", "b", "a", "c", variables={"path": []})
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.message is not None
    assert record.message.payload == {"path": [["a", 1], ["b", 2], ["a", 3], ["c", 4]]}
    assert await bench.kinds(workflow) == ["dispatched", "advanced", "advanced", "advanced", "finished"]


async def test_the_journal_says_who_ran_a_step_and_from_when_to_when(bench: Bench) -> None:
    started = bench.clock.now()

    async def handler(ctx: ActivityContext) -> None:
        bench.clock.advance(90.0)

    workflow = await run_one(bench, handler)
    detail = (await bench.last(workflow)).detail
    assert detail["started_at"] == rfc3339(started)
    assert detail["completed_at"] == rfc3339(started + 90)
    assert detail["duration_s"] == 90.0


async def test_while_a_step_runs_the_worker_says_so(bench: Bench) -> None:
    worker, gate = bench.worker(), Gate()

    @worker.activity("a")
    async def handler(ctx: ActivityContext) -> None:
        await gate.wait()

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await gate.entered()
        (held,) = worker.running
        assert (held.correlation_id, held.activity, held.hop, held.attempt) == (workflow, "a", 1, 1)

        async def told(*running: Holding) -> bool:
            (status,) = await bench.transport.workers(bench.topic)
            return (status.info.worker, status.running) == (worker.name, running)

        await bench.until(lambda: told(held), "a report of what runs")
        gate.open()
        await bench.until(told, "a report that nothing runs")
        assert worker.running == []
        assert (await bench.last(workflow)).state == State.COMPLETED
    assert await bench.transport.workers(bench.topic) == []


# -- kinds of handlers ------------------------------------------------------------------


async def test_plain_functions_run_in_threads_beside_each_other(bench: Bench) -> None:
    worker = bench.worker(concurrency=2)
    both = threading.Barrier(2)  # neither passes until the other is there
    threads: set[int] = set()

    @worker.activity("a")
    def handler(ctx: ActivityContext) -> dict[str, Any]:
        both.wait(PATIENCE)
        threads.add(threading.get_ident())
        return {"hop": ctx.hop}

    workflows = [await bench.dispatch("a") for _ in range(2)]
    async with bench.serving(worker):
        for workflow in workflows:
            record = await bench.reaches(workflow, State.COMPLETED)
            assert record.message is not None
            assert record.message.payload == {"hop": 1}
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_a_thread_sees_the_context_of_its_step(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    seen: list[str] = []
    await run_one(bench, lambda ctx: seen.append(variable.get()))
    assert seen == ["set"]


class _Callable:
    async def __call__(self, ctx: ActivityContext) -> dict[str, Any]:
        return {"by": "object"}

    async def method(self, ctx: ActivityContext) -> dict[str, Any]:
        return {"by": "method"}

    def plain(self, by: str, ctx: ActivityContext) -> dict[str, Any]:
        return {"by": by}


@pytest.mark.parametrize(
    ("handler", "by"),
    [
        (_Callable(), "object"),
        (_Callable().method, "method"),
        (functools.partial(_Callable().plain, "partial"), "partial"),
        (lambda ctx: _Callable().method(ctx), "method"),
    ],
    ids=["object", "method", "partial", "lambda"],
)
async def test_whatever_can_be_called_can_be_a_handler(bench: Bench, handler: Any, by: str) -> None:
    record = await bench.last(await run_one(bench, handler))
    assert record.state == State.COMPLETED
    assert record.message is not None
    assert record.message.payload == {"by": by}


async def test_a_registered_handler_can_still_be_called(bench: Bench) -> None:
    worker = bench.worker()

    @worker.activity("a", timeout=3, scopes=["x:write"])
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        """What it does."""
        return {"activity": ctx.activity}

    message = new_workflow(["a"], {}, topic="t", at=0.0)
    context = ActivityContext(message, worker="w", now=0.0)
    result: Awaitable[Any] = handler(context)
    assert await result == {"activity": "a"}
    assert (handler.name, handler.timeout, handler.scopes, handler.__doc__) == ("a", 3, ("x:write",), "What it does.")


# -- what is returned -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (["a", 1], '["a",1]'),
        ("text", '"text"'),
        (0, "0"),
        ({"set": {1}}, '{"set":[1]}'),
        ({1: 2}, '{"1":2}'),
    ],
    ids=["list", "text", "zero", "set", "key"],
)
async def test_a_result_that_is_no_object_is_kept_and_not_tried_again(bench: Bench, result: Any, kept: str) -> None:
    calls: list[int] = []

    async def handler(ctx: ActivityContext) -> Any:
        calls.append(ctx.attempt)
        return result

    record = await bench.last(await run_one(bench, handler, retry=RetryPolicy(max_attempts=5)))
    assert calls == [1]
    assert record.state == State.DEAD
    assert (record.detail["reason"], record.detail["result"]) == ("result_invalid", kept)
    assert record.detail["error"]["type"] == "InvalidMessage"


async def test_a_payload_that_grew_too_large_is_kept_and_not_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    async def handler(ctx: ActivityContext) -> Any:
        calls.append(ctx.attempt)
        return {"text": "x" * MAX_PAYLOAD}

    record = await bench.last(await run_one(bench, handler, retry=RetryPolicy(max_attempts=5)))
    assert calls == [1]
    assert record.detail["reason"] == "result_invalid"
    assert record.detail["error"]["type"] == "MessageTooLarge"
    assert record.detail["result"] == '{"text":"' + "x" * MAX_PAYLOAD + '"}'


async def test_a_result_that_fights_back_does_not_leave_its_step_behind(bench: Bench) -> None:
    class Result(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("no")

    async def handler(ctx: ActivityContext) -> Any:
        return Result(a=1)

    record = await bench.last(await run_one(bench, handler))
    assert (record.state, record.detail["reason"]) == (State.DEAD, "internal_error")


# -- what can be registered -------------------------------------------------------------


def test_an_activity_is_registered_once() -> None:
    worker, other = Worker(), Worker()
    step(worker, "a")
    with pytest.raises(ConfigError, match="'a' is registered twice"):
        step(worker, "a")
    step(other, "b")
    worker.include(other)
    assert sorted(worker.activities) == ["a", "b"]
    with pytest.raises(ConfigError):
        worker.include(other)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": 1.5}, {"concurrency": True}, {"concurrency": 10_001}, {"lease": 0}],
    ids=repr,
)
def test_a_worker_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Worker(**options)


def test_an_activity_that_cannot_be_is_refused() -> None:
    worker = Worker()
    with pytest.raises(InvalidMessage):
        step(worker, "no name")
    with pytest.raises(ConfigError, match=r'write @worker\.activity\("name"\)$'):
        worker.activity(lambda ctx: None)  # type: ignore[arg-type]
    for timeout in (0, float("nan"), "30", True, [30]):
        with pytest.raises(ConfigError, match=r"^activity a: timeout is .*, it must be seconds above 0"):
            step(worker, "a", timeout=timeout)
    for retry in (5, 0, {}, {"max_attempts": 5}, RetryPolicy):
        with pytest.raises(ConfigError, match=r"^activity a: retry is .*; write retry=RetryPolicy\(max_attempts=5\)$"):
            step(worker, "a", retry=retry)
    with pytest.raises(ConfigError, match="cannot be called"):
        worker.activity("a")(None)  # type: ignore[arg-type]
    assert worker.activities == {}


@pytest.mark.parametrize("scopes", ["payments:write", None, 1, [1], ["two words"], [""]], ids=repr)
def test_scopes_that_are_no_list_of_permissions_are_refused(scopes: Any) -> None:
    worker = Worker()
    with pytest.raises(ConfigError, match=r"^activity a: scopes are .* must be a list"):
        step(worker, "a", scopes=scopes)
    assert worker.activities == {}


def test_two_workers_of_one_name_are_told_apart() -> None:
    one, other = Worker(name="w"), Worker(name="w")
    assert one.name != other.name
    assert one.name.startswith("w-")
