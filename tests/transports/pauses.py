"""Pausing an activity for all its workers, on every transport.

Inherited beside the transport contract, with the same fixtures.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from paigeant_console.model.snapshot import read_rows
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import Refused, WorkflowNotFound
from paigeant_core.journal import Kind, State
from paigeant_core.operations import Operations
from paigeant_core.pauses import PAUSE, switched
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from tests.transports.contract import Connect
from tests.transports.hands import Hands, until
from tests.transports.operations import STEPS, open_shop


class PausesContract:
    """An activity is paused and resumed by operators, and its workers heed it."""

    async def heeded(self, transport: Transport, topic: str, paused: set[str]) -> None:
        """Return when this transport's workers know what is paused; in memory they do at once."""

    async def _begin(self, transport: Transport, topic: str, card: str = "fine") -> str:
        return await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {"card": card}, topic=topic)

    async def _state(self, operations: Operations, workflow: str, state: State) -> None:
        async def there() -> bool:
            standing = await operations.standing(workflow)
            return standing is not None and standing.state == state

        await until(there, f"{workflow} never was {state}")

    async def test_workers_leave_a_paused_activity_alone_until_it_is_resumed(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        ann = Operations(console, topic, operator="ann@desk")
        async with open_shop(transport, topic) as shop:
            first = await self._begin(transport, topic)
            await self._state(ann, first, State.COMPLETED)
            assert await ann.pause_activity("charge", reason="the provider is down") is None
            await self.heeded(transport, topic, {"charge"})
            waiting = [await self._begin(transport, topic) for _ in range(5)]
            for workflow in waiting:
                # The others go on: they come to the paused step, and no further.
                await self._hop(console, topic, workflow, 2)
            assert shop.ran("charge") == ["1/2"]
            (queue,) = [queue for queue in await console.queues(topic) if queue.activity == "charge"]
            assert queue.paused is not None
            assert (queue.paused.operator, queue.paused.reason) == ("ann@desk", "the provider is down")
            assert queue.ready == 5
            snapshot = await read_rows(console, topic)
            assert {snapshot.document(snapshot.fold.rows[item])["stuck"] for item in waiting} == {"paused"}
            ended = await ann.resume_activity("charge", reason="it is back")
            assert ended is not None
            assert ended.operator == "ann@desk"
            for workflow in waiting:
                await self._state(ann, workflow, State.COMPLETED)
            # No attempt was spent, and nothing ran twice.
            assert shop.ran("charge") == ["1/2"] * 6
            assert {attempt for name, _, attempt in shop.ledger if name == "charge"} == {1}
        assert await console.pauses(topic) == {}

    async def _hop(self, transport: Transport, topic: str, workflow: str, hop: int) -> None:
        async def there() -> bool:
            return (await transport.history(topic, workflow))[-1].headers.hop == hop

        await until(there, f"{workflow} never came to hop {hop}")

    async def test_a_worker_that_starts_later_heeds_it_too(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        await self._begin(transport, topic)
        operations = Operations(console, topic, operator="ann@desk")
        assert await operations.pause_activity("validate", reason="x") is None
        hands = Hands(await connect(), topic, "validate", "other")
        try:
            await hands.nothing()
            await WorkflowDispatcher(transport).dispatch_workflow(["other"], {}, topic=topic)
            # The other activity's message comes, whatever waits for the paused one.
            assert (await hands.take_one()).activity == "other"
        finally:
            await hands.consumer.close()

    async def test_the_second_operator_is_told_who_was_first(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        await self._begin(transport, topic)
        ann, bob = Operations(transport, topic, operator="ann"), Operations(other, topic, operator="bob")
        first, second = await asyncio.gather(
            ann.pause_activity("validate", reason="one"), bob.pause_activity("validate", reason="two")
        )
        assert (first is None) != (second is None)
        told = first or second
        assert told is not None
        assert told.operator == ("bob" if first else "ann")
        assert (await transport.pauses(topic))["validate"].operator == told.operator
        audit = [msgspec.json.decode(entry) for entry in await transport.audit(topic)]
        assert sorted(entry["outcome"] for entry in audit) == ["1 done", "1 skipped"]
        assert {entry["action"] for entry in audit} == {"pause activity validate"}
        assert await ann.resume_activity("validate", reason="x") is not None
        assert await bob.resume_activity("validate", reason="x") is None

    async def test_a_pause_is_journalled_and_moves_no_workflow(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self._begin(transport, topic)
        operations = Operations(transport, topic, operator="ann@desk")
        await operations.pause_activity("validate", reason="x")
        await operations.resume_activity("validate", reason="y")
        records = [record async for batch in transport.records(topic) for record in batch]
        said = [record for record in records if record.kind == Kind.OPERATED]
        assert [record.detail["action"] for record in said] == ["pause activity", "resume activity"]
        assert {record.headers.activity for record in said} == {"validate"}
        assert len(await transport.history(topic, workflow)) == 1

    async def test_bad_pauses_are_refused(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        await self._begin(transport, topic)
        operations = Operations(transport, topic)
        with pytest.raises(WorkflowNotFound, match=r"no activity 'vaildate'.*known: validate"):
            await operations.pause_activity("vaildate", reason="x")
        with pytest.raises(Refused, match="reason"):
            await operations.pause_activity("validate", reason=" ")
        with pytest.raises(Refused, match="read-only"):
            await Operations(transport, topic, read_only=True).pause_activity("validate", reason="x")
        assert await transport.pauses(topic) == {}
        assert await transport.audit(topic) == []

    async def test_looking_makes_no_topic(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        assert await transport.pauses(topic) == {}
        assert [record async for batch in transport.records(topic) for record in batch] == []
        record = switched(topic, "a", PAUSE, transport.clock.now(), {"operator": "o", "reason": "r"})
        assert await transport.switch(topic, record) is None
        assert set(await transport.pauses(topic)) == {"a"}

    async def test_a_topic_is_deleted_with_all_that_it_has(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        neighbour = f"{topic}-2"
        operations = Operations(transport, topic, operator="ann@desk")
        for name in (topic, neighbour):
            async with open_shop(transport, name):
                done = await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {"card": "fine"}, topic=name)
                dead = await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {"card": "expired"}, topic=name)
                await self._state(Operations(transport, name), done, State.COMPLETED)
                await self._state(Operations(transport, name), dead, State.DEAD)
                with pytest.raises(Refused, match="stop them first"):
                    await Operations(transport, name).delete_topic(reason="x")
        await operations.pause_activity("charge", reason="x")

        async def nobody() -> bool:
            return not await other.workers(topic)

        await until(nobody, "the worker is gone")
        await Operations(other, topic).delete_topic(reason="it was a test")
        for transport in (other, await connect()):
            assert [record async for batch in transport.records(topic) for record in batch] == []
            assert await transport.find(topic, "") == []
            assert await transport.queues(topic) == []
            assert await transport.pauses(topic) == {}
            assert await transport.audit(topic) == []
            assert await transport.parked(topic, Place.DEAD) == []
            assert len(await transport.parked(neighbour, Place.DEAD)) == 1
        # It can be begun anew.
        again = await WorkflowDispatcher(other).dispatch_workflow(STEPS, {"card": "fine"}, topic=topic)
        assert await other.find(topic, "") == [again]
