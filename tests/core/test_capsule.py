"""A workflow in a file: what goes in comes out, but for secrets, and goes on where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core import RetryPolicy, Worker, WorkflowDispatcher
from paigeant_core import transition as moves
from paigeant_core.activity import ActivityContext
from paigeant_core.capsule import REDACTED, Capsule, adopt, export, scrubbed
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import InvalidMessage, WorkflowNotFound
from paigeant_core.journal import Record
from paigeant_core.operations import Hold, Insert, Operations, Release, Replay, Retry
from paigeant_core.routing import Step
from paigeant_core.security.keys import SigningKey
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.hands import Hands, until

TOPIC = "orders"
SECRET = {
    "card_number": "4000 0000 0000 0069",
    "card": {"number": "4000 1", "ways": ["4000 2"]},
    "nested": [{"api_key": "k1", "note": "kept"}],
    "amount": 1.50,
}


async def a_dead_one() -> tuple[MemoryTransport, str]:
    transport = MemoryTransport(broker=MemoryBroker())
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a", "b"], SECRET, topic=TOPIC)
    hands = Hands(transport, TOPIC, "a", "b")
    await hands.finish(await hands.take_one(), {"x": 1})
    await hands.bury(await hands.take_one())
    await hands.consumer.close()
    return transport, workflow


async def test_a_capsule_holds_every_record_with_its_bytes() -> None:
    transport, workflow = await a_dead_one()
    capsule = Capsule.decode(await export(transport, TOPIC, workflow, secrets=True))
    history = await transport.history(TOPIC, workflow)
    assert capsule.redacted == ()
    assert [(r.kind, r.state, r.id, r.body, r.at, r.detail) for r in capsule.records] == [
        (r.kind, r.state, r.id, r.body, r.at, r.detail) for r in history
    ]


async def test_secrets_are_replaced_and_named() -> None:
    transport, workflow = await a_dead_one()
    data = await export(transport, TOPIC, workflow)
    assert b"4000" not in data
    assert b"k1" not in data
    capsule = Capsule.decode(data)
    assert capsule.redacted == ("card.number", "card.ways.0", "card_number", "nested.0.api_key")
    message = capsule.records[0].message
    assert message is not None
    assert message.payload["card_number"] == REDACTED
    assert message.payload["nested"][0]["note"] == "kept"


@pytest.mark.parametrize("depth", [70, 900, 5000, 100_000])
async def test_a_payload_is_exported_however_deep_it_is_nested(depth: int) -> None:
    """How deep is still read depends on the Python that reads it."""
    transport = MemoryTransport(broker=MemoryBroker())
    broker = transport.broker
    start = moves.dispatch(new_workflow(["a"], {"a": 1}, topic=TOPIC, at=broker.clock.now()), broker.clock.now())
    assert start.record.body is not None
    deep = b"[" * depth + b'{"password":"hush"}' + b"]" * depth
    start.record.body = start.record.body.replace(b'{"a":1}', b'{"a":%b}' % deep)
    await transport.dispatch(TOPIC, start)
    data = await export(transport, TOPIC, start.record.headers.correlation_id)
    assert b"hush" not in data
    assert Capsule.decode(data).redacted


async def test_secrets_in_a_step_s_arguments_are_replaced_and_what_was_signed_of_them_left_out() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    steps = [Step("a", arguments={"api_key": "k-4711", "note": "kept"}), "b"]
    dispatcher = WorkflowDispatcher(transport, signer=SigningKey.generate("shop"))
    workflow = await dispatcher.dispatch_workflow(steps, {"x": 1}, topic=TOPIC)
    hands = Hands(transport, TOPIC, "a", "b")
    await hands.finish(await hands.take_one(), {})
    await hands.consumer.close()
    capsule = Capsule.decode(await export(transport, TOPIC, workflow))
    assert capsule.redacted == ("itinerary.0.arguments.api_key", "records")
    first, later = [record.message for record in capsule.records if record.body]
    assert first is not None
    assert first.routing_slip.itinerary[0].arguments == {"api_key": REDACTED, "note": "kept"}
    # The record tells of the step that is done, too.
    assert later is not None
    assert (first.records, later.records) == ([], [])
    whole = Capsule.decode(await export(transport, TOPIC, workflow, secrets=True)).records[0].message
    assert whole is not None
    assert whole.routing_slip.itinerary[0].arguments["api_key"] == "k-4711"
    assert len(whole.records) == 1


async def test_signed_records_without_secrets_stay_in_the_capsule() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    steps = [Step("a", arguments={"note": "kept"}), "b"]
    dispatcher = WorkflowDispatcher(transport, signer=SigningKey.generate("shop"))
    workflow = await dispatcher.dispatch_workflow(steps, SECRET, topic=TOPIC)
    message = Capsule.decode(await export(transport, TOPIC, workflow)).records[0].message
    assert message is not None
    assert len(message.records) == 1


SECRET_STEP = Step("b", arguments={"api_key": "k-4711", "note": "kept"})


async def test_secrets_in_steps_that_an_operator_gave_are_replaced_where_the_journal_tells_of_them() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    ann = Operations(transport, TOPIC, signer=SigningKey.generate("ann"))
    replayed = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=TOPIC)
    await ann.execute(await ann.plan(Replay(itinerary=(SECRET_STEP,)), [replayed], reason="because"))
    shop = WorkflowDispatcher(transport, signer=SigningKey.generate("shop"))
    asked = await shop.dispatch_workflow(["a", "b"], {}, topic=TOPIC)
    hands = Hands(transport, TOPIC, "a")
    await hands.take_one()
    await ann.execute(await ann.plan(Insert((SECRET_STEP,)), [asked], reason="because"))
    await hands.consumer.close()
    named = ("detail.itinerary.0.arguments.api_key", "itinerary.0.arguments.api_key")
    for workflow, redacted in (
        (replayed, named),
        (asked, ("detail.signed", "detail.steps.0.arguments.api_key")),
    ):
        data = await export(transport, TOPIC, workflow)
        assert b"k-4711" not in data
        capsule = Capsule.decode(data)
        assert capsule.redacted == redacted
        told = capsule.records[-1].detail
        assert (told["operator"], "signed" in told) == ("ann", False)
        (step,) = told.get("itinerary") or told["steps"]
        assert step["arguments"] == {"api_key": REDACTED, "note": "kept"}
        # The journal itself is as it was, and whoever asks for secrets has them.
        whole = Capsule.decode(await export(transport, TOPIC, workflow, secrets=True)).records[-1]
        assert whole.detail == (await transport.history(TOPIC, workflow))[-1].detail
        assert b"k-4711" in whole.encode_meta()


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ('{"api_key":"k-4711","n":[1]}', '{"api_key":"[redacted]","n":[1]}'),
        ('[{"p\\u0061ssword":"k-4711"}]', '[{"password":"[redacted]"}]'),
        ('{"api_key":"k-4711', REDACTED),
        ("Card(number='k-4711')", REDACTED),
        ('{"n": 1}', '{"n": 1}'),
    ],
    ids=["named", "escaped", "cut", "no JSON", "no secret"],
)
def test_secrets_in_a_result_that_could_not_be_merged_are_replaced(result: str, shown: str) -> None:
    message = new_workflow(["a"], {"x": 1}, topic=TOPIC, at=0.0)
    detail = {"result": result, "token_expires_at": "2026-01-01T00:00:00.000Z"}
    record = moves.dead_letter(message, 0.0, reason="result_invalid", detail=detail).record
    for body in (record.body, None):
        kept = Record(record.kind, record.headers, state=record.state, detail=record.detail, body=body)
        clean = scrubbed(kept)
        assert clean.detail == {**record.detail, "result": shown}
        assert (clean.kind, clean.state, clean.id, clean.body) == (kept.kind, kept.state, kept.id, body)
        assert kept.detail["result"] == result


async def test_an_opened_capsule_stands_where_the_workflow_stood_and_goes_on() -> None:
    transport, workflow = await a_dead_one()
    capsule = Capsule.decode(await export(transport, TOPIC, workflow))
    laptop = MemoryTransport(broker=MemoryBroker())
    adopt(laptop, capsule)
    before, after = await transport.history(TOPIC, workflow), await laptop.history(TOPIC, workflow)
    assert [(r.kind, r.state, r.at) for r in after] == [(r.kind, r.state, r.at) for r in before]
    operations = Operations(laptop, TOPIC)
    await operations.execute(await operations.plan(Retry(), [workflow], reason="on the laptop"))
    worker = Worker(TOPIC)
    seen: list[str] = []

    @worker.activity("b", retry=RetryPolicy(max_attempts=1))
    async def b(context: ActivityContext) -> None:
        seen.append(context.idempotency_key)
        worker.stop()

    await worker.run(laptop)
    assert seen == [f"{workflow}/1/2"]
    assert (await laptop.history(TOPIC, workflow))[-1].state == "completed"


async def test_a_workflow_that_waits_for_a_time_waits_in_the_capsule_too() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=TOPIC)
    hands = Hands(transport, TOPIC, "a")
    await hands.fail(await hands.take_one(), 3600)
    await hands.consumer.close()
    laptop = MemoryTransport(broker=MemoryBroker())
    adopt(laptop, Capsule.decode(await export(transport, TOPIC, workflow)))
    (queue,) = await laptop.queues(TOPIC)
    assert (queue.ready, queue.delayed) == (0, 1)


@pytest.mark.parametrize("taken_back", [False, True])
async def test_what_was_asked_of_a_running_step_is_still_to_come_in_the_capsule(taken_back: bool) -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a", "b"], topic=TOPIC)
    hands = Hands(transport, TOPIC, "a", "b")
    await hands.take_one()
    operations = Operations(transport, TOPIC)
    asked = await operations.execute(await operations.plan(Hold(), [workflow], reason="why"))
    assert asked.results[0].reason.startswith("asked for")
    if taken_back:
        back = await operations.execute(await operations.plan(Release(), [workflow], reason="why"))
        assert back.results[0].reason == "taken back"
    laptop = MemoryTransport(broker=MemoryBroker())
    adopt(laptop, Capsule.decode(await export(transport, TOPIC, workflow)))
    there = Hands(laptop, TOPIC, "a", "b")
    await there.finish(await there.take_one())
    standing = await Operations(laptop, TOPIC).standing(workflow)
    assert standing is not None
    assert standing.state == ("queued" if taken_back else "held")
    again = MemoryTransport(broker=MemoryBroker())
    adopt(again, Capsule.decode(await export(transport, TOPIC, workflow)))
    operations = Operations(again, TOPIC)
    report = await operations.execute(await operations.plan(Retry(), [workflow], reason="why"))
    assert report.count("done") == 1, report.results


async def test_a_late_copy_in_the_journal_does_not_move_the_workflow_in_the_capsule() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a", "b"], topic=TOPIC)
    operations = Operations(transport, TOPIC)
    (first,) = await transport.history(TOPIC, workflow)
    assert first.message is not None
    await operations.execute(await operations.plan(Retry(), [workflow], reason="why"))
    span = moves.Span(worker="w", started_at=1.0, completed_at=2.0)
    with transport.broker.topic(TOPIC) as topic:
        topic.append(moves.done(first.message, {"late": 1}, span).record)  # where the fence is eventual
    laptop = MemoryTransport(broker=MemoryBroker())
    adopt(laptop, Capsule.decode(await export(transport, TOPIC, workflow)))
    assert len(await laptop.history(TOPIC, workflow)) == 3
    assert {queue.activity: queue.ready for queue in await laptop.queues(TOPIC)} == {"a": 1}
    operations = Operations(laptop, TOPIC)
    report = await operations.execute(await operations.plan(Retry(), [workflow], reason="why"))
    assert report.count("done") == 1, report.results


async def test_an_unknown_workflow_has_no_capsule() -> None:
    with pytest.raises(WorkflowNotFound):
        await export(MemoryTransport(broker=MemoryBroker()), TOPIC, "nobody")


async def test_bytes_that_nobody_can_read_leave_production_only_when_asked() -> None:
    transport = MemoryTransport(broker=MemoryBroker())
    with transport.broker.topic(TOPIC, wake=True) as topic:
        topic.put("a", b"\xffraw secret")
    hands = Hands(transport, TOPIC, "a")
    await hands.nothing()

    async def parked() -> str | None:
        found = await transport.find(TOPIC, "q-")
        return found[0] if found else None

    name = await until(parked, "quarantined")
    assert b"raw secret" not in await export(transport, TOPIC, name)
    capsule = Capsule.decode(await export(transport, TOPIC, name, secrets=True))
    assert capsule.records[-1].body == b"\xffraw secret"


@given(st.binary(max_size=200))
def test_what_is_no_capsule_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="capsule"):
        Capsule.decode(data)


async def test_a_capsule_with_records_of_another_workflow_is_refused() -> None:
    transport, workflow = await a_dead_one()
    data = (await export(transport, TOPIC, workflow)).replace(
        f'"correlation_id": "{workflow}"'.encode(), b'"correlation_id": "other"', 1
    )
    with pytest.raises(InvalidMessage, match="another workflow"):
        Capsule.decode(data)
