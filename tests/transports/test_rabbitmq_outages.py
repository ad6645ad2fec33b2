"""RabbitMQ: a broker that goes down, and what came before its restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import PublishError, PublishUnknown
from paigeant_core.handoff import request
from paigeant_core.transports.rabbitmq import RabbitTransport, comeback, wire
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Delivery, Settled
from tests.servers import RabbitServer
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands
from tests.transports.on_rabbitmq import consumer_of, dispatch, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


async def test_a_copy_of_before_a_restart_goes_on_one_epoch_up(connect: Any, topic: str) -> None:
    """What the broker had not confirmed may be in a work queue and not in the journal: the fence must stop it."""
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    dying = Hands(transport, topic, "a")
    first = await dying.take_one()
    assert first.message is not None
    unknown = moves.done(first.message, {"by": "unknown"}, dying.span())
    await consumer_of(dying)._crash()
    async with hands(other, topic, "a", "b") as heir:
        other.fence(Names(topic)).booted_at = transport.clock.now()
        (item,) = wire.moved(Names(topic), unknown, now=0)
        await transport._topology.work(Names(topic), "b")
        await transport._publisher.send([item._replace(exchange="", key=f"paigeant.{topic}.work.b")])
        again = await heir.take_one()
        if again.activity == "b":
            # It came before the fence knew: its result is refused.
            late, again = again, await heir.take_one()
            assert await heir.finish(late) is Settled.SUPERSEDED
        assert again.message is not None
        assert (again.activity, again.message.headers.epoch) == ("a", 2)
        assert again.message.headers.idempotency_key == first.message.headers.idempotency_key
        await heir.finish(again)
        await heir.finish(await heir.take_one())
        await heir.nothing()
    assert [kind for kind in await kinds(other, topic, workflow) if kind != "superseded"] == [
        "dispatched", "operated", "advanced", "finished",
    ]  # fmt: skip


def hand_on_unknown_to_the_journal(
    monkeypatch: pytest.MonkeyPatch,
    transport: RabbitTransport,
    worker: Hands,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """What the worker publishes next comes into the queue of b alone; then the broker restarts, and its line breaks."""
    publisher = consumer_of(worker)._desk.publisher
    send = publisher.send

    async def half(items: Any) -> None:
        monkeypatch.setattr(publisher, "send", send)
        await send([item._replace(exchange="", key=Names(worker.topic).work("b")) for item in items])
        if meanwhile is not None:
            await meanwhile()
        transport.fence(Names(worker.topic)).booted_at = transport.clock.now()
        for writer in consumer_of(worker)._line._sockets:
            writer.transport.abort()
        raise PublishUnknown("no confirm came")

    monkeypatch.setattr(publisher, "send", half)


async def ask_to_cancel(transport: RabbitTransport, topic: str, delivery: Delivery) -> None:
    """As an operator's console does, of the step that runs."""
    assert delivery.message is not None
    headers = delivery.message.headers
    asked = request(headers, transport.clock.now(), "cancel", {"operator": "ann@desk"})
    assert await transport.request(topic, asked, expect=headers.message_id) is Settled.DONE


