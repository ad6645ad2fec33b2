"""The verbs that take workflows aside, bring them back and change their slips, on every transport.

Inherited beside the transport contract, with the same fixtures.
"""

from __future__ import annotations

import pytest

from paigeant_core import transition as moves
from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import WorkflowNotFound
from paigeant_core.journal import Kind, Record, State
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
    Report,
    Restore,
    Retry,
    Skip,
    Standing,
    Undo,
)
from paigeant_core.routing import Step
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Settled, holding
from tests.transports.contract import Connect, Hands, until
from tests.transports.operations import STEPS, Shop, open_shop

AFTER_CHARGE = ["validate", "charge"]


def undoing(shop: Shop) -> Shop:
    """The shop with compensators for what it does; what they ran for is in its ledger as ``undo NAME``."""
    for name in ("validate", "charge"):

        async def undo(ctx: ActivityContext) -> None:
            shop.ledger.append((f"undo {ctx.activity}", ctx.idempotency_key, ctx.attempt))

        shop.worker.activities[name].compensate(undo)
    return shop


class VerbsContract:
    """Hold, release, skip, cancel, compensate, restore, insert and undo on every transport."""

    async def heard(self, transport: Transport, topic: str) -> None:
        """What operators published so far is known to this transport's workers; RabbitMQ's learn it later."""

    async def _begin(self, transport: Transport, topic: str, card: str = "fine", steps: list[str] = STEPS) -> str:
        return await WorkflowDispatcher(transport).dispatch_workflow(steps, {"card": card, "exact": 1}, topic=topic)

    async def _now(self, operations: Operations, workflow: str) -> Standing:
        standing = await operations.standing(workflow)
        assert standing is not None
        return standing

    async def _until(self, operations: Operations, workflow: str, state: str) -> Standing:
        async def there() -> Standing | None:
            standing = await operations.standing(workflow)
            return standing if standing is not None and standing.state == state else None

        found = await until(there, f"{workflow} never was {state}")
        assert isinstance(found, Standing)
        return found

    async def _act(self, operations: Operations, action: Action, *workflows: str) -> Report:
        return await operations.execute(await operations.plan(action, workflows, reason="a test"))

    async def _done(self, operations: Operations, action: Action, workflow: str) -> str:
        """Do it, and give what the report says beside ``done``."""
        (result,) = (await self._act(operations, action, workflow)).results
        assert result.outcome == "done", result.reason
        return result.reason

    async def _refused(self, operations: Operations, action: Action, workflow: str) -> str:
        """It is not eligible; give the reason."""
        (line,) = (await operations.plan(action, [workflow], reason="a test")).lines
        assert not line.eligible
        return line.why

    async def _charging(self, transport: Transport, topic: str, operations: Operations, shop: Shop) -> str:
        """A workflow whose charge runs until the gate is opened."""
        shop.gate.clear()
        workflow = await self._begin(transport, topic)

        async def there() -> bool:
            return (await self._now(operations, workflow)).state == State.RUNNING and bool(shop.ran("charge"))

        await until(there, "charge never started")
        return workflow

    def _kinds(self, standing: Standing) -> list[str]:
        return [str(record.kind) for record in standing.history if record.kind != Kind.DISPATCHED]

    # -- hold and release ---------------------------------------------------------------

    async def test_what_waits_is_held_at_once_and_released_with_an_answer(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        workflow = await self._begin(transport, topic)
        assert await self._done(operations, Hold(), workflow) == ""
        held = await self._now(operations, workflow)
        assert (held.state, held.headers.epoch, held.headers.hop) == (State.HELD, 2, 1)
        assert self._kinds(held) == ["operated", "held"]
        assert held.record.detail["operator"] == "ann@desk"
        assert [record.id for record in await console.parked(topic, Place.HELD)] == [held.record.id]
        assert "it is held" in await self._refused(operations, Hold(), workflow)
        async with open_shop(transport, topic) as shop:
            assert await self._done(operations, Release({"approved": True, "exact": 2.5}), workflow) == ""
            ended = await self._until(operations, workflow, State.COMPLETED)
            assert ended.message().payload | {"charged": ""} == {
                "card": "fine",
                "exact": 2.5,
                "approved": True,
                "valid": True,
                "charged": "",
            }
            assert shop.ran("validate") == ["1/1"]
        assert ended.history[3].kind == Kind.OPERATED
        assert ended.history[3].detail["changed"] == ["approved", "exact"]
        assert ended.history[4].kind == Kind.RELEASED
        assert await console.parked(topic, Place.HELD) == []

    async def test_a_running_step_is_held_at_its_hand_off(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            workflow = await self._charging(transport, topic, operations, shop)
            plan = await operations.plan(Hold(), [workflow], reason="wait for the bank")
            assert f"when {shop.worker.name} hands on charge" in plan.lines[0].why
            report = await operations.execute(plan)
            assert report.results[0].reason == "asked for: done when charge is handed on"
            asked = await self._now(operations, workflow)
            assert (asked.state, asked.wish, asked.headers.epoch) == (State.RUNNING, "hold", 1)
            assert "ann@desk asked for hold" in await self._refused(operations, Cancel(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()
            held = await self._until(operations, workflow, State.HELD)
            assert (held.headers.activity, held.headers.epoch, held.wish) == ("notify", 1, "")
            assert held.message().payload["charged"] == f"{workflow}/1/2"
            assert held.record.worker == shop.worker.name
            assert held.record.detail["reason"] == "wait for the bank"
            assert held.record.detail["instead_of"] == Kind.ADVANCED
            assert [record.id for record in await console.parked(topic, Place.HELD)] == [held.record.id]
            assert shop.ran("notify") == []
            await self._done(operations, Release(), workflow)
            await self._until(operations, workflow, State.COMPLETED)
            assert (shop.ran("charge"), shop.ran("notify")) == (["1/2"], ["1/3"])

    async def test_a_hold_that_is_still_to_come_is_taken_back(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            workflow = await self._charging(transport, topic, operations, shop)
            await self._done(operations, Hold(), workflow)
            assert "can be given when it is" in await self._refused(operations, Release({"a": 1}), workflow)
            assert await self._done(operations, Release(), workflow) == "taken back"
            assert (await self._now(operations, workflow)).wish == ""
            assert "it is running" in await self._refused(operations, Release(), workflow)
            await self._done(operations, Hold(), workflow)
            await self._done(operations, Release(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()
            ended = await self._until(operations, workflow, State.COMPLETED)
            assert self._kinds(ended) == ["advanced", *["operated"] * 4, "advanced", "finished"]

    async def test_a_request_outlives_the_worker_that_ran_the_step(self, connect: Connect, topic: str) -> None:
        transport, other, console = await connect(), await connect(), await connect()
        operations = Operations(console, topic)
        first, second = Hands(transport, topic, "charge"), Hands(other, topic, "charge")
        workflow = await self._begin(transport, topic, steps=["charge", "notify"])
        delivery = await first.take_one()
        assert delivery.message is not None
        first.consumer.report([holding(delivery.message.headers, 0.0)])
        await self._until(operations, workflow, State.RUNNING)
        await self._done(operations, Hold(), workflow)
        await first.consumer._crash()  # type: ignore[attr-defined]
        taken = await second.take_one()
        await self.heard(other, topic)
        assert await second.finish(taken, {"a": 1}) is Settled.DONE
        held = await self._until(operations, workflow, State.HELD)
        assert (held.message().payload["a"], held.record.worker) == (1, second.name)
        await second.consumer.close()

    async def test_a_copy_is_handed_back_with_what_was_asked_of_it(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "charge")
        kept, dropped = [await self._begin(transport, topic, steps=["charge", "notify"]) for _ in range(2)]
        for delivery in [await hands.take_one() for _ in range(2)]:
            assert delivery.message is not None
            hands.consumer.report([holding(delivery.message.headers, 0.0)])
            await self._until(operations, delivery.message.correlation_id, State.RUNNING)
            await self._done(operations, Hold(), delivery.message.correlation_id)
            await hands.consumer.hand_back(delivery)
        await self._done(operations, DeadLetter(), dropped)
        await self.heard(transport, topic)
        delivery = await hands.take_one()
        assert delivery.message is not None
        assert delivery.message.correlation_id == kept
        assert await hands.finish(delivery, {"a": 1}) is Settled.DONE
        assert (await self._now(operations, kept)).state == State.HELD
        # The one that was dead-lettered is not found in the queue, whatever was asked of it before.
        await hands.nothing()
        await hands.consumer.close()

    async def test_a_step_that_nobody_has_reported_yet(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "charge")
        workflow = await self._begin(transport, topic, steps=["charge", "notify"])
        delivery = await hands.take_one()
        reason = await self._done(operations, Hold(), workflow)
        if console.capabilities.exact_fence:
            assert reason == "asked for: done when charge is handed on"
            assert await hands.finish(delivery, {"a": 1}) is Settled.DONE
        else:
            assert reason == ""
            await self.heard(transport, topic)
            assert await hands.finish(delivery, {"a": 1}) is Settled.SUPERSEDED
        held = await self._until(operations, workflow, State.HELD)
        assert ("a" in held.message().payload) is console.capabilities.exact_fence
        await hands.consumer.close()

    async def test_a_held_retry_waits_for_its_release_and_not_for_its_time(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            workflow = await self._begin(transport, topic, "flaky")
            await self._until(operations, workflow, State.RETRYING)
            await self._done(operations, Hold(), workflow)
            assert (await self._now(operations, workflow)).headers.attempt == 2
            shop.provider_up = True
            await self._done(operations, Release(), workflow)
            await self._until(operations, workflow, State.COMPLETED)
            assert [attempt for name, _, attempt in shop.ledger if name == "charge"] == [1, 2]

    # -- cancel and compensate ----------------------------------------------------------

    async def test_cancel_ends_it_and_keeps_the_message(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        workflow = await self._begin(transport, topic)
        await self._done(operations, Cancel(), workflow)
        ended = await self._now(operations, workflow)
        assert (ended.state, self._kinds(ended)) == (State.CANCELLED, ["operated", "cancelled"])
        assert ended.message().payload["card"] == "fine"
        for verb in (Cancel(), Retry(), Hold(), Release(), Skip(), DeadLetter(), Compensate(), Restore()):
            assert "it is cancelled" in await self._refused(operations, verb, workflow)
        async with open_shop(transport, topic) as shop:
            await self._done(operations, Replay(), workflow)
            await self._until(operations, workflow, State.COMPLETED)
            assert shop.ran("validate") == ["2/1"]

    async def test_a_running_step_is_cancelled_at_its_hand_off(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            workflow = await self._charging(transport, topic, operations, shop)
            await self._done(operations, Cancel(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()
            ended = await self._until(operations, workflow, State.CANCELLED)
            assert ended.message().payload["charged"] == f"{workflow}/1/2"
            assert ended.message().routing_slip.executed == AFTER_CHARGE
            assert (ended.record.detail["operator"], ended.record.detail["step"]) == ("ann@desk", "charge")
            assert shop.ran("notify") == []

    async def test_what_a_running_step_did_is_undone_with_the_rest(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            undoing(shop)
            workflow = await self._charging(transport, topic, operations, shop)
            await self._done(operations, Compensate(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()
            ended = await self._until(operations, workflow, State.COMPENSATED)
            undone = [(name, key.partition("/")[2]) for name, key, _ in shop.ledger if name.startswith("undo")]
            assert undone == [("undo charge", "1/2/undo"), ("undo validate", "1/1/undo")]
            assert shop.ran("notify") == []
            assert self._kinds(ended)[-3:] == ["compensating", "compensating", "compensated"]

    async def test_a_dead_workflow_is_compensated(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            undoing(shop)
            workflow = await self._begin(transport, topic, "expired")
            await self._until(operations, workflow, State.DEAD)
            await self._done(operations, Compensate(), workflow)
            await self._until(operations, workflow, State.COMPENSATED)
            assert [name for name, _, _ in shop.ledger if name.startswith("undo")] == ["undo validate"]
            assert await console.parked(topic, Place.DEAD) == []
        alone = await self._begin(transport, topic)
        await self._done(operations, Compensate(), alone)
        assert (await self._now(operations, alone)).state == State.COMPENSATED

    # -- skip and insert ----------------------------------------------------------------

    async def test_skip_goes_on_with_the_next_step(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            dead = await self._begin(transport, topic, "expired")
            await self._until(operations, dead, State.DEAD)
            await self._done(operations, Skip(), dead)
            ended = await self._until(operations, dead, State.COMPLETED)
            assert shop.ran("notify") == ["1/3"]
            assert [step.skipped for step in ended.message().routing_slip.executed] == [False, True, False]
            running = await self._charging(transport, topic, operations, shop)
            await self._done(operations, Skip(), running)
            await self._until(operations, running, State.COMPLETED)
            await self.heard(transport, topic)
            shop.gate.set()

            async def late() -> bool:
                return any(record.kind == Kind.SUPERSEDED for record in await console.history(topic, running))

            await until(late, "the late result was never journalled")
            assert "charged" not in (await self._now(operations, running)).message().payload

    async def test_skip_of_the_last_step_completes_and_a_held_one_stays_held(
        self, connect: Connect, topic: str
    ) -> None:
        operations = Operations(await connect(), topic)
        workflow = await self._begin(operations.transport, topic, steps=["a", "b"])
        await self._done(operations, Hold(), workflow)
        await self._done(operations, Skip(), workflow)
        held = await self._now(operations, workflow)
        assert (held.state, held.headers.activity, held.record.detail["reason"]) == (State.HELD, "b", "a test")
        await self._done(operations, Release(), workflow)
        await self._done(operations, Skip(), workflow)
        ended = await self._now(operations, workflow)
        assert (ended.state, ended.record.kind) == (State.COMPLETED, Kind.FINISHED)
        assert "it is completed" in await self._refused(operations, Skip(), workflow)

    async def test_steps_are_inserted_behind_the_one_where_it_stands(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        added = Insert((Step("notify", arguments={"by": "mail"}),))
        async with open_shop(transport, topic) as shop:
            dead = await self._begin(transport, topic, "expired")
            died = await self._until(operations, dead, State.DEAD)
            await self._done(operations, added, dead)
            still = await self._now(operations, dead)
            assert (still.state, still.headers.steps_total) == (State.DEAD, 4)
            assert still.record.detail["error"] == died.record.detail["error"]
            assert [record.id for record in await console.parked(topic, Place.DEAD)] == [still.record.id]
            running = await self._charging(transport, topic, operations, shop)
            await self._done(operations, added, running)
            await self.heard(transport, topic)
            shop.gate.set()
            ended = await self._until(operations, running, State.COMPLETED)
            assert ended.message().routing_slip.executed == ["validate", "charge", "notify", "notify"]
            assert shop.ran("charge") == ["1/2", "1/2"]  # of either workflow once
        waiting = await self._begin(transport, topic, steps=["a", "b"])
        await self._done(operations, added, waiting)
        assert (await self._now(operations, waiting)).message().routing_slip.itinerary == ["a", "notify", "b"]
        many = Insert(tuple(Step("more") for _ in range(98)))
        assert "at most 100" in await self._refused(operations, many, waiting)

    async def test_a_step_behind_the_last_one_goes_on(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "charge", "notify")
        workflow = await self._begin(transport, topic, steps=["charge"])
        delivery = await hands.take_one()
        assert delivery.message is not None
        hands.consumer.report([holding(delivery.message.headers, 0.0)])
        await self._until(operations, workflow, State.RUNNING)
        await self._done(operations, Insert((Step("notify"),)), workflow)
        await self.heard(transport, topic)
        assert await hands.finish(delivery) is Settled.DONE
        assert (await self._until(operations, workflow, State.QUEUED)).headers.activity == "notify"
        assert await hands.finish(await hands.take_one()) is Settled.DONE
        await self._until(operations, workflow, State.COMPLETED)
        await hands.consumer.close()

    # -- restore and undo ---------------------------------------------------------------

    async def test_restore_brings_it_back_to_where_it_was(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "a")
        failed = await self._begin(transport, topic, steps=["a"])
        await hands.fail(await hands.take_one(), 0.0)
        await hands.bury(await hands.take_one())
        await self._until(operations, failed, State.DEAD)
        await self._done(operations, Restore(), failed)
        back = await self._now(operations, failed)
        assert (back.state, back.headers.attempt, back.headers.epoch) == (State.QUEUED, 2, 2)
        assert "not among the dead letters" in await self._refused(operations, Restore(), failed)
        assert await hands.finish(await hands.take_one()) is Settled.DONE
        await hands.consumer.close()
        held = await self._begin(transport, topic, steps=["b"])
        for verb in (Hold(), DeadLetter()):
            await self._done(operations, verb, held)
        assert (await self._now(operations, held)).state == State.DEAD
        await self._done(operations, Restore(), held)
        assert (await self._now(operations, held)).state == State.HELD
        assert len(await console.parked(topic, Place.HELD)) == 1
        assert await console.parked(topic, Place.DEAD) == []

    async def test_restore_out_of_quarantine(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "a")
        workflow = await self._begin(transport, topic, steps=["a"])
        for body in (None, b"nobody's"):
            delivery = await hands.take_one()
            at = transport.clock.now()
            bad = moves.quarantine(
                body or delivery.body, code="untrusted", reason="no key", activity="a", topic=topic, at=at, worker="w"
            )
            assert await hands.consumer.settle(delivery, bad) is Settled.DONE
            kept = bad.record.headers.correlation_id
            await self._until(operations, kept, State.QUARANTINED)
            if body is None:
                assert await self._done(operations, Restore(), kept) == f"workflow {workflow} goes on"
                assert (await self._now(operations, kept)).state == State.CANCELLED
                assert await console.parked(topic, Place.QUARANTINE) == []
            else:
                assert "cannot be read" in await self._refused(operations, Restore(), kept)
        # The second copy was lost to quarantine for good; the workflow itself can still be retried.
        await self._done(operations, Retry(), workflow)
        delivery = await hands.take_one()
        assert delivery.message is not None
        assert delivery.message.headers.epoch == 3
        again = moves.quarantine(
            delivery.body, code="untrusted", reason="no key", activity="a", topic=topic, at=1.0, worker="w"
        )
        await hands.consumer.settle(delivery, again)
        kept = again.record.headers.correlation_id
        await self._until(operations, kept, State.QUARANTINED)
        await self._done(operations, Retry(), workflow)
        assert "superseded: " in await self._refused(operations, Restore(), kept)
        await hands.consumer.close()

    @pytest.mark.parametrize("verb", [Hold(), Cancel(), DeadLetter()], ids=lambda verb: verb.name)
    async def test_undo_while_nothing_else_happened(self, connect: Connect, topic: str, verb: Action) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        first, second = [await self._begin(transport, topic) for _ in range(2)]
        report = await self._act(operations, verb, first, second)
        await self._done(operations, Replay(), second)
        targets = await operations.touched(report.operation_id)
        assert sorted(targets) == sorted([first, second])
        undo = Undo(report.operation_id)
        assert "something else happened" in await self._refused(operations, undo, second)
        results = {item.correlation_id: item.outcome for item in (await self._act(operations, undo, *targets)).results}
        assert results == {first: "done", second: "skipped"}
        back = await self._now(operations, first)
        assert (back.state, back.headers.hop, back.headers.attempt) == (State.QUEUED, 1, 1)
        assert back.history[-1].detail["undone"] == report.operation_id
        assert "something else happened" in await self._refused(operations, undo, first)
        with pytest.raises(WorkflowNotFound):
            await operations.touched("nobody")
        async with open_shop(transport, topic):
            await self._until(operations, first, State.COMPLETED)

    async def test_undo_of_what_is_still_to_come(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            workflow = await self._charging(transport, topic, operations, shop)
            report = await self._act(operations, Cancel(), workflow)
            assert await self._done(operations, Undo(report.operation_id), workflow) == "taken back"
            await self.heard(transport, topic)
            shop.gate.set()
            await self._until(operations, workflow, State.COMPLETED)

    # -- two operators ------------------------------------------------------------------

    @pytest.mark.parametrize("verb", [Hold(), Cancel(), Skip(), DeadLetter()], ids=lambda verb: verb.name)
    async def test_of_two_operators_the_second_is_told_who_was_first(
        self, connect: Connect, topic: str, verb: Action
    ) -> None:
        ann = Operations(await connect(), topic, operator="ann@desk")
        bob = Operations(await connect(), topic, operator="bob@home")
        workflow = await self._begin(ann.transport, topic)
        theirs = await bob.plan(Retry(), [workflow], reason="second")
        await self._done(ann, verb, workflow)
        (result,) = (await bob.execute(theirs)).results
        assert result.outcome == "failed"
        assert f"ann@desk was first, {verb.name} at" in result.reason
        assert bob.operator not in [record.detail.get("operator") for record in await _history(bob, workflow)]

    async def test_of_two_requests_the_second_is_told_who_was_first(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        ann = Operations(await connect(), topic, operator="ann@desk")
        bob = Operations(await connect(), topic, operator="bob@home")
        async with open_shop(transport, topic) as shop:
            workflow = await self._charging(transport, topic, ann, shop)
            cancel = await bob.plan(Cancel(), [workflow], reason="second")
            replaced = await bob.plan(DeadLetter(), [workflow], reason="second")
            await self._done(ann, Hold(), workflow)
            for theirs in (cancel, replaced):
                (result,) = (await bob.execute(theirs)).results
                assert result.outcome == "failed"
                assert "ann@desk was first, hold at" in result.reason
            # What supersedes the step needs not wait for it, and says whose request it replaces.
            (line,) = (await bob.plan(DeadLetter(), [workflow], reason="it hangs")).lines
            assert line.eligible
            assert "in place of what ann@desk asked for hold" in line.why
            await self._done(bob, DeadLetter(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()

            async def late() -> bool:
                return any(record.kind == Kind.SUPERSEDED for record in await _history(bob, workflow))

            await until(late, "the late result was never journalled")
            assert (await self._now(bob, workflow)).state == State.DEAD


async def _history(operations: Operations, workflow: str) -> list[Record]:
    return await operations.transport.history(operations.topic, workflow)
