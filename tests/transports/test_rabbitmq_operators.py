"""RabbitMQ: what operators do, one at a time, to what is parked or held."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.errors import Conflict, PublishUnknown
from paigeant_core.handoff import request
from paigeant_core.journal import Record, State
from paigeant_core.operations import Cancel, Hold, Operations, OperationState, Pace, Release
from paigeant_core.transition import Place
from paigeant_core.transports.rabbitmq import locks, wire
from paigeant_core.transports.rabbitmq.connection import Channel, Line
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled
from tests.transports import on_rabbitmq
from tests.transports.contract import TransportContract
from tests.transports.hands import until
from tests.transports.on_rabbitmq import dispatch, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect


async def test_operators_act_one_at_a_time(
    connect: Any, topic: str, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.5)
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    again = TransportContract().reissue(record)
    lock = f"paigeant.{topic}.lock.operate"
    await channel.queue_declare(lock, exclusive=True)
    with pytest.raises(Conflict, match="somebody else"):
        await transport.operate(topic, again, expect=record.id)
    assert await kinds(transport, topic, workflow) == ["dispatched"]
    await channel.queue_delete(lock)
    assert await transport.operate(topic, again, expect=record.id) is Settled.DONE
    assert await transport.operate(topic, again, expect=record.id) is Settled.ALREADY


@pytest.mark.parametrize("inside", [False, True])
async def test_whoever_is_cancelled_leaves_no_lock(rabbit_url: str, topic: str, inside: bool) -> None:
    """At any moment: also as the broker is asked for the lock, or is given it back."""
    mine, theirs = Line(rabbit_url, "mine"), Line(rabbit_url, "theirs")
    ours, others = locks.Locks(mine), locks.Locks(theirs)
    lock = f"paigeant.{topic}.lock.operate"

    async def act(held: asyncio.Event) -> None:
        async with ours.hold(lock):
            held.set()

    async def free() -> bool:
        return await others.take(lock)

    await act(asyncio.Event())
    for turns in range(60):
        held = asyncio.Event()
        acting = asyncio.create_task(act(held))
        if inside:
            await held.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        await until(free, f"it is locked: cancelled after {turns} turns")
        await others.free(lock)
    await mine.close()
    await theirs.close()


async def test_an_operator_who_lost_the_lock_with_the_line_publishes_nothing(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line connects again by itself, and by then somebody else may have the lock."""
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    mine, theirs = TransportContract().reissue(record), TransportContract().reissue(record)
    line, lead = transport._line, transport._topology.lead

    async def unlucky(*arguments: Any) -> None:
        monkeypatch.setattr(transport._topology, "lead", lead)
        line._sockets[-1].transport.abort()
        await line.lost()
        await line.connect()
        assert await other.operate(topic, theirs, expect=record.id) is Settled.DONE
        await lead(*arguments)

    monkeypatch.setattr(transport._topology, "lead", unlucky)
    assert await transport.operate(topic, mine, expect=record.id) is Settled.SUPERSEDED
    records = await other.history(topic, workflow)
    assert [record.id for record in records[1:]] == [theirs.record.id]


