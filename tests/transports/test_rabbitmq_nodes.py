"""RabbitMQ: a node that dies while the others go on is noticed by the marks that it took with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from paigeant_core.errors import TransportError
from paigeant_core.transports.rabbitmq import RabbitTransport, comeback, connection, consumer, mirror, wire
from paigeant_core.transports.rabbitmq.connection import Channel, LineLost, Message, Waits
from paigeant_core.transports.rabbitmq.desk import Copy
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.streams import Reading, ready_in
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled
from tests.servers import RabbitServer
from tests.transports import on_rabbitmq
from tests.transports.hands import Hands, until
from tests.transports.on_rabbitmq import consumer_of, dispatch, hands, kinds
from tests.transports.test_rabbitmq_broken_lines import cut_line

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect


async def started(worker: Hands) -> None:
    """Wait until a worker is there; whoever asks the fence before makes it look as if there had been one."""
    await worker.nothing(0.1)

    async def up() -> bool:
        return consumer_of(worker)._up.is_set()

    await until(up, "it does not come up")


async def fence_with(transport: RabbitTransport, topic: str, marks: int) -> Fence:
    """The fence, once it knows of so many marks."""
    fence = transport.fence(Names(topic))

    async def there() -> bool:
        await fence.catch_up()
        return len(fence.nodes) == marks

    await until(there, f"there are no {marks} marks")
    return fence


@pytest.mark.parametrize("back", [False, True], ids=["the-node-is-down", "the-node-is-back"])
async def test_a_copy_that_comes_again_after_a_node_died_goes_on_one_epoch_up(
    connect: Any, topic: str, channel: Channel, back: bool
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(other, topic, "c") as bystander:
        await started(bystander)
        dying = Hands(transport, topic, "a")
        await dying.take_one()
        fence = await fence_with(other, topic, 4)
        (lost, *_) = [mark for mark, worker in fence.nodes.items() if worker == dying.name]
        # What a node's death does; no line breaks but that of a worker that dies as well.
        await (channel.queue_purge(lost) if back else channel.queue_delete(lost))
        await consumer_of(dying)._crash()
        async with hands(other, topic, "a", "b") as heir:
            again = await heir.take_one()
            assert again.message is not None
            assert (again.activity, again.message.headers.epoch) == ("a", 2)
            assert again.message.headers.idempotency_key == f"{workflow}/1/1"
            # Found once is enough: what is made later is not doubted for ever.
            booted_at = fence.booted_at
            await fence.look_for_restart(booted_at + 1000)
            assert fence.booted_at == booted_at > 0
            await heir.finish(again)
            await heir.finish(await heir.take_one())
    found = await kinds(other, topic, workflow)
    assert found[:2] == ["dispatched", "operated"]
    # A step that is given back so soon after goes up once more.
    assert [kind for kind in found[2:] if kind != "operated"] == ["advanced", "finished"]


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@pytest.mark.slow
async def test_a_restart_is_noticed_where_the_exchange_survives_it(
    own_server: RabbitServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on RabbitMQ from 4.0 on, with Khepri: then the marks alone tell."""
    # A reader that came while the broker was starting may be left without a word; the next is another one.
    monkeypatch.setattr(mirror, "_PATIENCE", 3.0)
    async with RabbitTransport(own_server.url) as transport:
        async with transport._line.borrowed() as channel:
            await channel.exchange_declare(Names(topic).boot, exchange_type="fanout", durable=True)
        async with hands(transport, topic, "a") as worker:
            await started(worker)
            fence = await fence_with(transport, topic, 2)
            assert fence.booted_at == 0
            for end in (own_server.kill, own_server.stop):
                marks, noticed_at = set(fence.nodes), fence.booted_at
                await asyncio.to_thread(own_server.flush)
                await asyncio.to_thread(end)
                await asyncio.to_thread(own_server.start)

                async def renewed(marks: set[str] = marks) -> bool:
                    with suppress(TransportError):
                        await fence.catch_up()
                    return len(fence.nodes) == 2 and not marks & set(fence.nodes)

                await until(renewed, "it left no new marks")
                assert fence.booted_at > noticed_at
            # A line that breaks is none.
            marks, noticed_at = set(fence.nodes), fence.booted_at
            cut_line(worker)
            await until(lambda: renewed(marks), "it left no new marks")
            assert fence.booted_at == noticed_at


