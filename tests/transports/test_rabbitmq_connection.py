"""RabbitMQ: connecting, and what is said when a broker cannot be worked with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from aiormq.exceptions import ChannelLockedResource

from paigeant_core.errors import AuthenticationError, ConfigError, ConnectError, Unsupported
from paigeant_core.transports import get_transport
from paigeant_core.transports.rabbitmq import RabbitTransport, connection
from paigeant_core.transports.types import WorkerInfo
from tests.servers import SharedServer, free_port
from tests.transports import on_rabbitmq
from tests.transports.on_rabbitmq import dispatch

pytestmark = pytest.mark.xdist_group("rabbitmq")

connect = on_rabbitmq.connect


@pytest.fixture
def secret_url(rabbit_server: SharedServer) -> str:
    return rabbit_server.url.replace("guest:guest", "guest:s3cret")


async def test_what_is_said_when_nothing_answers() -> None:
    transport = RabbitTransport(f"amqp://ann:s3cret@127.0.0.1:{free_port()}/")
    with pytest.raises(ConnectError, match=r"^no RabbitMQ answers at 127\.0\.0\.1:\d+: ") as caught:
        await transport.connect()
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}{transport.url}"
    assert "ann" in transport.url
    await transport.disconnect()


async def test_what_is_said_of_a_wrong_password(secret_url: str) -> None:
    transport = RabbitTransport(secret_url)
    with pytest.raises(AuthenticationError, match="refused the user name or the password") as caught:
        await transport.connect()
    assert "s3cret" not in str(caught.value)
    claim = transport.consumer("t", WorkerInfo(worker="w", activities=("a",)), lease=10)
    with pytest.raises(AuthenticationError):
        await claim.claim(1)
    await claim.close()
    await transport.disconnect()


async def test_what_is_said_of_a_wrong_virtual_host(rabbit_server: SharedServer) -> None:
    transport = RabbitTransport(rabbit_server.url.rstrip("/").removesuffix("%2F").rstrip("/") + "/nowhere")
    with pytest.raises(ConnectError, match="refused the virtual host 'nowhere'"):
        await transport.connect()
    await transport.disconnect()


async def test_what_is_said_of_something_else_that_answers(redis_url: str) -> None:
    transport = RabbitTransport(redis_url.replace("redis://", "amqp://"))
    connection_timeout = connection.CONNECT_TIMEOUT
    connection.CONNECT_TIMEOUT = 1.0
    try:
        with pytest.raises(ConnectError):
            await transport.connect()
    finally:
        connection.CONNECT_TIMEOUT = connection_timeout
    await transport.disconnect()


async def test_an_old_broker_is_refused(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OLDEST_VERSION", (99, 0))
    transport = RabbitTransport(rabbit_url)
    with pytest.raises(Unsupported, match="too old"):
        await transport.connect()
    await transport.disconnect()


@pytest.mark.parametrize(
    ("text", "numbers"), [("3.10.8", (3, 10, 8)), ("4.0", (4, 0, 0)), ("3.9.1-rc", (3, 9, 1))], ids=str
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert connection.version_of(text) == numbers
    assert connection.version_of("") > (99,)


def test_a_url_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError):
        RabbitTransport("amqp://host:port/")
    assert isinstance(get_transport("amqp://localhost"), RabbitTransport)


async def test_a_position_that_is_none(connect: Any, topic: str) -> None:
    transport = await connect()
    with pytest.raises(ConfigError, match="journal position"):
        await anext(transport.records(topic, start="17-0"))


async def test_a_transport_can_be_connected_again(connect: Any, topic: str) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a")
    await transport.disconnect()
    await transport.disconnect()
    workflow = await dispatch(transport, topic, "a")
    assert len(await transport.find(topic, "")) == 2
    assert await transport.find(topic, workflow) == [workflow]


# -- the driver, and who is cancelled -----------------------------------------------------


def cancel_me() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def test_a_refusal_that_comes_with_a_cancellation_does_not_take_its_place(rabbit_url: str) -> None:
    line = connection.Line(rabbit_url, "test")

    async def ask(*, in_time: bool) -> None:
        if not in_time:
            cancel_me()
        with line.errors():
            if in_time:
                cancel_me()
            raise ChannelLockedResource("RESOURCE_LOCKED")

    refused = asyncio.create_task(ask(in_time=True))
    await asyncio.wait([refused])
    assert refused.cancelled()
    # Who says goodbye after a cancellation is told of a refusal as ever.
    with pytest.raises(connection.Locked):
        await asyncio.create_task(ask(in_time=False))


async def test_a_channel_is_closed_to_the_end_though_nobody_waits_for_it_any_more() -> None:
    answered, ended = asyncio.Event(), asyncio.Event()

    class Closing:
        """As a channel that waits for the broker's answer."""

        async def close(self) -> None:
            await answered.wait()
            ended.set()

    waiting = asyncio.create_task(connection.quietly_close(cast("Any", Closing())))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    answered.set()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_task_that_missed_its_cancellation_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_END_TIMEOUT", 0.01)

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await connection.end(task)
    assert task.cancelled()
