"""The log of operations where it is long: what was begun far behind its end is known, and reading on costs little."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from paigeant_core import WorkflowDispatcher
from paigeant_core.errors import Refused, WorkflowNotFound
from paigeant_core.operations import Hold, Operations, OperationState, OperationStatus, Pace, Plan
from paigeant_core.operations import run as run_module
from paigeant_core.operations.control import FIRST, LISTED
from paigeant_core.operations.log import CHUNK, RESTING, SILENCE, entry, proposed, take, to_document
from paigeant_core.operations.reading import KEPT
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.hands import until

TOPIC = "orders"


class Counting(MemoryTransport):
    """Writes down how many entries were asked for."""

    def __init__(self) -> None:
        super().__init__(broker=MemoryBroker())
        self.asked: list[int] = []

    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        self.asked.append(limit)
        return await super().operation_entries(topic, limit)


@pytest.fixture
def transport() -> Counting:
    return Counting()


async def held(transport: MemoryTransport, operations: Operations) -> Plan:
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=TOPIC)
    return await operations.plan(Hold(), [workflow], reason="stop")


async def others(transport: MemoryTransport, number: int) -> None:
    """So many entries of an operation that came to its end."""
    for event in ["targets", "started", *["progress"] * (number - 3), "finished"]:
        more = {"ids": ["w"], "action": {"name": "hold"}, "operator": "x", "reason": "x", "pace": {}, "by": "x"}
        counts = dict.fromkeys(("done", "skipped", "failed", "again"), 0)
        await transport.append_operation(TOPIC, entry("0" * 16, event, transport.clock.now(), **more, **counts))


def waiting(number: int) -> OperationStatus:
    """What waits for a second person."""
    ids = [f"w{place}" for place in range(number)]
    return OperationStatus(
        "f" * 16,
        operator="ann",
        action=to_document(Hold()),
        reason="stop",
        at=1.0,
        targets=ids,
        approvals=dict.fromkeys(ids, "signed"),
    )


async def test_what_waits_is_found_however_far_behind_it_is(transport: Counting) -> None:
    for data in proposed(waiting(1)):
        await transport.append_operation(TOPIC, data)
    await others(transport, 5 * FIRST)
    status = await Operations(transport, TOPIC, operator="bob").reject("fff", reason="no")
    assert (status.state, status.targets) == (OperationState.ABORTED, ["w0"])
    with pytest.raises(Refused, match="is aborted"):
        await Operations(transport, TOPIC).reject("fff", reason="no")
    with pytest.raises(WorkflowNotFound, match="no operation"):
        await Operations(transport, TOPIC).abort("abc")


@pytest.mark.parametrize("behind", range(FIRST - 3, FIRST + 2))
async def test_no_workflow_of_a_beginning_of_several_entries_is_left_out(transport: Counting, behind: int) -> None:
    """Wherever among them the newest entries begin."""
    status = waiting(2 * CHUNK + 1)
    for data in proposed(status):
        await transport.append_operation(TOPIC, data)
    await others(transport, behind)
    operations = Operations(transport, TOPIC)
    if behind < FIRST:
        assert (await operations.runs(FIRST))[status.operation_id].targets == status.targets
    assert (await operations._known("f", "approve")).approvals == status.approvals


async def test_workflows_are_known_where_only_the_start_is_among_the_newest(transport: Counting) -> None:
    operations = Operations(transport, TOPIC)
    plan = await held(transport, operations)
    await operations.start(plan, Pace(rate=1))
    await others(transport, FIRST - 1)
    (status,) = [found for found in (await operations.runs(FIRST)).values() if found.operation_id == plan.operation_id]
    assert status.targets == [line.correlation_id for line in plan.lines]


async def test_what_waits_is_listed_behind_hours_of_what_others_say(transport: Counting) -> None:
    for data in proposed(waiting(1)):
        await transport.append_operation(TOPIC, data)
    await others(transport, 3 * FIRST)
    assert (await Operations(transport, TOPIC).runs())["f" * 16].state is OperationState.WAITING


async def ended(transport: MemoryTransport, numbers: range) -> None:
    """Operations that are over."""
    more = {"action": {"name": "hold"}, "operator": "x", "reason": "x", "pace": {}, "by": "x"}
    for number in numbers:
        for event in ("started", "aborted"):
            await transport.append_operation(TOPIC, entry(f"{number:016}", event, 1.0, **more))


async def test_of_many_that_are_over_the_newest_are_listed_and_all_that_are_not(transport: Counting) -> None:
    for data in proposed(waiting(1)):
        await transport.append_operation(TOPIC, data)
    await ended(transport, range(KEPT + 10))
    operations = Operations(transport, TOPIC)
    for first in (10, 20, 30):
        assert list(await operations.runs()) == ["f" * 16, *(f"{first + place:016}" for place in range(KEPT))]
        await ended(transport, range(first + KEPT, first + KEPT + 10))
    with pytest.raises(Refused, match="is aborted"):
        await operations.abort(f"{3:016}")


async def test_who_looks_again_reads_what_is_new_and_still_knows_what_is_old(transport: Counting) -> None:
    operations = Operations(transport, TOPIC)
    running = await operations.start(await held(transport, operations), Pace(delay=3600))
    await others(transport, LISTED)
    assert running.status.operation_id not in await operations.runs()
    assert (await operations.abort(running.status.operation_id)).state is OperationState.ABORTED
    transport.asked.clear()
    for _ in range(3):
        await others(transport, 100)
        known = await operations.runs()
        assert known[running.status.operation_id].state is OperationState.ABORTED
        # Whoever asked may change what it got.
        known[running.status.operation_id].targets.clear()
    assert max(transport.asked) < 1000
    await others(transport, 5 * FIRST)
    assert len((await operations.runs())[running.status.operation_id].targets) == 1
    with transport.broker.topic(TOPIC) as state:
        state.operations.clear()
    assert await operations.runs() == {}


async def test_entries_of_an_operation_that_never_began_end_in_no_endless_reading(transport: Counting) -> None:
    await transport.append_operation(TOPIC, entry("lost", "paused", 1.0))
    await others(transport, LISTED)
    await transport.append_operation(TOPIC, entry("lost", "resumed", 1.0))
    operations = Operations(transport, TOPIC)
    assert list(await operations.runs()) == ["0" * 16]
    await ended(transport, range(2 * KEPT))
    await operations.runs()
    transport.asked.clear()
    await operations.runs()
    assert len(transport.asked) == 1


async def test_an_order_is_heeded_after_however_many_entries_came_since_the_last_look(
    transport: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "HEARTBEAT", 0.02)
    operations, other = Operations(transport, TOPIC), Operations(transport, TOPIC, operator="bob")
    running = await operations.start(await held(transport, operations), Pace(delay=3600))
    going = asyncio.create_task(running.go())

    async def looked() -> bool:
        return bool(running._seen)

    await until(looked, "it looked")
    # In one turn of the loop, as when its console was suspended meanwhile.
    await other.abort(running.status.operation_id)
    await others(transport, 1000)
    report = await asyncio.wait_for(going, 30)
    assert (report.results, running.status.said) == ((), "aborted by bob")


@pytest.mark.parametrize("state", [OperationState.ARMED, OperationState.PAUSED])
async def test_while_nothing_is_done_it_says_seldom_that_somebody_is_there(
    transport: Counting, monkeypatch: pytest.MonkeyPatch, state: OperationState
) -> None:
    monkeypatch.setattr(run_module, "HEARTBEAT", 0.02)
    monkeypatch.setattr(run_module, "RESTING", 60.0)
    operations = Operations(transport, TOPIC)
    pace = Pace(delay=3600) if state is OperationState.ARMED else Pace(rate=1)
    running = await operations.start(await held(transport, operations), pace)
    if state is OperationState.PAUSED:
        await operations.pause(running.status.operation_id)
    going = asyncio.create_task(running.go())
    looks = len(transport.asked)

    async def looked_often() -> bool:
        return len(transport.asked) > looks + 20

    await until(looked_often, "it looks at the log as often as ever")
    assert running.status.state is state
    entries = await transport.operation_entries(TOPIC)
    assert [msgspec.json.decode(data)["event"] for data in entries].count("progress") == 1
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


def test_an_entry_may_be_lost_before_it_is_taken_for_silent() -> None:
    assert 2 * RESTING < SILENCE
    known: dict[str, OperationStatus] = {}
    take(known, proposed(waiting(1)))
    (status,) = known.values()
    assert status.whole
