"""RabbitMQ: what workers hold is told where the management API answers, and nobody waits for one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from paigeant_core.transports.rabbitmq import RabbitTransport, figures
from tests.servers import HOST, SharedServer, free_port
from tests.transports.hands import until
from tests.transports.on_rabbitmq import dispatch, hands

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each time that the API was looked for."""
    listens = figures.listens
    seen: list[str] = []

    async def counted(url: str) -> bool:
        found = await listens(url)
        seen.append("listens" if found else "refused")
        return found

    monkeypatch.setattr(figures, "listens", counted)
    return seen


def through(rabbit_server: SharedServer, api: str | None) -> RabbitTransport:
    return RabbitTransport(f"{rabbit_server.url}?management={api}")


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """Something that takes connections and says nothing, as a firewall."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, HOST, 0) as server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


async def test_what_workers_hold_is_told_by_the_management_api(
    rabbit_server: SharedServer, topic: str, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    for name, seconds in (("EVERY", 0.1), ("REST", 0.1), ("WITHIN", 30.0)):
        monkeypatch.setattr(figures, name, seconds)
    async with through(rabbit_server, rabbit_server.management_url) as transport:
        await dispatch(transport, topic, "a")

        async def held(count: int) -> bool:
            (queue,) = await transport.queues(topic)
            assert (queue.delayed, queue.oldest_s) == (None, None)
            return queue.in_flight == count

        async with hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()
            await until(lambda: held(1), "it is not told that one is held")
            await worker.finish(delivery)
            await until(lambda: held(0), "it is not told that none is held")
        # It is not asked for each look; what it says right after a consumer went may change once more.
        monkeypatch.setattr(figures, "EVERY", 600.0)
        asked.clear()
        for _ in range(4):
            await transport.queues(topic)
        assert len(asked) <= 1


async def test_a_broker_without_the_management_api_is_asked_for_it_now_and_then(
    rabbit_server: SharedServer, topic: str, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(figures, "REST", 600.0)
    async with through(rabbit_server, f"http://{HOST}:{free_port()}") as transport:
        await dispatch(transport, topic, "a")
        for _ in range(3):
            (queue,) = await transport.queues(topic)
            assert (queue.ready, queue.in_flight) == (1, None)
    assert asked == ["refused"]


async def test_nobody_waits_for_a_management_api_that_does_not_answer(
    rabbit_server: SharedServer, topic: str, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(figures, "REST", 600.0)
    async with silent() as api, through(rabbit_server, api) as transport:
        await dispatch(transport, topic, "a")
        async with asyncio.timeout(30):
            for _ in range(3):
                (queue,) = await transport.queues(topic)
                assert (queue.ready, queue.in_flight) == (1, None)
    assert asked == ["listens"]


async def test_a_worker_begins_where_the_management_api_does_not_answer(
    rabbit_server: SharedServer, topic: str
) -> None:
    async with silent() as api:
        for address in (api, f"http://{HOST}:{free_port()}"):
            async with through(rabbit_server, address) as transport:
                await asyncio.wait_for(transport.check_settings(topic, ["charge"]), 10)
