"""The RabbitMQ transport: the contract, and what only RabbitMQ has."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiormq
import httpx
import pytest
from aiormq.abc import ChannelFrame
from pamqp.header import ContentHeader

from paigeant_core import ActivityContext, Worker
from paigeant_core import transition as moves
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import (
    AuthenticationError,
    ConfigError,
    Conflict,
    ConnectError,
    InvalidMessage,
    PublishError,
    PublishUnknown,
    Unsupported,
)
from paigeant_core.journal import Kind, Record, State
from paigeant_core.limits import JOURNAL_BYTES
from paigeant_core.message import Headers
from paigeant_core.transition import Place
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.rabbitmq import (
    RabbitConsumer,
    RabbitTransport,
    comeback,
    connection,
    consumer,
    locks,
    surplus,
    wire,
)
from paigeant_core.transports.rabbitmq.connection import Channel, Properties
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.topology import RUNGS, STREAMS, WORK, Names, rung_for
from paigeant_core.transports.types import START, Delivery, Settled, WorkerInfo
from tests.servers import RabbitServer, SharedServer, free_port
from tests.transports.contract import Connect, Hands, PutRaw, TransportContract, until
from tests.transports.erasing import ErasingContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract
from tests.transports.verbs import VerbsContract

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
async def connect(rabbit_url: str) -> AsyncIterator[Connect]:
    made: list[RabbitTransport] = []

    async def make() -> RabbitTransport:
        transport = RabbitTransport(rabbit_url)
        await transport.connect()
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.disconnect()


@pytest.fixture
async def channel(rabbit_url: str) -> AsyncIterator[Channel]:
    """The driver itself, to look and act behind the library's back."""
    driver = await aiormq.connect(rabbit_url)
    yield await driver.channel()
    await driver.close()


@pytest.fixture
def put_raw(channel: Channel) -> PutRaw:
    async def put(topic: str, activity: str, raw: bytes) -> None:
        await channel.basic_publish(
            raw, routing_key=f"paigeant.{topic}.work.{activity}", properties=Properties(delivery_mode=2)
        )

    return put


class TestContract(
    TransportContract, OperationsContract, VerbsContract, PausesContract, SchemasContract, ErasingContract
):
    """The contract on RabbitMQ."""

    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def put_raw(self, put_raw: PutRaw) -> PutRaw:
        return put_raw

    async def heard(self, transport: Transport, topic: str) -> None:
        assert isinstance(transport, RabbitTransport)
        await transport.fence(Names(topic)).catch_up()

    async def heeded(self, transport: Transport, topic: str, paused: set[str]) -> None:
        await self.heard(transport, topic)
        await asyncio.sleep(0.05)  # the consumer that was cancelled may have been given one more


# -- helpers ------------------------------------------------------------------------------


async def dispatch(transport: RabbitTransport, topic: str, *steps: str, **options: Any) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow(list(steps), {"n": 1}, topic=topic, **options)


@asynccontextmanager
async def hands(transport: RabbitTransport, topic: str, *activities: str) -> AsyncIterator[Hands]:
    worker = Hands(transport, topic, *activities)
    try:
        yield worker
    finally:
        await worker.consumer.close()


def consumer_of(worker: Hands) -> RabbitConsumer:
    assert isinstance(worker.consumer, RabbitConsumer)
    return worker.consumer


async def kinds(transport: RabbitTransport, topic: str, workflow: str) -> list[str]:
    return [str(record.kind) for record in await transport.history(topic, workflow)]


def cut_line(worker: Hands) -> None:
    """Break the consumer's connection; it is still alive and connects again."""
    for writer in consumer_of(worker)._line._sockets:
        writer.transport.abort()


async def never(*_: Any) -> None:
    await asyncio.Event().wait()


# -- what stands on the broker --------------------------------------------------------------