async def test_what_was_asked_of_a_step_is_heeded_where_its_copy_goes_on_one_epoch_up(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    dying = Hands(transport, topic, "a")
    await ask_to_cancel(other, topic, await dying.take_one())
    await consumer_of(dying)._crash()
    async with hands(other, topic, "a", "b") as heir:
        other.fence(Names(topic)).booted_at = transport.clock.now()
        again = await heir.take_one()
        assert again.message is not None
        assert (again.activity, again.message.headers.epoch) == ("a", 2)
        assert await heir.finish(again) is Settled.DONE
        await heir.nothing()
    records = await other.history(topic, workflow)
    assert [record.kind for record in records] == ["dispatched", "operated", "operated", "operated", "cancelled"]
    assert [record.detail.get("operator") for record in records[1:]] == ["ann@desk", None, "ann@desk", "ann@desk"]


async def test_a_cancelled_step_that_was_handed_on_unknown_to_the_journal_is_stopped(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        hand_on_unknown_to_the_journal(monkeypatch, transport, worker, lambda: ask_to_cancel(other, topic, delivery))
        assert await worker.finish(delivery) is Settled.DONE
    async with hands(other, topic, "b") as heir:
        await heir.nothing(1.0)
    records = await other.history(topic, workflow)
    assert [record.kind for record in records] == ["dispatched", "operated", "cancelled", "superseded"]
    assert records[2].headers.epoch == 2


async def test_a_result_that_went_up_an_epoch_is_not_dropped_with_its_like_that_the_journal_does_not_know(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        hand_on_unknown_to_the_journal(monkeypatch, transport, worker)
        assert await worker.finish(delivery) is Settled.DONE
    async with hands(other, topic, "b") as heir:
        # The one that came first is outdated; the other one has all its bytes but the epoch.
        following = await heir.take_one()
        assert following.message is not None
        assert following.message.headers.epoch == 2
        assert await heir.finish(following) is Settled.DONE
        await heir.nothing()
    records = await other.history(topic, workflow)
    assert [record.kind for record in records] == ["dispatched", "advanced", "superseded", "finished"]
    assert records[2].detail["reason"] == "fenced"


@pytest.mark.rabbitmq
@pytest.mark.timeout(240)
async def test_a_message_larger_than_the_broker_takes_is_refused_and_stops_nobody(
    own_server: RabbitServer, topic: str
) -> None:
    transport = RabbitTransport(own_server.url)
    large = {"x": "y" * 150_000}
    with pytest.raises(PublishError, match="max_message_size is 100000"):
        await WorkflowDispatcher(transport).dispatch_workflow(["a"], large, topic=topic)
    workflow = await dispatch(transport, topic, "a", "b")
    others = [await dispatch(transport, topic, "a") for _ in range(7)]
    async with hands(transport, topic, "a") as worker:
        held: list[Delivery] = []
        while len(held) < 8:
            held += await worker.take(8)
        (mine,) = [item for item in held if item.message and item.message.correlation_id == workflow]
        results = await asyncio.gather(
            *(worker.finish(item, large if item is mine else None) for item in held), return_exceptions=True
        )
        (refused,) = [result for result in results if result is not Settled.DONE]
        assert isinstance(refused, PublishError)
        assert "max_message_size is 100000" in str(refused)
        assert await worker.bury(mine) is Settled.DONE
    assert await kinds(transport, topic, workflow) == ["dispatched", "dead_lettered"]
    for other in others:
        assert await kinds(transport, topic, other) == ["dispatched", "finished"]
    await transport.disconnect()


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_worker_goes_on_after_the_broker_was_killed(own_server: RabbitServer, topic: str) -> None:
    transport = RabbitTransport(own_server.url)
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        await asyncio.to_thread(own_server.flush)
        await asyncio.to_thread(own_server.kill)
        settling = asyncio.create_task(worker.finish(delivery))
        await asyncio.sleep(0.5)
        assert not settling.done()
        await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(60):
            assert await settling is Settled.DONE
            following = await worker.consumer.claim(1)
            assert [item.activity for item in following] == ["b"]
            await worker._admit(following[0])
            await worker.finish(following[0])
        assert await kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]
    await transport.disconnect()


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_step_that_runs_while_the_broker_is_restarted_is_cancelled_as_it_was_asked(
    own_server: RabbitServer, topic: str
) -> None:
    transport = RabbitTransport(own_server.url)
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        await ask_to_cancel(transport, topic, delivery)
        await asyncio.to_thread(own_server.flush)
        await asyncio.to_thread(own_server.restart)
        async with asyncio.timeout(60):
            assert await worker.finish(delivery) is Settled.DONE
        await worker.nothing(2.0)
    assert await kinds(transport, topic, workflow) == ["dispatched", "operated", "cancelled"]
    await transport.disconnect()


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_hop_that_only_the_journal_kept_is_published_again(
    own_server: RabbitServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker dies with a hop in the journal and not in the work queue, its confirm not sent."""
    monkeypatch.setattr(comeback, "SKEW", 0.0)
    transport = RabbitTransport(own_server.url)
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        publisher = consumer_of(worker)._desk.publisher
        send = publisher.send
        killed = asyncio.Event()

        async def half(items: Any) -> None:
            monkeypatch.setattr(publisher, "send", send)
            # Into the journal's queue alone, as if the work queue had not written it.
            await send([item._replace(exchange="", key=f"paigeant.{topic}.journal") for item in items])
            await asyncio.to_thread(own_server.flush)
            await asyncio.to_thread(own_server.kill)
            killed.set()
            raise PublishUnknown("no confirm came")

        monkeypatch.setattr(publisher, "send", half)
        settling = asyncio.create_task(worker.finish(delivery))
        async with asyncio.timeout(60):
            await killed.wait()
        await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(90):
            assert await settling is Settled.DONE
            (following,) = await worker.consumer.claim(1)
            message = await worker._admit(following)
            assert message is not None
            assert (following.activity, message.headers.epoch) == ("b", 2)
            await worker.finish(following)
        records = await transport.history(topic, workflow)
        assert [record.kind for record in records] == ["dispatched", "advanced", "operated", "finished"]
        assert records[2].detail["action"] == "recover"
    await transport.disconnect()
