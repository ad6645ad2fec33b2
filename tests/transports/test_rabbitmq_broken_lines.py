"""RabbitMQ: a line that breaks, a confirm that does not come, a queue that was deleted."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import aiormq
import pytest

from paigeant_core.clock import parse_rfc3339
from paigeant_core.errors import PublishUnknown, TransportError
from paigeant_core.journal import State
from paigeant_core.transports.rabbitmq import RabbitTransport, comeback, connection, consumer, mirror, wire
from paigeant_core.transports.rabbitmq.connection import Channel, Waits
from paigeant_core.transports.rabbitmq.desk import Copy
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import START, Settled
from tests.chaos.proxy import Proxy, port_of
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands, until
from tests.transports.on_rabbitmq import consumer_of, dispatch, hands, kinds, never

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect


def cut_line(worker: Hands) -> None:
    """Break the consumer's connection; it is still alive and connects again."""
    for writer in consumer_of(worker)._line._sockets:
        writer.transport.abort()


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


def die_as_it_is_put_on(monkeypatch: pytest.MonkeyPatch, worker: Hands) -> asyncio.Event:
    """Let the worker stop when it has put a delayed copy into the next rung, ahead of the ack; set when it has."""
    put_on = asyncio.Event()

    async def stop(_: Copy) -> None:
        put_on.set()
        await never()

    monkeypatch.setattr(consumer_of(worker)._desk, "ack", stop)
    return put_on


async def test_a_delayed_copy_that_is_there_twice_since_the_line_broke_runs_once(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other, third = await connect(), await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    dying = Hands(transport, topic, "a")
    # Two seconds in the first rung; what is left after it has room for a slow machine.
    await dying.fail(await dying.take_one(), delay=4.9)
    put_on = die_as_it_is_put_on(monkeypatch, dying)
    claiming = asyncio.create_task(dying.take_one())
    async with asyncio.timeout(30):
        await put_on.wait()
    claiming.cancel()
    await consumer_of(dying)._crash()
    async with hands(other, topic, "a") as one, hands(third, topic, "a") as two:
        taking = {asyncio.create_task(worker.take_one()): worker for worker in (one, two)}
        (first, *_), rest = await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
        delivery = first.result()
        assert delivery.message is not None
        headers = delivery.message.headers
        assert (headers.epoch, headers.attempt, headers.idempotency_key) == (2, 2, f"{workflow}/1/1")
        # The other one is stopped, whoever gets it.
        _, rest = await asyncio.wait(rest, timeout=2.0)
        assert len(rest) == 1
        await taking[first].finish(delivery)
        for task in rest:
            task.cancel()
    records = await other.history(topic, workflow)
    assert [record.kind for record in records if record.state] == ["dispatched", "retrying", "operated", "advanced"]
    assert records[2].detail["reason"] == comeback.FORKED
    # It goes on waiting, and whoever looks for what was lost knows for how long.
    due = [parse_rfc3339(record.detail["due_at"]) for record in records[1:3]]
    assert records[2].state == State.RETRYING
    assert due[1] == pytest.approx(due[0], abs=0.01)


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


async def test_what_is_settled_after_its_transport_was_disconnected_while_the_line_was_down_is_refused(
    rabbit_url: str, topic: str
) -> None:
    with Proxy(port_of(rabbit_url)) as proxy:
        transport = RabbitTransport(proxy.through(rabbit_url))
        await dispatch(transport, topic, "a")
        worker = Hands(transport, topic, "a")
        delivery = await worker.take_one()
        await asyncio.to_thread(proxy.cut)

        async def down() -> bool:
            return not consumer_of(worker)._up.is_set()

        await until(down, "the line is not missed")
        await transport.disconnect()
        with pytest.raises(TransportError, match="this consumer was closed"):
            await asyncio.wait_for(worker.finish(delivery), 10)


async def test_a_fence_whose_line_breaks_now_and_then_is_followed_again_almost_at_once(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    class Noted(Waits):
        async def next(self, error: Exception | None = None) -> None:
            waited.append(self._wait)
            await super().next(error)

    transport = await connect()
    fence = transport.fence(Names(topic))
    monkeypatch.setattr(mirror, "Waits", Noted)
    monkeypatch.setattr(connection, "STEADY", 0.0)
    for number in range(1, 5):
        await fence.catch_up()
        transport._line._sockets[-1].transport.abort()

        async def noticed(number: int = number) -> bool:
            return len(waited) >= number

        await until(noticed, "the broken line was not noticed")
    assert set(waited) == {0.05}


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


async def test_a_step_goes_on_where_another_queue_of_its_worker_was_deleted(
    connect: Any, topic: str, channel: Channel
) -> None:
    """The broker ends the channel on which the worker listens, and those over which it took messages stay open."""
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        asking = asyncio.create_task(worker.take_one())

        async def listening() -> bool:
            return bool((await channel.queue_declare(f"paigeant.{topic}.work.b", passive=True)).consumer_count)

        async def back() -> bool:
            return consumer_of(worker)._regain_until > 0

        await until(listening, "the worker never listened")
        await channel.queue_delete(f"paigeant.{topic}.work.b")
        await until(back, "the worker never listened again")
        async with asyncio.timeout(30):
            assert await worker.finish(delivery) is Settled.DONE
            following = await asking
        assert following.activity == "b"
        await worker.finish(following)
        await worker.nothing()
    assert await kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]


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


async def test_a_copy_that_came_again_goes_to_another_worker_where_its_channel_alone_was_lost(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection stands, and with it what was locked over it."""
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    dying = Hands(transport, topic, "a")
    await dying.take_one()
    await consumer_of(dying)._crash()
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.token.guarded
        intake = consumer_of(worker)._intake
        # This worker is not the one that gets it once more.
        monkeypatch.setattr(intake, "want", lambda *_: None)
        assert intake._lane is not None
        await intake._lane.close()
        async with hands(other, topic, "a") as heir:
            again = await heir.take_one()
            assert again.body == delivery.body
            assert await heir.finish(again) is Settled.DONE
    assert await kinds(other, topic, workflow) == ["dispatched", "finished"]
