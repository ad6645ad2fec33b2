"""What operators can do, on every transport: retry, replay, dead-letter through `operations`.

Inherited beside the transport contract, with the same fixtures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from paigeant_console.model.documents import workflow_document
from paigeant_console.model.fold import Fold
from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import AmbiguousID, NonRetryable, Refused, WorkflowNotFound
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations import (
    Action,
    Compensate,
    DeadLetter,
    Hold,
    Insert,
    Operations,
    OperationState,
    Pace,
    Replay,
    Report,
    Retry,
)
from paigeant_core.operations import run as run_module
from paigeant_core.operations.log import entry
from paigeant_core.operations.plan import BEFORE
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import Step
from paigeant_core.transition import Transition
from paigeant_core.transports import Transport
from paigeant_core.worker import Worker
from tests.transports.contract import Connect
from tests.transports.hands import PATIENCE, until


class Shop:
    """A worker whose payment fails until the payload is mended, with a ledger of what ran."""

    def __init__(self, topic: str) -> None:
        self.worker = Worker(topic=topic, name="shop", concurrency=8, drain=1)
        self.ledger: list[tuple[str, str, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.provider_up = False

        @self.worker.activity("validate")
        async def validate(ctx: ActivityContext) -> dict[str, Any]:
            self.note(ctx)
            return {"valid": True}

        @self.worker.activity("charge", retry=RetryPolicy(max_attempts=5, initial=60.0, cap=60.0))
        async def charge(ctx: ActivityContext) -> dict[str, Any]:
            self.note(ctx)
            await self.gate.wait()
            if ctx.payload.get("card") == "expired":
                raise NonRetryable("card expired")
            if ctx.payload.get("card") == "flaky" and not self.provider_up:
                raise ConnectionError("503")
            if ctx.payload.get("card") == "asks":
                ctx.hold("a person", until=time.time() + 0.5, on_deadline="release")
            return {"charged": ctx.idempotency_key}

        @self.worker.activity("notify")
        async def notify(ctx: ActivityContext) -> None:
            self.note(ctx)

    def note(self, ctx: ActivityContext) -> None:
        self.ledger.append((ctx.activity, ctx.idempotency_key, ctx.attempt))

    def ran(self, activity: str) -> list[str]:
        """The idempotency keys, without the workflow, that ``activity`` ran under."""
        return [key.partition("/")[2] for name, key, _ in self.ledger if name == activity]


@asynccontextmanager
async def open_shop(transport: Transport, topic: str) -> AsyncIterator[Shop]:
    """A shop that serves while the block runs."""
    shop = Shop(topic)
    serving = asyncio.create_task(shop.worker.run(transport))
    try:
        yield shop
    finally:
        shop.gate.set()
        shop.worker.stop()
        await serving


STEPS = ["validate", "charge", "notify"]


class OperationsContract:
    """Operations on every transport."""

    async def _dispatch(self, transport: Transport, topic: str, card: str, **options: Any) -> str:
        return await WorkflowDispatcher(transport).dispatch_workflow(
            STEPS, {"card": card, "exact": 1}, topic=topic, **options
        )

    async def _state(self, operations: Operations, workflow: str, *states: str) -> None:
        async def there() -> bool:
            standing = await operations.standing(workflow)
            return standing is not None and standing.state in states

        await until(there, f"{workflow} never was {states}")

    async def _do(self, operations: Operations, action: Action, *workflows: str) -> Report:
        return await operations.execute(await operations.plan(action, workflows, reason="a test"))

    async def test_a_dead_workflow_is_mended_and_replayed_to_the_end(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            workflow = await self._dispatch(transport, topic, "expired")
            await self._state(operations, workflow, State.DEAD)
            report = await self._do(operations, Replay(changes={"card": "fresh"}), workflow)
            assert report.to_document() | {"operation_id": ""} == {
                "summary": True,
                "operation_id": "",
                "matched": 1,
                "done": 1,
                "skipped": 0,
                "failed": 0,
            }
            await self._state(operations, workflow, State.COMPLETED)
            # What was done before is not done again, and the charge has a new key: a replay is a new run.
            assert shop.ran("validate") == ["1/1"]
            assert shop.ran("charge") == ["1/2", "2/2"]
            assert shop.ran("notify") == ["2/3"]
        history = await console.history(topic, workflow)
        assert [record.kind for record in history] == [
            Kind.DISPATCHED,
            Kind.ADVANCED,
            Kind.DEAD_LETTERED,
            Kind.OPERATED,
            Kind.ADVANCED,
            Kind.FINISHED,
        ]
        operated = history[3].detail
        assert (operated["action"], operated["operator"], operated["reason"]) == ("replay", "ann@desk", "a test")
        assert operated["before"]["state"] == State.DEAD
        assert operated["changed"] == ["card"]
        assert history[-1].message is not None
        assert history[-1].message.payload["card"] == "fresh"
        (entry,) = [msgspec.json.decode(item) for item in await console.audit(topic)]
        assert (entry["action"], entry["targets"], entry["outcome"]) == ("replay", 1, "1 done, 0 skipped, 0 failed")
        assert (entry["before"], entry["after"]) == ({"dead": 1}, {"queued": 1})
        assert entry["workflows"] == [
            {"correlation_id": workflow, "before": "dead", "after": "queued", "outcome": "done"}
        ]
        assert entry["from"]["pid"] > 0

    async def test_a_retry_does_not_wait_for_the_backoff_and_keeps_the_key(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            workflow = await self._dispatch(transport, topic, "flaky")
            await self._state(operations, workflow, State.RETRYING)
            shop.provider_up = True
            assert (await self._do(operations, Retry(), workflow)).count("done") == 1
            await self._state(operations, workflow, State.COMPLETED)
            assert shop.ran("charge") == ["1/2", "1/2"]
            # An operator's retry starts attempts anew.
            assert [attempt for name, _, attempt in shop.ledger if name == "charge"] == [1, 1]

    async def test_a_running_step_that_is_dead_lettered_cannot_forward(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            shop.gate.clear()
            workflow = await self._dispatch(transport, topic, "fine")

            async def charging() -> bool:
                return bool(shop.ran("charge"))

            await until(charging, "charge never started")
            await self._state(operations, workflow, State.RUNNING)
            plan = await operations.plan(DeadLetter(), [workflow], reason="wrong customer")
            assert "its result will be superseded" in plan.lines[0].why
            assert (await operations.execute(plan)).count("done") == 1
            shop.gate.set()

            async def late() -> bool:
                return any(record.kind == Kind.SUPERSEDED for record in await console.history(topic, workflow))

            await until(late, "the late result was never journalled")
            assert shop.ran("notify") == []
        standing = await operations.standing(workflow)
        assert standing is not None
        assert standing.state == State.DEAD
        kinds = [record.kind for record in standing.history]
        assert kinds.index(Kind.OPERATED) == kinds.index(Kind.DEAD_LETTERED) - 1

    async def test_a_replay_from_an_earlier_step_takes_that_hops_payload(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            workflow = await self._dispatch(transport, topic, "fine")
            await self._state(operations, workflow, State.COMPLETED)
            (refused,) = (await operations.plan(Replay(), [workflow], reason="again")).lines
            assert not refused.eligible
            assert "--from-step" in refused.why
            assert (await self._do(operations, Replay(from_step="charge"), workflow)).count("done") == 1
            await self._state(operations, workflow, State.COMPLETED)

            async def through() -> bool:
                return len(shop.ran("notify")) == 2

            await until(through, "the replay never came to its end")
            assert shop.ran("charge") == ["1/2", "2/2"]
            assert shop.ran("validate") == ["1/1"]
            (again,) = (await operations.plan(Replay(from_step=9), [workflow], reason="x")).lines
            assert "was not reached" in again.why

    async def test_a_replay_as_new_leaves_the_old_one_alone(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic):
            workflow = await self._dispatch(transport, topic, "expired")
            await self._state(operations, workflow, State.DEAD)
            report = await self._do(operations, Replay(changes={"card": "ok"}, as_new=True), workflow)
            new = report.results[0].new_correlation_id
            assert new
            assert new != workflow
            await self._state(operations, new, State.COMPLETED)
            await self._state(operations, workflow, State.DEAD)

    async def test_a_copy_of_what_moved_since_is_not_started(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        ann, bob = Operations(console, topic, operator="ann@desk"), Operations(transport, topic, operator="bob@home")
        async with open_shop(transport, topic) as shop:
            workflow, first = [await self._dispatch(transport, topic, card) for card in ("flaky", "flaky")]
            for each in (workflow, first):
                await self._state(ann, each, State.RETRYING)
            # With the question still open, and with an operation that begins later; one copy was started before.
            plan = await ann.plan(Replay(as_new=True), [workflow, first], reason="once more")
            copied = replace(plan, lines=plan.lines[1:])
            assert (await ann.execute(copied)).count("done") == 1
            armed = await ann.start(await ann.plan(Replay(as_new=True), [workflow], reason="later"), Pace(rate=100))
            shop.provider_up = True
            assert (await self._do(bob, Retry(), workflow, first)).count("done") == 2
            for each in (workflow, first):
                await self._state(ann, each, State.COMPLETED)
            for report in (await ann.execute(replace(plan, lines=plan.lines[:1])), await armed.go()):
                (result,) = report.results
                assert result.outcome == "failed"
                assert "it moved meanwhile: bob@home was first, retry at" in result.reason
            (result,) = (await ann.execute(copied)).results
            assert (result.outcome, result.reason) == ("done", BEFORE)
            assert len(await transport.find(topic, "", 100)) == 3

    async def test_the_brake_sees_a_copy_that_is_dead_before_the_broker_confirms_it(
        self, connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        # The copies are not seen later either: without a brake that sees them the ramp goes on.
        monkeypatch.setattr(run_module, "PATIENCE", 1.0)
        records, dispatch, seen = console.records, console.dispatch, list[Record]()

        async def told(*args: Any, **options: Any) -> AsyncIterator[list[Record]]:
            async for batch in records(*args, **options):
                yield batch
                seen.extend(batch)

        async def confirmed_late(topic: str, transition: Transition, **options: Any) -> None:
            await dispatch(topic, transition, **options)
            copy = transition.record.headers.correlation_id

            async def over() -> bool:
                return any(r.headers.correlation_id == copy and r.kind == Kind.DEAD_LETTERED for r in seen)

            await until(over, "the end of the copy was never read")

        async with open_shop(transport, topic):
            workflows = [await self._dispatch(transport, topic, "expired") for _ in range(3)]
            for workflow in workflows:
                await self._state(operations, workflow, State.DEAD)
            plan = await operations.plan(Replay(as_new=True), workflows, reason="once more")
            monkeypatch.setattr(console, "records", told)
            monkeypatch.setattr(console, "dispatch", confirmed_late)
            running = await operations.start(plan, Pace(ramp=True, brake=20))
            assert len((await running.go()).results) == 1
        assert (running.status.state, running.status.again) == (OperationState.BRAKED, 1)

    async def test_the_brake_takes_what_failed_again_and_was_compensated_for_bad(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic):
            workflows = [await self._dispatch(transport, topic, "expired", on_failure="compensate") for _ in range(3)]
            for workflow in workflows:
                await self._state(operations, workflow, State.COMPENSATED)
            plan = await operations.plan(Replay(from_step="charge"), workflows, reason="the provider is back")
            running = await operations.start(plan, Pace(ramp=True, brake=20))
            assert len((await running.go()).results) == 1
        assert (running.status.state, running.status.again) == (OperationState.BRAKED, 1)

    async def test_the_brake_takes_what_is_compensated_as_it_was_meant_to_be_for_good(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:

            @shop.worker.activities["validate"].compensate
            async def undo(ctx: ActivityContext) -> None:
                if not shop.provider_up:
                    raise NonRetryable("503")

            workflows = [await self._dispatch(transport, topic, "expired") for _ in range(3)]
            for workflow in workflows:
                await self._state(operations, workflow, State.DEAD)
            for action, state in ((Compensate(), State.COMPENSATION_FAILED), (Retry(), State.COMPENSATED)):
                plan = await operations.plan(action, workflows, reason="it is to be undone")
                running = await operations.start(plan, Pace(ramp=True, brake=20))
                assert (await running.go()).count("done") == 3
                assert (running.status.state, running.status.again) == (OperationState.FINISHED, 0)
                for workflow in workflows:
                    await self._state(operations, workflow, state)
                shop.provider_up = True

    async def test_the_ramp_counts_as_good_and_does_not_wait_for_what_stays_where_it_was_put(
        self, connect: Connect, topic: str
    ) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        workflows = [await self._dispatch(transport, topic, "fine") for _ in range(11)]
        assert (await self._do(operations, DeadLetter(), *workflows)).count("done") == 11
        plan = await operations.plan(Insert((Step("notify"),)), workflows, reason="tell them")
        assert (await self._do(operations, Retry(), *workflows[6:])).count("done") == 5
        running = await operations.start(plan, Pace(ramp=True, brake=60))
        async with asyncio.timeout(PATIENCE):
            report = await running.go()
        assert [result.outcome for result in report.results] == ["done"] * 6 + ["failed"] * 5
        assert running.status.state is OperationState.FINISHED, "5 of 11"

    async def test_what_was_asked_of_a_running_step_is_judged_by_how_that_ends(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            shop.gate.clear()
            workflow = await self._dispatch(transport, topic, "expired")
            await self._state(operations, workflow, State.RUNNING)

            async def charging() -> bool:
                return bool(shop.ran("charge"))

            await until(charging, "charge never started")
            plan = await operations.plan(Insert((Step("notify"),)), [workflow], reason="tell them")
            running = await operations.start(plan, Pace(ramp=True, brake=20))
            async with asyncio.timeout(PATIENCE):
                (result,) = (await running.go(lambda _: shop.gate.set())).results
        assert result.reason == "asked for: done when charge is handed on"
        assert (running.status.state, running.status.again) == (OperationState.BRAKED, 1)

    async def test_what_is_armed_for_hours_is_listed_and_can_be_called_off(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        workflow = await self._dispatch(transport, topic, "fine")
        ann = Operations(transport, topic, operator="ann@desk")
        running = await ann.start(await ann.plan(Hold(), [workflow], reason="tonight"), Pace(delay=80_000))
        status = running.status
        counts = dict.fromkeys(("done", "skipped", "failed", "again"), 0)
        for _ in range(52):
            now = transport.clock.now()
            data = entry(status.operation_id, "progress", now, by=status.by, operator="ann@desk", **counts)
            await asyncio.gather(*(transport.append_operation(topic, data) for _ in range(100)))
        bob = Operations(console, topic, operator="bob@home")
        (found,) = (await bob.runs()).values()
        assert (found.state, found.operator, found.targets) == (OperationState.ARMED, "ann@desk", [workflow])
        await Operations(console, topic, operator="bob@home").abort(status.operation_id[:8])
        assert (await running.go()).results == ()
        assert (await bob.runs())[status.operation_id].said == "aborted by bob@home"

    async def test_refusals_publish_nothing(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic, limit=2)
        workflow = await self._dispatch(transport, topic, "fine", correlation_id="abc-1")
        await self._dispatch(transport, topic, "fine", correlation_id="abc-2")
        before = len(await transport.history(topic, workflow))
        with pytest.raises(WorkflowNotFound):
            await operations.resolve("nobody")
        with pytest.raises(AmbiguousID, match="abc-1, abc-2"):
            await operations.resolve("abc")
        assert await operations.resolve("abc-1") == "abc-1"
        with pytest.raises(Refused, match="reason"):
            await operations.plan(Retry(), [workflow], reason=" ")
        with pytest.raises(Refused, match="limit is 2"):
            await operations.plan(Retry(), ["a", "b", "c"], reason="x")
        with pytest.raises(WorkflowNotFound):
            await operations.plan(Retry(), [], reason="x")
        locked = Operations(transport, topic, read_only=True)
        with pytest.raises(Refused, match="read-only"):
            await locked.plan(Retry(), [workflow], reason="x")
        with pytest.raises(Refused, match="read-only"):
            await locked.execute(await operations.plan(Retry(), [workflow], reason="x"))
        report = await self._do(operations, Replay(payload=b"[1]"), workflow)
        assert report.results[0].outcome == "skipped"
        assert "JSON object" in report.results[0].reason
        assert len(await transport.history(topic, workflow)) == before

    async def test_a_plan_that_was_overtaken_changes_nothing(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        workflow = await self._dispatch(transport, topic, "fine")
        first, second = Operations(transport, topic), Operations(other, topic)
        plan = await first.plan(Retry(), [workflow], reason="one")
        assert (await self._do(second, DeadLetter(), workflow)).count("done") == 1
        report = await first.execute(plan)
        assert (report.results[0].outcome, report.count("failed")) == ("failed", 1)
        assert "moved meanwhile" in report.results[0].reason
        standing = await first.standing(workflow)
        assert standing is not None
        assert standing.state == State.DEAD

    async def test_the_fold_agrees_with_what_ran(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            fine = [await self._dispatch(transport, topic, "fine") for _ in range(5)]
            dead = [await self._dispatch(transport, topic, "expired") for _ in range(2)]
            waiting = await self._dispatch(transport, topic, "flaky", name="n", labels={"k": "v"})
            for workflow in fine:
                await self._state(operations, workflow, State.COMPLETED)
            for workflow in dead:
                await self._state(operations, workflow, State.DEAD)
            await self._state(operations, waiting, State.RETRYING)
            fold = Fold()
            async for batch in console.records(topic):
                fold.apply(batch)
            now = console.clock.now()
            fold.observe(await console.workers(topic), now)
            states = {key: fold.document(row, now)["state"] for key, row in fold.rows.items()}
            assert states == {
                **dict.fromkeys(fine, State.COMPLETED),
                **dict.fromkeys(dead, State.DEAD),
                waiting: State.RETRYING,
            }
            row = fold.document(fold.rows[waiting], now)
            assert list(row) == [
                "schema",
                "correlation_id",
                "name",
                "labels",
                "topic",
                "state",
                "stuck",
                "step",
                "hop",
                "run",
                "steps_done",
                "steps_total",
                "attempt",
                "epoch",
                "created_at",
                "updated_at",
                "error",
                "trust",
            ]
            assert (row["name"], row["labels"], row["step"], row["hop"]) == ("n", {"k": "v"}, "charge", 2)
            assert (row["stuck"], row["attempt"]) == ("backoff", 2)
            assert row["error"] == {"type": "ConnectionError", "message": "503"}
            assert (row["steps_done"], row["steps_total"]) == (1, 3)
            history = await console.history(topic, fine[0])
            shown = workflow_document(fold, history, now)
            assert [item["name"] for item in shown["executed"]] == STEPS
            assert {item["worker"] for item in shown["executed"]} == {shop.worker.name}
            assert all(item["started_at"] <= item["completed_at"] for item in shown["executed"])
            assert shown["itinerary"] == []
            assert shown["step"] is None
            assert msgspec.json.decode(shown["payload"])["charged"] == f"{fine[0]}/1/2"
            pending = workflow_document(fold, await console.history(topic, waiting), now)
            assert pending["itinerary"] == [
                {"name": "charge", "arguments": {}},
                {"name": "notify", "arguments": {}},
            ]
