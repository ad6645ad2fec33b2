"""The worker: steps that fail, take too long, kill or cannot be read; and the decision, by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.activity import Activity, ActivityContext
from paigeant_core.clock import rfc3339
from paigeant_core.decision import decide
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import NonRetryable, PayloadInvalid, RetryAfter, TokenExpired, TokenSealed
from paigeant_core.journal import State
from paigeant_core.limits import POISON_DEATHS
from paigeant_core.permission import NotPermitted
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec
from paigeant_core.transition import Place, Span
from tests.core.bench import PATIENCE, Bench
from tests.core.handlers import ONCE, _raise, run_one, step

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


@pytest.mark.parametrize("raised", [ValueError("no funds"), SystemExit(3)], ids=repr)
async def test_where_a_handler_failed_is_logged_for_debugging(
    bench: Bench, caplog: pytest.LogCaptureFixture, raised: BaseException
) -> None:
    async def the_one_to_blame(ctx: ActivityContext) -> None:
        raise raised

    caplog.set_level("DEBUG", logger="paigeant")
    workflow = await run_one(bench, the_one_to_blame)
    (record,) = [record for record in caplog.records if record.getMessage().startswith(f"{workflow}: step a failed\n")]
    assert record.levelname == "DEBUG"
    assert "in the_one_to_blame" in record.getMessage()
    assert "raise raised" in record.getMessage()
    # Whoever keeps a log formats what it is given: an exception itself would tell whatever it quotes.
    assert record.exc_info is None


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


async def test_steps_are_run_though_a_thread_before_them_outlived_its_timeout(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    worker = bench.worker(concurrency=1)
    leave = threading.Event()

    @worker.activity("hangs", retry=ONCE, timeout=0.01)
    def hangs(ctx: ActivityContext) -> None:
        leave.wait()

    worker.activity("quick")(lambda ctx: None)
    try:
        async with bench.serving(worker):
            await bench.reaches(await bench.dispatch("hangs"), State.DEAD)
            for _ in range(2):
                await bench.reaches(await bench.dispatch("quick"), State.COMPLETED)
            assert [line.getMessage().partition(":")[0] for line in caplog.records] == ["2 threads for 1 slots"]
    finally:
        leave.set()


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


def _raise_in_thread(error: BaseException) -> Callable[[ActivityContext], Any]:
    def handler(ctx: ActivityContext) -> None:
        raise error

    return handler


def _own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.parametrize("timeout", [None, 3600.0], ids=["no timeout", "a timeout"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_handler_that_cancels_its_own_task_has_failed(bench: Bench, times: int, timeout: float | None) -> None:
    keys: list[str] = []

    async def watched(ctx: ActivityContext) -> None:
        keys.append(ctx.idempotency_key)
        for _ in range(times):
            # As a watchdog does that finds the lock lost.
            asyncio.get_running_loop().call_soon(_own_task().cancel)
        await asyncio.Event().wait()

    workflow = await run_one(bench, watched, timeout=timeout)
    assert await bench.kinds(workflow) == ["dispatched", "dead_lettered"]
    record = await bench.last(workflow)
    assert record.detail["reason"] == "attempts_exhausted"
    assert record.detail["error"] == {"type": "RuntimeError", "message": "the handler cancelled itself"}
    assert keys == [f"{workflow}/1/1"]


@pytest.mark.parametrize(
    ("error", "state"), [(None, State.COMPLETED), (ValueError("no funds"), State.DEAD)], ids=["returns", "raises"]
)
async def test_what_a_handler_gives_counts_though_it_asked_for_its_end(
    bench: Bench, error: Exception | None, state: State
) -> None:
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        _own_task().cancel()
        if error is not None:
            raise error
        return {"charged": True}

    record = await bench.last(await run_one(bench, handler))
    assert record.state == state
    assert record.message is not None
    assert record.message.payload == ({} if error else {"charged": True})


async def test_a_handler_that_cancels_its_own_task_while_its_worker_drains_has_failed(bench: Bench) -> None:
    worker, entered = bench.worker(), asyncio.Event()
    begun: list[asyncio.Task[Any]] = []

    @worker.activity("a", retry=ONCE)
    async def watched(ctx: ActivityContext) -> None:
        begun.append(_own_task())
        entered.set()
        await asyncio.Event().wait()

    workflow = await bench.dispatch("a")
    task = asyncio.create_task(worker.run())
    await asyncio.wait_for(entered.wait(), PATIENCE)
    worker.stop()
    begun[0].cancel()
    await asyncio.wait_for(task, PATIENCE)
    assert await bench.kinds(workflow) == ["dispatched", "dead_lettered"]


async def test_a_step_that_is_handed_back_though_its_handler_cancelled_it_as_well_is_no_attempt(bench: Bench) -> None:
    worker, entered = bench.worker(drain=0.01), asyncio.Event()

    @worker.activity("a", retry=ONCE)
    async def handler(ctx: ActivityContext) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            _own_task().cancel()
            await asyncio.Event().wait()

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await asyncio.wait_for(entered.wait(), PATIENCE)
    assert await bench.kinds(workflow) == ["dispatched"]
    assert (await bench.queue("a")).ready == 1


def test_the_end_of_the_loop_is_no_attempt() -> None:
    bench = Bench()
    worker = bench.worker()

    async def ends_early() -> str:
        entered = asyncio.Event()

        @worker.activity("a", retry=ONCE)
        async def handler(ctx: ActivityContext) -> None:
            entered.set()
            await asyncio.Event().wait()

        workflow = await bench.dispatch("a")
        tasks.append(asyncio.create_task(worker.run()))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        return workflow  # whoever began the worker leaves it to asyncio.run to end it

    tasks: list[asyncio.Task[None]] = []
    workflow = asyncio.run(ends_early())
    assert asyncio.run(bench.kinds(workflow)) == ["dispatched"]


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


async def test_a_step_that_is_taken_over_says_how_many_died_with_it(bench: Bench) -> None:
    worker = bench.worker()
    step(worker, "a")
    workflow = await bench.dispatch("a")
    with bench.broker.topic(bench.topic) as topic:
        topic.work["a"][0].deaths = 2
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.detail["deaths"] == 2


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


@pytest.mark.parametrize(
    ("errors", "place", "reason"),
    [
        ([TokenExpired("over"), ConnectionError()], Place.HELD, "token_expired"),
        ([ConnectionError(), TokenSealed("no key")], Place.HELD, "token_sealed"),
        ([PayloadInvalid("no amount"), TokenExpired("over")], Place.DEAD, "payload_invalid"),
        ([TokenExpired("over"), NonRetryable("stolen")], Place.DEAD, "not_retryable"),
        ([ConnectionError(), NotPermitted("no scope")], Place.DEAD, "not_permitted"),
        ([ConnectionError(), RetryAfter(5)], Place.DELAYED, None),
    ],
    ids=lambda value: "+".join(type(error).__name__ for error in value) if isinstance(value, list) else None,
)
def test_what_is_in_a_group_decides_as_alone(errors: list[Exception], place: Place, reason: str | None) -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("in it", errors)])
    made = decided(RetryPolicy(), group)
    assert (made[0], made[2].get("reason")) == (place, reason)


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
