"""The verbs that change a slip, bring a workflow back or take an act back, on every transport."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from paigeant_core import transition as moves
from paigeant_core.errors import AmbiguousID, WorkflowNotFound
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations import (
    Action,
    Cancel,
    DeadLetter,
    Hold,
    Insert,
    Operations,
    OperationState,
    Pace,
    Release,
    Replay,
    Restore,
    Retry,
    Skip,
    Undo,
)
from paigeant_core.routing import Step
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Settled, holding
from tests.transports.contract import Connect
from tests.transports.hands import PATIENCE, Hands, until
from tests.transports.operations import open_shop
from tests.transports.verbs import VerbsContract


class MendingContract(VerbsContract):
    """Skip, insert, restore and undo on every transport, and two operators at once."""

    async def trim(self, transport: Transport, topic: str) -> None:
        """See :meth:`FollowingContract.trim`."""

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
            assert (await self._until(operations, kept, State.QUARANTINED)).headers.activity == "a"
            assert [record.headers.activity for record in await console.parked(topic, Place.QUARANTINE)] == ["a"]
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

    async def test_the_brake_sees_what_becomes_of_a_workflow_that_is_restored_out_of_quarantine(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        hands = Hands(transport, topic, "a")
        await self._begin(transport, topic, steps=["a"])
        delivery = await hands.take_one()
        at = transport.clock.now()
        refused = moves.quarantine(
            delivery.body, code="untrusted", reason="no key", activity="a", topic=topic, at=at, worker="w"
        )
        await hands.consumer.settle(delivery, refused)
        kept = refused.record.headers.correlation_id
        await self._until(operations, kept, State.QUARANTINED)
        plan = await operations.plan(Restore(), [kept], reason="its key is known now")
        running = await operations.start(plan, Pace(ramp=True, brake=20))
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(running.go())
            await hands.bury(await hands.take_one())
        assert (running.status.state, running.status.again) == (OperationState.BRAKED, 1)
        await hands.consumer.close()

    @pytest.mark.parametrize("verb", [Hold(), Cancel(), DeadLetter()], ids=lambda verb: verb.name)
    async def test_undo_while_nothing_else_happened(self, connect: Connect, topic: str, verb: Action) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        first, second = [await self._begin(transport, topic) for _ in range(2)]
        report = await self._act(operations, verb, first, second)
        await self._done(operations, Replay(), second)
        _, targets, _ = await operations.acted(report.operation_id)
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
            await operations.acted("nobody")
        async with open_shop(transport, topic):
            await self._until(operations, first, State.COMPLETED)

    @pytest.mark.parametrize("verb", [Hold(), DeadLetter()], ids=lambda verb: verb.name)
    async def test_undo_reaches_what_the_journal_tells_no_more(
        self, connect: Connect, topic: str, verb: Action
    ) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        ids = [await self._begin(transport, topic) for _ in range(4)]
        report = await self._act(operations, verb, *ids)
        await self.trim(transport, topic)
        operation_id, found, unnamed = await operations.acted(report.operation_id[:8])
        assert (operation_id, sorted(found), unnamed) == (report.operation_id, sorted(ids), 0)
        assert (await self._act(operations, Undo(operation_id), *found)).count("done") == 4
        assert {(await self._now(operations, workflow)).state for workflow in ids} == {State.QUEUED}

    async def test_an_operation_is_named_by_the_beginning_of_its_id(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        ids = [await self._begin(transport, topic) for _ in range(2)]
        for operation_id, workflow in zip(("feed01", "feed02"), ids, strict=True):
            plan = await operations.plan(Hold(), [workflow], reason="x")
            await operations.execute(replace(plan, operation_id=operation_id))
        assert await operations.acted("feed01") == ("feed01", ids[:1], 0)
        assert await operations.acted("feed02"[:6]) == ("feed02", ids[1:], 0)
        with pytest.raises(AmbiguousID, match="more than one operation"):
            await operations.acted("feed")
        with pytest.raises(WorkflowNotFound):
            await operations.acted("")

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
