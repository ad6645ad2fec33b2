"""RabbitMQ: what the broker lost is found by one worker, named and published again; what it did not is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from paigeant_console.model.fold import Fold
from paigeant_core import ActivityContext, Worker
from paigeant_core import transition as moves
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConnectError, PublishUnknown
from paigeant_core.journal import Kind, Record, State
from paigeant_core.transition import Place
from paigeant_core.transports.rabbitmq import (
    RabbitConsumer,
    RabbitTransport,
    lookout,
    publisher,
    surplus,
    topology,
    wire,
)
from paigeant_core.transports.rabbitmq.lookout import Lookout, pause
from paigeant_core.transports.rabbitmq.streams import Origin, Reading, up_to_now
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled, holding
from tests.chaos.proxy import Proxy, port_of
from tests.core.bench import stopped
from tests.transports.hands import Hands, until

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
async def transport(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RabbitTransport]:
    # One look after the other, by hand; and what is missing may be so at once.
    monkeypatch.setattr(lookout, "EVERY", 1e6)
    monkeypatch.setattr(lookout, "GRACE", 0.0)
    monkeypatch.setattr(lookout, "SKEW", 0.0)
    made = RabbitTransport(rabbit_url)
    await made.connect()
    yield made
    await made.disconnect()


async def dispatch(transport: RabbitTransport, topic: str, *steps: str) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow(list(steps), {}, topic=topic)


async def purge(transport: RabbitTransport, topic: str, activity: str) -> None:
    """Let the broker lose what is in a work queue."""
    async with transport._line.borrowed() as channel:
        await channel.queue_purge(Names(topic).work(activity))


@asynccontextmanager
async def looking(transport: RabbitTransport, topic: str, *activities: str) -> AsyncIterator[tuple[Hands, Lookout]]:
    """A worker that lives and says so, and its lookout."""
    hands = Hands(transport, topic, *activities)
    assert isinstance(hands.consumer, RabbitConsumer)
    claiming = asyncio.create_task(hands.consumer.claim(1))

    async def heard() -> bool:
        return hands.name in {status.info.worker for status in await transport.workers(topic)}

    await until(heard, "it does not say that it lives")
    claiming.cancel()
    await asyncio.wait([claiming])
    yield hands, hands.consumer._lookout
    await hands.consumer.close()


async def history(transport: RabbitTransport, topic: str, workflow: str) -> list[Record]:
    return await transport.history(topic, workflow)


async def test_a_message_that_the_broker_lost_is_named_lost_and_runs_again_one_epoch_up(
    transport: RabbitTransport, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(transport, topic, "other") as (_, lookout):
        workflow = await dispatch(transport, topic, "a", "b")
        await purge(transport, topic, "a")
        with caplog.at_level(logging.WARNING):
            await lookout.look()
            # One look is no proof: the message may just be on its way.
            assert [record.kind for record in await history(transport, topic, workflow)] == ["dispatched"]
            await lookout.look()
        assert f"the broker lost hop 1 of {workflow} (a)" in caplog.text
        records = await history(transport, topic, workflow)
        assert [record.kind for record in records] == ["dispatched", "operated"]
        assert (records[1].state, records[1].detail["reason"], records[1].headers.epoch) == (State.QUEUED, "lost", 2)
        fold = Fold()
        fold.apply(records)
        assert fold.stuck(fold.rows[workflow], records[1].at) == "lost"
        # And found once is enough.
        await lookout.look()
        await lookout.look()
        worker = Hands(transport, topic, "a", "b")
        delivery = await worker.take_one()
        assert delivery.message is not None
        assert delivery.message.headers.idempotency_key == f"{workflow}/1/1"
        await worker.finish(delivery)
        await worker.finish(await worker.take_one())
        await worker.consumer.close()
        kinds = [record.kind for record in await history(transport, topic, workflow)]
        assert kinds == ["dispatched", "operated", "advanced", "finished"]


def keep_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker has beyond its slots stays with it, and changes no order."""
    monkeypatch.setattr(surplus, "SURPLUS", 600.0)
    monkeypatch.setattr(surplus, "PATIENCE", 600.0)


