"""RabbitMQ: messages that others publish, headers that nobody can read, and records on the wire."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import aiormq
import pytest
from aiormq.abc import ChannelFrame
from pamqp.header import ContentHeader

from paigeant_core import transition as moves
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from paigeant_core.transition import Place
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Channel, Properties
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled
from tests.transports import on_rabbitmq
from tests.transports.contract import PutRaw
from tests.transports.hands import until
from tests.transports.on_rabbitmq import dispatch, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect
put_raw = on_rabbitmq.put_raw


async def test_what_others_publish_to_the_exchange_is_no_record(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    foreign: list[Any] = [None, {"r": "{"}, {"r": 7}, {"r": '{"kind":"x"}', "bare": True}, {"split": 10_000_000}]
    for headers in foreign:
        await channel.basic_publish(
            b"\x00\xff", exchange=f"paigeant.{topic}", routing_key="whatever", properties=Properties(headers=headers)
        )
    second = await dispatch(transport, topic, "a")
    records = [record async for batch in transport.records(topic) for record in batch]
    assert [record.headers.correlation_id for record in records] == [workflow, second]
    assert await transport.find(topic, "") == [workflow, second]


async def test_forged_headers_do_not_stop_a_consumer(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.finish(await worker.take_one())
        forged: list[dict[str, Any]] = [
            {"timer": "x", "place": "nowhere", "since": 1},
            {"timer": "x", "place": "hell", "since": "x"},
            {"timer": "x", "place": [], "since": 1},
            {"due": "soon", "rest": []},
            {"due": (1 << 63) - 1, "rest": (1 << 63) - 1},
            {"deaths": -5, "again": 1, "x-delivery-count": "many"},
            {"deaths": 1 << 40},
            {"split": 3, "r": 1},
            {"bare": True},
            {"prev": "x" * 10_000},
        ]
        for headers in forged:
            await channel.basic_publish(
                b"garbage",
                routing_key=f"paigeant.{topic}.work.a",
                properties=Properties(headers=headers, message_id="x" * 255, correlation_id="\x1b[31m"),
            )
        last = await dispatch(transport, topic, "a")
        delivery = await worker.take_one()
        assert delivery.message is not None
        assert delivery.message.correlation_id == last
        await worker.finish(delivery)
        asking = asyncio.create_task(worker.take_one())

        async def all_there() -> bool:
            return len(await transport.parked(topic, Place.QUARANTINE)) == len(forged)

        await until(all_there, "not every forged message was quarantined")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("how", ["nested", "time"])
async def test_headers_that_the_driver_cannot_read_do_not_end_the_line(
    connect: Any, topic: str, rabbit_url: str, how: str
) -> None:
    """A table in a table in a table…, and a time after the last one; by hand, as no driver writes them."""
    table = b"\x01t" + b"T" + b"\x7f" * 8
    if how == "nested":
        for _ in range(3000):
            table = b"\x01aF" + len(table).to_bytes(4, "big") + table
    transport = await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.finish(await worker.take_one())
        # Until both are here: what was published unconfirmed can be lost where its channel ends right behind it.
        async with await aiormq.connect(rabbit_url) as publishing:
            channel = await publishing.channel()
            for _ in range(2):
                await _publish_by_hand(channel, f"paigeant.{topic}.work.a", table, b"garbage")
            last = await dispatch(transport, topic, "a")
            delivery = await worker.take_one()
            assert delivery.message is not None
            assert delivery.message.correlation_id == last
            await worker.finish(delivery)

            async def parked() -> bool:
                return [record.body for record in await transport.parked(topic, Place.QUARANTINE)] == [b"garbage"] * 2

            # The one of another connection may come behind the last: somebody has to claim.
            claiming = asyncio.create_task(worker.take_one())
            await until(parked, "not both were quarantined")
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)


async def _publish_by_hand(channel: Any, queue: str, table: bytes, body: bytes) -> None:
    head = struct.pack(">HHQH", 60, 0, len(body), 0x2000) + len(table).to_bytes(4, "big") + table
    method = struct.pack(">HHHB", 60, 40, 0, 0) + bytes((len(queue),)) + queue.encode() + b"\0"
    data = b""
    for kind, part in ((1, method), (2, head), (3, body)):
        data += struct.pack(">BHI", kind, channel.number, len(part)) + part + b"\xce"
    await channel.connection.write_queue.put(ChannelFrame(payload=data, should_close=False))
    await channel.basic_qos(prefetch_count=1)  # its answer comes behind


async def test_a_message_id_too_long_for_amqp_is_settled_all_the_same(
    connect: Any, put_raw: PutRaw, topic: str
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a") as worker:
        first = await worker.take_one()
        assert first.message is not None
        raw = first.body.replace(first.message.headers.message_id.encode(), b"x" * 300)
        await put_raw(topic, "a", raw)
        await worker.bury(await worker.take_one())
        await worker.finish(first)
    assert sorted(await kinds(transport, topic, workflow)) == ["advanced", "dead_lettered", "dispatched"]


async def test_a_long_word_about_a_message_is_kept(connect: Any, topic: str) -> None:
    """AMQP headers must fit into one frame; a result that cannot be merged may be megabytes."""
    transport = await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.message is not None
        transition = moves.dead_letter(
            delivery.message, 1.0, reason="result_invalid", body=delivery.body, detail={"result": "é" * 300_000}
        )
        assert await worker.consumer.settle(delivery, transition) is Settled.DONE
    (record,) = await transport.parked(topic, Place.DEAD)
    assert record.body == delivery.body
    assert record.detail["result"] == "é" * 300_000


def test_records_survive_the_wire() -> None:
    names = Names("t")
    for body in (None, b"", b"\x00\xff"):
        for detail in ({}, {"x": "y" * 50_000}):
            record = Record(
                Kind.QUARANTINED, Headers(correlation_id="q-1", message_id="m"), state="quarantined",
                detail=detail, body=body, at=12.5,
            )  # fmt: skip
            item = wire.journalled(names, record, "quarantine.a", prev="p")
            header = ContentHeader(properties=item.properties)
            message = aiormq.abc.DeliveredMessage(
                aiormq.spec.Basic.GetEmpty(),
                header,
                item.body,
                None,  # type: ignore[arg-type]
            )
            back = wire.record_of(message, "7")
            assert back is not None
            assert (back.kind, back.state, back.body, back.detail, back.at, back.position) == (
                "quarantined", "quarantined", body, detail, 12.5, "7",
            )  # fmt: skip


# -- values that nobody of ours writes --------------------------------------------------------


@pytest.mark.parametrize("activities", [5, [5], [["b"]], "b", {"b": 1}])
async def test_what_a_worker_says_that_it_serves_may_be_nonsense(connect: Any, topic: str, activities: Any) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    detail = {"event": "started", "activities": activities}
    record = Record(Kind.WORKER, Headers(message_id="m", topic=topic), worker="w", detail=detail, at=1.0)
    await transport._publisher.send([wire.plain(Names(topic), record)])
    assert await transport.find(topic, "") == [workflow]
    assert transport.journal_index(Names(topic)).activities == {"a"}


async def test_a_deadline_that_began_at_no_time_is_a_message_like_any_other(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    headers = {"r": record.encode_meta().decode(), "timer": "x", "place": "nowhere", "since": 1 << 62}
    async with hands(transport, topic, "a") as worker:
        await worker.finish(await worker.take_one())
        await channel.basic_publish(
            record.body,
            routing_key=f"paigeant.{topic}.work.a",
            properties=Properties(headers=headers, message_id="forged"),
        )
        delivery = await worker.take_one()
        assert delivery.message is not None
        assert delivery.message.correlation_id == workflow
        await worker.finish(delivery)
