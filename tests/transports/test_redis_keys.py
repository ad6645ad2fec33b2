"""Redis: the keys and fields of a topic, and what others put there."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from paigeant_core.journal import State
from paigeant_core.transition import Place
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.encoding import body_of
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.types import Settled
from tests.transports import on_redis
from tests.transports.contract import TransportContract
from tests.transports.hands import Hands
from tests.transports.on_redis import dispatch, states

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


# -- keys and fields ------------------------------------------------------------------------


async def test_the_keys_and_fields_of_a_workflow(transport: RedisTransport, client: Any, topic: str) -> None:
    prefix = f"{{paigeant:{topic}}}:"
    workflow = await dispatch(transport, topic, "a", "b")
    ((entry, fields),) = await client.xrange(f"{prefix}work:a")
    assert list(fields) == [b"m"]
    ((position, record),) = await client.xrange(f"{prefix}journal")
    assert list(record) == [b"r", b"m"]
    assert record[b"m"] == fields[b"m"]
    assert await client.smembers(f"{prefix}activities") == {b"a"}
    index = await client.hgetall(f"{prefix}wf:{workflow}")
    message = (await transport.history(topic, workflow))[0].id
    assert index == {
        b"epoch": b"1",
        b"run": b"1",
        b"hop": b"1",
        b"attempt": b"1",
        b"state": b"queued",
        b"message": message.encode(),
        b"first": message.encode(),
        b"position": position,
        b"place": b"work",
        b"activity": b"a",
        b"entry": entry,
    }
    assert await client.ttl(f"{prefix}wf:{workflow}") == -1

    hands = Hands(transport, topic, "a", "b")
    await hands.finish(await hands.take_one())
    (second,) = (await client.xrange(f"{prefix}journal", min=f"({position.decode()}"))[-1:]
    assert second[1][b"b"] == position
    assert await client.xlen(f"{prefix}work:a") == 0
    assert await client.zrange(f"{prefix}workers", 0, -1) == [hands.name.encode()]
    assert await client.exists(f"{prefix}worker:{hands.name}")
    await hands.finish(await hands.take_one())
    # What has ended stays known for as long as the journal tells of it.
    assert 0 < await client.ttl(f"{prefix}wf:{workflow}") <= 7 * 86400
    assert (await client.hget(f"{prefix}wf:{workflow}", "place")) == b"nowhere"
    await hands.consumer.close()
    assert await client.exists(f"{prefix}workers", f"{prefix}worker:{hands.name}") == 0
    assert await client.xinfo_consumers(f"{prefix}work:a", "workers") == []
    assert all(key.startswith(prefix.encode()) for key in await client.keys(f"*{topic}*"))


async def test_a_delayed_message_waits_in_its_hash(transport: RedisTransport, client: Any, topic: str) -> None:
    keys = Keys(topic)
    workflow = await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    before = time.time()
    await hands.fail(await hands.take_one(), delay=60)
    ((member, score),) = await client.zrange(keys.delayed, 0, -1, withscores=True)
    assert member == workflow.encode()
    assert 55 < score / 1000 - before < 65
    assert b"bytes" in await client.hgetall(keys.workflow(workflow))
    (queue,) = await transport.queues(topic)
    assert (queue.ready, queue.in_flight, queue.delayed, queue.consumers, queue.oldest_s) == (0, 0, 1, 1, None)
    (record,) = [item for item in await transport.history(topic, workflow) if item.state == State.RETRYING]
    reissued = TransportContract().reissue(record)
    assert await transport.operate(topic, reissued, expect=record.id) is Settled.DONE
    assert await client.zcard(keys.delayed) == 0
    assert b"bytes" not in await client.hgetall(keys.workflow(workflow))
    (queue,) = await transport.queues(topic)
    assert (queue.ready, queue.delayed) == (1, 0)
    await hands.consumer.close()


async def test_a_prefix_is_no_pattern(transport: RedisTransport, topic: str) -> None:
    await dispatch(transport, topic, "a", correlation_id="x-1")
    for prefix in ("*", "?-", "[x]", "x\\-1", "\u00e9"):
        assert await transport.find(topic, prefix) == []
    assert await transport.find(topic, "x-") == ["x-1"]
    assert await transport.find(topic, "") == ["x-1"]


# -- foreign entries ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{"hello": "world"}, {b"\xff": b"\x00", "x": "y"}, {"m": b"\xfe\xff", "other": "z"}, {"": ""}],
    ids=["fields", "binary", "both", "empty"],
)
async def test_a_foreign_entry_is_quarantined_and_the_consumer_goes_on(
    transport: RedisTransport, client: Any, topic: str, fields: dict[Any, Any]
) -> None:
    first = await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    await hands.finish(await hands.take_one())
    await client.xadd(Keys(topic).work("a"), fields)
    second = await dispatch(transport, topic, "a")
    await hands.finish(await hands.take_one())
    for workflow in (first, second):
        assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
    (record,) = await transport.parked(topic, Place.QUARANTINE)
    assert record.body is not None
    if "m" in fields:
        assert record.body == fields["m"]
    else:
        shown = [
            [text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text for text in pair]
            for pair in fields.items()
        ]
        assert msgspec.json.decode(record.body) == shown
    assert record.headers.correlation_id.startswith("q-")
    assert await client.xlen(Keys(topic).work("a")) == 0
    assert 0 < await client.ttl(Keys(topic).workflow(record.headers.correlation_id)) <= 90 * 86400
    await hands.consumer.close()


async def test_a_foreign_entry_that_is_handed_back_keeps_its_fields(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    fields = {b"d": b"7", b"x": b"y"}
    await client.xadd(Keys(topic).work("a"), fields)
    hands = Hands(transport, topic, "a")
    (delivery,) = await hands.consumer.claim(1)
    await hands.consumer.hand_back(delivery)
    ((_, found),) = await client.xrange(Keys(topic).work("a"))
    assert found == fields
    await hands.consumer.close()


async def test_something_else_in_the_journal_stops_nobody(transport: RedisTransport, client: Any, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a")
    for fields in ({"x": "y"}, {"r": b"\xff"}, {"r": '{"kind":"advanced"}', "m": "no message"}):
        await client.xadd(Keys(topic).journal, fields)
    second = await dispatch(transport, topic, "a")
    records = [record async for batch in transport.records(topic) for record in batch]
    assert [record.headers.correlation_id for record in records] == [workflow, second]
    assert transport.skipped == 3


def test_what_a_work_entry_holds() -> None:
    assert body_of([b"m", b"body"]) == (b"body", 0)
    assert body_of([b"m", b"body", b"d", b"3"]) == (b"body", 3)
    assert body_of([b"m", b"body", b"d", b"many"]) == (b"body", 0)
    assert body_of([b"x", b"\xff"]) == (b'[["x","\\\\xff"]]', 0)
