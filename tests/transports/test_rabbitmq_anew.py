"""RabbitMQ: streams that give nothing for a while, and streams that were deleted and made anew behind one's back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paigeant_core.errors import ConnectError, DuplicateWorkflow
from paigeant_core.operations import Operations
from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.rabbitmq.streams import Reading
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import START
from tests.transports import on_rabbitmq
from tests.transports.hands import PATIENCE, until
from tests.transports.on_rabbitmq import dispatch

pytestmark = pytest.mark.xdist_group("rabbitmq-anew")

connect = on_rabbitmq.connect

FEWER_OR_MORE = pytest.mark.parametrize("count", [1, 8])


async def paused(transport: RabbitTransport, topic: str, *activities: str) -> list[str]:
    """Dispatch a workflow of each activity, and pause it."""
    workflows = []
    operations = Operations(transport, topic, operator="ann@desk")
    for activity in activities:
        workflows.append(await dispatch(transport, topic, activity))
        assert await operations.pause_activity(activity, reason="the provider is down") is None
    return workflows


async def made_anew(transport: RabbitTransport, topic: str, count: int) -> list[str]:
    """Delete the topic and begin it again, with as many workflows and pauses; its streams had two or more."""
    await transport.delete_topic(topic)
    return await paused(transport, topic, *(f"new-{number}" for number in range(count)))


async def test_a_broker_that_gives_nothing_now_makes_no_workflow_unknown_and_no_chosen_id_free(
    connect: Any, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await connect(), await connect()
    chosen = "0123456789abcdef0123456789abcdef"
    await dispatch(other, topic, "a", correlation_id=chosen)
    assert await transport.find(topic, chosen) == [chosen]
    # As after a while without a question: it no longer follows the stream.
    await transport.journal_index(Names(topic)).close()
    with monkeypatch.context() as silence:
        silence.setattr(Reading, "_on_message", lambda *_: None)
        with pytest.raises(ConnectError, match="gives nothing of"):
            await transport.find(topic, chosen)
        with pytest.raises(ConnectError, match="gives nothing of"):
            await dispatch(transport, topic, "a", correlation_id=chosen)
    with pytest.raises(DuplicateWorkflow):
        await dispatch(transport, topic, "a", correlation_id=chosen)
    assert await transport.find(topic, "") == [chosen]


@FEWER_OR_MORE
@pytest.mark.parametrize("following", [True, False])
async def test_who_knew_the_journal_of_a_topic_that_was_made_anew_is_told_of_the_new_one_at_once(
    connect: Any, topic: str, count: int, following: bool
) -> None:
    transport, other = await connect(), await connect()
    old = await paused(other, topic, "old-1", "old-2", "old-3")
    assert sorted(await transport.find(topic, "")) == sorted(old)
    if not following:
        await transport.journal_index(Names(topic)).close()
    new = await made_anew(other, topic, count)
    assert sorted(await transport.find(topic, "", limit=20)) == sorted(new)


@FEWER_OR_MORE
async def test_who_only_looks_at_a_fence_that_was_made_anew_sees_the_new_one(
    connect: Any, topic: str, count: int
) -> None:
    transport, other = await connect(), await connect()
    await paused(other, topic, "old-1", "old-2", "old-3")
    assert set(await transport.pauses(topic)) == {"old-1", "old-2", "old-3"}
    await made_anew(other, topic, count)
    assert set(await transport.pauses(topic)) == {f"new-{number}" for number in range(count)}


@FEWER_OR_MORE
async def test_a_fence_that_was_made_anew_while_the_line_was_down_is_read_from_its_start(
    connect: Any, topic: str, count: int
) -> None:
    transport, other = await connect(), await connect()
    await paused(other, topic, "old-1", "old-2", "old-3")
    fence = transport.fence(Names(topic))
    await fence.catch_up()
    # Nothing is read from here on, as while a line is down.
    await fence.close()
    await made_anew(other, topic, count)
    await fence.catch_up()
    assert set(fence.paused) == {f"new-{number}" for number in range(count)}


@FEWER_OR_MORE
async def test_a_fence_and_a_follower_go_on_with_a_topic_that_is_made_anew_under_them(
    connect: Any, topic: str, count: int
) -> None:
    transport, other = await connect(), await connect()
    old = await paused(other, topic, "old-1", "old-2", "old-3")
    fence = transport.fence(Names(topic))
    await fence.catch_up()
    seen: list[str] = []

    async def follow() -> None:
        async for batch in transport.records(topic, start=START, follow=True):
            seen.extend(record.headers.correlation_id for record in batch if record.headers.correlation_id)

    async def has(*workflows: str) -> bool:
        return set(workflows) <= set(seen)

    task = asyncio.create_task(follow())
    await until(lambda: has(*old), "nothing came")
    new = await made_anew(other, topic, count)
    await until(lambda: has(*new), "nothing came of the new topic")
    assert seen == [*old, *new]

    async def heeded() -> bool:
        return set(fence.paused) == {f"new-{number}" for number in range(count)}

    # Nobody asks for it here: it is followed by itself.
    await until(heeded, "the new fence is not followed")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@FEWER_OR_MORE
async def test_a_follower_of_a_topic_that_was_made_anew_while_its_line_was_down_is_given_the_new_one_from_its_start(
    connect: Any, topic: str, count: int
) -> None:
    transport, other = await connect(), await connect()
    old = await paused(other, topic, "old-1", "old-2", "old-3")
    records = transport.records(topic, start=START, follow=True)
    seen: list[str] = []

    async def given(*workflows: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not set(workflows) <= set(seen):
                batch = await anext(records)
                seen.extend(record.headers.correlation_id for record in batch if record.headers.correlation_id)

    await given(*old)
    transport._line._sockets[-1].transport.abort()
    new = await made_anew(other, topic, count)
    await given(*new)
    assert seen == [*old, *new]
    await records.aclose()
