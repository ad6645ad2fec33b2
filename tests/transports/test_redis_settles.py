"""Redis: a move is stored once, however often it is sent, and rides with others in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import PublishError
from paigeant_core.journal import Kind, State
from paigeant_core.operations import Operations
from paigeant_core.pauses import switch_in
from paigeant_core.transition import Transition
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.connection import Line
from paigeant_core.transports.redis.encoding import Move, move
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import MOVE, SWITCH
from paigeant_core.transports.redis.settling import BATCH, BATCH_BYTES, chunks
from paigeant_core.transports.redis.wire import Answered, Call
from paigeant_core.transports.types import Delivery, Settled
from tests.transports import on_redis
from tests.transports.contract import TransportContract
from tests.transports.hands import Hands
from tests.transports.on_redis import dispatch, states

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


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
            self.close()
            raise self._endpoint.lost(OSError(), sent=True)
        return answers

    monkeypatch.setattr(Line, "call", breaks_after)
    await transport.append_audit(topic, b"{}")
    monkeypatch.undo()
    assert broken == 2
    assert await transport.audit(topic) == [b"{}"]


async def test_a_pause_and_its_end_are_their_operators_own_also_when_the_line_breaks(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dispatch(transport, topic, "a")
    ann, bob = (Operations(transport, topic, operator=name) for name in ("ann@desk", "bob@home"))
    call = Line.call
    tries = 0

    async def breaks_after(self: Line, *commands: Any, wait: float = 0.0) -> list[Any]:
        nonlocal tries
        answers = await call(self, *commands, wait=wait)
        if SWITCH.sha in commands[0]:
            tries += 1
            if tries % 2:
                self.close()
                raise self._endpoint.lost(OSError(), sent=True)
        return answers

    monkeypatch.setattr(Line, "call", breaks_after)
    assert await ann.pause_activity("a", reason="it is down") is None
    for theirs in (await bob.pause_activity("a", reason="me too"), await bob.resume_activity("a", reason="it is up")):
        assert theirs is not None
        assert theirs.operator == "ann@desk"
    assert await ann.resume_activity("a", reason="it is up") is None
    assert tries == 8
    assert await transport.pauses(topic) == {}
    switches = [record async for batch in transport.records(topic) for record in batch if switch_in(record)]
    assert [record.detail["operator"] for record in switches] == ["ann@desk", "bob@home"]
    told = [msgspec.json.decode(entry)["outcome"] for entry in await transport.audit(topic)]
    assert told == ["1 done", "1 skipped", "1 done", "1 skipped"]


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
    begin = Line.begin

    def counted(self: Line, commands: Any, answered: Answered, wait: float = 0.0) -> Call:
        nonlocal trips
        trips += any(command[0] == "EVALSHA" and b"kind" in repr(command).encode() for command in commands)
        return begin(self, commands, answered, wait)

    monkeypatch.setattr(Line, "begin", counted)
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
    begin = Line.begin
    trips = 0
    kept: list[Callable[[], None]] = []

    def slow(self: Line, commands: Any, answered: Answered, wait: float = 0.0) -> Call:
        nonlocal trips
        if not any(command[1] == MOVE.sha for command in commands):
            return begin(self, commands, answered, wait)
        trips += 1
        mine = trips

        def told(result: Any) -> None:
            if mine == 1:
                # The first round trip is a long one; another has come and gone before it ends.
                kept.append(partial(answered, result))
                return
            if mine == 2 and breaks:
                self.close()
                result = self._endpoint.lost(OSError(), sent=True)
            answered(result)
            while kept:
                kept.pop()()

        return begin(self, commands, told, wait)

    monkeypatch.setattr(Line, "begin", slow)
    settling = [asyncio.create_task(hands.finish(held[0]))]
    await asyncio.sleep(0.1)
    settling += [asyncio.create_task(hands.finish(delivery)) for delivery in held[1:]]
    results = await asyncio.gather(*settling)
    # What went out before the line broke was done, and is found done when it is sent again.
    assert set(results) == ({Settled.DONE, Settled.ALREADY} if breaks else {Settled.DONE})
    for workflow in workflows:
        assert await states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]
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


async def test_a_transition_to_nowhere_for_an_unknown_workflow_is_not_operated(
    transport: RedisTransport, topic: str
) -> None:
    message = new_workflow(["a"], {}, topic=topic, at=time.time())
    cancel: Transition = moves.cancel(message, time.time(), {"reason": "x"})
    assert await transport.operate(topic, cancel, expect="nothing") is Settled.SUPERSEDED
    assert await transport.history(topic, message.correlation_id) == []
