"""The verbs that take workflows aside and end them, on every transport.

Inherited beside the transport contract, with the same fixtures.
"""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
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
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Settled, holding
from tests.transports.contract import Connect
from tests.transports.hands import Hands, until
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
    """Hold, release, cancel and compensate on every transport."""

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

    @pytest.mark.parametrize(("verb", "state"), [(Hold(), State.HELD), (Cancel(), State.CANCELLED)], ids=str)
    async def test_a_step_that_is_put_back_for_later_heeds_what_was_asked_of_it(
        self, connect: Connect, topic: str, verb: Action, state: State
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        hands = Hands(transport, topic, "charge")
        workflow = await self._begin(transport, topic, steps=["charge", "notify"])
        delivery = await hands.take_one()
        assert delivery.message is not None
        headers = delivery.message.headers
        hands.consumer.report([holding(headers, 0.0)])
        await self._until(operations, workflow, State.RUNNING)
        await self._done(operations, verb, workflow)
        await self.heard(transport, topic)
        deferred = Record(Kind.RETRYING, headers, state=State.RETRYING, body=delivery.body, at=transport.clock.now())
        await hands.consumer.defer(delivery, 0.3, deferred)
        stands = await self._until(operations, workflow, state)
        assert (stands.record.detail["operator"], stands.record.detail["instead_of"]) == ("ann@desk", Kind.RETRYING)
        assert stands.message().encode() == delivery.body
        await hands.nothing(0.8)
        if state == State.HELD:
            await self._done(operations, Release(), workflow)
            assert (await hands.take_one()).activity == "charge"
        await hands.consumer.close()

    async def test_a_step_that_parks_itself_until_a_time_is_held_past_that_by_who_asked_for_it(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            shop.gate.clear()
            workflow = await self._begin(transport, topic, card="asks", steps=["charge", "notify"])
            await self._until(operations, workflow, State.RUNNING)
            report = await self._act(operations, Hold(), workflow)
            await self.heard(transport, topic)
            shop.gate.set()
            held = await self._until(operations, workflow, State.HELD)
            assert "charged" in held.message().payload
            assert held.record.detail["operator"] == "ann@desk"
            assert not {"until", "on_deadline"} & set(held.record.detail)
            await asyncio.sleep(1.0)
            assert (await self._now(operations, workflow)).state == State.HELD
            assert not shop.ran("notify")
            # It is brought back to its step's own hold, whose time has come.
            await self._done(operations, Undo(report.operation_id), workflow)
            await self._until(operations, workflow, State.COMPLETED)

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
