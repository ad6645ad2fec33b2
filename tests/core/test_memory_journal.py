"""What the in-memory broker keeps when its journal is full."""

from __future__ import annotations

from paigeant_core import transition as moves
from paigeant_core.clock import ManualClock
from paigeant_core.journal import State
from paigeant_core.limits import JOURNAL_AGE
from paigeant_core.operations import Cancel, Operations
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.core.bench import Bench
from tests.transports.hands import Hands


def small(journal_bytes: int) -> Bench:
    bench = Bench()
    bench.broker = MemoryBroker(bench.clock, journal_bytes=journal_bytes)
    bench.transport = MemoryTransport("small", broker=bench.broker)
    return bench


async def test_a_journal_smaller_than_a_record_keeps_the_newest() -> None:
    bench = small(1)
    for workflow in ("one", "two"):
        await bench.dispatch("a", correlation_id=workflow)
    records = [record async for batch in bench.transport.records(bench.topic) for record in batch]
    assert [record.headers.correlation_id for record in records] == ["two"]


async def test_trimming_never_touches_a_live_workflow() -> None:
    bench = small(5_000)
    await bench.dispatch("a", correlation_id="live")
    for number in range(50):
        await bench.dispatch("b", correlation_id=f"other-{number}")
    records = [record async for batch in bench.transport.records(bench.topic) for record in batch]
    assert "live" not in {record.headers.correlation_id for record in records}
    assert (await bench.last("live")).state == State.QUEUED
    assert (await bench.queue("a")).ready == 1
    worker = bench.worker()
    worker.activity("a")(lambda ctx: None)
    async with bench.serving(worker):
        await bench.reaches("live", State.COMPLETED)


async def test_records_go_when_they_are_old() -> None:
    bench = Bench()
    assert isinstance(bench.clock, ManualClock)
    await bench.dispatch("a", correlation_id="old")
    bench.clock.advance(JOURNAL_AGE + 1)
    await bench.dispatch("a", correlation_id="new")
    records = [record async for batch in bench.transport.records(bench.topic) for record in batch]
    assert [record.headers.correlation_id for record in records] == ["new"]
    assert await bench.transport.find(bench.topic, "old") == ["old"]


async def test_records_are_read_from_a_time_however_many_are_older() -> None:
    bench = Bench()
    assert isinstance(bench.clock, ManualClock)
    for number in range(1100):
        await bench.dispatch("a", correlation_id=f"old-{number}")
    bench.clock.advance(100)
    await bench.dispatch("a", correlation_id="new")
    since = bench.clock.now() - 10
    found = [record async for batch in bench.transport.records(bench.topic, start=since) for record in batch]
    assert [record.headers.correlation_id for record in found] == ["new"]


async def test_a_workflow_whose_message_is_in_quarantine_is_cancelled_at_once() -> None:
    bench = Bench()
    workflow = await bench.dispatch("a")
    hands = Hands(bench.transport, bench.topic, "a")
    (delivery,) = await hands.consumer.claim(1)
    told = {"code": "unsigned", "reason": "it carries no signature", "activity": "a", "topic": bench.topic}
    refused = moves.quarantine(delivery.body, **told, at=bench.clock.now(), worker="w")
    await hands.consumer.settle(delivery, refused)
    operations = Operations(bench.transport, bench.topic)
    report = await operations.execute(await operations.plan(Cancel(), [workflow], reason="nobody needs it"))
    assert [(result.outcome, result.reason) for result in report.results] == [("done", "")]
    assert (await bench.last(workflow)).state == State.CANCELLED
    await hands.consumer.close()