async def test_names_and_arguments_of_what_a_topic_has(connect: Any, topic: str, rabbit_server: SharedServer) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a", "b", correlation_id="mine")
    async with hands(transport, topic, "a", "b") as worker:
        await worker.fail(await worker.take_one(), delay=0.1)
        await worker.bury(await worker.take_one())
        await transport.append_audit(topic, b"{}")
        async with httpx.AsyncClient(auth=("guest", "guest"), base_url=rabbit_server.management_url or "") as api:
            queues = {item["name"]: item for item in (await api.get("/api/queues/%2F")).json()}
            exchanges = {item["name"]: item for item in (await api.get("/api/exchanges/%2F")).json()}
            bindings = {
                (item["source"], item["routing_key"], item["destination"])
                for item in (await api.get("/api/bindings/%2F")).json()
            }
    base = f"paigeant.{topic}"
    mine = {name.removeprefix(base + ".") for name in queues if name.startswith(base + ".")}
    assert mine == {"work.a", "work.b", "journal", "dead", "fence", "ids", "audit", "workers", "delay.100"}
    for name in mine & STREAMS.keys():
        assert queues[f"{base}.{name}"]["type"] == "stream"
        assert queues[f"{base}.{name}"]["arguments"] == STREAMS[name]
    assert STREAMS["journal"]["x-max-length-bytes"] == JOURNAL_BYTES
    assert (STREAMS["journal"]["x-max-age"], STREAMS["dead"]["x-max-age"]) == ("7D", "90D")
    assert queues[f"{base}.work.a"]["type"] == "quorum"
    rung = queues[f"{base}.delay.100"]
    assert rung["type"] == "quorum"
    assert rung["arguments"]["x-message-ttl"] == 100
    assert rung["arguments"]["x-dead-letter-exchange"] == f"{base}.due"
    assert rung["arguments"]["x-dead-letter-strategy"] == "at-least-once"
    assert rung["arguments"]["x-overflow"] == "reject-publish"
    assert (exchanges[base]["type"], exchanges[base]["durable"]) == ("topic", True)
    assert (exchanges[f"{base}.due"]["type"], exchanges[f"{base}.delay"]["type"]) == ("direct", "topic")
    assert {
        (base, "#", f"{base}.journal"),
        (base, "work.a", f"{base}.work.a"),
        (base, "dead.#", f"{base}.dead"),
        (base, "fence", f"{base}.fence"),
        (base, "ids", f"{base}.ids"),
        (base, "delay.100.#", f"{base}.delay.100"),
        (f"{base}.delay", "delay.100.#", f"{base}.delay.100"),
        (f"{base}.due", "delay.100.a", f"{base}.work.a"),
        (f"{base}.due", "work.a", f"{base}.work.a"),
    } <= bindings
    # What comes due and who lives is not in the journal.
    assert not [key for source, key, name in bindings if name == f"{base}.journal" and source not in ("", base)]
    assert not [key for source, key, name in bindings if name == f"{base}.workers" and source]