async def test_a_parked_workflow_outlives_the_journal(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    other = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.bury(await worker.take_one())
        await worker.bury(await worker.take_one())
    (again,) = [item for item in await transport.parked(topic, Place.DEAD) if item.headers.correlation_id == other]
    assert await transport.operate(topic, TransportContract().reissue(again), expect=again.id) is Settled.DONE
    await transport.disconnect()
    await channel.queue_delete(f"paigeant.{topic}.journal")
    await dispatch(transport, topic, "b")
    (record,) = await transport.parked(topic, Place.DEAD)
    assert record.headers.correlation_id == workflow
    assert await transport.find(topic, workflow) == await transport.find(topic, workflow[:20]) == [workflow]
    assert await transport.find(topic, other[:20]) == [other]
    assert len(await transport.find(topic, "")) == 3
    assert [item.state for item in await transport.history(topic, workflow)] == [State.DEAD]
    assert [item.state for item in await transport.history(topic, other)] == [State.QUEUED]
    assert await transport.operate(topic, TransportContract().reissue(record), expect="other") is Settled.SUPERSEDED
    assert await transport.operate(topic, TransportContract().reissue(record), expect=record.id) is Settled.DONE
    assert await transport.parked(topic, Place.DEAD) == []


async def test_what_is_asked_of_a_step_that_was_retried_outlives_the_journal(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    (record,) = await transport.history(topic, workflow)
    again = TransportContract().reissue(record)
    assert await transport.operate(topic, again, expect=record.id) is Settled.DONE
    async with hands(transport, topic, "a", "b") as worker:
        delivery = await worker.take_one()
        wish = {"operator": "ann@desk", "operation_id": "1", "action": "hold"}
        asked = request(again.record.headers, transport.clock.now(), "hold", wish)
        assert await transport.request(topic, asked, expect=again.record.id) is Settled.DONE
        await channel.queue_delete(f"paigeant.{topic}.journal")
        other = await connect()
        await dispatch(other, topic, "a")
        history = await other.history(topic, workflow)
        assert [item.id for item in history] == [again.record.id, asked.id]
        operations = Operations(other, topic, operator="ann@desk")
        (line,) = (await operations.plan(Cancel(), [workflow], reason="no more")).lines
        assert (line.eligible, "ann@desk asked for hold" in line.why) == (False, True)
        (result,) = (await operations.execute(await operations.plan(Release(), [workflow], reason="x"))).results
        assert (result.outcome, result.reason) == ("done", "taken back")
        await worker.finish(delivery)
    assert (await other.history(topic, workflow))[-1].state == State.QUEUED


async def test_a_random_id_that_exists_cannot_be_chosen(connect: Any, topic: str) -> None:
    from paigeant_core.errors import DuplicateWorkflow

    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    with pytest.raises(DuplicateWorkflow):
        await dispatch(other, topic, "a", correlation_id=workflow)


async def test_a_released_hold_has_no_deadline(connect: Any, topic: str) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        outcome = moves.Outcome(hold="wait", until=1.0)
        await worker.finish(await worker.take_one(), None, outcome)
        held = (await transport.history(topic, workflow))[-1]
        assert await other.operate(topic, TransportContract().reissue(held), expect=held.id) is Settled.DONE
        delivery = await worker.take_one()
        await worker.nothing(2.0)
        await worker.finish(delivery)
    assert await kinds(transport, topic, workflow) == ["dispatched", "held", "operated", "finished"]


async def test_a_deadline_is_kept_though_the_stream_of_holds_is_gone(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a", "b") as worker:
        outcome = moves.Outcome(hold="wait", until=1.0, on_deadline="release")
        await worker.finish(await worker.take_one(), None, outcome)
        await channel.queue_delete(f"paigeant.{topic}.held")
        delivery = await worker.take_one()
        assert delivery.activity == "b"
        await worker.finish(delivery)
    assert await kinds(transport, topic, workflow) == ["dispatched", "held", "released", "finished"]


@pytest.mark.parametrize("age", [0.0, 3600.0], ids=["never-held", "held-before-all-that-is-kept"])
async def test_a_deadline_without_its_hold_is_dropped_where_there_was_none_and_else_kept(
    connect: Any, topic: str, age: float
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    async with hands(transport, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.message is not None
        outcome = moves.Outcome(hold="wait", until=0.0, on_deadline="release")
        held = moves.done(delivery.message, None, worker.span(), outcome)
        held.record.at -= age
        timer, _ = wire.moved(Names(topic), held, now=transport.clock.now(), queue="a")
        await transport._publisher.send([timer])
        # The timer comes, and goes, ahead of what is dispatched after it.
        another = await dispatch(transport, topic, "a")
        following = await worker.take_one()
        assert following.message is not None
        assert following.message.correlation_id == another
        await worker.finish(following)
        if age:

            async def parked() -> list[Record]:
                return list(await transport.parked(topic, Place.DEAD))

            (dead,) = await until(parked, "it is not among the dead letters")
            assert (dead.headers.correlation_id, dead.detail["reason"]) == (workflow, "hold_unknown")
            assert held.deadline is not None
            assert dead.body == held.deadline.record.body
        else:
            assert await kinds(transport, topic, workflow) == ["dispatched"]
            assert await transport.parked(topic, Place.DEAD) == []
            await worker.finish(delivery)


async def test_an_operation_whose_own_entry_is_in_doubt_as_the_line_breaks_goes_on_to_its_end(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await connect()
    operations = Operations(transport, topic)
    workflows = [await dispatch(transport, topic, "a") for _ in range(4)]
    running = await operations.start(await operations.plan(Hold(), workflows, reason="a test"), Pace(rate=20))
    publisher, broken = transport._publisher, list[bytes]()
    send = publisher.send

    async def unlucky(items: Any, **options: Any) -> None:
        await send(items, **options)
        said = items[0].body
        if b'"event":"progress"' in said and len(broken) < 2:
            broken.append(said)
            for writer in transport._line._sockets:
                writer.transport.abort()
            raise PublishUnknown("no confirm came")

    monkeypatch.setattr(publisher, "send", unlucky)
    assert (await asyncio.wait_for(running.go(), 30)).count("done") == 4
    assert len(broken) == 2
    (found,) = await operations.listed()
    assert (found.state, found.done) == (OperationState.FINISHED, 4)
    assert b"4 done, 0 skipped, 0 failed" in (await transport.audit(topic))[-1]
