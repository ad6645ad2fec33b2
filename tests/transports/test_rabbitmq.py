"""The RabbitMQ transport: the contract."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.limits import JOURNAL_AGE
from paigeant_core.transports import Transport
from paigeant_core.transports.rabbitmq import RabbitTransport, topology
from paigeant_core.transports.rabbitmq.topology import Names
from tests.transports import on_rabbitmq
from tests.transports.contract import Connect, PutRaw
from tests.transports.erasing import ErasingContract
from tests.transports.fencing import FencingContract
from tests.transports.following import FollowingContract
from tests.transports.mending import MendingContract
from tests.transports.observing import ObservingContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract

pytestmark = pytest.mark.xdist_group("rabbitmq-contract")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect
put_raw = on_rabbitmq.put_raw


class TestContract(
    FencingContract,
    ObservingContract,
    OperationsContract,
    MendingContract,
    PausesContract,
    SchemasContract,
    ErasingContract,
    FollowingContract,
):
    """The contract on RabbitMQ."""

    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def put_raw(self, put_raw: PutRaw) -> PutRaw:
        return put_raw

    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(topology.STREAMS, "journal", topology._stream(JOURNAL_AGE, 4096, 8192))

    async def heard(self, transport: Transport, topic: str) -> None:
        assert isinstance(transport, RabbitTransport)
        await transport.fence(Names(topic)).catch_up()

    async def heeded(self, transport: Transport, topic: str, paused: set[str]) -> None:
        await self.heard(transport, topic)
        await asyncio.sleep(0.05)  # the consumer that was cancelled may have been given one more
