"""The in-memory transport: the contract, and time that is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from paigeant_core.clock import ManualClock
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.message import PaigeantMessage
from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.contract import Connect, PutRaw
from tests.transports.erasing import ErasingContract
from tests.transports.fencing import FencingContract
from tests.transports.following import FollowingContract
from tests.transports.hands import Hands
from tests.transports.mending import MendingContract
from tests.transports.observing import ObservingContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract


class TestMemory(
    FencingContract,
    ObservingContract,
    OperationsContract,
    MendingContract,
    PausesContract,
    SchemasContract,
    ErasingContract,
    FollowingContract,
):
    """The contracts on the in-memory broker."""

    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()

    @pytest.fixture
    def connect(self, broker: MemoryBroker) -> Connect:
        async def make() -> Transport:
            return MemoryTransport("test", broker=broker)

        return make

    @pytest.fixture
    def put_raw(self, broker: MemoryBroker) -> PutRaw:
        async def put(topic: str, activity: str, raw: bytes) -> None:
            with broker.topic(topic, wake=True) as state:
                state.put(activity, raw)

        return put

    async def trim(self, transport: Transport, topic: str) -> None:
        assert isinstance(transport, MemoryTransport)
        with transport.broker.topic(topic) as state:
            while len(state.journal) > 2:
                state._trim_one()

    async def on_broker(self, transport: Transport, topic: str) -> bytes:
        assert isinstance(transport, MemoryTransport)
        with transport.broker.topic(topic) as state:
            return b"\n".join(reached(state, set()))


def reached(value: Any, seen: set[int]) -> Iterator[bytes]:
    """All bytes and texts that can be reached from an object of ours."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, bytes | msgspec.Raw):
        yield bytes(value)
    elif isinstance(value, str):
        yield value.encode()
    elif isinstance(value, dict):
        for item in [*value, *value.values()]:
            yield from reached(item, seen)
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for item in value:
            yield from reached(item, seen)
    elif type(value).__module__.startswith("paigeant_core"):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in [*slots, *getattr(value, "__struct_fields__", ()), *getattr(value, "__dict__", ())]:
            yield from reached(getattr(value, name, None), seen)


@pytest.mark.parametrize("dies", [False, True])
async def test_what_a_worker_leaves_behind_is_taken_up_in_its_order(dies: bool) -> None:
    clock = ManualClock()
    transport = MemoryTransport("test", broker=MemoryBroker(clock))
    await transport.connect()
    sent = [await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic="t") for _ in range(4)]
    first, second = (Hands(transport, "t", "a", lease=5) for _ in range(2))
    assert len(await first.take(4)) == 4
    if dies:
        await first.consumer._crash()  # type: ignore[attr-defined]
        clock.advance(6)
    else:
        await first.consumer.close()
    taken = await second.take(4)
    assert [PaigeantMessage.decode(delivery.body).correlation_id for delivery in taken] == sent
    await second.consumer.close()
    await transport.disconnect()
