"""RabbitMQ: a user who may not read for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from paigeant_core.errors import AuthenticationError, TransportError
from paigeant_core.names import new_id
from paigeant_core.operations import Operations
from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.rabbitmq.topology import Names
from tests.servers import SharedServer
from tests.transports import on_rabbitmq
from tests.transports.hands import PATIENCE, until
from tests.transports.on_rabbitmq import dispatch

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


class User:
    """A user of the run's broker."""

    def __init__(self, api: httpx.AsyncClient) -> None:
        self.name = f"user-{new_id()[:8]}"
        self.api = api

    async def may_read(self, what: str) -> None:
        allowed = {"configure": ".*", "write": ".*", "read": what}
        (await self.api.put(f"/api/permissions/%2F/{self.name}", json=allowed)).raise_for_status()


@pytest.fixture
async def user(rabbit_server: SharedServer) -> AsyncIterator[User]:
    async with httpx.AsyncClient(auth=("guest", "guest"), base_url=rabbit_server.management_url or "") as api:
        user = User(api)
        secret = {"password": "secret", "tags": ""}
        (await api.put(f"/api/users/{user.name}", json=secret)).raise_for_status()
        await user.may_read(".*")
        yield user
        await api.delete(f"/api/users/{user.name}")


async def test_a_fence_that_could_not_be_read_for_a_while_is_followed_again(
    connect: Any, rabbit_url: str, topic: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await connect()
    await dispatch(other, topic, "a")
    ann = Operations(other, topic, operator="ann@desk")
    async with RabbitTransport(rabbit_url.replace("guest:guest", f"{user.name}:secret")) as transport:
        fence = transport.fence(Names(topic))
        await fence.catch_up()
        refused, fail = asyncio.Event(), fence._fail

        def failed(error: TransportError) -> None:
            fail(error)
            if isinstance(error, AuthenticationError):
                refused.set()

        monkeypatch.setattr(fence, "_fail", failed)
        await user.may_read("^$")
        transport._line._sockets[-1].transport.abort()
        async with asyncio.timeout(PATIENCE):
            await refused.wait()
        await user.may_read(".*")
        assert await ann.pause_activity("a", reason="the provider is down") is None

        async def heard() -> bool:
            return "a" in fence.paused

        await until(heard, "the fence is not followed any more")
