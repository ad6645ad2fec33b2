"""The Redis transport: the contract."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant_core.transports import Transport
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.keys import Keys
from tests.transports import on_redis
from tests.transports.contract import Connect, PutRaw
from tests.transports.erasing import ErasingContract
from tests.transports.fencing import FencingContract
from tests.transports.following import FollowingContract
from tests.transports.hands import until
from tests.transports.mending import MendingContract
from tests.transports.observing import ObservingContract
from tests.transports.operations import OperationsContract
from tests.transports.pauses import PausesContract
from tests.transports.schemas import SchemasContract

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


class TestRedis(
    FencingContract,
    ObservingContract,
    OperationsContract,
    MendingContract,
    PausesContract,
    SchemasContract,
    ErasingContract,
    FollowingContract,
):
    """The contract on a Redis server."""

    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def put_raw(self, client: Any) -> PutRaw:
        async def put(topic: str, activity: str, body: bytes) -> None:
            await client.xadd(Keys(topic).work(activity), {"m": body})

        return put

    async def trim(self, transport: Transport, topic: str) -> None:
        assert isinstance(transport, RedisTransport)
        await transport._lines.one(("XTRIM", Keys(topic).journal, "MAXLEN", 2))

    async def heeded(self, transport: Transport, topic: str, paused: set[str]) -> None:
        assert isinstance(transport, RedisTransport)
        consumers = transport._consumers

        async def known() -> bool:
            return all(consumer._pump.slots.paused == paused for consumer in consumers)

        await until(known, "a worker never heard of the pause")

    async def on_broker(self, transport: Transport, topic: str) -> bytes:
        assert isinstance(transport, RedisTransport)
        reader = transport._lines
        found: list[bytes] = []
        for key in await reader.one(("KEYS", "*" + Keys(topic).prefix.replace("{", "\\{") + "*")):
            kind = await reader.one(("TYPE", key))
            read = {
                b"stream": ("XRANGE", key, "-", "+"),
                b"hash": ("HGETALL", key),
                b"zset": ("ZRANGE", key, 0, -1),
                b"set": ("SMEMBERS", key),
                b"string": ("GET", key),
            }
            found += [key, repr(await reader.one(read[kind])).encode()]
        assert len(found) > 4
        return b"\n".join(found)
