"""Redis: whose step it is: renewals, workers that die or stall, and clocks that are off."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from paigeant_core.journal import Kind
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis import lease as lease_module
from paigeant_core.transports.redis.connection import ThreadLine
from paigeant_core.transports.redis.endpoint import Endpoint
from paigeant_core.transports.redis.keys import GROUP, Keys
from paigeant_core.transports.redis.lease import trim
from paigeant_core.transports.types import Delivery, Settled
from tests.settable_clock import SettableClock
from tests.transports import on_redis
from tests.transports.hands import Hands, until
from tests.transports.on_redis import dispatch

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


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
        assert pump._takeovers.at <= loop.time(), number
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


async def test_a_machine_whose_clock_is_off_claims_nothing(
    redis_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = RedisTransport(redis_url, clock=SettableClock(45.0))
    await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    with caplog.at_level(logging.WARNING, "paigeant"):
        await hands.nothing(0.4)
    assert "clock is 45 s off" in caplog.text
    await transport.disconnect()


async def test_a_machine_whose_clock_is_set_while_it_works_claims_nothing_until_it_is_right(
    redis_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = RedisTransport(redis_url, clock=(clock := SettableClock()))
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


async def test_a_step_is_its_holders_for_its_holders_lease(transport: RedisTransport, topic: str) -> None:
    """Workers of one activity may have leases of their own; a short one takes nothing over that is renewed slowly."""
    await dispatch(transport, topic, "a")
    slow = Hands(transport, topic, "a", lease=30.0)
    delivery = await slow.take_one()
    hasty = Hands(transport, topic, "a", lease=0.3)
    # It is renewed every three seconds.
    await hasty.nothing(2.0)
    assert await slow.finish(delivery) is Settled.DONE
    await slow.consumer.close()
    await hasty.consumer.close()


async def test_what_a_dead_worker_with_a_long_lease_held_hides_no_step_of_others(
    transport: RedisTransport, topic: str
) -> None:
    for _ in range(250):
        await dispatch(transport, topic, "a")
    slow = Hands(transport, topic, "a", lease=3600.0)
    held: list[Delivery] = []
    while len(held) < 250:
        held += await slow.take(250 - len(held))
    workflow = await dispatch(transport, topic, "a")
    hasty = Hands(transport, topic, "a", lease=0.3)
    await hasty.take_one()
    for hands in (slow, hasty):
        await hands.consumer._crash()  # type: ignore[attr-defined]
    heir = Hands(transport, topic, "a", lease=0.3)
    taken = await heir.take_one()
    assert taken.message is not None
    assert (taken.message.correlation_id, taken.deaths) == (workflow, 1)
    await heir.nothing()
    await heir.finish(taken)
    await heir.consumer.close()


async def test_a_clock_that_is_wrong_when_a_worker_joins_again_keeps_no_result_back(redis_url: str, topic: str) -> None:
    transport = RedisTransport(redis_url, clock=(clock := SettableClock()))
    workflow = await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    delivery = await hands.take_one()
    clock.off = 300.0
    pump = hands.consumer._pump  # type: ignore[attr-defined]
    pump._joined = False  # as after a failover
    pump._kick()

    async def joined() -> bool:
        return bool(pump._joined)

    await until(joined, "it does not join")
    assert await hands.finish(delivery) is Settled.DONE
    assert (await on_redis.states(transport, topic, workflow))[-1] == "completed"
    await dispatch(transport, topic, "a")
    await hands.nothing(0.3)
    await hands.consumer.close()
    await transport.disconnect()


async def test_the_names_of_workers_that_were_killed_go_from_the_groups(
    transport: RedisTransport, client: Any, redis_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(topic)
    for _ in range(2):
        await dispatch(transport, topic, "a")
    killed, holding = Hands(transport, topic, "a", lease=30), Hands(transport, topic, "a", lease=30)
    await killed.finish(await killed.take_one())
    await holding.take_one()
    for hands in (killed, holding):
        await hands.consumer._crash()  # type: ignore[attr-defined]

    async def named() -> set[str]:
        return {item["name"].decode() for item in await client.xinfo_consumers(keys.work("a"), GROUP)}

    line = ThreadLine(Endpoint(redis_url))
    await asyncio.to_thread(trim, line.call, keys)
    assert await named() == {killed.name, holding.name}, "they were heard of just now"
    monkeypatch.setattr(lease_module, "FORGOTTEN", -1.0)
    await asyncio.to_thread(trim, line.call, keys)
    assert await named() == {holding.name}
    line.close()
