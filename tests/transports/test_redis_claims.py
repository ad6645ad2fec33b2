"""Redis: what a consumer claims: no more than it has slots, and nothing that is left behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import State
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis import pump as pump_module
from paigeant_core.transports.redis.connection import Line
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.wire import Answered, Call
from paigeant_core.transports.types import Delivery, Settled
from tests.transports import on_redis
from tests.transports.hands import Hands, until
from tests.transports.on_redis import dispatch, states

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


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


async def test_an_idle_consumer_sends_next_to_nothing(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(transport, topic, "a", lease=30)
    asking = asyncio.create_task(hands.take(1))
    await asyncio.sleep(0.5)
    sent: list[Any] = []
    begin = Line.begin

    def counted(self: Line, commands: Any, answered: Answered, wait: float = 0.0) -> Call:
        sent.append(commands)
        return begin(self, commands, answered, wait)

    monkeypatch.setattr(Line, "begin", counted)
    await asyncio.sleep(2.2)
    assert 1 <= len(sent) <= 5
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
    begin = Line.begin
    broken = False

    def breaks_after(self: Line, commands: Any, answered: Answered, wait: float = 0.0) -> Call:
        def told(result: Any) -> None:
            nonlocal broken
            if commands[0][0] == "XREADGROUP" and isinstance(result, list) and result[0] and not broken:
                broken = True
                self.close()
                result = self._endpoint.lost(OSError(), sent=True)
            answered(result)

        return begin(self, commands, told, wait)

    # The read under way is made by the unbroken method: let it end, so that the next one breaks.
    monkeypatch.setattr(pump_module, "BLOCK", 0.2)
    monkeypatch.setattr(Line, "begin", breaks_after)
    await asyncio.sleep(2.2)
    workflow = await dispatch(transport, topic, "a")
    (delivery,) = await asking
    assert broken
    assert delivery.deaths == 0
    assert delivery.message is not None
    assert delivery.message.correlation_id == workflow
    assert await hands.finish(delivery) is Settled.DONE
    await hands.consumer.close()
