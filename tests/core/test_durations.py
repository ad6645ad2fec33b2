"""How long a step took is measured by a clock that nobody sets; when it began and ended is told by the one that is."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.activity import ActivityContext
from paigeant_core.clock import ManualClock, parse_rfc3339
from paigeant_core.journal import Record, State
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.core.bench import PATIENCE, Bench
from tests.settable_clock import SettableClock


@pytest.fixture
def clock(bench: Bench) -> SettableClock:
    """The bench's, which goes on by itself."""
    clock = SettableClock()
    bench.broker = MemoryBroker(clock)
    bench.transport = MemoryTransport("settable", broker=bench.broker)
    return clock


def _of_the_step(records: list[Record]) -> Record:
    (record,) = [record for record in records if "duration_s" in record.detail]
    return record


@pytest.mark.parametrize("set_by", [3600.0, -3600.0])
async def test_a_clock_that_is_set_while_a_step_runs_does_not_change_how_long_it_took(
    bench: Bench, clock: SettableClock, set_by: float
) -> None:
    worker = bench.worker()

    @worker.activity("a")
    async def handler(_: ActivityContext) -> None:
        await asyncio.sleep(0.05)
        clock.off = set_by

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)
    detail = _of_the_step(await bench.history(workflow)).detail
    assert 0.05 <= detail["duration_s"] < PATIENCE
    # The times are what the clock said.
    moved = parse_rfc3339(detail["completed_at"]) - parse_rfc3339(detail["started_at"])
    assert moved == pytest.approx(set_by, abs=PATIENCE)


async def test_so_it_is_for_a_handler_of_the_low_level_form(bench: Bench, clock: SettableClock) -> None:
    workflow = await bench.dispatch("a", "b")
    messages = bench.transport.subscribe(bench.topic, "a")
    _, message = await asyncio.wait_for(anext(messages), PATIENCE)
    clock.off = 3600.0
    message.routing_slip.mark_complete("a")
    await bench.transport.publish(bench.topic, message)
    await messages.aclose()  # type: ignore[attr-defined]
    assert _of_the_step(await bench.history(workflow)).detail["duration_s"] < PATIENCE


async def test_a_clock_that_is_held_is_its_own_measure(bench: Bench) -> None:
    assert isinstance(bench.clock, ManualClock)
    worker = bench.worker()

    @worker.activity("a")
    async def handler(_: ActivityContext) -> None:
        bench.clock.advance(90.0)

    workflow = await bench.dispatch("a")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)
    assert _of_the_step(await bench.history(workflow)).detail["duration_s"] == 90.0