async def test_what_rabbitmqs_own_pages_show_of_a_message(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    message = await channel.basic_get(f"paigeant.{topic}.work.a")
    properties = message.header.properties
    assert (properties.app_id, properties.message_type, properties.delivery_mode) == ("paigeant", "dispatched", 2)
    assert properties.correlation_id == workflow
    assert b'"kind":"dispatched"' in str((properties.headers or {})["r"]).encode()
    (record,) = await transport.history(topic, workflow)
    assert properties.message_id == record.id
    assert message.body == record.body


@pytest.mark.parametrize("name", ["a.work", "a.work.b", "x.delay", "x.due.y", "a.journal"])
async def test_a_topic_whose_queues_could_be_anothers_is_refused(connect: Any, name: str) -> None:
    transport = await connect()
    with pytest.raises(InvalidMessage, match="between dots"):
        await dispatch(transport, name, "a")


def test_a_topic_may_be_called_work() -> None:
    assert Names("work").work("a") == "paigeant.work.work.a"


# -- foreign messages -----------------------------------------------------------------------


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
            {"due": "soon", "rest": []},
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
        publishing = await aiormq.connect(rabbit_url)
        try:
            channel = await publishing.channel()
            for _ in range(2):
                await _publish_by_hand(channel, f"paigeant.{topic}.work.a", table, b"garbage")
        finally:
            await publishing.close()
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


# -- the ladder -----------------------------------------------------------------------------


def test_a_delay_takes_the_longest_rung_that_is_no_longer() -> None:
    assert [rung_for(seconds) for seconds in (0, 0.04, 0.05, 0.1, 0.19, 0.2, 0.999, 1, 59, 86_400, 1e9)] == [
        None, None, 100, 100, 100, 200, 500, 1000, 50_000, 86_400_000, 86_400_000,
    ]  # fmt: skip
    assert list(RUNGS) == sorted(set(RUNGS))


async def test_a_delay_of_several_rungs_is_journalled_once_and_kept_to(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.fail(await worker.take_one(), delay=0.83)
        failed_at = (await transport.history(topic, workflow))[-1].at
        again = await worker.take_one()
        waited = transport.clock.now() - failed_at
        assert again.message is not None
        assert (again.message.headers.attempt, again.deaths) == (2, 0)
        assert waited >= 0.82
        await worker.finish(again)
    assert await kinds(transport, topic, workflow) == ["dispatched", "retrying", "finished"]
    for rung in (500, 200):
        await channel.queue_declare(f"paigeant.{topic}.delay.{rung}", passive=True)


async def test_two_clocks_that_differ_do_not_prolong_a_delay(connect: Any, topic: str) -> None:
    transport, slow = await connect(), await connect()
    slow.clock = Behind()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.fail(await worker.take_one(), delay=0.3)
        failed = time.monotonic()
    async with hands(slow, topic, "a") as heir:
        await heir.finish(await heir.take_one())
    assert time.monotonic() - failed < 15


class Behind:
    """A clock 20 seconds slow."""

    def now(self) -> float:
        return time.time() - 20


# -- settling -------------------------------------------------------------------------------


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
    worker = Hands(transport, topic, "a")
    delivery = await worker.take_one()
    monkeypatch.setattr(consumer_of(worker)._desk, "ack", never)
    settling = asyncio.create_task(worker.finish(delivery))

    async def journalled() -> bool:
        return "advanced" in await kinds(other, topic, workflow)

    await until(journalled, "never journalled")
    await consumer_of(worker)._crash()
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
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


# -- a line that breaks ---------------------------------------------------------------------


async def test_a_step_that_runs_while_the_line_breaks_is_run_once(
    connect: Any, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        with caplog.at_level(logging.WARNING, "paigeant"):
            cut_line(worker)
            await worker.nothing(1.5)
        lines = [record.getMessage() for record in caplog.records if "connect" in record.getMessage()]
        assert [line.split(" at ")[0] for line in lines] == [
            "lost the connection to RabbitMQ", "connected to RabbitMQ",
        ]  # fmt: skip
        assert await worker.finish(delivery) is Settled.DONE
        following = await worker.take_one()
        assert following.activity == "b"
        await worker.finish(following)
    assert await kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]


async def test_a_settle_waits_out_a_broken_line(connect: Any, topic: str) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        cut_line(worker)
        assert await worker.finish(delivery) is Settled.DONE
    assert await kinds(transport, topic, workflow) == ["dispatched", "finished"]


async def test_a_publish_in_doubt_is_looked_up_and_not_repeated(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        publisher = consumer_of(worker)._desk.publisher
        send = publisher.send

        async def unlucky(items: Any) -> None:
            monkeypatch.setattr(publisher, "send", send)
            await send(items)
            cut_line(worker)
            raise PublishUnknown("no confirm came")

        monkeypatch.setattr(publisher, "send", unlucky)
        assert await worker.finish(delivery) is Settled.DONE
        following = await worker.take_one()
        assert following.activity == "b"
        await worker.finish(following)
        await worker.nothing()
    assert await kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]


async def test_a_result_is_kept_for_a_copy_that_went_elsewhere(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comeback, "REGAIN", 0.5)
    monkeypatch.setattr(consumer, "REGAIN", 0.5)
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        # It comes back while somebody else asks and this worker's consumers are gone.
        monkeypatch.setattr(consumer_of(worker)._intake, "want", lambda *_: None)
        cut_line(worker)
        heir = Hands(other, topic, "a")
        again = await heir.take_one()
        assert again.body == delivery.body
        assert await worker.finish(delivery, {"by": "first"}) is Settled.SUPERSEDED
        monkeypatch.undo()
        # The other one dies as well: the result is used, and the step not run a third time.
        await consumer_of(heir)._crash()
        asking = asyncio.create_task(worker.take_one())

        async def finished() -> Any:
            return [record for record in await transport.history(topic, workflow) if record.state == State.COMPLETED]

        (record,) = await until(finished, "the kept result was not used")
        assert record.message.payload == {"n": 1, "by": "first"}
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await kinds(transport, topic, workflow) == ["dispatched", "finished"]


async def test_a_follower_goes_on_after_a_broken_line(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    first = await dispatch(other, topic, "a")
    seen: list[str] = []
    cut = asyncio.Event()

    async def follow() -> None:
        async for batch in transport.records(topic, start=START, follow=True):
            seen.extend(record.headers.correlation_id for record in batch)
            if seen and not cut.is_set():
                cut.set()
                transport._line._sockets[-1].transport.abort()
            if len(seen) >= 2:
                return

    following = asyncio.create_task(follow())
    await asyncio.wait_for(cut.wait(), 30)
    second = await dispatch(other, topic, "a")
    await asyncio.wait_for(following, 30)
    assert seen == [first, second]


async def test_a_dispatch_without_its_confirm_says_that_it_may_run(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")

    async def lost(*_: Any) -> None:
        raise aiormq.exceptions.AMQPConnectionError("gone")

    monkeypatch.setattr("paigeant_core.transports.rabbitmq.publisher._publish", lost)
    with pytest.raises(PublishUnknown, match="it may run"):
        await dispatch(transport, topic, "a")


async def test_a_topic_that_was_deleted_meanwhile_is_made_again(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")
    for name in ("journal", "work.a"):
        await channel.queue_delete(f"paigeant.{topic}.{name}")
    for name in ("", ".due", ".delay"):
        await channel.exchange_delete(f"paigeant.{topic}{name}")
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.message is not None
        assert delivery.message.correlation_id == workflow
        await worker.finish(delivery)
    assert await transport.find(topic, "") == [workflow]


async def test_a_worker_whose_queue_was_deleted_makes_it_again(
    connect: Any, topic: str, channel: Channel, rabbit_url: str
) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.finish(await worker.take_one())
        asking = asyncio.create_task(worker.take_one())
        await asyncio.sleep(0.2)
        await channel.queue_delete(f"paigeant.{topic}.work.a")

        async def there() -> bool:
            driver = await aiormq.connect(rabbit_url)
            try:
                queue = await (await driver.channel()).queue_declare(f"paigeant.{topic}.work.a", passive=True)
                # Declared, bound and consumed: in this order.
                return bool(queue.consumer_count)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return False
            finally:
                await driver.close()

        await until(there, "the queue was not made again")
        workflow = await dispatch(transport, topic, "a")
        delivery = await asking
        assert delivery.message is not None
        assert delivery.message.correlation_id == workflow


# -- operators ------------------------------------------------------------------------------


async def test_operators_act_one_at_a_time(
    connect: Any, topic: str, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.5)
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    again = TransportContract().reissue(record)
    lock = f"paigeant.{topic}.lock.operate"
    await channel.queue_declare(lock, exclusive=True)
    with pytest.raises(Conflict, match="somebody else"):
        await transport.operate(topic, again, expect=record.id)
    assert await kinds(transport, topic, workflow) == ["dispatched"]
    await channel.queue_delete(lock)
    assert await transport.operate(topic, again, expect=record.id) is Settled.DONE
    assert await transport.operate(topic, again, expect=record.id) is Settled.ALREADY


async def test_a_parked_workflow_outlives_the_journal(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    other = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.bury(await worker.take_one())
        await worker.bury(await worker.take_one())
    (again,) = [item for item in await transport.parked(topic, Place.DEAD) if item.headers.correlation_id == other]
    assert await transport.operate(topic, TransportContract().reissue(again), expect=again.id) is Settled.DONE
    await transport.disconnect()
    await channel.queue_delete(f"paigeant.{topic}.journal")
    await dispatch(transport, topic, "b")
    (record,) = await transport.parked(topic, Place.DEAD)
    assert record.headers.correlation_id == workflow
    assert [item.state for item in await transport.history(topic, workflow)] == [State.DEAD]
    assert [item.state for item in await transport.history(topic, other)] == [State.QUEUED]
    assert await transport.operate(topic, TransportContract().reissue(record), expect="other") is Settled.SUPERSEDED
    assert await transport.operate(topic, TransportContract().reissue(record), expect=record.id) is Settled.DONE
    assert await transport.parked(topic, Place.DEAD) == []


async def test_a_random_id_that_exists_cannot_be_chosen(connect: Any, topic: str) -> None:
    from paigeant_core.errors import DuplicateWorkflow

    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    with pytest.raises(DuplicateWorkflow):
        await dispatch(other, topic, "a", correlation_id=workflow)


async def test_a_released_hold_has_no_deadline(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        outcome = moves.Outcome(hold="wait", until=1.0)
        await worker.finish(await worker.take_one(), None, outcome)
        held = (await transport.history(topic, workflow))[-1]
        assert await other.operate(topic, TransportContract().reissue(held), expect=held.id) is Settled.DONE
        delivery = await worker.take_one()
        await worker.nothing(2.0)
        await worker.finish(delivery)
    assert await kinds(transport, topic, workflow) == ["dispatched", "held", "operated", "finished"]


# -- who lives ------------------------------------------------------------------------------


async def test_a_worker_whose_loop_is_blocked_is_still_seen(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()

        async def seen() -> Any:
            return await other.workers(topic)

        await until(seen, "never seen")
        time.sleep(4.0)  # noqa: ASYNC251 - a handler that blocks is what this is about
        (status,) = await other.workers(topic)
        assert status.info.worker == worker.name
        assert status.last_seen_s < 3.5
        await worker.finish(delivery)


async def test_a_worker_that_was_killed_is_gone_and_journalled_as_started_only(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paigeant_core.transports.rabbitmq.presence.LEASE", 1.0)
    transport, other = await connect(), await connect()
    await dispatch(transport, topic, "a")
    dying = Hands(transport, topic, "a")
    await dying.take_one()
    await consumer_of(dying)._crash()

    async def gone() -> bool:
        return not await other.workers(topic)

    await until(gone, "a dead worker is still seen")
    records = [record async for batch in other.records(topic) for record in batch]
    assert [record.detail["event"] for record in records if record.kind == Kind.WORKER] == ["started"]


# -- connecting -----------------------------------------------------------------------------


@pytest.fixture
def secret_url(rabbit_server: SharedServer) -> str:
    return rabbit_server.url.replace("guest:guest", "guest:s3cret")


async def test_what_is_said_when_nothing_answers() -> None:
    transport = RabbitTransport(f"amqp://ann:s3cret@127.0.0.1:{free_port()}/")
    with pytest.raises(ConnectError, match=r"^no RabbitMQ answers at 127\.0\.0\.1:\d+: ") as caught:
        await transport.connect()
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}{transport.url}"
    assert "ann" in transport.url
    await transport.disconnect()


async def test_what_is_said_of_a_wrong_password(secret_url: str) -> None:
    transport = RabbitTransport(secret_url)
    with pytest.raises(AuthenticationError, match="refused the user name or the password") as caught:
        await transport.connect()
    assert "s3cret" not in str(caught.value)
    claim = transport.consumer("t", WorkerInfo(worker="w", activities=("a",)), lease=10)
    with pytest.raises(AuthenticationError):
        await claim.claim(1)
    await claim.close()
    await transport.disconnect()


async def test_what_is_said_of_a_wrong_virtual_host(rabbit_server: SharedServer) -> None:
    transport = RabbitTransport(rabbit_server.url.rstrip("/").removesuffix("%2F").rstrip("/") + "/nowhere")
    with pytest.raises(ConnectError, match="refused the virtual host 'nowhere'"):
        await transport.connect()
    await transport.disconnect()


async def test_what_is_said_of_something_else_that_answers(redis_url: str) -> None:
    transport = RabbitTransport(redis_url.replace("redis://", "amqp://"))
    connection_timeout = connection.CONNECT_TIMEOUT
    connection.CONNECT_TIMEOUT = 1.0
    try:
        with pytest.raises(ConnectError):
            await transport.connect()
    finally:
        connection.CONNECT_TIMEOUT = connection_timeout
    await transport.disconnect()


async def test_an_old_broker_is_refused(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OLDEST_VERSION", (99, 0))
    transport = RabbitTransport(rabbit_url)
    with pytest.raises(Unsupported, match="too old"):
        await transport.connect()
    await transport.disconnect()


@pytest.mark.parametrize(
    ("text", "numbers"), [("3.10.8", (3, 10, 8)), ("4.0", (4, 0, 0)), ("3.9.1-rc", (3, 9, 1))], ids=str
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert connection.version_of(text) == numbers
    assert connection.version_of("") > (99,)


def test_a_url_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError):
        RabbitTransport("amqp://host:port/")
    assert isinstance(get_transport("amqp://localhost"), RabbitTransport)


async def test_a_position_that_is_none(connect: Any, topic: str) -> None:
    transport = await connect()
    with pytest.raises(ConfigError, match="journal position"):
        await anext(transport.records(topic, start="17-0"))


async def test_a_transport_can_be_connected_again(connect: Any, topic: str) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")
    await transport.disconnect()
    await transport.disconnect()
    workflow = await dispatch(transport, topic, "a")
    assert len(await transport.find(topic, "")) == 2
    assert await transport.find(topic, workflow) == [workflow]


async def test_it_is_said_when_no_confirm_comes(
    connect: Any, topic: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paigeant_core.transports.rabbitmq.publisher.SLOW_CONFIRM", 0.1)
    monkeypatch.setattr("paigeant_core.transports.rabbitmq.publisher._publish", never)
    transport = await connect()
    publisher = Publisher(transport._line)
    with caplog.at_level(logging.WARNING, "paigeant"), suppress(TimeoutError):
        async with asyncio.timeout(0.6):
            await publisher.send([wire.direct("nowhere", b"")])
    publisher.close()
    (line,) = [record.getMessage() for record in caplog.records if "confirmed no publish" in record.getMessage()]
    assert "out of memory or disk" in line


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


# -- a broker that goes down ------------------------------------------------------------------


@pytest.fixture
def own_server() -> Any:
    with RabbitServer(conf={"max_message_size": "100000"}) as server:
        yield server


@pytest.mark.rabbitmq
@pytest.mark.timeout(120)
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

        async def half(items: Any) -> None:
            monkeypatch.setattr(publisher, "send", send)
            # Into the journal's queue alone, as if the work queue had not written it.
            await send([item._replace(exchange="", key=f"paigeant.{topic}.journal") for item in items])
            await asyncio.to_thread(own_server.flush)
            await asyncio.to_thread(own_server.kill)
            raise PublishUnknown("no confirm came")

        monkeypatch.setattr(publisher, "send", half)
        settling = asyncio.create_task(worker.finish(delivery))

        async def down() -> bool:
            return not own_server.running

        await until(down, "not killed")
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


# -- the broker's own patience ------------------------------------------------------------


async def test_an_activity_that_may_run_for_longer_than_an_old_broker_allows_is_refused_at_the_start(
    rabbit_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    def made() -> Worker:
        worker = Worker(topic, concurrency=1)

        @worker.activity("long", timeout=7200)
        async def long(ctx: ActivityContext) -> None:
            ran.append(ctx.activity)
            worker.stop()

        @worker.activity("free")
        async def free(ctx: ActivityContext) -> None:
            ran.append(ctx.activity)

        return worker

    caplog.set_level(logging.WARNING, logger="paigeant")
    async with RabbitTransport(rabbit_url) as transport:
        await dispatch(transport, topic, "free", "long")
        with pytest.raises(ConfigError, match=r"'long' may run for 7200 s: put the line `consumer_timeout = 7260000`"):
            await made().run(transport)
        # Who serves the others alone may do so, and is told what has no limit of its own.
        assert [record.message for record in caplog.records] == []
        transport.check_timeouts({"free": None, "short": 60.0})
        (said,) = caplog.messages
        assert said.endswith("1800 s to another worker; these activities have no timeout: free")
    async with RabbitTransport(f"{rabbit_url}?consumer_timeout=7260") as transport:
        async with asyncio.timeout(30):
            await made().run(transport)
    assert ran == ["free", "long"]


def test_from_3_12_on_a_work_queue_says_itself_how_long_a_step_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WORK["x-consumer-timeout"] == 365 * 86400 * 1000
    transport = RabbitTransport("amqp://127.0.0.1:1/")
    monkeypatch.setattr(connection.Line, "server", {"version": "3.11.28"})
    with pytest.raises(ConfigError):
        transport.check_timeouts({"long": 1e6})
    monkeypatch.setattr(connection.Line, "server", {"version": "3.12.0"})
    transport.check_timeouts({"long": 1e6, "free": None})


@pytest.mark.parametrize("said", ["", "soon", "0", "-1", "nan"])
def test_a_consumer_timeout_in_the_url_must_be_a_number_of_seconds(said: str) -> None:
    with pytest.raises(ConfigError, match="consumer_timeout="):
        RabbitTransport(f"amqp://127.0.0.1/?consumer_timeout={said}&heartbeat=4")
