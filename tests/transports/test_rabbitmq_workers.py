"""RabbitMQ: which workers live, and how long the broker lets a step of theirs run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

from paigeant_core import ActivityContext, Worker
from paigeant_core.clock import SystemClock
from paigeant_core.errors import ConfigError
from paigeant_core.journal import Kind
from paigeant_core.transports.rabbitmq import RabbitTransport, connection
from paigeant_core.transports.rabbitmq.frames import Outgoing
from paigeant_core.transports.rabbitmq.presence import Presence, Speaker
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.topology import WORK
from paigeant_core.transports.types import WorkerInfo
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands, until
from tests.transports.on_rabbitmq import consumer_of, dispatch, hands

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


# -- who lives ------------------------------------------------------------------------------


async def test_the_last_word_of_a_worker_is_said_though_it_stops_while_another_one_is(rabbit_url: str) -> None:
    presence = Presence(rabbit_url, SystemClock())
    speaker = Speaker("q", WorkerInfo(worker="w", activities=("a",)))
    presence._speakers.append(speaker)
    words: list[bytes] = []

    class Slow(Publisher):
        async def send(self, items: Sequence[Outgoing], *, serial: int = 0) -> None:
            words.extend(item.body for item in items)
            speaker.stopped = True

    publisher = Slow(connection.Line(rabbit_url, "test"))
    await presence._round(publisher)
    assert not speaker.done.is_set()
    await presence._round(publisher)
    assert speaker.done.is_set()
    assert [b'"stopped":true' in word for word in words] == [False, True]


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