async def test_marks_of_an_older_worker_are_empty_and_tell_by_being_gone(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    names = Names(topic)
    older = f"{names.boot}.older"
    await channel.queue_declare(older, durable=False)
    fence = transport.fence(names)
    await fence.look_for_restart(transport.clock.now())
    await transport._publisher.send([wire.node_mark(names.stream("fence"), older, "older")])
    await fence.look_for_restart(transport.clock.now())
    assert (set(fence.nodes), fence.booted_at) == ({older}, 0)
    await channel.queue_delete(older)
    await fence.look_for_restart(transport.clock.now())
    assert fence.nodes == {}
    assert fence.booted_at > 0


async def test_a_line_that_breaks_and_a_worker_that_dies_are_no_dead_node(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(other, topic, "c") as living:
        await started(living)
        fence = await fence_with(other, topic, 2)
        before = set(fence.nodes)
        cut_line(living)

        async def renewed() -> bool:
            await fence.catch_up()
            return len(fence.nodes) == 2 and not before & set(fence.nodes)

        await until(renewed, "it left no new marks")
        dying = Hands(transport, topic, "a")
        await dying.take_one()
        await consumer_of(dying)._crash()
        async with hands(other, topic, "a") as heir:
            again = await heir.take_one()
            assert again.message is not None
            assert (again.message.headers.epoch, again.deaths) == (1, 1)
            await heir.finish(again)
        assert fence.booted_at == 0
    assert await kinds(other, topic, workflow) == ["dispatched", "finished"]


async def test_marks_go_with_their_worker_and_those_of_a_dead_one_are_swept(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport, other = await connect(), await connect()
    dead = Hands(transport, topic, "a")
    await started(dead)
    async with hands(other, topic, "a") as living:
        await started(living)
        fence = await fence_with(other, topic, 4)
        marks = consumer_of(living)._marks
        await marks.sweep(fence, [dead.name])
        await consumer_of(dead)._crash()
        for left in (4, 2, 2):
            # Once is no proof: it may not have spoken yet.
            await marks.sweep(fence, [])
            await fence.catch_up()
            assert len(fence.nodes) == left
        assert set(fence.nodes.values()) == {living.name}
    await fence.look_for_restart(other.clock.now())
    assert (fence.nodes, fence.booted_at) == ({}, 0)


async def test_marks_that_could_not_be_taken_away_with_a_line_that_broke_are_at_the_next_try(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await connect()
    async with hands(transport, topic, "a") as worker:
        await started(worker)
        marks = consumer_of(worker)._marks
        old = list(marks._mine)

        def broken() -> None:
            raise LineLost("the line broke")

        with monkeypatch.context() as patched:
            patched.setattr(marks._line, "borrowed", broken)
            with pytest.raises(LineLost):
                await marks.renew()
        await marks.renew()
        assert [await ready_in(transport._line, queue) for queue in old] == [None, None]
        assert [await ready_in(transport._line, queue) for queue in marks._mine] == [1, 1]


async def test_a_journal_that_gives_nothing_for_a_while_is_not_believed_to_be_empty(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    dying = Hands(transport, topic, "a")
    delivery = await dying.take_one()
    monkeypatch.setattr(consumer_of(dying)._line, "ack", lambda _: None)
    assert await dying.finish(delivery) is Settled.DONE
    silent, read = [0, 0], Reading.batch

    async def batch(self: Reading, timeout: float | None = None) -> list[Message]:
        looking_up = self.queue == Names(topic).journal and self._line is consumer_of(heir)._line
        # First the end of the journal is not told, then what comes before it.
        if looking_up and silent[self._prefetch > 1] < 2:
            silent[self._prefetch > 1] += 1
            return []
        return await read(self, timeout)

    async with hands(other, topic, "a", "b") as heir:
        monkeypatch.setattr(Reading, "batch", batch)
        await consumer_of(dying)._crash()
        following = await heir.take_one()
        assert following.activity == "b"
        await heir.finish(following)
        await heir.nothing(0.5)

        async def dropped() -> bool:
            return "superseded" in await kinds(other, topic, workflow)

        await until(dropped, "the copy that was handed on is still there")
    assert silent == [2, 2]
    assert sorted(await kinds(other, topic, workflow)) == ["advanced", "dispatched", "finished", "superseded"]


async def test_what_comes_back_after_the_own_line_was_lost_counts_no_death(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comeback, "GATHER", 0.0)
    transport = await connect()
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        line = consumer_of(worker)._line
        for _ in range(3):
            copy = delivery.token
            cut_line(worker)
            await asyncio.wait_for(line.lost(), 10)

            async def back(copy: Copy = copy, serial: int = line.serial) -> bool:
                return line.serial > serial and copy.held and not copy.astray

            await until(back, "it did not come back")
        assert delivery.token.deaths == 0
        await worker.consumer.hand_back(delivery)
        again = await worker.take_one()
        assert again.deaths == 0
        await worker.finish(again)


async def test_after_a_line_that_stood_only_for_a_moment_the_next_waits_longer(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    class Noted(Waits):
        async def next(self, error: Exception | None = None) -> None:
            if error is None:
                waited.append(self._wait)
            await super().next(error)

    monkeypatch.setattr(consumer, "Waits", Noted)
    monkeypatch.setattr(connection, "STEADY", 1e6)
    transport = await connect()
    async with hands(transport, topic, "a") as worker:

        async def break_line(times: int) -> None:
            for _ in range(times):
                await started(worker)
                cut_line(worker)
                await asyncio.wait_for(consumer_of(worker)._line.lost(), 10)
                await asyncio.sleep(0.01)

        await break_line(3)
        await started(worker)
        assert waited == [0.05, 0.1, 0.2]
        monkeypatch.setattr(connection, "STEADY", 0.0)
        await break_line(2)
        await started(worker)
        assert len(waited) == 3
