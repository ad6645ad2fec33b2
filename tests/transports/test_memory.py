"""The in-memory transport: the contract, and time that is held."""

from __future__ import annotations

import pytest

from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.contract import Connect, PutRaw, TransportContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract
from tests.transports.verbs import VerbsContract


class TestMemory(TransportContract, OperationsContract, VerbsContract, PausesContract, SchemasContract):
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
