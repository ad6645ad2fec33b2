"""Starting workflows, and every refusal to: each before anything is published."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.dispatcher import MAX_LABELS, WorkflowDispatcher, new_workflow
from paigeant_core.errors import DuplicateWorkflow, InvalidMessage, MessageTooLarge, PaigeantError, TransportError
from paigeant_core.journal import Kind, State
from paigeant_core.limits import MAX_PAYLOAD
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import ActivitySpec, Step
from paigeant_core.transports.memory import MemoryTransport
from tests.core.bench import Bench
from tests.core.strategies import activity_names, correlation_ids, json_objects, steps, texts


async def test_a_workflow_is_queued_for_its_first_step(bench: Bench) -> None:
    workflow = await WorkflowDispatcher(bench.transport).dispatch_workflow(
        activities=[ActivitySpec(name="a", arguments={"n": 1}), "b", {"name": "c", "timeout": 5}],
        variables={"customer_email": "ann@example.com"},
        obo_token="token",
        topic="t",
        name="onboarding",
        labels={"tier": "premium"},
        on_failure="compensate",
        traceparent="00-1-2-01",
    )
    (record,) = await bench.history(workflow)
    assert (record.kind, record.state) == (Kind.DISPATCHED, State.QUEUED)
    message = record.message
    assert message is not None
    headers = message.headers
    assert (headers.correlation_id, headers.topic, headers.activity) == (workflow, "t", "a")
    assert (headers.hop, headers.run, headers.epoch, headers.attempt) == (1, 1, 1, 1)
    assert (headers.steps_done, headers.steps_total) == (0, 3)
    assert (headers.name, headers.label_map, headers.traceparent) == ("onboarding", {"tier": "premium"}, "00-1-2-01")
    assert headers.created_at == headers.timestamp == "2023-11-14T22:13:20.000Z"
    slip = message.routing_slip
    assert (slip.itinerary, slip.executed, slip.on_failure) == (["a", "b", "c"], [], "compensate")
    assert (slip.itinerary[0].arguments, slip.itinerary[2].timeout) == ({"n": 1}, 5)
    assert message.payload == {"customer_email": "ann@example.com"}
    assert message.obo_token == "token"
    assert (await bench.queue("a")).ready == 1


async def test_without_more_than_steps_all_has_its_default(bench: Bench) -> None:
    workflow = await WorkflowDispatcher(bench.transport).dispatch_workflow(["a"])
    (record,) = await bench.transport.history("workflows", workflow)
    assert record.headers.topic == "workflows"
    assert record.message is not None
    assert record.message.payload_bytes == b"{}"
    assert record.message.obo_token is None
    assert record.message.routing_slip.on_failure == "dead_letter"
    assert len(workflow) == 32


async def test_the_bytes_of_a_payload_are_sent_as_they_are(bench: Bench) -> None:
    payload = b'{"price": 1.50, "twice":1, "twice":2}'
    workflow = await bench.dispatch("a", variables=payload)
    message = (await bench.last(workflow)).message
    assert message is not None
    assert message.payload_bytes == payload


async def test_an_empty_itinerary_is_a_value_error(bench: Bench) -> None:
    with pytest.raises(ValueError, match="empty itinerary") as refused:
        await WorkflowDispatcher(bench.transport).dispatch_workflow([])
    assert isinstance(refused.value, PaigeantError)
    assert refused.value.code == "empty_itinerary"


over_the_cap = {"text": "x" * MAX_PAYLOAD}


@pytest.mark.parametrize(
    ("activities", "options", "error"),
    [
        (["a"] * 101, {}, InvalidMessage),
        ("abc", {}, InvalidMessage),
        (b"abc", {}, InvalidMessage),
        (["a b"], {}, InvalidMessage),
        ([""], {}, InvalidMessage),
        (["x" * 65], {}, InvalidMessage),
        (["a\n"], {}, InvalidMessage),
        ([None], {}, InvalidMessage),
        ([["a"]], {}, InvalidMessage),
        ([{"name": "a", "unknown": 1}], {}, InvalidMessage),
        ([ActivitySpec(name="a", arguments={"n": math.nan})], {}, InvalidMessage),
        ([ActivitySpec(name="a", arguments={"n": "\ud800"})], {}, InvalidMessage),
        ([ActivitySpec(name="a", retry={"max_attempts": 0})], {}, InvalidMessage),
        ([ActivitySpec(name="a", timeout=0)], {}, InvalidMessage),
        ([ActivitySpec(name="a", scopes=[1])], {}, InvalidMessage),  # type: ignore[list-item]
        (["a"], {"variables": [1]}, InvalidMessage),
        (["a"], {"variables": "{}"}, InvalidMessage),
        (["a"], {"variables": 1}, InvalidMessage),
        (["a"], {"variables": {1: 2}}, InvalidMessage),
        (["a"], {"variables": {"n": math.inf}}, InvalidMessage),
        (["a"], {"variables": {"n": "\ud800"}}, InvalidMessage),
        (["a"], {"variables": {"n": {1}}}, InvalidMessage),
        (["a"], {"variables": b"[1]"}, InvalidMessage),
        (["a"], {"variables": b"{"}, InvalidMessage),
        (["a"], {"variables": b""}, InvalidMessage),
        (["a"], {"variables": over_the_cap}, MessageTooLarge),
        (["a"], {"variables": json.dumps(over_the_cap).encode()}, MessageTooLarge),
        ([ActivitySpec(name="a", arguments={"text": "x" * 600_000})] * 2, {}, MessageTooLarge),
        (["a"], {"topic": "a topic"}, InvalidMessage),
        (["a"], {"topic": ""}, InvalidMessage),
        (["a"], {"correlation_id": ""}, InvalidMessage),
        (["a"], {"correlation_id": "q-1"}, InvalidMessage),
        (["a"], {"correlation_id": "a/b"}, InvalidMessage),
        (["a"], {"correlation_id": 1}, InvalidMessage),
        (["a"], {"name": "x" * 201}, InvalidMessage),
        (["a"], {"name": 1}, InvalidMessage),
        (["a"], {"name": "\ud800"}, InvalidMessage),
        (["a"], {"labels": {"": "x"}}, InvalidMessage),
        (["a"], {"labels": {"k": 1}}, InvalidMessage),
        (["a"], {"labels": {1: "v"}}, InvalidMessage),
        (["a"], {"labels": {"k" * 65: "v"}}, InvalidMessage),
        (["a"], {"labels": {"k": "v" * 201}}, InvalidMessage),
        (["a"], {"labels": {"k": "\ud800"}}, InvalidMessage),
        (["a"], {"labels": {f"k{n}": "v" for n in range(MAX_LABELS + 1)}}, InvalidMessage),
        (["a"], {"on_failure": "explode"}, InvalidMessage),
        (["a"], {"obo_token": 1}, InvalidMessage),
        (["a"], {"obo_token": "\ud800"}, InvalidMessage),
        (["a"], {"traceparent": 1}, InvalidMessage),
    ],
    ids=lambda value: f"{value!a:.40}",
)
async def test_what_cannot_run_is_refused_and_nothing_is_published(
    bench: Bench, activities: Any, options: dict[str, Any], error: type[PaigeantError]
) -> None:
    options = {"topic": bench.topic, **options}
    with pytest.raises(error):
        await WorkflowDispatcher(bench.transport).dispatch_workflow(activities, **options)
    assert [record async for batch in bench.transport.records(bench.topic) for record in batch] == []


async def test_the_same_id_twice_is_refused(bench: Bench) -> None:
    assert await bench.dispatch("a", correlation_id="mine:1") == "mine:1"
    with pytest.raises(DuplicateWorkflow, match="mine:1"):
        await bench.dispatch("b", correlation_id="mine:1")
    assert await bench.kinds("mine:1") == [Kind.DISPATCHED]
    assert [queue.activity for queue in await bench.transport.queues(bench.topic)] == ["a"]


async def test_the_same_id_in_another_topic_is_another_workflow(bench: Bench) -> None:
    for topic in ("one", "two"):
        await WorkflowDispatcher(bench.transport).dispatch_workflow(["a"], topic=topic, correlation_id="same")


async def test_what_the_broker_says_reaches_the_caller(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise TransportError("the broker is out of memory")

    monkeypatch.setattr(MemoryTransport, "dispatch", refuse)
    with pytest.raises(TransportError, match="out of memory"):
        await bench.dispatch("a")


async def test_a_transport_is_told_whether_the_id_was_chosen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    async def listen(self: MemoryTransport, topic: str, transition: object, *, chosen_id: bool = True) -> None:
        told.append(chosen_id)

    monkeypatch.setattr(MemoryTransport, "dispatch", listen)
    await bench.dispatch("a")
    await bench.dispatch("a", correlation_id="mine")
    assert told == [False, True]


def test_a_hundred_steps_are_taken() -> None:
    message = new_workflow(["a"] * 100, {}, topic="t", at=0.0)
    assert message.headers.steps_total == 100
    assert PaigeantMessage.decode(message.encode()).routing_slip.names() == ("a",) * 100


@given(
    st.lists(activity_names | steps, min_size=1, max_size=5),
    json_objects,
    correlation_ids,
    texts,
    st.dictionaries(texts.filter(bool), texts, max_size=3),
    texts,
)
def test_whatever_is_taken_arrives(
    activities: list[str | Step],
    variables: dict[str, Any],
    correlation_id: str,
    name: str,
    labels: dict[str, str],
    token: str,
) -> None:
    message = new_workflow(
        activities,
        variables,
        topic="t",
        at=0.0,
        correlation_id=correlation_id,
        name=name,
        labels=labels,
        obo_token=token,
    )
    arrived = PaigeantMessage.decode(message.encode())
    assert arrived.routing_slip.itinerary == activities
    assert arrived.payload == variables
    assert (arrived.correlation_id, arrived.headers.name, arrived.headers.label_map) == (correlation_id, name, labels)
    assert arrived.obo_token == (token or None)