async def test_one_of_many_is_found_when_its_queue_has_turned_since_it_was_overtaken(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_what_came(monkeypatch)
    async with looking(transport, topic, "other") as (_, lookout):
        lost = await dispatch(transport, topic, "a")
        await purge(transport, topic, "a")
        later = [await dispatch(transport, topic, "a") for _ in range(3)]

        async def looked() -> dict[str, list[str]]:
            for _ in range(3):
                await lookout.look()
            found = {workflow: await history(transport, topic, workflow) for workflow in (lost, *later)}
            return {workflow: [str(record.kind) for record in records] for workflow, records in found.items()}

        await looked()
        # The queue is not empty, and nothing has come out of it: they all wait.
        assert not lookout.overtaken
        hands = Hands(transport, topic, "a")
        await hands.finish(await hands.take_one())
        # It may stand behind the others: somebody may have given it back.
        assert (await looked())[lost] == ["dispatched"]
        later += [await dispatch(transport, topic, "a") for _ in range(3)]
        for _ in range(2):
            await hands.finish(await hands.take_one())
            assert (await looked())[lost] == ["dispatched"]
        # The first that came after it was missed: all that stood in the queue then is out of it.
        await hands.finish(await hands.take_one())
        kinds = await looked()
        assert [kinds[workflow] for workflow in later] == [["dispatched", "finished"]] * 4 + [["dispatched"]] * 2
        assert kinds[lost] == ["dispatched", "operated"]
        await hands.consumer.close()


async def test_what_was_given_back_and_waits_at_the_end_of_its_queue_is_not_missing(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_what_came(monkeypatch)
    async with looking(transport, topic, "other") as (_, lookout):
        hands = Hands(transport, topic, "a")
        workflows = [await dispatch(transport, topic, "a") for _ in range(4)]
        given_back = await hands.take_one()
        await hands.consumer.hand_back(given_back)
        await dispatch(transport, topic, "a")
        for _ in range(3):
            await hands.finish(await hands.take_one())
            for _ in range(3):
                await lookout.look()
        last = workflows[0]
        assert next(iter(lookout.waiting)) == last
        delivery = await hands.take_one()
        assert delivery.message is not None
        assert (delivery.message.correlation_id, delivery.message.headers.epoch) == (last, 1)
        await hands.finish(delivery)
        assert [record.kind for record in await history(transport, topic, last)] == ["dispatched", "finished"]
        await hands.consumer.close()


async def test_what_a_worker_holds_what_is_delayed_and_what_ended_is_not_missing(
    transport: RabbitTransport, topic: str
) -> None:
    async with looking(transport, topic, "a") as (hands, lookout):
        for _ in range(3):
            await dispatch(transport, topic, "a")
        running, delayed, ended = [(await hands.take())[0] for _ in range(3)]
        assert running.message is not None
        hands.consumer.report([holding(running.message.headers, 1.0)])
        await hands.fail(delayed, 60.0)
        await hands.finish(ended)

        async def told() -> bool:
            return any(status.running for status in await transport.workers(topic))

        await until(told, "it does not say what it runs")
        for _ in range(3):
            await lookout.look()
        assert len(lookout.waiting) == 2
        found = [record.kind for batch in [r async for r in transport.records(topic)] for record in batch]
        assert "operated" not in found
        # Whoever is not heard by itself does not believe that all others are silent.
        lookout._desk.worker = "somebody else"
        assert await lookout._missing() == {}
        lookout._desk.worker = hands.name
        hands.consumer.report([])

        async def silent() -> bool:
            return not any(status.running for status in await transport.workers(topic))

        await until(silent, "it still says that it runs something")
        assert list(await lookout._missing()) == [running.message.correlation_id]


async def test_a_message_that_went_to_quarantine_is_not_missing(transport: RabbitTransport, topic: str) -> None:
    async with looking(transport, topic, "a") as (hands, lookout):
        workflow = await dispatch(transport, topic, "a")
        delivery = await hands.take_one()
        refused = moves.quarantine(
            delivery.body, code="unsigned", reason="not signed", activity="a", topic=topic, at=0.0, worker=hands.name
        )
        assert await hands.consumer.settle(delivery, refused) is Settled.DONE
        for _ in range(3):
            await lookout.look()
        assert [record.kind for record in await history(transport, topic, workflow)] == ["dispatched"]
        assert len(await transport.parked(topic, Place.QUARANTINE)) == 1


async def test_one_of_the_workers_looks_and_another_one_when_it_is_gone(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "EVERY", 0.1)
    looks: list[str] = []

    async def look(self: Lookout) -> None:
        looks.append(self._desk.worker)

    monkeypatch.setattr(Lookout, "look", look)

    async def nothing(ctx: ActivityContext) -> None: ...

    workers = [Worker(topic, name=name) for name in ("one", "two")]
    for worker in workers:
        worker.activity("a")(nothing)
    tasks = [asyncio.create_task(worker.run(transport)) for worker in workers]

    async def seen(count: int) -> bool:
        return len(looks) >= count

    await until(lambda: seen(8), "nobody looks")
    assert len(set(looks)) == 1
    first = next(worker for worker in workers if worker.name == looks[0])
    second = next(worker for worker in workers if worker is not first)
    await stopped(first, tasks[workers.index(first)])
    looks.clear()
    await until(lambda: seen(2), "nobody took over")
    assert set(looks) == {second.name}
    await stopped(second, tasks[workers.index(second)])


async def test_nobody_is_taken_for_silent_where_what_was_said_is_dropped_too_soon(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(topology.STREAMS, "workers", topology._stream(120, 4096, 8192))
    reports = Names(topic).stream("workers")
    async with looking(transport, topic, "a") as (hands, lookout):
        workflow = await dispatch(transport, topic, "a")
        running = await hands.take_one()
        await lookout.look()
        # It did not say that it runs it, and nothing that anybody said was dropped yet.
        assert list(lookout._missed) == [workflow]

        async def dropped() -> bool:
            await transport._publisher.send([wire.direct(reports, b"x" * 1000)] * 10)
            # Of a stream that is just dropping something the broker may give nothing for a moment.
            with suppress(ConnectError):
                return (await Origin.find(transport._line, reports)).offset > 0
            return False

        async def heard() -> bool:
            return hands.name in {status.info.worker for status in await transport.workers(topic)}

        async def looked() -> bool:
            with suppress(ConnectError):
                await lookout.look()
                return True
            return False

        await until(dropped, "nothing is ever dropped")
        await until(heard, "it does not say that it lives")
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await until(looked, "it cannot look")
        assert [record.kind for record in await history(transport, topic, workflow)] == ["dispatched"]
        said = [text for text in caplog.messages if "reaches back for less than 15 s" in text]
        assert len(said) == 1
        await hands.finish(running)


async def test_a_delay_that_is_no_time_stops_no_look(transport: RabbitTransport, topic: str) -> None:
    async with looking(transport, topic, "other") as (_, lookout):
        workflow = await dispatch(transport, topic, "a")
        (record,) = await history(transport, topic, workflow)
        endless = msgspec.Raw(b'{"delay_s":1' + b"0" * 400 + b"}")
        told = Record(
            Kind.RETRYING, record.headers, state=State.RETRYING, detail=endless, body=record.body, at=record.at
        )
        await transport._publisher.send([wire.plain(Names(topic), told)])
        await lookout.look()
        assert lookout.waiting[workflow].since == record.at


async def test_a_look_that_fails_is_told_and_is_not_the_last(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "EVERY", 0.05)
    looks: list[str] = []

    async def look(self: Lookout) -> None:
        looks.append(self._desk.worker)
        raise ZeroDivisionError("no number")

    monkeypatch.setattr(Lookout, "look", look)

    async def again() -> bool:
        return len(looks) > 1

    async with looking(transport, topic, "a"):
        await until(again, "nobody looks any more")
    assert "looking for lost messages: ZeroDivisionError: no number" in caplog.messages


# -- a journal that grows fast ------------------------------------------------------------


def test_the_journal_is_read_as_fast_as_it_grows_and_a_share_of_the_time_is_left_to_steps() -> None:
    quick = 0.001
    assert pause(500, 0.0, quick) == pytest.approx(1.0)
    assert pause(500, 5.0, quick) == pytest.approx(1.0)
    # Where 2 500 are written a second, reading is 25 s behind and gets no later.
    assert pause(500, 25.0, quick) == pytest.approx(0.2)
    # What takes 0.1 s may not be done more often than twice a second.
    assert pause(500, 1e6, 0.1) == pytest.approx(0.4)


async def test_reading_up_to_now_ends_while_more_and_more_is_written(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [await dispatch(transport, topic, "a") for _ in range(3)]

    async def never_quiet(self: Reading) -> bool:
        return False

    monkeypatch.setattr(Reading, "quiet", never_quiet)
    read: list[str | None] = []
    async with asyncio.timeout(20):
        async for batch in up_to_now(transport._line, Names(topic).journal, "first"):
            read += [message.header.properties.correlation_id for message in batch]
            await dispatch(transport, topic, "a")
    assert read[:3] == there


async def test_a_look_that_takes_long_is_told_once_and_so_is_its_end(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "LATE", 0.0)
    async with looking(transport, topic, "a") as (hands, looks):
        for _ in range(3):
            await dispatch(transport, topic, "a")
        running = await hands.take_one()
        with caplog.at_level(logging.WARNING):
            await looks.look()
            assert f"the journal of topic {topic} is read beside the steps that run" in caplog.text
            assert f"the journal of topic {topic} is read up to now again" in caplog.text
            caplog.clear()
            monkeypatch.setattr(lookout, "LATE", 60.0)
            await looks.look()
            assert not caplog.records
        await hands.finish(running)


# -- confirms that never come -------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "SLOW_CONFIRM", 0.2)
    monkeypatch.setattr(publisher, "STUCK", 0.5)
    monkeypatch.setattr(publisher, "_PROBE", 1.0)


async def test_a_dispatch_whose_confirm_the_broker_forgot_is_told_to_be_unknown(
    transport: RabbitTransport, topic: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dispatch(transport, topic, "a")
    lane = transport._publisher._lane
    assert lane is not None
    monkeypatch.setattr(lane, "_confirm", lambda *_: None)
    with pytest.raises(PublishUnknown):
        async with asyncio.timeout(30):
            await dispatch(transport, topic, "a")
    # The next one has a channel of its own.
    await dispatch(transport, topic, "a")
    assert [queue.ready for queue in await transport.queues(topic)] == [3]


async def test_while_the_broker_confirms_nothing_at_all_a_dispatch_just_waits(
    rabbit_url: str, topic: str, impatient: None
) -> None:
    with Proxy(port_of(rabbit_url)) as proxy:
        async with RabbitTransport(proxy.through(rabbit_url)) as behind:
            await dispatch(behind, topic, "a")
            await asyncio.to_thread(proxy.stall, "back")
            connection = behind._line._connection
            assert connection is not None
            before = len(connection.channels)
            dispatching = asyncio.create_task(dispatch(behind, topic, "a"))
            await asyncio.wait([dispatching], timeout=5.0)
            assert not dispatching.done()
            # What was opened to find out is one channel, whatever it takes, and closed again.
            assert len(connection.channels) <= before + 1
            await asyncio.to_thread(proxy.mend)
            await dispatching

            async def closed() -> bool:
                return len(connection.channels) == before

            await until(closed, "a channel stays")


async def test_a_dispatch_that_one_of_two_queues_refused_is_told_to_be_unknown(
    transport: RabbitTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dispatch(transport, topic, "a")
    lane = transport._publisher._lane
    assert lane is not None
    confirm = lane._confirm

    def refuse(tag: int, multiple: bool, error: Exception | None) -> None:
        del error
        confirm(tag, multiple, DeliveryError(None, Basic.Nack()))

    # As a cluster does when the stream has it and the leader of the work queue is gone.
    monkeypatch.setattr(lane, "_confirm", refuse)
    with pytest.raises(PublishUnknown, match="may run all the same"):
        await dispatch(transport, topic, "a")
    assert [queue.ready for queue in await transport.queues(topic)] == [2]
