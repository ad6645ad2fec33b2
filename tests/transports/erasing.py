"""What is left on a broker of a workflow that was erased: inherited beside the transport contract.

A sentinel is put wherever a person's data can be, and looked for afterwards through every way in which anybody can
read; each broker's own part says besides what it holds itself.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.documents import workflow_document
from paigeant_console.model.fold import Fold
from paigeant_console.model.snapshot import read_rows
from paigeant_core import capsule
from paigeant_core import transition as moves
from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.erasure import is_marker
from paigeant_core.errors import DuplicateWorkflow, NonRetryable, Refused
from paigeant_core.journal import Record, State
from paigeant_core.operations import Cancel, DeadLetter, Erasure, Hold, Operations, Release, Replay, Retry
from paigeant_core.transition import Place
from paigeant_core.transports import Transport
from paigeant_core.worker import Worker
from tests.transports.contract import Connect
from tests.transports.hands import until
from tests.transports.operations import STEPS, open_shop

SENTINEL = "ann-4711@example.com"


def shown(record: Record) -> bytes:
    """All that a record says."""
    return record.encode_meta() + (record.body or b"")


async def all_read(transport: Transport, topic: str, *workflows: str) -> bytes:
    """Whatever a reader can get of a topic."""
    found = [shown(record) async for batch in transport.records(topic) for record in batch]
    found += map(shown, await transport.newest(topic, 1000))
    for place in (Place.DEAD, Place.HELD, Place.QUARANTINE):
        found += map(shown, await transport.parked(topic, place))
    for workflow in workflows:
        history = await transport.history(topic, workflow)
        found += map(shown, history)
        fold = Fold()
        fold.apply(history)
        found.append(msgspec.json.encode(workflow_document(fold, history, transport.clock.now())))
        found.append(await capsule.export(transport, topic, workflow, secrets=True))
    snapshot = await read_rows(transport, topic, payloads=True)
    found += [msgspec.json.encode(snapshot.document(row)) for row in snapshot.select(None)]
    found += snapshot.bodies.values()
    found += await transport.audit(topic)
    found += await transport.operation_entries(topic)
    return b"\n".join(found)


class ErasingContract:
    """Erasing on every transport."""

    async def on_broker(self, transport: Transport, topic: str) -> bytes:
        """What the broker itself holds of the topic, where it promises to take all of it away; else nothing."""
        return b""

    async def _three(self, transport: Transport, topic: str) -> dict[str, str]:
        """Workflows with the sentinel in all of them, and how each stands."""
        operations = Operations(transport, topic, operator="ann@desk")

        async def begin(*steps: str, **options: Any) -> str:
            return await WorkflowDispatcher(transport).dispatch_workflow(
                list(steps),
                {"email": SENTINEL, "card": "fine"},
                topic=topic,
                name=f"for {SENTINEL}",
                labels={"who": SENTINEL},
                **options,
            )

        async def stands(workflow: str, state: str) -> None:
            async def there() -> bool:
                standing = await operations.standing(workflow)
                return standing is not None and standing.state == state

            await until(there, f"{workflow} never was {state}")

        worker = Worker(topic=topic, name="w", drain=1)

        @worker.activity("break")
        async def break_(ctx: ActivityContext) -> None:
            raise NonRetryable(f"no account for {ctx.payload['email']}")

        @worker.activity("wait")
        async def wait(ctx: ActivityContext) -> None:
            ctx.hold(f"is {ctx.payload['email']} who she says?", until=transport.clock.now() + 3600)

        @worker.activity("notify")
        async def notify(ctx: ActivityContext) -> dict[str, Any]:
            return {"told": ctx.payload["email"]}

        serving = asyncio.create_task(worker.run(transport))
        done = await begin("wait", "notify", correlation_id="of-ann")
        dead = await begin("notify", "break")
        found = {done: "completed", dead: "dead", await begin("wait", "notify"): "held"}
        await stands(done, "held")
        await operations.execute(await operations.plan(Release({"answer": SENTINEL}), [done], reason="x"))
        await stands(dead, "dead")
        await operations.execute(await operations.plan(Replay(changes={"n": SENTINEL}), [dead], reason="x"))
        for workflow, state in found.items():
            await stands(workflow, state)
        worker.stop()
        await serving
        return found

    async def _erase(self, operations: Operations, *workflows: str) -> Erasure:
        return await operations.erase(await operations.plan_erasure(workflows, reason="she asked for it"))

    async def test_nothing_of_an_erased_workflow_is_found(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        states = await self._three(transport, topic)
        assert SENTINEL.encode() in await all_read(transport, topic, *states)
        records = {workflow: len(await transport.history(topic, workflow)) for workflow in states}
        report = await self._erase(Operations(transport, topic, operator="ann@desk"), *states)
        assert [result.outcome for result in report.results] == ["done"] * 3
        assert {result.correlation_id: result.before for result in report.results} == states
        assert [result.after for result in report.results] == ["completed", "cancelled", "cancelled"]
        for workflow, state in states.items():
            done = report.erased[workflow]
            assert done.records == records[workflow]
            assert done.parked > 0 or state == "completed"
            assert (done.until is None) == (not done.remains)
        for reader in (transport, await connect()):
            assert SENTINEL.encode() not in await all_read(reader, topic, *states)
            for workflow in states:
                history = await reader.history(topic, workflow)
                assert is_marker(history[-1])
                assert history[-1].detail["operator"] == "ann@desk"
                assert all(record.body is None for record in history)
            assert await reader.parked(topic, Place.DEAD) == []
            assert await reader.parked(topic, Place.HELD) == []
            assert SENTINEL.encode() not in await self.on_broker(reader, topic)
        entry = msgspec.json.decode((await transport.audit(topic))[-1])
        parked = sum(done.parked for done in report.erased.values())
        said = f"3 done, 0 skipped, 0 failed, {sum(records.values())} records and {parked} parked messages"
        assert (entry["action"], entry["targets"], entry["outcome"]) == ("erase", 3, said)
        assert {item["correlation_id"] for item in entry["workflows"]} == set(states)

    async def test_who_reads_on_forgets_what_is_erased(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        states = await self._three(transport, topic)
        bodies, fold = BodyCache(), Fold()
        following = console.records(topic, follow=True)
        async with aclosing(following):  # type: ignore[type-var]  # a generator in all of them
            async for batch in following:
                bodies.take(batch)
                fold.apply(batch)
                if not batch:
                    break
            assert SENTINEL.encode() in (bodies.get("of-ann") or b"")
            await self._erase(Operations(transport, topic), *states)
            async for batch in following:
                bodies.take(batch)
                fold.apply(batch)
                if sum(bool(row.erased_at) for row in fold.rows.values()) == 3:
                    break
        assert len(bodies) == 0
        documents = [fold.document(row, transport.clock.now()) for row in fold.rows.values()]
        assert SENTINEL.encode() not in msgspec.json.encode(documents)
        assert all(document["erased_at"] for document in documents)

    async def test_an_erased_workflow_is_over_and_its_id_stays_taken(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        states = await self._three(transport, topic)
        await self._erase(operations, *states)
        for workflow in states:
            assert await transport.find(topic, workflow) == [workflow]
            (again,) = (await operations.plan_erasure([workflow], reason="x")).lines
            assert not again.eligible
            assert "it was erased at" in again.why
            for action in (Retry(), Replay(), Cancel()):
                (line,) = (await operations.plan(action, [workflow], reason="x")).lines
                assert not line.eligible
            with pytest.raises(DuplicateWorkflow):
                await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {}, topic=topic, correlation_id=workflow)

    async def test_a_copy_that_was_planned_brings_nothing_erased_back(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(transport, topic)
        workflow = await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {"email": SENTINEL}, topic=topic)
        await operations.execute(await operations.plan(Cancel(), [workflow], reason="x"))
        plan = await operations.plan(Replay(as_new=True), [workflow], reason="again")
        await self._erase(Operations(console, topic, operator="bo"), workflow)
        (result,) = (await operations.execute(plan)).results
        assert result.outcome == "failed"
        assert "it moved meanwhile: bo was first, erase at" in result.reason
        assert await transport.find(topic, "") == [workflow]
        assert SENTINEL.encode() not in await all_read(transport, topic, workflow)

    async def test_what_waits_or_moved_is_not_erased(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        waiting = await WorkflowDispatcher(transport).dispatch_workflow(STEPS, {"email": SENTINEL}, topic=topic)
        (line,) = (await operations.plan_erasure([waiting], reason="x")).lines
        assert (line.eligible, line.why) == (
            False,
            "it is queued, and its message is on its way: cancel or dead-letter it first",
        )
        await operations.execute(await operations.plan(Hold(), [waiting], reason="x"))
        plan = await operations.plan_erasure([waiting], reason="x")
        for action in (Release(), DeadLetter()):
            await operations.execute(await operations.plan(action, [waiting], reason="x"))
            (moved,) = (await operations.erase(plan)).results
            assert (moved.outcome, moved.reason) == ("failed", "the workflow moved meanwhile: look again")
        standing = await operations.standing(waiting)
        assert standing is not None
        assert standing.message().payload == {"email": SENTINEL}
        with pytest.raises(Refused, match="read-only"):
            await Operations(transport, topic, read_only=True).plan_erasure([waiting], reason="x")
        with pytest.raises(Refused, match="limit is 1"):
            await Operations(transport, topic, limit=1).plan_erasure([waiting, "w2"], reason="x")

    async def test_what_was_erased_is_on_record_when_the_rest_is_broken_off(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic, operator="ann@desk")
        dispatcher = WorkflowDispatcher(transport)
        workflows = [await dispatcher.dispatch_workflow(STEPS, {}, topic=topic) for _ in range(3)]
        await operations.execute(await operations.plan(DeadLetter(), workflows, reason="x"))

        def nobody_reads(*_: object) -> None:
            raise BrokenPipeError

        plan = await operations.plan_erasure(workflows, reason="they asked for it")
        with pytest.raises(BrokenPipeError):
            await operations.erase(plan, progress=nobody_reads)
        erased = [is_marker((await transport.history(topic, workflow))[-1]) for workflow in workflows]
        assert erased == [True, False, False]
        entry = msgspec.json.decode((await transport.audit(topic))[-1])
        assert (entry["operator"], entry["action"], entry["targets"]) == ("ann@desk", "erase", 3)
        assert entry["outcome"].startswith("1 done, 0 skipped, 0 failed, ")
        assert entry["outcome"].endswith(" and 1 parked messages, broken off")
        assert [item["correlation_id"] for item in entry["workflows"]] == workflows[:1]

    async def test_a_late_result_of_an_erased_workflow_is_kept_nowhere(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic)
        async with open_shop(transport, topic) as shop:
            shop.gate.clear()
            workflow = await WorkflowDispatcher(transport).dispatch_workflow(
                ["charge"], {"email": SENTINEL}, topic=topic
            )

            async def running() -> bool:
                return any(status.running for status in await console.workers(topic))

            await until(running, "charge never started")
            await operations.execute(await operations.plan(DeadLetter(), [workflow], reason="x"))
            await self._erase(operations, workflow)
            shop.gate.set()

            async def idle() -> bool:
                return not await running()

            await until(idle, "the worker never came to an end")
        standing = await operations.standing(workflow)
        assert standing is not None
        assert (standing.state, is_marker(standing.record)) == (State.CANCELLED, True)
        assert SENTINEL.encode() not in await all_read(console, topic, workflow)
        assert SENTINEL.encode() not in await self.on_broker(console, topic)

    async def test_what_was_quarantined_of_a_workflow_is_named(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        operations = Operations(transport, topic)
        workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {"email": SENTINEL}, topic=topic)
        (first,) = await transport.history(topic, workflow)
        await operations.execute(await operations.plan(Cancel(), [workflow], reason="x"))
        found = moves.quarantine(
            first.body or b"", code="rollback", reason="older", activity="a", topic=topic, at=first.at, worker="w"
        )
        await transport.dispatch(topic, found, chosen_id=False)
        own = found.record.headers.correlation_id
        report = await self._erase(operations, workflow)
        assert f"quarantine has a message of it: erase {own} too" in report.erased[workflow].remains
        assert SENTINEL.encode() in await all_read(transport, topic)
        (result,) = (await self._erase(operations, own)).results
        assert (result.outcome, result.before, result.after) == ("done", "quarantined", "cancelled")
        assert SENTINEL.encode() not in await all_read(transport, topic)
        assert SENTINEL.encode() not in await self.on_broker(transport, topic)
