"""RabbitMQ: readers of quiet streams stay, and one that is sent away reads on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiormq
import pytest

from paigeant_core.operations import Operations, Skip
from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.streams import Reading
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import START, Settled
from tests.servers import RabbitServer
from tests.transports.hands import until
from tests.transports.on_rabbitmq import consumer_of, dispatch, hands

pytestmark = [pytest.mark.xdist_group("rabbitmq"), pytest.mark.rabbitmq, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def impatient() -> Iterator[RabbitServer]:
    """A broker that waits two seconds for an acknowledgement in place of half an hour, and looks every half second."""
    with RabbitServer(conf={"consumer_timeout": "2000"}) as server:
        server.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
        yield server


@pytest.fixture
async def transports(impatient: RabbitServer) -> AsyncIterator[tuple[RabbitTransport, RabbitTransport]]:
    async with RabbitTransport(impatient.url) as one, RabbitTransport(impatient.url) as other:
        yield one, other


async def outwait(server: RabbitServer, queue: str) -> None:
    """Return when the broker has lost its patience with a reader that came later and acknowledges nothing; twice."""
    driver = await aiormq.connect(server.url)

    async def keep(_: object) -> None: ...

    for _ in range(2):
        channel = await driver.channel()
        await channel.basic_qos(prefetch_count=100)
        await channel.basic_consume(queue, keep, arguments={"x-stream-offset": "first"})
        async with asyncio.timeout(60):
            await asyncio.wait([channel.closing])
        assert isinstance(channel.closing.exception(), aiormq.exceptions.ChannelPreconditionFailed)
    await driver.close()


@asynccontextmanager
async def following(transport: RabbitTransport, topic: str) -> AsyncIterator[list[str]]:
    """What a follower from the start is given, by workflow."""
    seen: list[str] = []

    async def follow() -> None:
        async for batch in transport.records(topic, start=START, follow=True):
            seen.extend(record.headers.correlation_id for record in batch if record.headers.correlation_id)

    task = asyncio.create_task(follow())
    yield seen
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def has(seen: list[str], *workflows: str) -> bool:
    return set(workflows) <= set(seen)


async def paused(fence: Fence, *activities: str) -> bool:
    return set(fence.paused) == set(activities)


def changes(fence: Fence) -> list[set[str]]:
    """What is paused, each time that the fence says that this changed from now on."""
    told: list[set[str]] = []
    fence.listeners.add(lambda: told.append(set(fence.paused)))
    return told


async def test_a_follower_of_a_quiet_journal_is_given_each_record_once(
    impatient: RabbitServer, transports: tuple[RabbitTransport, RabbitTransport], topic: str
) -> None:
    transport, other = transports
    first = await dispatch(other, topic, "a")
    async with following(transport, topic) as seen:
        await until(lambda: has(seen, first), "nothing came")
        second = await dispatch(other, topic, "a")
        await until(lambda: has(seen, second), "nothing came")
        await outwait(impatient, Names(topic).journal)
        third = await dispatch(other, topic, "a")
        await until(lambda: has(seen, third), "nothing came any more")
        assert seen == [first, second, third]


async def test_a_worker_knows_what_is_paused_and_whom_an_intervention_outdates_however_quiet_its_fence_is(
    impatient: RabbitServer, transports: tuple[RabbitTransport, RabbitTransport], topic: str
) -> None:
    transport, other = transports
    ann = Operations(other, topic, operator="ann@desk")
    workflow = await dispatch(other, topic, "a", "b")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.message is not None
        fence = consumer_of(worker)._desk.fence
        await ann.execute(await ann.plan(Skip(), [workflow], reason="it hangs"))
        assert await worker.finish(delivery) is Settled.SUPERSEDED
        assert await ann.pause_activity("a", reason="the provider is down") is None
        await until(lambda: paused(fence, "a"), "the pause was not heard of")
        told = changes(fence)
        await outwait(impatient, Names(topic).stream("fence"))
        assert (set(fence.paused), told) == ({"a"}, [])
        assert fence.passed(delivery.message.headers) == 2
        assert await ann.resume_activity("a", reason="it is back") is not None
        await until(lambda: paused(fence), "the fence is not followed any more")


async def test_a_follower_and_a_fence_that_the_broker_sent_away_read_on_where_they_were(
    impatient: RabbitServer,
    transports: tuple[RabbitTransport, RabbitTransport],
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport, other = transports
    ann = Operations(other, topic, operator="ann@desk")
    # Readers that acknowledge nothing while they wait, as one does whose loop is blocked for long.
    monkeypatch.setattr(Reading, "_ack", lambda _: None)
    first = await dispatch(other, topic, "a")
    assert await ann.pause_activity("a", reason="the provider is down") is None
    fence = transport.fence(Names(topic))
    await fence.catch_up()
    told = changes(fence)
    async with following(transport, topic) as seen:
        await until(lambda: has(seen, first), "nothing came")
        await outwait(impatient, Names(topic).stream("fence"))
        await outwait(impatient, Names(topic).journal)
        second = await dispatch(other, topic, "a")
        await until(lambda: has(seen, second), "nothing came any more")
        assert seen == [first, second]
    assert told == []
    assert await ann.resume_activity("a", reason="it is back") is not None
    await until(lambda: paused(fence), "the fence is not followed any more")
