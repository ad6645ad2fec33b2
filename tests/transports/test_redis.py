"""The Redis transport: the contract, and what only Redis has."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis.asyncio

from paigeant_core import transition as moves
from paigeant_core.clock import SystemClock
from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow
from paigeant_core.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DuplicateWorkflow,
    InvalidMessage,
    PublishError,
    PublishUnknown,
    TransportError,
)
from paigeant_core.journal import Kind, State
from paigeant_core.names import new_id
from paigeant_core.transition import Outcome, Place, Transition
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis import consumer as consumer_module
from paigeant_core.transports.redis import lease as lease_module
from paigeant_core.transports.redis import pump as pump_module
from paigeant_core.transports.redis import scripts as scripts_module
from paigeant_core.transports.redis.connection import Endpoint, Line, LineLost, Lines, ThreadLine
from paigeant_core.transports.redis.encoding import Move, body_of, move
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.lease import trim
from paigeant_core.transports.redis.scripts import MOVE
from paigeant_core.transports.redis.settling import BATCH, BATCH_BYTES, chunks
from paigeant_core.transports.types import Delivery, Settled, WorkerInfo
from tests.servers import RedisServer, free_port
from tests.transports.contract import Connect, Hands, PutRaw, TransportContract, until
from tests.transports.erasing import ErasingContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract
from tests.transports.verbs import VerbsContract


@pytest.fixture
async def connect(redis_url: str) -> AsyncIterator[Connect]:
    made: list[RedisTransport] = []

    async def make() -> Transport:
        transport = RedisTransport(redis_url)
        made.append(transport)
        await transport.connect()
        return transport

    yield make
    for transport in made:
        await transport.disconnect()


@pytest.fixture
async def transport(connect: Connect) -> RedisTransport:
    made = await connect()
    assert isinstance(made, RedisTransport)
    return made


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    """redis-py's own client: untyped, for its answers are typed as everything they could be."""
    made = redis.asyncio.Redis.from_url(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that a test may kill; what it was told survives."""
    with RedisServer(appendonly=True, appendfsync="always") as private:
        yield private


class TestRedis(TransportContract, OperationsContract, VerbsContract, PausesContract, SchemasContract, ErasingContract):
    """The contract on a Redis server."""

    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def put_raw(self, client: Any) -> PutRaw:
        async def put(topic: str, activity: str, body: bytes) -> None:
            await client.xadd(Keys(topic).work(activity), {"m": body})

        return put

    async def heeded(self, transport: Transport, topic: str, paused: set[str]) -> None:
        assert isinstance(transport, RedisTransport)
        consumers = transport._consumers

        async def known() -> bool:
            return all(consumer._pump._paused == paused for consumer in consumers)

        await until(known, "a worker never heard of the pause")

    async def on_broker(self, transport: Transport, topic: str) -> bytes:
        assert isinstance(transport, RedisTransport)
        reader = transport._lines
        found: list[bytes] = []
        for key in await reader.one(("KEYS", "*" + Keys(topic).prefix.replace("{", "\\{") + "*")):
            kind = await reader.one(("TYPE", key))
            read = {
                b"stream": ("XRANGE", key, "-", "+"),
                b"hash": ("HGETALL", key),
                b"zset": ("ZRANGE", key, 0, -1),
                b"set": ("SMEMBERS", key),
                b"string": ("GET", key),
            }
            found += [key, repr(await reader.one(read[kind])).encode()]
        assert len(found) > 4
        return b"\n".join(found)


async def dispatch(transport: Transport, topic: str, *steps: str, **options: Any) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow(list(steps), {"n": 1}, topic=topic, **options)


async def states(transport: Transport, topic: str, workflow: str) -> list[str]:
    return [record.state for record in await transport.history(topic, workflow) if record.state]


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


# -- once, however often it is sent ---------------------------------------------------------


async def test_a_repeated_move_is_stored_once(transport: RedisTransport, client: Any, topic: str) -> None:
    keys = Keys(topic)
    message = new_workflow(["a", "b", "c"], {}, topic=topic, at=time.time())
    command = move(keys, [Move(keys, "dispatch", moves.dispatch(message, time.time()), fresh=True)])
    assert [await transport._lines.one(command) for _ in range(3)] == [[0], [1], [1]]
    hands = Hands(transport, topic, "a", "b", "c")
    first = await hands.take_one()
    assert first.message is not None
    settle = moves.done(first.message, None, hands.span())
    again = move(keys, [Move(keys, "settle", settle, expect=message.headers.message_id, claimed=first.token)])
    assert [await transport._lines.one(again) for _ in range(3)] == [[0], [1], [1]]
    # The workflow goes on, and only then the client sends both again.
    await hands.finish(await hands.take_one())
    assert await transport._lines.one(again) == [1]
    assert await transport._lines.one(command) == [1]
    assert await client.xlen(keys.journal) == 4  # and the record that the worker started
    assert [record.kind for record in await transport.history(topic, message.correlation_id)] == [
        Kind.DISPATCHED,
        Kind.ADVANCED,
        Kind.ADVANCED,
    ]
    assert await client.xlen(keys.work("c")) == 1
    await hands.consumer.close()


async def test_a_repeated_operation_is_done_once(transport: RedisTransport, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    (record,) = await transport.history(topic, workflow)
    reissued = TransportContract().reissue(record)
    assert await transport.operate(topic, reissued, expect=record.id) is Settled.DONE
    hands = Hands(transport, topic, "a")
    await hands.finish(await hands.take_one())
    assert await transport.operate(topic, reissued, expect=record.id) is Settled.ALREADY
    assert len(await transport.history(topic, workflow)) == 3
    await hands.consumer.close()


async def test_a_late_result_that_is_repeated_is_journalled_once(transport: RedisTransport, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    late = await hands.take_one()
    assert late.message is not None
    (record,) = await transport.history(topic, workflow)
    await transport.operate(topic, TransportContract().reissue(record), expect=record.id)
    transition = moves.done(late.message, None, hands.span())
    for _ in range(3):
        assert await hands.consumer.settle(late, transition) is Settled.SUPERSEDED
    kinds = [item.kind for item in await transport.history(topic, workflow)]
    assert kinds == [Kind.DISPATCHED, Kind.OPERATED, Kind.SUPERSEDED]
    await hands.finish(await hands.take_one())
    await hands.consumer.close()


async def test_an_audit_entry_is_kept_once_however_often_the_line_breaks(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Line.call
    broken = 0

    async def breaks_after(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        nonlocal broken
        answers = await call(self, *commands, wait=wait)
        if broken < 2:
            broken += 1
            await self.close()
            raise self._endpoint.lost(OSError(), sent=True)
        return answers

    monkeypatch.setattr(Line, "call", breaks_after)
    await transport.append_audit(topic, b"{}")
    monkeypatch.undo()
    assert broken == 2
    assert await transport.audit(topic) == [b"{}"]


def test_what_is_too_much_for_one_call_is_sent_in_several() -> None:
    def item(size: int, *, alone: bool = False) -> Any:
        return SimpleNamespace(size=size, alone=alone)

    assert chunks([]) == []
    few = [item(10), item(0), item(10)]
    assert chunks(few) == [few]
    assert [len(part) for part in chunks([item(0) for _ in range(BATCH * 2 + 1)])] == [BATCH, BATCH, 1]
    large = [item(BATCH_BYTES * 2), item(1), item(BATCH_BYTES), item(0)]
    assert chunks(large) == [large[:1], large[1:2], large[2:]]
    refused = [item(1, alone=True), item(1), item(1, alone=True), item(1)]
    assert chunks(refused) == [[refused[1], refused[3]], refused[:1], refused[2:3]]


# -- claiming -------------------------------------------------------------------------------


async def test_coalescing_never_exceeds_the_slots(transport: RedisTransport, topic: str) -> None:
    steps = ("a", "b", "c", "d")
    workflows = [await dispatch(transport, topic, *steps) for _ in range(60)]
    slots, held, most, hops = 7, 0, 0, 0
    hands = Hands(transport, topic, *steps)
    freed, finished = asyncio.Event(), asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def run(delivery: Delivery) -> None:
        nonlocal held, hops
        await asyncio.sleep(0)
        assert await hands.finish(delivery) is Settled.DONE
        held -= 1
        hops += 1
        freed.set()
        if hops == len(workflows) * len(steps):
            finished.set()

    async def claim() -> None:
        nonlocal held, most
        while True:
            if held >= slots:
                freed.clear()
                await freed.wait()
                continue
            for delivery in await hands.take(slots - held):
                held += 1
                most = max(most, held)
                task = asyncio.create_task(run(delivery))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    claiming = asyncio.create_task(claim())
    await finished.wait()
    claiming.cancel()
    await asyncio.gather(claiming, return_exceptions=True)
    assert 1 < most <= slots
    for workflow in workflows:
        assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
    assert await transport._lines.one(("XLEN", Keys(topic).journal)) == 1 + len(workflows) * (1 + len(steps))
    await hands.consumer.close()


async def test_what_several_streams_give_beyond_the_slots_goes_back(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    steps = ("a", "b", "c", "d")
    hands = Hands(transport, topic, *steps)
    asking = asyncio.create_task(hands.take(1))
    await asyncio.sleep(0.2)
    # A script hands work to all four queues at once, while the consumer waits in a read of all four.
    pipe = client.pipeline(transaction=True)
    for step in steps:
        pipe.xadd(Keys(topic).work(step), {"m": new_workflow([step], {}, topic=topic, at=time.time()).encode()})
    await pipe.execute()
    deliveries = await asking
    assert len(deliveries) == 1
    for _ in range(3):
        deliveries += await hands.take(1)
    assert sorted(delivery.activity for delivery in deliveries) == list(steps)
    assert {delivery.deaths for delivery in deliveries} == {0}
    await hands.consumer.close()


async def test_settles_that_are_ready_ride_in_one_round_trip(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):
        await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a")
    held: list[Delivery] = []
    while len(held) < 30:
        held += await hands.take(30 - len(held))
    trips = 0
    call = Line.call

    async def counted(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        nonlocal trips
        trips += any(command[0] == "EVALSHA" and b"kind" in repr(command).encode() for command in commands)
        return await call(self, *commands, wait=wait)

    monkeypatch.setattr(Line, "call", counted)
    assert set(await asyncio.gather(*[hands.finish(delivery) for delivery in held])) == {Settled.DONE}
    assert trips == 1
    await hands.consumer.close()


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "broken"])
async def test_what_becomes_ready_during_a_round_trip_does_not_wait_for_its_end(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    number = 12
    workflows = [await dispatch(transport, topic, "a") for _ in range(number)]
    hands = Hands(transport, topic, "a", lease=60)
    held: list[Delivery] = []
    while len(held) < number:
        held += await hands.take(number - len(held))
    call = Line.call
    trips = 0
    answered = asyncio.Event()

    async def slow(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        nonlocal trips
        if not any(command[1] == MOVE.sha for command in commands):
            return await call(self, *commands, wait=wait)
        trips += 1
        mine = trips
        answers = await call(self, *commands, wait=wait)
        if mine == 1:
            # The first round trip is a long one; another has come and gone before it ends.
            await asyncio.wait_for(answered.wait(), 20)
        answered.set()
        if mine == 2 and breaks:
            await self.close()
            raise self._endpoint.lost(OSError(), sent=True)
        return answers

    monkeypatch.setattr(Line, "call", slow)
    settling = [asyncio.create_task(hands.finish(held[0]))]
    await asyncio.sleep(0.1)
    settling += [asyncio.create_task(hands.finish(delivery)) for delivery in held[1:]]
    results = await asyncio.gather(*settling)
    # What went out before the line broke was done, and is found done when it is sent again.
    assert set(results) == ({Settled.DONE, Settled.ALREADY} if breaks else {Settled.DONE})
    for workflow in workflows:
        assert await states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]
    await hands.consumer.close()


async def test_calls_on_one_line_are_answered_each_for_itself(transport: RedisTransport) -> None:
    line = Line(transport._endpoint)
    answers = await asyncio.gather(*(line.one(("ECHO", str(number))) for number in range(50)))
    assert answers == [str(number).encode() for number in range(50)]
    await line.close()


async def test_a_script_that_is_unknown_in_the_middle_of_two_calls_breaks_the_line_once(
    transport: RedisTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(transport._endpoint)
    text = f"return '{new_id()}'"
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(scripts_module._texts, sha, text)
    asked = ("EVALSHA", sha, 0)
    results = await asyncio.gather(line.call(asked), line.one(("ECHO", "1")), return_exceptions=True)
    assert [type(result) for result in results] == [LineLost, LineLost]
    assert await line.one(("ECHO", "2")) == b"2"
    assert await line.one(asked) == text[8:-1].encode()
    await line.close()


async def test_a_fault_of_ours_does_not_end_the_renewals(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renewals = lease_module.Heartbeat._renewals
    asked = 0

    def failing_once(self: lease_module.Heartbeat) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ValueError("a fault of ours")
        return renewals(self)

    monkeypatch.setattr(lease_module.Heartbeat, "_renewals", failing_once)
    await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a", lease=0.6)
    delivery = await hands.take_one()

    async def renewed() -> bool:
        return asked > 2

    await until(renewed, "renewed again")
    assert "trying again: a fault of ours" in caplog.text
    assert await hands.finish(delivery) is Settled.DONE
    await hands.consumer.close()


async def test_an_idle_consumer_sends_next_to_nothing(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(transport, topic, "a", lease=30)
    asking = asyncio.create_task(hands.take(1))
    await asyncio.sleep(0.5)
    sent: list[Any] = []
    call = Line.call

    async def counted(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        sent.append(commands)
        return await call(self, *commands, wait=wait)

    monkeypatch.setattr(Line, "call", counted)
    await asyncio.sleep(2.2)
    assert len(sent) <= 5
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await hands.consumer.close()


async def test_a_claim_that_is_cancelled_as_it_is_answered_leaves_nothing_behind(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    hands = Hands(transport, topic, "a", lease=60)
    for pause in range(12):
        asking = asyncio.create_task(hands.consumer.claim(4))
        await asyncio.sleep(0.02)
        await dispatch(transport, topic, "a")
        await asyncio.sleep(pause * 0.0005)
        asking.cancel()
        (result,) = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(result, list):
            for delivery in result:
                await hands.consumer.hand_back(delivery)

    async def free() -> bool:
        return bool((await client.xpending(Keys(topic).work("a"), "workers"))["pending"] == 0)

    await until(free, "something that nobody holds is still claimed")
    assert await client.xlen(Keys(topic).work("a")) == 12
    await hands.consumer.close()


async def test_what_a_lost_answer_held_is_found_at_once(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is answered into the void: without a look at its own it would come back after a lease."""
    hands = Hands(transport, topic, "a", lease=3600)
    asking = asyncio.create_task(hands.take(2))
    await asyncio.sleep(0.2)
    call = Line.call
    broken = False

    async def breaks_after(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        nonlocal broken
        answers = await call(self, *commands, wait=wait)
        if commands[0][0] == "XREADGROUP" and answers[0] and not broken:
            broken = True
            await self.close()
            raise self._endpoint.lost(OSError(), sent=True)
        return answers

    # The read under way is made by the unbroken method: let it end, so that the next one breaks.
    monkeypatch.setattr(pump_module, "BLOCK", 0.2)
    monkeypatch.setattr(Line, "call", breaks_after)
    await asyncio.sleep(2.2)
    workflow = await dispatch(transport, topic, "a")
    (delivery,) = await asking
    assert broken
    assert delivery.deaths == 0
    assert delivery.message is not None
    assert delivery.message.correlation_id == workflow
    assert await hands.finish(delivery) is Settled.DONE
    await hands.consumer.close()


async def test_a_step_that_was_handed_back_remembers_its_deaths(transport: RedisTransport, topic: str) -> None:
    await dispatch(transport, topic, "a")
    dying = Hands(transport, topic, "a", lease=0.3)
    await dying.take_one()
    await dying.consumer._crash()  # type: ignore[attr-defined]
    heir = Hands(transport, topic, "a", lease=0.3)
    taken = await heir.take_one()
    assert taken.deaths == 1
    await heir.consumer.hand_back(taken)
    again = await heir.take_one()
    assert (again.deaths, again.body) == (1, taken.body)
    await heir.finish(again)
    await heir.consumer.close()


async def test_all_steps_of_a_dead_worker_are_taken_over_at_once(transport: RedisTransport, topic: str) -> None:
    for _ in range(4):
        await dispatch(transport, topic, "a")
    dying = Hands(transport, topic, "a", lease=0.3)
    assert len(await dying.take(4)) == 4
    await dying.consumer._crash()  # type: ignore[attr-defined]
    heir = Hands(transport, topic, "a", lease=0.3)
    pump = heir.consumer._pump  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number in range(1, 5):
        taken = await heir.take_one()
        assert taken.deaths == 1
        # There may be more: it looks again with its next claim, and not in a third of a lease.
        assert pump._takeover_at <= loop.time(), number
        await heir.finish(taken)
    await heir.consumer.close()


async def test_a_blocked_event_loop_keeps_its_step(transport: RedisTransport, redis_url: str, topic: str) -> None:
    await dispatch(transport, topic, "a")
    slow = Hands(transport, topic, "a", lease=0.6)
    delivery = await slow.take_one()
    keys, endpoint = Keys(topic), Endpoint(redis_url)

    def watch() -> list[int]:
        line = ThreadLine(endpoint)
        idles = []
        until_then = time.monotonic() + 1.8
        while time.monotonic() < until_then:
            ((_, _, idle, _),) = line.call(("XPENDING", keys.work("a"), "workers", "-", "+", 1))[0]
            idles.append(idle)
            time.sleep(0.02)
        line.close()
        return idles

    watching = asyncio.get_running_loop().run_in_executor(None, watch)
    time.sleep(2.0)  # noqa: ASYNC251 - a handler that blocks is what is tested
    assert max(await watching) < 600
    assert await slow.finish(delivery) is Settled.DONE
    await slow.consumer.close()


async def test_a_worker_that_stalled_cannot_steal_its_step_back(
    transport: RedisTransport, client: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dispatch(transport, topic, "a", "b")
    stalled = Hands(transport, topic, "a", lease=0.4)
    late = await stalled.take_one()
    stalled.consumer._heartbeat.stop()  # type: ignore[attr-defined]
    heir = Hands(transport, topic, "a", lease=0.4)
    taken = await heir.take_one()
    assert taken.deaths == 1
    # It renews again, and must be told that there is nothing of its own any more.
    command = stalled.consumer._heartbeat._renewals()[0]  # type: ignore[attr-defined]
    assert await transport._lines.one(command) == 0
    ((_, owner, _, _),) = await transport._lines.one(("XPENDING", Keys(topic).work("a"), "workers", "-", "+", 1))
    assert owner == heir.name.encode()
    assert await heir.finish(taken) is Settled.DONE
    assert await stalled.finish(late) is Settled.SUPERSEDED
    await heir.consumer.close()
    await stalled.consumer.close()


async def test_a_lost_worker_is_journalled_once_by_those_who_live(transport: RedisTransport, topic: str) -> None:
    dying = Hands(transport, topic, "a", lease=0.3)
    living = [Hands(transport, topic, "a", lease=0.3) for _ in range(2)]
    asking = [asyncio.create_task(hands.take_one()) for hands in (dying, *living)]
    await asyncio.sleep(0.2)
    asking[0].cancel()
    await dying.consumer._crash()  # type: ignore[attr-defined]

    async def events() -> list[tuple[str, str]]:
        records = [record async for batch in transport.records(topic) for record in batch]
        return [(record.worker, record.detail["event"]) for record in records if record.kind == Kind.WORKER]

    async def lost() -> bool:
        return (dying.name, "lost") in await events()

    await until(lost, "nobody missed it")
    await asyncio.sleep(0.5)
    assert (await events()).count((dying.name, "lost")) == 1
    assert [status.info.worker for status in await transport.workers(topic)] == sorted(hands.name for hands in living)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    for hands in living:
        await hands.consumer.close()
        assert (await events())[-1] == (hands.name, "stopped")


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


# -- the journal and what is kept -----------------------------------------------------------


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


async def test_a_prefix_is_no_pattern(transport: RedisTransport, topic: str) -> None:
    await dispatch(transport, topic, "a", correlation_id="x-1")
    for prefix in ("*", "?-", "[x]", "x\\-1", "\u00e9"):
        assert await transport.find(topic, prefix) == []
    assert await transport.find(topic, "x-") == ["x-1"]
    assert await transport.find(topic, "") == ["x-1"]


async def test_every_outcome_of_a_record_before_another_is_in_the_chain(transport: RedisTransport, topic: str) -> None:
    workflow = await dispatch(transport, topic, "a", on_failure="compensate")
    hands = Hands(transport, topic, "a")
    await hands.bury(await hands.take_one())
    kinds = [record.kind for record in await transport.history(topic, workflow)]
    assert kinds == [Kind.DISPATCHED, Kind.FAILED, Kind.COMPENSATED]
    await hands.consumer.close()


# -- servers that go away -------------------------------------------------------------------


async def test_scripts_that_the_server_forgot_are_given_to_it_again(server: RedisServer, topic: str) -> None:
    async with RedisTransport(server.url) as transport:
        await dispatch(transport, topic, "a", "b")
        hands = Hands(transport, topic, "a", "b")
        delivery = await hands.take_one()
        server.cli("SCRIPT", "FLUSH")
        assert await hands.finish(delivery) is Settled.DONE
        following = await hands.take_one()
        server.cli("SCRIPT", "FLUSH")
        await dispatch(transport, topic, "a")
        assert await hands.finish(following) is Settled.DONE
        await hands.consumer.close()


async def test_a_restarted_server_is_waited_for_and_the_work_goes_on(
    server: RedisServer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisTransport(server.url) as transport:
        workflows = [await dispatch(transport, topic, "a") for _ in range(3)]
        hands = Hands(transport, topic, "a")
        held = [await hands.take_one() for _ in range(2)]
        asking = asyncio.create_task(hands.take_one())
        await asyncio.sleep(0.2)
        third = await asking
        asking = asyncio.create_task(hands.take_one())
        with caplog.at_level(logging.INFO, "paigeant"):
            await asyncio.to_thread(server.kill)
            settling = [asyncio.create_task(hands.finish(delivery)) for delivery in (*held, third)]
            await asyncio.sleep(0.7)
            assert not any(task.done() for task in settling)
            await asyncio.to_thread(server.restart)
            assert await asyncio.gather(*settling) == [Settled.DONE] * 3
            workflows.append(await dispatch(transport, topic, "a"))
            assert await hands.finish(await asking) is Settled.DONE
        for workflow in workflows:
            assert await states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]
        said = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
        assert 1 <= len(said) <= 6  # of the pump, the waiting read and the heartbeat, not of every try
        assert any("back on the line" in record.getMessage() for record in caplog.records)
        await hands.consumer.close()


async def test_a_server_that_lost_its_data_is_worked_with_again(topic: str) -> None:
    with RedisServer() as server:
        async with RedisTransport(server.url) as transport:
            await dispatch(transport, topic, "a", "b")
            hands = Hands(transport, topic, "a", "b")
            await hands.finish(await hands.take_one())
            await asyncio.to_thread(server.restart)
            second = await dispatch(transport, topic, "a", "b")
            await hands.finish(await hands.take_one())
            await hands.finish(await hands.take_one())
            assert (await states(transport, topic, second))[-1] == State.COMPLETED
            assert [queue.activity for queue in await transport.queues(topic)] == ["a", "b"]
            await hands.consumer.close()


async def test_a_settle_on_a_silent_server_is_repeated_and_stored_once(server: RedisServer, topic: str) -> None:
    """The server stops answering in the middle: what it had taken is not done twice."""
    import os
    import signal

    async with RedisTransport(f"{server.url}?socket_timeout=0.5") as transport:
        workflow = await dispatch(transport, topic, "a", "b")
        hands = Hands(transport, topic, "a", lease=60)
        delivery = await hands.take_one()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        settling = asyncio.create_task(hands.finish(delivery))
        await asyncio.sleep(1.5)
        assert not settling.done()
        os.kill(server.pid, signal.SIGCONT)
        assert await settling in (Settled.DONE, Settled.ALREADY)
        assert len(await transport.history(topic, workflow)) == 2
        await hands.consumer.close()


async def test_a_dispatch_without_an_answer_says_that_it_may_have_been_done(
    server: RedisServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr(Lines, "PATIENCE", 0.5)
    async with RedisTransport(f"{server.url}?socket_timeout=0.3") as transport:
        await dispatch(transport, topic, "a")  # so that the server knows the script
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(PublishUnknown):
            await dispatch(transport, topic, "a", correlation_id="one")
        os.kill(server.pid, signal.SIGCONT)
        with pytest.raises(DuplicateWorkflow):
            await dispatch(transport, topic, "a", correlation_id="one")


async def test_a_close_without_a_server_does_not_hang(
    server: RedisServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "CLOSE", 0.5)
    transport = RedisTransport(server.url)
    await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    delivery = await hands.take_one()
    await asyncio.to_thread(server.kill)
    settling = asyncio.create_task(hands.finish(delivery))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(8):
        await hands.consumer.close()
    with pytest.raises(TransportError):
        await settling
    with pytest.raises(TransportError, match="closed"):
        await hands.consumer.claim(1)
    await transport.disconnect()


async def test_a_full_server_takes_nothing_and_loses_nothing(topic: str) -> None:
    with RedisServer(options={"maxmemory-policy": "noeviction"}) as server:
        async with RedisTransport(server.url) as transport:
            workflow = await dispatch(transport, topic, "a", "b")
            hands = Hands(transport, topic, "a", "b")
            delivery = await hands.take_one()
            server.cli("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(PublishError, match="out of memory"):
                await dispatch(transport, topic, "a")
            settling = asyncio.create_task(hands.finish(delivery))
            await asyncio.sleep(0.3)
            assert not settling.done()
            assert server.cli("XLEN", Keys(topic).work("a")) == "1"
            server.cli("CONFIG", "SET", "maxmemory", "0")
            assert await settling is Settled.DONE
            assert await states(transport, topic, workflow) == [State.QUEUED, State.QUEUED]
            await hands.finish(await hands.take_one())
            await hands.consumer.close()


async def test_one_move_that_is_refused_for_good_does_not_stop_the_others(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    for _ in range(3):
        await dispatch(transport, topic, "a", "bad")
    good = [await dispatch(transport, topic, "a", "b") for _ in range(3)]
    await client.set(Keys(topic).work("bad"), "no stream")
    hands = Hands(transport, topic, "a")
    held: list[Delivery] = []
    while len(held) < 6:
        held += await hands.take(6 - len(held))
    results = await asyncio.gather(*[hands.finish(delivery) for delivery in held], return_exceptions=True)
    assert [isinstance(result, PublishError) for result in results].count(True) == 3
    assert results.count(Settled.DONE) == 3
    # Refused means that nothing was done: no record, and the old copy is still there.
    assert await client.xlen(Keys(topic).work("a")) == 3
    for workflow in good:
        assert await states(transport, topic, workflow) == [State.QUEUED, State.QUEUED]
    records = [record async for batch in transport.records(topic) for record in batch]
    assert len([record for record in records if record.kind == Kind.ADVANCED]) == 3
    # They are not renewed any more, so they come again: not lost, and in the end poison.
    await client.delete(Keys(topic).work("bad"))
    again = await hands.take_one()
    assert again.deaths == 1
    assert await hands.finish(again) is Settled.DONE
    await hands.consumer.close()


# -- errors and URLs ------------------------------------------------------------------------


async def test_a_refused_connection_is_one_sentence() -> None:
    port = free_port()
    transport = RedisTransport(f"redis://:s3cret-word@127.0.0.1:{port}/0")
    with pytest.raises(ConnectError) as raised:
        await transport.connect()
    assert str(raised.value) == f"no Redis answers at 127.0.0.1:{port}: connection refused"
    assert transport.url == f"redis://:***@127.0.0.1:{port}/0"
    await transport.disconnect()
    await transport.disconnect()


@pytest.mark.parametrize("given", ["", ":wr0ng-word@"])
async def test_a_wrong_password_is_an_authentication_error(given: str) -> None:
    with RedisServer(password="right-word") as server:
        transport = RedisTransport(f"redis://{given}127.0.0.1:{server.port}")
        with pytest.raises(AuthenticationError) as raised:
            await transport.connect()
        consumer = transport.consumer("t", WorkerInfo(worker="w", activities=("a",)), lease=1)
        with pytest.raises(AuthenticationError):
            await consumer.claim(1)
        await transport.disconnect()
        assert "-word" not in f"{raised.value!r} {raised.value} {transport.url} {transport!r}"
        async with RedisTransport(server.url) as allowed:
            await allowed.connect()


async def test_what_is_no_redis_is_said() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    transport = RedisTransport(f"redis://127.0.0.1:{port}")
    with pytest.raises(ConnectError, match="no Redis"):
        await transport.connect()
    await transport.disconnect()
    other.close()
    await other.wait_closed()


async def test_a_server_that_is_too_old_is_refused(transport: RedisTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Lines.ask

    async def older(self: Lines, *commands: Any) -> list[Any]:
        if commands == (("INFO",),):
            return [b"# Server\r\nredis_version:6.0.16\r\n"]
        return await ask(self, *commands)

    monkeypatch.setattr(Lines, "ask", older)
    with pytest.raises(TransportError, match=r"6\.0\.16.*6\.2"):
        await transport.connect()


async def test_the_broker_tells_what_a_doctor_asks(transport: RedisTransport) -> None:
    info = await transport.broker_info()
    assert info.broker in ("Redis", "Valkey")
    assert int(info.version.split(".")[0]) >= 6
    assert {"maxmemory_policy", "aof_enabled"} <= set(info.facts)


def test_urls() -> None:
    assert isinstance(get_transport("redis://localhost"), RedisTransport)
    secure = get_transport("rediss://user:pass@example.com:6380/2?ssl_cert_reqs=none")
    assert isinstance(secure, RedisTransport)
    assert "pass" not in secure.url.replace("***", "")
    for url in ("redis://localhost?nonsense=1", "redis://localhost?socket_timeout=soon", "http://localhost"):
        with pytest.raises(ConfigError):
            RedisTransport(url)


async def test_a_machine_whose_clock_is_off_claims_nothing(
    redis_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(SystemClock):
        def now(self) -> float:
            return time.time() + 45

    transport = RedisTransport(redis_url, clock=Wrong())
    await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    with caplog.at_level(logging.WARNING, "paigeant"):
        await hands.nothing(0.4)
    assert "clock is 45 s off" in caplog.text
    await transport.disconnect()


async def test_a_machine_whose_clock_is_set_while_it_works_claims_nothing_until_it_is_right(
    redis_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Settable(SystemClock):
        off = 0.0

        def now(self) -> float:
            return time.time() + self.off

    transport = RedisTransport(redis_url, clock=(clock := Settable()))
    hands = Hands(transport, topic, "a")
    await hands.nothing(0.1)
    clock.off = -300.0

    async def said(what: str) -> bool:
        return what in caplog.text

    with caplog.at_level(logging.WARNING, "paigeant"):
        claiming = asyncio.create_task(hands.take_one())
        await until(lambda: said("clock was set, and is 300 s off"), "it does not notice")
        await dispatch(transport, topic, "a")
        await asyncio.wait([claiming], timeout=0.3)
        assert not claiming.done()
        clock.off = 1.0
        delivery = await claiming
        assert "claims again" in caplog.text
    await hands.finish(delivery)
    await hands.consumer.close()
    await transport.disconnect()


async def test_a_half_open_line_is_noticed(redis_url: str) -> None:
    """Something takes the connection and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        transport = RedisTransport(f"redis://127.0.0.1:{mute.getsockname()[1]}?socket_timeout=0.2")
        with pytest.raises(ConnectError, match="no answer in time"):
            async with asyncio.timeout(10):
                await transport.connect()
        await transport.disconnect()


async def test_a_transition_to_nowhere_for_an_unknown_workflow_is_not_operated(
    transport: RedisTransport, topic: str
) -> None:
    message = new_workflow(["a"], {}, topic=topic, at=time.time())
    cancel: Transition = moves.cancel(message, time.time(), {"reason": "x"})
    assert await transport.operate(topic, cancel, expect="nothing") is Settled.SUPERSEDED
    assert await transport.history(topic, message.correlation_id) == []
