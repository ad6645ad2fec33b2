"""RabbitMQ: settling: acknowledgements, confirms, and copies that come again or wait for a slot."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiormq
import pytest
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic
from pamqp.common import FieldTable

from paigeant_core.message import decode_headers
from paigeant_core.transports.rabbitmq import intake, surplus
from paigeant_core.transports.rabbitmq.connection import Channel
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled
from tests.chaos.ledger import handed_on_twice
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands, until
from tests.transports.on_rabbitmq import consumer_of, dispatch, dying_before_its_ack, hands, kinds, never

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect


async def test_nothing_is_acknowledged_before_the_confirm(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    worker = Hands(transport, topic, "a")
    delivery = await worker.take_one()
    monkeypatch.setattr(consumer_of(worker)._desk.publisher, "send", never)
    settling = asyncio.create_task(worker.finish(delivery))
    await asyncio.sleep(0.3)
    assert not settling.done()
    assert not delivery.settled
    await consumer_of(worker)._crash()
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    async with hands(other, topic, "a", "b") as heir:
        again = await heir.take_one()
        assert again.body == delivery.body
        assert again.deaths == 1
        await heir.finish(again)
        await heir.finish(await heir.take_one())
    assert await kinds(other, topic, workflow) == ["dispatched", "advanced", "finished"]


async def test_a_copy_that_comes_again_after_its_confirm_is_not_run_again(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies between confirm and acknowledgement leaves a second copy."""
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with dying_before_its_ack(transport, topic, workflow, monkeypatch) as delivery:
        pass
    async with hands(other, topic, "a", "b") as heir:
        following = await heir.take_one()
        assert following.activity == "b"
        await heir.nothing(1.0)
        await heir.finish(following)
    records = await other.history(topic, workflow)
    assert [record.kind for record in records] == ["dispatched", "advanced", "superseded", "finished"]
    dropped = records[2]
    assert (dropped.detail["reason"], dropped.body) == ("handed on", delivery.body)
    assert dropped.state == ""


async def test_a_settle_whose_caller_is_cancelled_is_carried_out(connect: Any, topic: str) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        settling = asyncio.create_task(worker.finish(delivery))
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
    assert await kinds(transport, topic, workflow) == ["dispatched", "finished"]


async def test_many_settles_are_in_flight_at_once(connect: Any, topic: str) -> None:
    transport = await connect()
    workflows = await asyncio.gather(*(dispatch(transport, topic, "a", "b") for _ in range(100)))
    async with hands(transport, topic, "a", "b") as worker:
        left = 200
        while left:
            taken = await worker.take(32)
            results = await asyncio.gather(*(worker.finish(delivery) for delivery in taken))
            assert set(results) == {Settled.DONE}
            left -= len(taken)
    for workflow in workflows:
        assert await kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]


