"""Dispatching, what a transport tells of a topic, and the low-level form, on every transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import DuplicateWorkflow, IllegalTransition
from paigeant_core.journal import Kind, State
from paigeant_core.transition import Place
from paigeant_core.transports.types import END, START, Settled, holding
from tests.transports.contract import Connect, TransportContract
from tests.transports.hands import PATIENCE, until


class ObservingContract(TransportContract):
    """What goes in from outside, and what is seen from there."""

    # -- dispatch -----------------------------------------------------------------------

    async def test_the_same_chosen_id_twice_is_refused(self, connect: Connect, topic: str) -> None:
        one, two = await connect(), await connect()
        await self.dispatch(one, topic, "a", correlation_id="chosen-1")
        with pytest.raises(DuplicateWorkflow, match="chosen-1"):
            await self.dispatch(two, topic, "a", correlation_id="chosen-1")
        async with self.hands(one, topic, "a") as worker:
            await worker.finish(await worker.take_one())
            await worker.nothing()
        with pytest.raises(DuplicateWorkflow, match="chosen-1"):
            await self.dispatch(one, topic, "a", correlation_id="chosen-1")

    async def test_of_two_dispatches_of_one_id_at_once_one_wins(self, connect: Connect, topic: str) -> None:
        one, two = await connect(), await connect()
        results = await asyncio.gather(
            self.dispatch(one, topic, "a", correlation_id="chosen-2"),
            self.dispatch(two, topic, "a", correlation_id="chosen-2"),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["DuplicateWorkflow", "str"]

    # -- observing ----------------------------------------------------------------------

    async def test_reading_the_journal_takes_nothing(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        for _ in range(2):
            assert [item.headers.correlation_id for item in await self.journal(transport, topic)] == [workflow]
        async with self.hands(transport, topic, "a") as worker:
            assert await worker.finish(await worker.take_one()) is Settled.DONE

    async def test_the_journal_is_read_on_after_a_position(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflows = [await self.dispatch(transport, topic, "a") for _ in range(5)]
        records = await self.journal(transport, topic)
        assert [record.headers.correlation_id for record in records] == workflows
        rest = await self.journal(transport, topic, records[2].position)
        assert [record.headers.correlation_id for record in rest] == workflows[3:]
        assert await self.journal(transport, topic, records[4].position) == []

    async def test_the_end_of_the_journal_can_be_read_without_the_rest(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        assert await transport.newest(topic, 3) == []
        workflows = [await self.dispatch(transport, topic, "a") for _ in range(5)]
        records = await self.journal(transport, topic)
        for limit, expected in ((1, workflows[4:]), (3, workflows[2:]), (50, workflows)):
            newest = await transport.newest(topic, limit)
            assert [record.headers.correlation_id for record in newest] == expected
            assert [record.position for record in newest] == [record.position for record in records[-limit:]]
            assert newest[-1].body == records[-1].body

    async def test_of_large_records_a_few_of_the_end_are_read(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        large = {"pad": "x" * 200_000}
        workflows = [await self.dispatch(transport, topic, "a", variables=large) for _ in range(30)]
        newest = [record.headers.correlation_id for record in await transport.newest(topic, 500)]
        assert newest == workflows[-len(newest) :]
        if transport.scheme != "memory":
            assert 8 <= len(newest) <= 20, "a slow line is to bring them soon"

    async def test_many_parked_messages_come_newest_first_in_batches(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        # Of sizes that differ, so that as many are asked for as may come at once.
        sizes = (10, 200_000, 10, 60_000, 10)
        payloads = [{"pad": "x" * sizes[number % 5]} for number in range(20)]
        workflows = [await self.dispatch(transport, topic, "a", variables=payload) for payload in payloads]
        async with self.hands(transport, topic, "a") as worker:
            for _ in workflows:
                await worker.bury(await worker.take_one())
        for limit, expected in ((1000, workflows[::-1]), (20, workflows[::-1]), (11, workflows[:8:-1])):
            found = [record async for batch in transport.parked_batches(topic, Place.DEAD, limit) for record in batch]
            assert [record.headers.correlation_id for record in found] == expected
            whole = await transport.parked(topic, Place.DEAD, limit)
            assert [(record.id, record.body) for record in found] == [(record.id, record.body) for record in whole]

    async def test_how_much_there_is_to_read_is_told_or_nothing(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        for _ in range(3):
            await self.dispatch(transport, topic, "a")
        second = (await self.journal(transport, topic))[1]
        assert await transport.ahead(topic, START) in (3, None)
        assert await transport.ahead(topic, second.position) in (1, None)

    async def test_a_follower_sees_what_is_journalled_later(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        await self.dispatch(transport, topic, "a")
        seen: list[str] = []
        ready = asyncio.Event()

        async def follow() -> None:
            async for batch in other.records(topic, start=END, follow=True):
                seen.extend(record.headers.correlation_id for record in batch)
                ready.set()
                if len(seen) >= 3:
                    return

        following = asyncio.create_task(follow())
        await asyncio.wait_for(ready.wait(), PATIENCE)
        later = [await self.dispatch(transport, topic, "a") for _ in range(3)]
        await asyncio.wait_for(following, PATIENCE)
        assert seen == later

    async def test_an_empty_topic_reads_as_nothing(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        assert await self.journal(transport, topic) == []
        assert await transport.history(topic, "nobody") == []
        assert await transport.find(topic, "no") == []
        assert await transport.queues(topic) == []
        assert await transport.workers(topic) == []
        for place in (Place.DEAD, Place.HELD, Place.QUARANTINE):
            assert await transport.parked(topic, place) == []
        assert await transport.audit(topic) == []

    async def test_records_carry_the_brokers_or_the_writers_time(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        before = transport.clock.now()
        await self.dispatch(transport, topic, "a")
        (record,) = await self.journal(transport, topic)
        assert before - 2 <= record.at <= transport.clock.now() + 2

    async def test_an_id_is_found_by_its_prefix(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        for workflow in ("abc-1", "abc-2", "abd-1", "abc"):
            await self.dispatch(transport, topic, "a", correlation_id=workflow)
        assert sorted(await transport.find(topic, "abc-")) == ["abc-1", "abc-2"]
        assert await transport.find(topic, "abc") == ["abc"]
        assert await transport.find(topic, "abd") == ["abd-1"]
        assert await transport.find(topic, "zz") == []

    async def test_workers_say_what_they_run(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()
            assert delivery.message is not None
            worker.consumer.report([holding(delivery.message.headers, transport.clock.now())])

            async def said() -> Any:
                return [status for status in await other.workers(topic) if status.running]

            (status,) = await until(said, "no worker said what it runs")
            assert status.info.worker == worker.name
            assert status.info.activities == ("a",)
            assert [(held.correlation_id, held.activity, held.hop) for held in status.running] == [(workflow, "a", 1)]
            await worker.finish(delivery)

        async def gone() -> bool:
            return await other.workers(topic) == []

        await until(gone, "a worker that stopped is still there")

    async def test_queue_figures(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        for _ in range(3):
            await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()

            async def figures() -> Any:
                (queue,) = await transport.queues(topic)
                return queue if queue.ready == 2 else None

            queue = await until(figures, "never two ready")
            assert queue.activity == "a"
            assert queue.in_flight in (1, None)
            await worker.finish(delivery)

    async def test_topics_are_apart(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        other = f"{topic}-other"
        await self.dispatch(transport, topic, "a")
        async with self.hands(transport, other, "a") as worker:
            await worker.nothing()
        kinds = [record.kind for record in await self.journal(transport, other)]
        assert set(kinds) <= {Kind.WORKER}

    async def test_entries_of_operations_are_kept_apart_from_the_audit(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        assert await transport.operation_entries(topic) == []
        for number in range(3):
            await transport.append_operation(topic, b'{"n":%d}' % number)
        assert await other.operation_entries(topic) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
        assert await other.operation_entries(topic, limit=2) == [b'{"n":1}', b'{"n":2}']
        assert await other.audit(topic) == []

    async def test_the_audit_is_kept_in_order(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        for number in range(3):
            await transport.append_audit(topic, b'{"n":%d}' % number)
        assert await other.audit(topic) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
        assert await other.audit(topic, limit=2) == [b'{"n":1}', b'{"n":2}']

    async def test_the_broker_says_what_it_is(self, connect: Connect) -> None:
        transport = await connect()
        info = await transport.broker_info()
        assert info.broker
        assert info.version

    # -- the low-level form -------------------------------------------------------------

    async def test_a_low_level_handler_marks_complete_and_publishes(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        async with asyncio.timeout(PATIENCE):
            async for raw, message in transport.subscribe(topic):
                step = message.routing_slip.next_step()
                assert step is not None
                message.payload[str(step)] = "done"
                message.routing_slip.mark_complete(str(step))
                await transport.publish(topic, message)
                with pytest.raises(IllegalTransition):
                    await transport.publish(topic, message)
                await transport.ack(raw)
                if message.routing_slip.finished:
                    break
        final = await self.reaches(transport, topic, workflow, State.COMPLETED)
        assert final.message is not None
        assert final.message.payload == {"n": 1, "a": "done", "b": "done"}

    async def test_a_bare_ack_cancels_and_a_nack_retries(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        attempts = []
        async with asyncio.timeout(PATIENCE):
            async for raw, message in transport.subscribe(topic, "a"):
                attempts.append(message.headers.attempt)
                if len(attempts) == 1:
                    await transport.nack(raw)
                    continue
                await transport.ack(raw)
                break
        assert attempts == [1, 2]
        record = await self.reaches(transport, topic, workflow, State.CANCELLED)
        assert record.detail["reason"] == "acknowledged without hand-off"

    async def test_a_step_to_be_undone_is_not_given_to_a_low_level_handler(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "a", "b", on_failure="compensate")
        done: list[str] = []

        async def handle() -> None:
            async for _, message in transport.subscribe(topic, "a"):
                done.append(message.headers.idempotency_key)
                message.routing_slip.mark_complete("a")
                await transport.publish(topic, message)

        handling = asyncio.create_task(handle())
        try:
            async with self.hands(transport, topic, "b") as worker:
                await worker.bury(await worker.take_one())
            await self.reaches(transport, topic, workflow, State.COMPENSATED)
        finally:
            handling.cancel()
            await asyncio.wait([handling])
        assert handling.cancelled()
        assert done == [f"{workflow}/1/1", f"{workflow}/1/2"]
        told = [record.detail for record in await transport.history(topic, workflow)]
        assert [item["undo"] for item in told if "undo" in item] == ["no compensator"] * 2

    async def test_publishing_a_message_without_delivery_dispatches_it(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        message = new_workflow(["a"], {"n": 1}, topic=topic, at=transport.clock.now())
        await transport.publish(topic, message)
        with pytest.raises(DuplicateWorkflow):
            await transport.publish(topic, message)
        async with self.hands(transport, topic, "a") as worker:
            await worker.finish(await worker.take_one())
        assert (await self.last(transport, topic, message.correlation_id)).state == State.COMPLETED
