"""RabbitMQ clusters: who reads a stream from a node that is behind does not take it for all there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from paigeant_core.transports.rabbitmq import lookup, operating, wire
from paigeant_core.transports.rabbitmq.connection import Line, Message
from paigeant_core.transports.rabbitmq.streams import up_to_now
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Settled
from tests.transports import on_rabbitmq
from tests.transports.contract import TransportContract
from tests.transports.hands import until
from tests.transports.on_rabbitmq import dispatch, dying_before_its_ack, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


async def test_an_operator_who_reads_an_old_journal_is_told_that_another_one_was_first(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "BEHIND", 60.0)
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    first, second = (TransportContract().reissue(record) for _ in range(2))
    assert await other.operate(topic, first, expect=record.id) is Settled.DONE
    index = transport.journal_index(Names(topic))
    looks, catch_up = 0, index.catch_up

    async def behind() -> None:
        nonlocal looks
        looks += 1
        if looks > 4:
            await catch_up()

    monkeypatch.setattr(index, "catch_up", behind)
    assert await transport.operate(topic, second, expect=record.id) is Settled.SUPERSEDED
    assert looks > 4
    assert await kinds(other, topic, workflow) == ["dispatched", "operated"]


async def test_a_workflow_whose_last_intervention_only_the_fence_has_can_be_acted_on(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the broker can leave it out of the journal for good."""
    monkeypatch.setattr(operating, "BEHIND", 0.3)
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    (record,) = await transport.history(topic, workflow)
    names = Names(topic)
    await transport.fence(names).catch_up()
    lost, second = (TransportContract().reissue(record) for _ in range(2))
    (item,) = wire.moved(names, lost, now=0)
    await transport._publisher.send([item._replace(exchange="", key=names.stream("fence"))])
    assert await transport.operate(topic, second, expect=record.id) is Settled.DONE
    assert await kinds(transport, topic, workflow) == ["dispatched", "operated"]


async def test_a_copy_is_not_run_again_because_the_journal_that_was_read_is_an_old_one(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    workflow = await dispatch(transport, topic, "a", "b")
    (dispatched,) = await transport.history(topic, workflow)
    looks = 0

    async def behind(line: Line, queue: str, start: Any, **options: Any) -> AsyncIterator[list[Message]]:
        nonlocal looks
        looks += 1
        async for batch in up_to_now(line, queue, start, **options):
            if looks > 2:
                yield batch
            elif old := [message for message in batch if wire.offset_of(message) <= int(dispatched.position)]:
                yield old

    async with dying_before_its_ack(transport, topic, workflow, monkeypatch):
        monkeypatch.setattr(lookup, "up_to_now", behind)
    async with hands(other, topic, "a", "b") as heir:
        following = await heir.take_one()
        assert following.activity == "b"

        async def dropped() -> bool:
            return "superseded" in await kinds(other, topic, workflow)

        await heir.finish(following)
        asking = asyncio.create_task(heir.take_one())
        await until(dropped, "the copy that was handed on is still there")
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert looks > 2
    assert sorted(await kinds(other, topic, workflow)) == ["advanced", "dispatched", "finished", "superseded"]
