"""The short way past the driver on RabbitMQ: frames, acknowledgements, confirms."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from aiormq.exceptions import DeliveryError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from paigeant_core.transition import Place
from paigeant_core.transports.rabbitmq import RabbitTransport, frames, wire
from paigeant_core.transports.rabbitmq.connection import Line, Message
from paigeant_core.transports.rabbitmq.frames import Outgoing
from paigeant_core.transports.rabbitmq.lanes import Lane
from paigeant_core.transports.rabbitmq.streams import Reading
from paigeant_core.transports.rabbitmq.topology import Names
from tests.transports.hands import PATIENCE, Hands, until
from tests.transports.on_rabbitmq import dispatch

pytestmark = pytest.mark.xdist_group("rabbitmq")

LARGEST = 4096


@pytest.fixture
async def line(rabbit_url: str) -> AsyncIterator[Line]:
    line = Line(rabbit_url, "test")
    yield line
    await line.close()


@pytest.fixture
async def queue(line: Line) -> str:
    """A queue that goes with the line."""
    async with line.borrowed() as channel:
        return str((await channel.queue_declare("", exclusive=True)).queue)


async def publish(line: Line, queue: str, *bodies: bytes) -> None:
    lane = await line.lane(confirms=True)
    await asyncio.gather(*(lane.publish(wire.direct(queue, body)) for body in bodies))


async def consume(lane: Lane, queue: str, count: int) -> list[Message]:
    """The first deliveries of a new consumer."""
    came: list[Message] = []
    await lane.consume(queue, came.append, "tag")

    async def all_of_them() -> bool:
        return len(came) >= count

    await until(all_of_them, "not delivered")
    return came


async def left_in(line: Line, queue: str) -> list[bytes]:
    """What the queue gives to somebody new."""
    left = []
    async with line.borrowed() as channel:
        while not isinstance((message := await channel.basic_get(queue, no_ack=True)).delivery, Basic.GetEmpty):
            left.append(message.body)
    return left


# -- frames ---------------------------------------------------------------------------------

short = st.text(max_size=60)
values = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.none(), st.lists(st.text(), max_size=3)
)
properties = st.builds(
    Basic.Properties,
    delivery_mode=st.sampled_from([1, 2]),
    headers=st.dictionaries(st.text(max_size=30), values, max_size=5),
    correlation_id=short,
    message_id=short,
    message_type=short,
    app_id=short,
    priority=st.none() | st.integers(0, 9),
    expiration=st.none() | st.just("60000"),
    timestamp=st.none() | st.just(datetime(2026, 1, 2, tzinfo=UTC)),
)


@given(properties, st.integers(0, 3 * LARGEST))
def test_a_publish_is_what_the_drivers_library_makes_of_it(given: Basic.Properties, size: int) -> None:
    body = random.Random(size).randbytes(size)
    rest = b"".join(frames.publish(7, Outgoing("exchange", "a.key", body, given), LARGEST))
    found = []
    while rest:
        used, channel, frame = pamqp.frame.unmarshal(rest)
        assert channel == 7
        assert used <= LARGEST
        rest = rest[used:]
        found.append(frame)
    method, header, *parts = found
    assert isinstance(method, Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == ("exchange", "a.key", False)
    assert isinstance(header, ContentHeader)
    assert header.body_size == size
    assert _filled(header.properties) == _filled(given)
    assert b"".join(part.value for part in parts if isinstance(part, ContentBody)) == body


@given(properties, st.integers(0, 2**40))
def test_a_header_is_what_the_drivers_library_reads(given: Basic.Properties, size: int) -> None:
    header = frames.header(ContentHeader(body_size=size, properties=given).marshal())
    assert header.body_size == size
    assert _filled(header.properties) == _filled(given)


@given(properties, st.data())
def test_no_header_is_too_broken_to_be_read(given: Basic.Properties, data: st.DataObject) -> None:
    raw = bytearray(ContentHeader(body_size=5, properties=given).marshal())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(12, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert frames.header(bytes(raw)).body_size == 5


def _filled(given: Basic.Properties) -> dict[str, Any]:
    # What is empty is not sent.
    return {name: value for name, value in given if value not in (None, "")} | {"headers": given.headers or {}}


@pytest.mark.parametrize("method", [Basic.Ack, Basic.Nack])
@pytest.mark.parametrize("multiple", [False, True])
def test_confirms_are_read_bit_by_bit(method: Any, multiple: bool) -> None:
    # A refusal has another bit beside, which is set.
    frame = pamqp.frame.marshal(method(9, multiple), 1)[7:-1]
    assert frames.confirm(frame) == (9, multiple)


# -- on a broker ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 1_000_000])
async def test_a_body_of_any_size_arrives_as_it_was(line: Line, queue: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    await publish(line, queue, body, b"and the next")
    first, second = await consume(await line.lane(), queue, 2)
    assert (first.body, second.body) == (body, b"and the next")


@pytest.mark.parametrize("seed", range(5))
async def test_acknowledging_some_leaves_the_others(line: Line, queue: str, seed: int) -> None:
    dice = random.Random(seed)
    bodies = [str(number).encode() for number in range(40)]
    await publish(line, queue, *bodies)
    lane = await line.lane()
    came = await consume(lane, queue, len(bodies))
    assert [message.body for message in came] == bodies
    done = dice.sample(came, 25) if seed else came[:25]
    for start in range(0, 25, 5):
        for message in done[start : start + 5]:
            line.ack(message)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await lane.close()
    gone = {message.body for message in done}
    assert await left_in(line, queue) == [body for body in bodies if body not in gone]


async def test_acknowledging_up_to_one_brings_the_next(line: Line, queue: str) -> None:
    bodies = [str(number).encode() for number in range(30)]
    await publish(line, queue, *bodies)
    lane = await line.lane(prefetch=10)
    came = await consume(lane, queue, 10)
    lane.ack_up_to(came[6].delivery_tag or 0)

    async def seven_more() -> bool:
        return len(came) == 17

    await until(seven_more, "not delivered")
    line.ack(came[8])
    await asyncio.sleep(0)
    await lane.close()
    assert sorted(await left_in(line, queue)) == sorted([bodies[7], *bodies[9:]])


async def test_acknowledging_what_was_pulled_leaves_what_was_pulled_before(line: Line, queue: str) -> None:
    await publish(line, queue, b"0", b"1", b"2", b"3")
    lane = await line.lane()
    came = [await lane.channel.basic_get(queue) for _ in range(4)]
    line.ack(came[2])
    await asyncio.sleep(0)
    await lane.close()
    assert await left_in(line, queue) == [b"0", b"1", b"3"]


async def test_each_publish_hears_of_its_own_refusal_alone(line: Line, queue: str) -> None:
    async with line.borrowed() as channel:
        arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = str((await channel.queue_declare("", exclusive=True, arguments=arguments)).queue)
    lane = await line.lane(confirms=True)
    items = [wire.direct(name, b"x") for _ in range(40) for name in (queue, full)]
    results = await asyncio.gather(*map(lane.publish, items), return_exceptions=True)
    assert results[0::2] == [None] * 40
    refused = [result for result in results[1::2] if isinstance(result, DeliveryError)]
    assert len(refused) + results[1::2].count(None) == 40
    assert len(refused) >= 30
    assert len(await left_in(line, queue)) == 40


async def test_a_number_that_is_used_again_belongs_to_the_driver(line: Line, queue: str) -> None:
    """The driver gives the number of a channel that was closed to the next one."""
    await publish(line, queue, b"x")
    lane = await line.lane()
    lane.consumers[queue] = lambda _: None
    await lane.close()
    channel = await line.channel()
    assert channel.number == lane.channel.number
    came: asyncio.Queue[Message] = asyncio.Queue()
    await channel.basic_consume(queue, came.put, consumer_tag=queue)
    assert (await asyncio.wait_for(came.get(), 20)).body == b"x"


async def test_the_driver_sees_a_line_live_of_which_it_gets_nothing(line: Line, queue: str) -> None:
    """Else it would hang up on a broker that sends deliveries all the time, and so no heartbeats."""
    came = await consume(await line.lane(), queue, 0)
    connection: Any = await line.connect()
    async with line.borrowed() as channel:
        # On a channel without confirms: nothing comes back but the delivery.
        await channel.basic_publish(b"x", routing_key=queue)
        before = connection._Connection__last_frame_time

        async def seen() -> bool:
            return bool(came) and connection._Connection__last_frame_time > before

        # RabbitMQ's own heartbeat comes after half a minute.
        async with asyncio.timeout(20):
            await until(seen, "the driver heard nothing")


async def test_properties_that_nobody_can_read_stop_no_worker(rabbit_url: str, topic: str, line: Line) -> None:
    transport = RabbitTransport(rabbit_url)
    await transport.connect()
    worker = Hands(transport, topic, "a")
    try:
        await transport._topology.work(Names(topic), "a")
        lane = await line.lane(confirms=True)
        item = wire.direct(Names(topic).work("a"), b"rubbish")
        item.properties.correlation_id = "made-for-this"
        lane._tap.send(
            [part.replace(b"made-for-this", b"\xff" * 13) for part in frames.publish(lane._number, item, LARGEST)]
        )
        asking = asyncio.create_task(worker.take_one())

        async def parked() -> Any:
            return await transport.parked(topic, Place.QUARANTINE)

        (record,) = await until(parked, "not in quarantine")
        assert record.body == b"rubbish"
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    finally:
        await worker.consumer.close()
        await transport.disconnect()


@pytest.mark.parametrize("how", ["text", "time"])
async def test_a_stream_is_read_past_properties_that_nobody_can_read(
    rabbit_url: str, topic: str, line: Line, how: str
) -> None:
    names = Names(topic)
    async with RabbitTransport(rabbit_url) as transport:
        first = await dispatch(transport, topic, "a")
        item = wire.direct(names.journal, b"rubbish")
        item.properties.correlation_id = "made-for-this"
        item.properties.headers = {"a": "b", "made": datetime(2026, 1, 2, tzinfo=UTC)}
        made = struct.pack(">Q", int(datetime(2026, 1, 2, tzinfo=UTC).timestamp()))
        good, bad = (b"made-for-this", b"\xff" * 13) if how == "text" else (made, b"\x7f" * 8)
        lane = await line.lane()
        lane._tap.send([part.replace(good, bad) for part in frames.publish(lane._number, item, LARGEST)])
        reading = await Reading.attach(line, names.journal, "first")
        async with asyncio.timeout(PATIENCE):
            while not any(message.body == b"rubbish" for message in await reading.batch()):
                pass
            # Nothing comes behind it, neither in its chunk nor in a later one.
            assert await told(transport, topic) == [first]
            assert await transport.find(topic, "") == [first]
            assert [record.headers.correlation_id for record in await transport.newest(topic, 9)] == [first]
            second = await dispatch(transport, topic, "a")
            assert await told(transport, topic) == [first, second]
            assert await transport.find(topic, "") == [first, second]


async def told(transport: RabbitTransport, topic: str) -> list[str]:
    """What whoever reads the journal is told, by workflow."""
    return [record.headers.correlation_id async for batch in transport.records(topic) for record in batch]


async def test_a_reader_from_a_time_that_is_none_leaves_no_channel_open(line: Line, queue: str) -> None:
    with pytest.raises(OverflowError):
        await Reading.attach(line, queue, 1e300)
    assert line._tap is not None
    assert not line._tap.lanes
