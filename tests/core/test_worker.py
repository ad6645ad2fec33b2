"""The worker on the in-memory broker: what it runs, when, and what becomes of it.

Time is held by hand. Where a handler has to be in the middle of its work, it says so and waits to be let go on.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.activity import Activity, ActivityContext
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow
from paigeant_core.errors import ConfigError, HandlerError, InvalidMessage, NonRetryable, RetryAfter
from paigeant_core.journal import Kind, State
from paigeant_core.limits import MAX_PAYLOAD, POISON_DEATHS
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec
from paigeant_core.transition import Place, Span
from paigeant_core.transports.memory.transport import MemoryConsumer, MemoryTransport
from paigeant_core.transports.types import Holding
from paigeant_core.worker import Worker, decide
from tests.core.bench import PATIENCE, Bench, stopped

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Gate:
    """Holds handlers in the middle of their work until the test lets them go on."""

    def __init__(self) -> None:
        self.inside = 0
        self.peak = 0
        self._entered = asyncio.Condition()
        self._open = asyncio.Event()

    async def wait(self) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        async with self._entered:
            self._entered.notify_all()
        try:
            await self._open.wait()
        finally:
            self.inside -= 1

    async def entered(self, number: int = 1) -> None:
        async with asyncio.timeout(PATIENCE), self._entered:
            await self._entered.wait_for(lambda: self.inside >= number)

    def open(self) -> None:
        self._open.set()


def step(worker: Worker, name: str, *, seen: list[Any] | None = None, **options: Any) -> None:
    """An activity that writes its name down and returns nothing."""

    @worker.activity(name, **options)
    async def handler(ctx: ActivityContext) -> None:
        if seen is not None:
            seen.append(name)


async def run_one(bench: Bench, handler: Callable[[ActivityContext], Any], **options: Any) -> str:
    """Run one workflow of one step through `handler`, to wherever it leads."""
    worker = bench.worker()
    worker.activity("a", **{"retry": ONCE, **options})(handler)
    workflow = await bench.dispatch("a")
    async with bench.serving(worker):

        async def settled() -> bool:
            return (await bench.last(workflow)).state != State.QUEUED

        await bench.until(settled, "a settle")
    return workflow


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


# -- failures ---------------------------------------------------------------------------


async def test_a_failing_step_is_retried_with_growing_delays_then_dead_lettered(bench: Bench) -> None:
    worker = bench.worker()
    tries: list[tuple[int, float, str]] = []
    began = bench.clock.now()

    @worker.activity("a", retry=RetryPolicy(max_attempts=3, initial=10, factor=3, jitter=0))
    async def handler(ctx: ActivityContext) -> None:
        tries.append((ctx.attempt, bench.clock.now() - began, ctx.idempotency_key))
        raise ConnectionError(f"attempt {ctx.attempt}")

    workflow = await bench.dispatch("a", "b", correlation_id="c-1")
    async with bench.serving(worker):
        for attempt, delay in ((2, 10.0), (3, 30.0)):
            record = await bench.reaches(workflow, State.RETRYING, attempt=attempt)
            assert record.detail["delay_s"] == delay
            assert record.detail["error"] == {"type": "ConnectionError", "message": f"attempt {attempt - 1}"}
            bench.clock.advance(delay - 0.1)
            assert ((await bench.queue("a")).ready, (await bench.queue("a")).delayed) == (0, 1)
            bench.clock.advance(0.1)
        dead = await bench.reaches(workflow, State.DEAD)
    assert tries == [(1, 0.0, "c-1/1/1"), (2, 10.0, "c-1/1/1"), (3, 40.0, "c-1/1/1")]
    assert dead.detail["reason"] == "attempts_exhausted"
    assert dead.detail["error"] == {"type": "ConnectionError", "message": "attempt 3"}
    assert await bench.kinds(workflow) == ["dispatched", "retrying", "retrying", "dead_lettered"]
    (parked,) = await bench.transport.parked(bench.topic, Place.DEAD)
    assert parked.message is not None
    assert parked.message.routing_slip.names() == ("a", "b")


async def test_a_step_that_gets_through_later_goes_on(bench: Bench) -> None:
    worker = bench.worker()

    @worker.activity("a", retry=RetryPolicy(initial=5, jitter=0))
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        if ctx.attempt == 1:
            raise ValueError
        return {"attempt": ctx.attempt}

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(5)
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.message is not None
    assert record.message.payload == {"attempt": 2}
    assert record.message.routing_slip.executed[0].attempt == 2


async def test_a_step_that_takes_too_long_fails_with_timeout(bench: Bench) -> None:
    cancelled: list[bool] = []

    async def handler(ctx: ActivityContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    record = await bench.last(await run_one(bench, handler, timeout=0.01))
    assert record.state == State.DEAD
    assert record.detail["error"] == {"type": "TimeoutError", "message": "took longer than 0.01 s"}
    assert cancelled == [True]


async def test_the_steps_own_timeout_goes_before_the_activitys(bench: Bench) -> None:
    worker = bench.worker()

    @worker.activity("a", retry=ONCE, timeout=3600)
    async def handler(ctx: ActivityContext) -> None:
        await asyncio.Event().wait()

    workflow = await bench.dispatch(ActivitySpec(name="a", timeout=0.01))
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.DEAD)
    assert record.detail["error"]["type"] == "TimeoutError"


async def test_a_timeout_within_a_handler_is_the_handlers_own(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        raise TimeoutError("the provider took too long")

    record = await bench.last(await run_one(bench, handler, timeout=3600))
    assert record.detail["error"] == {"type": "TimeoutError", "message": "the provider took too long"}


async def test_non_retryable_is_dead_at_once(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        raise NonRetryable("the card is stolen")

    workflow = await run_one(bench, handler, retry=RetryPolicy(max_attempts=10))
    record = await bench.last(workflow)
    assert await bench.kinds(workflow) == ["dispatched", "dead_lettered"]
    assert (record.state, record.detail["reason"]) == (State.DEAD, "not_retryable")
    assert record.detail["error"] == {"type": "NonRetryable", "message": "the card is stolen"}


async def test_retry_after_says_when(bench: Bench) -> None:
    worker = bench.worker()

    @worker.activity("a", retry=RetryPolicy(initial=1, cap=1))
    async def handler(ctx: ActivityContext) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(600, "the provider asked for ten minutes")

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.RETRYING)
        assert record.detail["delay_s"] == 600
        assert record.detail["error"]["message"] == "the provider asked for ten minutes"
        bench.clock.advance(599)
        assert (await bench.queue("a")).delayed == 1
        bench.clock.advance(1)
        await bench.reaches(workflow, State.COMPLETED)


class _Fatal(BaseException):
    pass


def _raise(error: BaseException) -> Callable[[ActivityContext], Any]:
    async def handler(ctx: ActivityContext) -> None:
        raise error

    return handler


def _raise_in_thread(error: BaseException) -> Callable[[ActivityContext], Any]:
    def handler(ctx: ActivityContext) -> None:
        raise error

    return handler


@pytest.mark.parametrize("how", [_raise, _raise_in_thread], ids=["async", "thread"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(3), "the handler raised SystemExit"),
        (KeyboardInterrupt(), "the handler raised KeyboardInterrupt"),
        (_Fatal(), "the handler raised _Fatal"),
        (asyncio.CancelledError(), "the handler cancelled itself"),
        (StopIteration(), "StopIteration"),  # of a coroutine Python itself makes a RuntimeError
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_nothing_that_a_handler_raises_ends_its_worker(
    bench: Bench, how: Callable[[BaseException], Any], error: BaseException, message: str
) -> None:
    worker = bench.worker()
    worker.activity("a", retry=ONCE)(how(error))
    step(worker, "b")
    broken, after = await bench.dispatch("a"), await bench.dispatch("b")
    async with bench.serving(worker):
        record = await bench.reaches(broken, State.DEAD)
        await bench.reaches(after, State.COMPLETED)
    assert record.detail["error"]["type"] == "RuntimeError"
    assert message in record.detail["error"]["message"]


async def test_a_step_in_which_workers_keep_dying_is_poison(bench: Bench) -> None:
    worker = bench.worker()
    seen: list[str] = []
    step(worker, "a", seen=seen)
    workflow = await bench.dispatch("a")
    with bench.broker.topic(bench.topic) as topic:
        topic.work["a"][0].deaths = POISON_DEATHS
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.DEAD)
    assert seen == []
    assert record.detail["reason"] == "poison"
    assert record.detail["error"]["type"] == "Poison"


async def test_what_nobody_can_read_does_not_stop_a_worker(bench: Bench) -> None:
    worker = bench.worker()
    step(worker, "a")
    newer = new_workflow(["a"], {}, topic=bench.topic, at=0.0).encode().replace(b'"1"', b'"9"', 1)
    stray = newer.replace(b'"activity":"a"', b'"activity":""')
    elsewhere = new_workflow(["a"], {}, topic="elsewhere", at=0.0).encode()
    bad = [b"nonsense", stray, elsewhere]
    with bench.broker.topic(bench.topic) as topic:
        for body in (*bad, newer):
            topic.put("a", body)
    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)
    parked = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    assert sorted(record.body or b"" for record in parked) == sorted(bad)
    # A worker of that version may come: it waits, and is not thrown away.
    assert (await bench.queue("a")).delayed == 1


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


# -- what a handler may ask for ---------------------------------------------------------


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


# -- concurrency, start and stop --------------------------------------------------------


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
    with pytest.raises(ConfigError, match="timeout"):
        step(worker, "a", timeout=0)
    with pytest.raises(ConfigError, match="cannot be called"):
        worker.activity("a")(None)  # type: ignore[arg-type]
    assert worker.activities == {}


def test_two_workers_of_one_name_are_told_apart() -> None:
    one, other = Worker(name="w"), Worker(name="w")
    assert one.name != other.name
    assert one.name.startswith("w-")


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


# -- compensation -----------------------------------------------------------------------


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


# -- the decision, by itself ------------------------------------------------------------


def decided(
    policy: RetryPolicy, error: Exception, *, retry: Any = None, attempt: int = 1
) -> tuple[Place, float, dict[str, Any]]:
    message = new_workflow([ActivitySpec(name="a", retry=retry)], {}, topic="t", at=0.0)
    message = message.replaced(message.routing_slip, timestamp=rfc3339(0.0), attempt=attempt)
    activity = Activity("a", lambda ctx: None, retry=policy, timeout=None, scopes=())
    context = ActivityContext(message, worker="w", now=0.0)
    span = Span(worker="w", started_at=0.0, completed_at=1.0)
    made = decide(activity, message, context, None, error, span, message.encode())
    return made.place, made.delay, made.record.detail


def test_a_step_changes_single_settings_of_its_activitys_policy() -> None:
    policy = RetryPolicy(max_attempts=2, initial=7, jitter=0)
    assert decided(policy, ValueError())[:2] == (Place.DELAYED, 7)
    assert decided(policy, ValueError(), attempt=2)[0] is Place.DEAD
    assert decided(policy, ValueError(), retry={"max_attempts": 3}, attempt=2)[:2] == (Place.DELAYED, 14)
    assert decided(policy, ValueError(), retry={"initial": 3})[:2] == (Place.DELAYED, 3)


def test_a_steps_whole_policy_stands_in_place_of_its_activitys() -> None:
    policy = RetryPolicy(max_attempts=1, initial=7, jitter=0)
    assert decided(policy, ValueError(), retry=RetryPolicy(jitter=0))[:2] == (Place.DELAYED, 1)


def test_which_exceptions_count_stays_with_the_code() -> None:
    policy = RetryPolicy(retry_on=(OSError,), never_on=(FileNotFoundError,), jitter=0)
    retry = {"max_attempts": 5}
    assert decided(policy, OSError(), retry=retry)[0] is Place.DELAYED
    assert decided(policy, FileNotFoundError(), retry=retry)[2]["reason"] == "not_retryable"
    assert decided(policy, ValueError(), retry=retry)[2]["reason"] == "not_retryable"
    assert decided(policy, OSError(), retry=retry, attempt=5)[2]["reason"] == "attempts_exhausted"


def test_deciding_changes_nothing_it_was_given() -> None:
    message = new_workflow(["a", "b"], {"x": 1}, topic="t", at=0.0)
    before = message.encode()
    activity = Activity("a", lambda ctx: None, retry=ONCE, timeout=None, scopes=())
    context = ActivityContext(message, worker="w", now=0.0)
    context.hold("wait", until=100.0)
    span = Span(worker="w", started_at=0.0, completed_at=40.0)
    for _ in range(2):
        made = decide(activity, message, context, {"x": 2}, None, span, before)
        assert made.deadline is not None
        assert made.deadline.delay == 60.0
    assert message.encode() == before
    assert moves.dispatch(message, 0.0).record.body == before
