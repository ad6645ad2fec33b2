"""Redis: the journal, where it is trimmed, and what is kept of a workflow."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeAlias

import pytest

from paigeant_console.model.snapshot import read_rows
from paigeant_core import transition as moves
from paigeant_core.errors import InvalidMessage
from paigeant_core.journal import Kind, State
from paigeant_core.operations import Operations, Skip
from paigeant_core.transition import Outcome, Place
from paigeant_core.transports.following import Missed
from paigeant_core.transports.redis import RedisTransport, reading
from paigeant_core.transports.redis import lease as lease_module
from paigeant_core.transports.redis.connection import ThreadLine
from paigeant_core.transports.redis.endpoint import Endpoint
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.lease import trim
from paigeant_core.transports.redis.scripts import EXTENT
from paigeant_core.transports.types import Settled
from tests.transports import on_redis
from tests.transports.contract import TransportContract
from tests.transports.hands import Hands
from tests.transports.on_redis import dispatch, states

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


@pytest.mark.parametrize("place", ["work", "delayed", "dead", "held", "claimed"])
async def test_a_trimmed_journal_still_tells_where_a_living_workflow_stands(
    transport: RedisTransport, client: Any, topic: str, place: str
) -> None:
    workflow = await dispatch(transport, topic, "a", "b", name="a name")
    hands = Hands(transport, topic, "a", "b")
    delivery = await hands.take_one()
    if place == "work":
        await hands.consumer.hand_back(delivery)
    elif place == "delayed":
        await hands.fail(delivery, delay=60)
    elif place == "dead":
        await hands.bury(delivery)
    elif place == "held":
        await hands.finish(delivery, None, Outcome(hold="why", until=3600))
    (last,) = [record for record in await transport.history(topic, workflow) if record.state][-1:]
    await client.xtrim(Keys(topic).journal, maxlen=0, approximate=False)
    (record,) = await transport.history(topic, workflow)
    assert (record.state, record.id, record.position) == (last.state, last.id, last.position)
    assert record.headers == last.headers
    assert record.body == last.body
    assert record.kind == last.kind
    # It is whole: an operator can act on it.
    assert await transport.operate(topic, TransportContract().reissue(record), expect=record.id) is Settled.DONE
    again = await hands.take_one()
    assert again.message is not None
    assert again.message.headers.epoch == 2
    await hands.finish(again)
    await hands.finish(await hands.take_one()) if place != "held" else None
    assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
    await hands.consumer.close()


async def test_trimming_by_age_and_size_leaves_work_alone(
    transport: RedisTransport, client: Any, redis_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(topic)
    old = f"{round((time.time() - 100 * 86400) * 1000)}"
    for stream in (keys.journal, keys.dead, keys.held, keys.quarantine, keys.audit, keys.work("a")):
        for number in range(300):
            await client.xadd(stream, {"r": b"x" * 200}, id=f"{old}-{number + 1}")
    for _ in range(3):
        await dispatch(transport, topic, "a")
    line = ThreadLine(Endpoint(redis_url))
    monkeypatch.setattr(lease_module, "TRIM_STEP", 100)
    assert not await asyncio.to_thread(trim, line.call, keys, seconds=0)
    assert await asyncio.to_thread(trim, line.call, keys)
    assert await client.xlen(keys.work("a")) == 303
    for stream in (keys.journal, keys.dead, keys.held, keys.quarantine, keys.audit):
        # Whole nodes are freed; what is left of the last one goes with the next.
        assert await client.xlen(stream) < 100
    for _ in range(200):
        await dispatch(transport, topic, "a")
    before = await client.xlen(keys.journal)
    assert await asyncio.to_thread(trim, line.call, keys, journal_bytes=20_000)
    assert 0 < await client.xlen(keys.journal) < before
    line.close()


@pytest.mark.parametrize("place", [Place.DEAD, Place.HELD, Place.QUARANTINE])
async def test_what_somebody_else_put_among_parked_messages_keeps_nobody_from_reading(
    transport: RedisTransport, client: Any, topic: str, place: Place
) -> None:
    for _ in range(2):
        await client.xadd(Keys(topic).parked(place), {"x": "y"})
    async with asyncio.timeout(3):
        assert await transport.parked(topic, place) == []
        snapshot = await read_rows(transport, topic)
    assert not snapshot.fold.rows


async def test_an_operation_on_what_is_parked_empties_its_store(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    keys = Keys(topic)
    workflows = [await dispatch(transport, topic, "a") for _ in range(3)]
    hands = Hands(transport, topic, "a")
    for _ in workflows:
        await hands.bury(await hands.take_one())
    parked = await transport.parked(topic, Place.DEAD)
    assert [record.headers.correlation_id for record in parked] == workflows[::-1]
    assert [record.headers.correlation_id for record in await transport.parked(topic, Place.DEAD, limit=2)] == (
        workflows[:0:-1]
    )
    assert 0 < await client.ttl(keys.workflow(workflows[0])) <= 90 * 86400
    # A copy that the index does not point to is none.
    await client.xadd(keys.dead, {"r": b"no record"})
    _, fields = (await client.xrange(keys.dead, count=1))[0]
    await client.xadd(keys.dead, fields)
    assert len(await transport.parked(topic, Place.DEAD)) == 3
    record = parked[-1]
    await transport.operate(topic, TransportContract().reissue(record), expect=record.id)
    assert len(await transport.parked(topic, Place.DEAD)) == 2
    assert await client.ttl(keys.workflow(workflows[0])) == -1
    await hands.consumer.close()


async def test_a_hold_that_is_released_forgets_its_deadline(transport: RedisTransport, client: Any, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    await hands.finish(await hands.take_one(), None, Outcome(hold="why", until=3600))
    keys = Keys(topic)
    assert await client.zcard(keys.delayed) == 1
    (record,) = await transport.parked(topic, Place.HELD)
    message = record.message
    assert message is not None
    released = moves.release(
        message.replaced(message.routing_slip, timestamp="", epoch=2), time.time(), {"reason": "operator"}
    )
    assert await transport.operate(topic, released, expect=record.id) is Settled.DONE
    assert await client.zcard(keys.delayed) == 0
    assert not [name for name in await client.hgetall(keys.workflow(workflow)) if name.startswith(b"due")]
    assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
    await hands.consumer.close()


async def test_positions_of_another_broker_are_refused(transport: RedisTransport, topic: str) -> None:
    for start in ("17", "1-2-3", "0-99999999999999999999", "; FLUSHALL"):
        with pytest.raises(InvalidMessage, match="position"):
            async for _ in transport.records(topic, start=start):
                pass


async def test_the_journal_is_read_from_a_time(transport: RedisTransport, topic: str) -> None:
    await dispatch(transport, topic, "a")
    await asyncio.sleep(0.05)
    second = await dispatch(transport, topic, "a")
    (_, record) = [record async for batch in transport.records(topic) for record in batch]
    since = [item async for batch in transport.records(topic, start=record.at) for item in batch]
    assert [item.headers.correlation_id for item in since] == [second]


async def test_every_outcome_of_a_record_before_another_is_in_the_chain(transport: RedisTransport, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a", on_failure="compensate")
    hands = Hands(transport, topic, "a")
    await hands.bury(await hands.take_one())
    kinds = [record.kind for record in await transport.history(topic, workflow)]
    assert kinds == [Kind.DISPATCHED, Kind.FAILED, Kind.COMPENSATED]
    await hands.consumer.close()


OLD = "1700000000000-"
Told: TypeAlias = tuple[str, str, int, int | None]
"""The last parts of the first and the last ID, and how many entries there are and ever were."""


@pytest.mark.parametrize(
    ("position", "known", "found", "expected"),
    [
        pytest.param("3", ("1", "3", 3, 3), ("1", "5", 5, 5), None, id="more came"),
        pytest.param("3", ("1", "3", 3, 3), ("3", "5", 3, 5), None, id="trimmed up to it"),
        pytest.param("3", ("1", "3", 3, 3), ("", "3", 0, 3), None, id="trimmed, and nothing came"),
        pytest.param("3", ("1", "3", 3, 3), ("4", "5", 2, 5), None, id="trimmed, and all that came is there"),
        pytest.param("3", ("1", "3", 3, 3), ("5", "5", 1, 5), Missed.TRIMMED, id="trimmed past it"),
        pytest.param("3", ("1", "3", 3, 3), ("", "5", 0, 5), Missed.TRIMMED, id="nothing is left"),
        pytest.param("4", ("1", "3", 3, 3), ("5", "6", 2, 6), Missed.TRIMMED, id="trimmed, and not looked at since"),
        pytest.param("3", ("1", "3", 3, None), ("4", "5", 2, None), Missed.TRIMMED, id="nobody counts"),
        pytest.param("3", ("1", "3", 3, None), ("3", "5", 3, None), None, id="nobody counts, nothing is missing"),
        pytest.param("3", ("1", "3", 3, 3), ("4", "5", 2, 2), Missed.ANEW, id="fewer than there were"),
        pytest.param("3", ("1", "3", 3, 3), ("4", "9", 6, 6), Missed.ANEW, id="more than there were"),
        pytest.param("5", ("1", "3", 3, 3), ("4", "9", 6, 6), Missed.ANEW, id="some of it was read"),
        pytest.param("3", ("1", "3", 3, 3), ("", "0", 0, 0), Missed.ANEW, id="empty"),
        pytest.param("3", ("1", "3", 3, 3), None, Missed.ANEW, id="gone"),
        pytest.param("3", ("1", "3", 3, None), ("1", "2", 2, None), Missed.ANEW, id="it ends before that"),
    ],
)
def test_what_a_follower_missed_is_seen_from_how_far_the_journal_goes(
    position: str, known: Told, found: Told | None, expected: Missed | None
) -> None:
    def extent(told: Told) -> reading.Extent:
        first, last, length, added = told
        return reading.Extent(first and f"{OLD}{first}", f"{OLD}{last}", length, added)

    assert reading.missed(f"{OLD}{position}", extent(known), found and extent(found)) is expected


async def test_how_far_a_journal_goes_is_told_by_the_server(transport: RedisTransport, client: Any, topic: str) -> None:
    journal = Keys(topic).journal
    extents = [await transport._lines.one(EXTENT([journal], []))]
    for _ in range(3):
        await dispatch(transport, topic, "a")
    ids = [position.decode() for position, _ in await client.xrange(journal)]
    for left in (3, 1, 0):
        await client.xtrim(journal, maxlen=left, approximate=False)
        extents.append(await transport._lines.one(EXTENT([journal], [])))
    counted = 3 if await counts(client) else None
    assert [reading.Extent.of(extent) for extent in extents] == [
        None,
        (ids[0], ids[2], 3, counted),
        (ids[2], ids[2], 1, counted),
        ("", ids[2], 0, counted),
    ]


async def counts(client: Any) -> bool:
    """Whether this server counts what was added to a stream."""
    return int((await client.info("server"))["redis_version"].split(".")[0]) >= 7


async def test_who_may_run_no_scripts_follows_all_the_same(redis_url: str, client: Any, topic: str) -> None:
    user = f"looker-{topic}"
    await client.acl_setuser(user, enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all", "-@scripting"])
    try:
        async with RedisTransport(redis_url) as writer:
            workflow = await dispatch(writer, topic, "a")
        url = redis_url.replace("redis://", f"redis://{user}:secret@")
        async with RedisTransport(url) as transport:
            records = transport.records(topic, follow=True)
            (record,) = await anext(records)
            assert record.headers.correlation_id == workflow
            assert await anext(records) == []
            await records.aclose()  # type: ignore[attr-defined]
    finally:
        await client.acl_deluser(user)


async def test_a_chain_that_leads_round_in_a_circle_has_an_end(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    workflow = await dispatch(transport, topic, "a")
    keys = Keys(topic)
    (first,) = await client.xrange(keys.journal)
    fields = {"r": first[1][b"r"], "m": first[1][b"m"], "b": b"9999999999999-0"}
    await client.xadd(keys.journal, fields, id="9999999999999-0")
    await client.hset(keys.workflow(workflow), "position", "9999999999999-0")
    async with asyncio.timeout(20):
        assert [record.position for record in await transport.history(topic, workflow)] == ["9999999999999-0"]


async def test_a_workflow_at_no_step_makes_no_activity_without_a_name(transport: RedisTransport, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a")
    operations = Operations(transport, topic)
    await operations.execute(await operations.plan(Skip(), [workflow], reason="not needed"))
    assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
    assert [queue.activity for queue in await transport.queues(topic)] == ["a"]