async def test_a_copy_that_waits_for_a_slot_goes_to_a_worker_that_has_one(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    async with hands(transport, topic, "a") as busy:
        await dispatch(transport, topic, "a")
        first = await busy.take_one()
        # Settling gives its consumer credit for the next, and nobody claims it there.
        await busy.finish(first)
        second = await dispatch(transport, topic, "a")
        await asyncio.sleep(0.3)
        async with hands(other, topic, "a") as idle:
            delivery = await idle.take_one()
            assert delivery.message is not None
            assert (delivery.message.correlation_id, delivery.deaths) == (second, 0)
            await idle.finish(delivery)


async def test_a_copy_is_not_given_back_while_a_settle_is_about_to_free_a_slot(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surplus, "PATIENCE", 600.0)
    transport, other = await connect(), await connect()
    async with hands(transport, topic, "a") as busy:
        await dispatch(transport, topic, "a")
        (first,) = await busy.take(2)
        publisher, confirmed = consumer_of(busy)._desk.publisher, asyncio.Event()
        send = publisher.send

        async def slow(items: Any) -> None:
            await confirmed.wait()
            await send(items)

        monkeypatch.setattr(publisher, "send", slow)
        settling = asyncio.create_task(busy.finish(first))
        second = await dispatch(transport, topic, "a")

        async def here() -> int:
            return len(consumer_of(busy)._buffer)

        await until(here, "not delivered")
        await asyncio.sleep(6 * surplus.SURPLUS)
        assert await here() == 1
        confirmed.set()
        assert await settling is Settled.DONE
        async with hands(other, topic, "a") as idle:
            delivery = await idle.take_one()
            assert delivery.message is not None
            assert delivery.message.correlation_id == second
            await idle.finish(delivery)


async def test_slots_that_become_free_together_bring_no_more_messages_than_there_are_slots(
    connect: Any, topic: str, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surplus, "SURPLUS", 600.0)
    monkeypatch.setattr(surplus, "PATIENCE", 600.0)
    monkeypatch.setattr(intake, "QUICK", 0.0)
    transport = await connect()
    for _ in range(8):
        await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        first = [*await worker.take(1), *await worker.take(1)]
        publisher, confirmed = consumer_of(worker)._desk.publisher, asyncio.Event()
        send = publisher.send

        async def slow(items: Any) -> None:
            await confirmed.wait()
            await send(items)

        monkeypatch.setattr(publisher, "send", slow)
        settling = [asyncio.create_task(worker.finish(delivery)) for delivery in first]
        await asyncio.sleep(0)
        # As a worker does while its settles are on the way: their slots are free.
        claiming = asyncio.create_task(worker.take(2))
        await asyncio.sleep(0.2)
        confirmed.set()
        held = await claiming
        await asyncio.gather(*settling)
        if len(held) < 2:
            held += await worker.take(1)
        await asyncio.sleep(0.2)
        queue = await channel.queue_declare(f"paigeant.{topic}.work.a", passive=True)
        assert queue.message_count == 4
        for delivery in held:
            await worker.finish(delivery)


async def test_a_worker_of_several_activities_holds_no_more_than_it_has_slots(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    for activity in ("a", "b", "c"):
        for _ in range(3):
            await dispatch(transport, topic, activity)

    async def ready() -> int:
        counts = [await channel.queue_declare(f"paigeant.{topic}.work.{name}", passive=True) for name in "abc"]
        return sum(count.message_count or 0 for count in counts)

    async with hands(transport, topic, "a", "b", "c") as worker:
        held = await worker.take(2)
        assert len(held) <= 2
        await asyncio.sleep(0.2)
        assert await ready() == 9 - len(held)
        for delivery in held:
            await worker.finish(delivery)


# -- publishes that one of their queues refused -----------------------------------------------


async def test_a_hop_that_the_work_queue_refused_is_journalled_once_and_goes_on_one_epoch_up(
    connect: Any, topic: str, channel: Channel, rabbit_url: str
) -> None:
    """The journal is a queue of its own: it has what the work queue refused."""
    transport, names = await connect(), Names(topic)
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a") as worker, await aiormq.connect(rabbit_url) as driver:
        delivery = await worker.take_one()
        # As a policy of somebody's may cap it; a cluster refuses so what is for a queue without a leader.
        full: FieldTable = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
        await channel.queue_declare(names.work("b"), durable=True, arguments=full)
        await channel.queue_bind(names.work("b"), names.exchange, "work.b")
        consumer_of(worker)._desk.topology._known.add((topic, "work.b"))
        filling = await driver.channel(publisher_confirms=True)
        with suppress(DeliveryError):
            while True:
                await filling.basic_publish(b"", routing_key=names.work("b"))
        settling = asyncio.create_task(worker.finish(delivery))

        async def refused() -> bool:
            return "operated" in await kinds(transport, topic, workflow)

        await until(refused, "not tried again")
        assert not settling.done()
        await channel.queue_purge(names.work("b"))
        assert await settling is Settled.DONE
        held = await channel.queue_declare(names.work("b"), passive=True)
        message = await channel.basic_get(names.work("b"), no_ack=True)
    records = await transport.history(topic, workflow)
    assert [record.kind for record in records[:2]] == ["dispatched", "advanced"]
    assert {record.kind for record in records[2:]} == {"operated"}
    assert handed_on_twice(records) == {}
    assert held.message_count == 1
    headers = decode_headers(message.body)
    assert (headers.hop, headers.epoch, headers.idempotency_key) == (2, len(records) - 1, f"{workflow}/1/2")
    assert records[-1].headers.epoch == headers.epoch


@pytest.mark.parametrize("steps", [("a", "b"), ("a",)])
async def test_a_hop_that_both_queues_took_though_the_broker_refused_it_is_handed_on_once(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch, steps: tuple[str, ...]
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, *steps)
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        lane = consumer_of(worker)._desk.publisher._lane
        assert lane is not None
        confirm = lane._confirm

        def refuse(tag: int, multiple: bool, error: Exception | None) -> None:
            del error
            monkeypatch.setattr(lane, "_confirm", confirm)
            confirm(tag, multiple, DeliveryError(None, Basic.Nack()))

        monkeypatch.setattr(lane, "_confirm", refuse)
        assert await worker.finish(delivery) is Settled.DONE
        for _ in steps[1:]:
            following = await worker.take_one()
            assert following.message is not None
            assert following.message.headers.epoch == 2
            assert await worker.finish(following) is Settled.DONE
        await worker.nothing()
    records = await transport.history(topic, workflow)
    assert handed_on_twice(records) == {}
    assert [record.kind for record in records].count("finished") == 1


async def test_a_worker_that_leaves_hands_on_nothing_that_it_gave_back(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    worker = Hands(transport, topic, "a")
    delivery = await worker.take_one()
    publisher, confirmed = consumer_of(worker)._desk.publisher, asyncio.Event()
    send = publisher.send

    async def slow(items: Any) -> None:
        if any(item.exchange == Names(topic).exchange for item in items):
            await confirmed.wait()
        await send(items)

    monkeypatch.setattr(publisher, "send", slow)
    settling = asyncio.create_task(worker.finish(delivery))

    async def under_way() -> Any:
        return delivery.token.settling

    task = await until(under_way, "it does not settle")
    async with hands(other, topic, "a", "b") as heir:
        leaving = asyncio.create_task(consumer_of(worker)._leave())
        again = await heir.take_one()
        assert again.body == delivery.body
        confirmed.set()
        await asyncio.wait([task])
        assert await heir.finish(again) is Settled.DONE
        await asyncio.gather(settling, leaving, return_exceptions=True)
        await consumer_of(worker)._crash()
        await heir.finish(await heir.take_one())
        await heir.nothing()
    assert await kinds(other, topic, workflow) == ["dispatched", "advanced", "finished"]
