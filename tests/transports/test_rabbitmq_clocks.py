"""RabbitMQ: a worker whose clock is wrong says so and claims nothing, though AMQP does not tell the time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.transports.rabbitmq import RabbitTransport, clocks, lookup, presence
from paigeant_core.transports.types import END
from tests.settable_clock import SettableClock
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands, until
from tests.transports.on_rabbitmq import consumer_of, dying_before_its_ack, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


@pytest.mark.parametrize("off", [-45.0, 45.0])
async def test_a_machine_whose_clock_is_off_claims_nothing_until_it_is_right(
    rabbit_url: str, topic: str, off: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "AGAIN", 0.05)
    monkeypatch.setattr(clocks, "_PATIENCE", 1.0)

    async def said() -> bool:
        return "clock is more than 30 s off" in caplog.text

    async with RabbitTransport(rabbit_url) as right:
        await WorkflowDispatcher(right).dispatch_workflow(["a"], {}, topic=topic)
        async with RabbitTransport(rabbit_url, clock=(clock := SettableClock(off))) as transport:
            hands = Hands(transport, topic, "a")
            with caplog.at_level(logging.WARNING, "paigeant"):
                claiming = asyncio.create_task(hands.take_one())
                await until(said, "it does not notice")
                assert not claiming.done()
                clock.off = 1.5
                await hands.finish(await claiming)
            # Set while it works: what has come meanwhile is left to others.
            caplog.clear()
            clock.off = off
            with caplog.at_level(logging.WARNING, "paigeant"):
                claiming = asyncio.create_task(hands.take_one())
                await WorkflowDispatcher(right).dispatch_workflow(["a"], {}, topic=topic)
                await until(said, "it does not notice that it was set")
            assert not claiming.done()
            other = Hands(right, topic, "a")
            await other.finish(await other.take_one())
            claiming.cancel()
            await asyncio.wait([claiming])
            await other.consumer.close()
            await hands.consumer.close()


async def test_a_clock_that_is_off_by_less_is_used(rabbit_url: str, topic: str) -> None:
    for off in (-25.0, 25.0):
        async with RabbitTransport(rabbit_url, clock=SettableClock(off)) as transport:
            await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=topic)
            hands = Hands(transport, topic, "a")
            await hands.finish(await hands.take_one())
            await hands.consumer.close()


async def test_a_step_whose_dispatchers_clock_is_ahead_is_not_run_again(
    connect: Any, rabbit_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "SKEW", 0.0)
    transport, other = await connect(), await connect()
    async with RabbitTransport(rabbit_url, clock=SettableClock(3600.0)) as ahead:
        workflow = await WorkflowDispatcher(ahead).dispatch_workflow(["a", "b"], {}, topic=topic)
    async with dying_before_its_ack(transport, topic, workflow, monkeypatch):
        await asyncio.sleep(2.5)  # the broker knows the time of a record to the second
    async with hands(other, topic, "a", "b") as heir:
        following = await heir.take_one()
        assert following.activity == "b"
        await heir.finish(following)
        await heir.nothing()

        async def dropped() -> bool:
            return "superseded" in await kinds(other, topic, workflow)

        await until(dropped, "the copy that was handed on is still there")
    assert sorted(await kinds(other, topic, workflow)) == ["advanced", "dispatched", "finished", "superseded"]


@pytest.mark.parametrize("off", [-25.0, 25.0])
async def test_a_worker_whose_clock_differs_from_the_readers_is_seen_for_as_long_as_it_lives(
    connect: Any, rabbit_url: str, topic: str, off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await connect()
    await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=topic)
    worker = Hands(transport, topic, "a")
    await worker.take_one()
    async with RabbitTransport(rabbit_url, clock=SettableClock(off)) as other:

        async def seen() -> list[str]:
            return [status.info.worker for status in await other.workers(topic)]

        async def gone() -> bool:
            return not await other.workers(topic)

        await until(seen, "it is not seen")
        for _ in range(8):
            assert await seen() == [worker.name]
            assert await other.silent(topic) == []
            await asyncio.sleep(0.5)
        monkeypatch.setattr(presence, "LEASE", 1.0)
        await consumer_of(worker)._crash()
        await until(gone, "it is seen though it died")
        assert [status.info.worker for status in await other.silent(topic)] == [worker.name]


async def test_who_follows_from_the_end_with_a_clock_that_is_ahead_misses_nothing_over_a_cut(
    connect: Any, rabbit_url: str, topic: str
) -> None:
    dispatcher = WorkflowDispatcher(await connect())
    await dispatcher.dispatch_workflow(["a"], {}, topic=topic)
    seen: list[str] = []
    there = asyncio.Event()
    async with RabbitTransport(rabbit_url, clock=SettableClock(25.0)) as reader:

        async def read() -> None:
            async for batch in reader.records(topic, start=END, follow=True):
                there.set()
                seen.extend(record.headers.correlation_id for record in batch)

        reading = asyncio.create_task(read())
        await there.wait()
        reader._line._sockets[-1].transport.abort()
        dispatched = [await dispatcher.dispatch_workflow(["a"], {}, topic=topic) for _ in range(3)]

        async def all_seen() -> bool:
            return len(seen) >= len(dispatched)

        await until(all_seen, "what came meanwhile is missing")
        assert seen == dispatched
        reading.cancel()
        await asyncio.wait([reading])
