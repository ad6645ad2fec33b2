"""The low-level form: subscribe, change the message, publish it again. What every broker does is in the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import IllegalTransition, InvalidMessage
from paigeant_core.journal import Kind, State
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import Executed, RoutingSlip
from paigeant_core.transports.lowlevel import MAX_UNSETTLED
from paigeant_core.transports.types import Delivery
from tests.core.bench import PATIENCE, Bench

Subscription = AsyncIterator[tuple[Delivery, PaigeantMessage]]


@asynccontextmanager
async def subscribed(bench: Bench, activity: str | None = None) -> AsyncIterator[Subscription]:
    messages = bench.transport.subscribe(bench.topic, activity)
    try:
        yield messages
    finally:
        await messages.aclose()  # type: ignore[attr-defined]


async def take(messages: Subscription) -> tuple[Delivery, PaigeantMessage]:
    return await asyncio.wait_for(anext(messages), PATIENCE)


async def done_at_the_second_attempt(bench: Bench, name: str) -> None:
    async with subscribed(bench) as messages:
        raw, _ = await take(messages)
        await bench.transport.nack(raw)
        bench.clock.advance(60)
        _, message = await take(messages)
        message.routing_slip.mark_complete(name)
        await bench.transport.publish(bench.topic, message)


async def test_a_step_is_done_by_the_attempt_that_its_delivery_was(bench: Bench) -> None:
    workflow = await bench.dispatch("a", "b")
    await done_at_the_second_attempt(bench, "a")
    after = (await bench.last(workflow)).message
    assert after is not None
    assert [(str(step), step.attempt) for step in after.routing_slip.executed] == [("a", 2)]
    assert after.headers.attempt == 1


async def test_a_message_is_not_handed_on_to_another_topic_than_its_own(bench: Bench) -> None:
    workflow = await bench.dispatch("a", "b")
    async with subscribed(bench) as messages:
        _, message = await take(messages)
        message.routing_slip.mark_complete("a")
        with pytest.raises(IllegalTransition, match=f"taken from topic {bench.topic}"):
            await bench.transport.publish("elsewhere", message)
        assert (await bench.last(workflow)).kind == Kind.DISPATCHED
        await bench.transport.publish(bench.topic, message)
    assert (await bench.last(workflow)).kind == Kind.ADVANCED


async def test_what_a_nacked_step_was_done_by_is_not_said_of_other_workflows(bench: Bench) -> None:
    nacked = await bench.dispatch("once", "b")
    await done_at_the_second_attempt(bench, "once")
    other = await bench.dispatch("once", "b")
    async with subscribed(bench, "once") as messages:
        _, message = await take(messages)
        message.routing_slip.mark_complete("once")
        await bench.transport.publish(bench.topic, message)
    attempts = {}
    for workflow in (nacked, other):
        after = (await bench.last(workflow)).message
        assert after is not None
        attempts[workflow] = [step.attempt for step in after.routing_slip.executed]
    assert attempts == {nacked: [2], other: [1]}


async def test_published_as_it_was_it_comes_again_as_a_further_attempt(bench: Bench) -> None:
    workflow = await bench.dispatch("a", variables={"n": 0})
    async with subscribed(bench) as messages:
        for attempt in (1, 2, 3):
            _, message = await take(messages)
            assert (message.headers.attempt, message.payload) == (attempt, {"n": attempt - 1})
            message.payload["n"] += 1
            await bench.transport.publish(bench.topic, message)
    assert await bench.kinds(workflow) == ["dispatched", *["retrying"] * 3]


async def test_several_steps_may_be_done_at_once(bench: Bench) -> None:
    workflow = await bench.dispatch("a", "b", "c")
    async with subscribed(bench) as messages:
        _, message = await take(messages)
        message.routing_slip.mark_complete("a")
        message.routing_slip.mark_complete("b")
        message.routing_slip.insert_next("d")
        await bench.transport.publish(bench.topic, message)
    record = await bench.last(workflow)
    assert record.message is not None
    assert record.message.routing_slip.names() == ("a", "b", "c", "d")
    assert (record.headers.activity, record.headers.hop) == ("c", 3)


@pytest.mark.parametrize(
    "slip",
    [
        RoutingSlip(["b"], [Executed("z"), Executed("a")]),
        RoutingSlip(["b"], []),
        RoutingSlip(["b"], [Executed("x")], undoing=1),
    ],
    ids=["history", "forgotten", "undoing"],
)
async def test_what_was_done_cannot_be_rewritten(bench: Bench, slip: RoutingSlip) -> None:
    workflow = await bench.dispatch("x", "a", "b")
    async with subscribed(bench) as messages:
        _, message = await take(messages)
        message.routing_slip.mark_complete("x")
        await bench.transport.publish(bench.topic, message)
        _, message = await take(messages)
        message.routing_slip = slip
        with pytest.raises(IllegalTransition):
            await bench.transport.publish(bench.topic, message)
    # It is not settled by that, so it went back as it was when the subscription ended.
    assert (await bench.queue("a")).ready == 1
    assert await bench.kinds(workflow) == ["dispatched", "advanced"]


async def test_a_payload_that_json_cannot_say_is_refused_and_can_be_mended(bench: Bench) -> None:
    workflow = await bench.dispatch("a")
    async with subscribed(bench) as messages:
        _, message = await take(messages)
        message.routing_slip.mark_complete("a")
        message.payload["n"] = {1, 2}
        with pytest.raises(InvalidMessage, match="set"):
            await bench.transport.publish(bench.topic, message)
        message.payload["n"] = [1, 2]
        await bench.transport.publish(bench.topic, message)
    assert (await bench.last(workflow)).state == State.COMPLETED


async def test_nobody_may_hoard(bench: Bench) -> None:
    for _ in range(MAX_UNSETTLED + 1):
        await bench.dispatch("a")
    async with subscribed(bench) as messages:
        for _ in range(MAX_UNSETTLED):
            await take(messages)
        with pytest.raises(IllegalTransition, match="64 messages"):
            await take(messages)
    assert (await bench.queue("a")).ready == MAX_UNSETTLED + 1


async def test_after_its_subscription_a_message_cannot_be_handed_on(bench: Bench) -> None:
    workflow = await bench.dispatch("a")
    async with subscribed(bench) as messages:
        raw, message = await take(messages)
    message.routing_slip.mark_complete("a")
    with pytest.raises(IllegalTransition, match="closed"):
        await bench.transport.publish(bench.topic, message)
    await bench.transport.ack(raw)
    await bench.transport.nack(raw)
    assert await bench.kinds(workflow) == [Kind.DISPATCHED]
    assert (await bench.queue("a")).ready == 1


async def test_a_message_of_ones_own_is_dispatched(bench: Bench) -> None:
    message = new_workflow(["a"], {"n": 1}, topic="elsewhere", at=0.0, correlation_id="mine")
    await bench.transport.publish(bench.topic, message)
    record = await bench.last("mine")
    assert (record.kind, record.headers.topic, record.headers.activity) == (Kind.DISPATCHED, bench.topic, "a")
    async with subscribed(bench) as messages:
        _, arrived = await take(messages)
        assert arrived.payload == {"n": 1}


async def test_a_message_of_ones_own_that_cannot_run_is_refused(bench: Bench) -> None:
    message = new_workflow(["a"], {}, topic=bench.topic, at=0.0)
    message.routing_slip = RoutingSlip()
    with pytest.raises(InvalidMessage, match="empty itinerary"):
        await bench.transport.publish(bench.topic, message)
    message.routing_slip = RoutingSlip(["a"])
    message.headers = replace(message.headers, correlation_id="no/id")
    with pytest.raises(InvalidMessage, match="correlation ID"):
        await bench.transport.publish(bench.topic, message)


async def test_what_a_subscriber_holds_is_seen(bench: Bench) -> None:
    workflow = await bench.dispatch("a")
    async with subscribed(bench) as messages:
        raw, _ = await take(messages)
        (status,) = await bench.transport.workers(bench.topic)
        assert [held.correlation_id for held in status.running] == [workflow]
        await bench.transport.nack(raw)
        (status,) = await bench.transport.workers(bench.topic)
        assert status.running == ()
    assert await bench.transport.workers(bench.topic) == []
