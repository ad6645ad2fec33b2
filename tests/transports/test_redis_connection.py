"""Redis: lines, URLs, and what is said when a server cannot be worked with."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from typing import Any

import pytest

from paigeant_core.errors import AuthenticationError, ConfigError, ConnectError, TransportError
from paigeant_core.names import new_id
from paigeant_core.transports import get_transport
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis import scripts as scripts_module
from paigeant_core.transports.redis.connection import MOST_LINES, Line, Lines
from paigeant_core.transports.redis.endpoint import Endpoint
from paigeant_core.transports.types import WorkerInfo
from tests.servers import RedisServer, free_port
from tests.transports import on_redis

connect = on_redis.connect
transport = on_redis.transport


async def test_a_refused_connection_is_one_sentence() -> None:
    port = free_port()
    transport = RedisTransport(f"redis://:s3cret-word@127.0.0.1:{port}/0")
    with pytest.raises(ConnectError) as raised:
        await transport.connect()
    assert str(raised.value) == f"no Redis answers at 127.0.0.1:{port}: connection refused"
    assert transport.url == f"redis://:***@127.0.0.1:{port}/0"
    await transport.disconnect()
    await transport.disconnect()


@pytest.mark.parametrize("given", ["", ":wr0ng-word@"])
async def test_a_wrong_password_is_an_authentication_error(given: str) -> None:
    with RedisServer(password="right-word") as server:
        transport = RedisTransport(f"redis://{given}127.0.0.1:{server.port}")
        with pytest.raises(AuthenticationError) as raised:
            await transport.connect()
        consumer = transport.consumer("t", WorkerInfo(worker="w", activities=("a",)), lease=1)
        with pytest.raises(AuthenticationError):
            await consumer.claim(1)
        await transport.disconnect()
        assert "-word" not in f"{raised.value!r} {raised.value} {transport.url} {transport!r}"
        async with RedisTransport(server.url) as allowed:
            await allowed.connect()


async def test_what_is_no_redis_is_said() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    transport = RedisTransport(f"redis://127.0.0.1:{port}")
    with pytest.raises(ConnectError, match="no Redis"):
        await transport.connect()
    await transport.disconnect()
    other.close()
    await other.wait_closed()


async def test_a_server_that_is_too_old_is_refused(transport: RedisTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Lines.ask

    async def older(self: Lines, *commands: Any) -> list[Any]:
        if commands == (("INFO",),):
            return [b"# Server\r\nredis_version:6.0.16\r\n"]
        return await ask(self, *commands)

    monkeypatch.setattr(Lines, "ask", older)
    with pytest.raises(TransportError, match=r"6\.0\.16.*6\.2"):
        await transport.connect()


async def test_the_broker_tells_what_a_doctor_asks(transport: RedisTransport) -> None:
    info = await transport.broker_info()
    assert info.broker in ("Redis", "Valkey")
    assert int(info.version.split(".")[0]) >= 6
    assert {"maxmemory_policy", "aof_enabled"} <= set(info.facts)


def test_urls() -> None:
    assert isinstance(get_transport("redis://localhost"), RedisTransport)
    secure = get_transport("rediss://user:pass@example.com:6380/2?ssl_cert_reqs=none")
    assert isinstance(secure, RedisTransport)
    assert "pass" not in secure.url.replace("***", "")
    for url in ("redis://localhost?nonsense=1", "redis://localhost?socket_timeout=soon", "http://localhost"):
        with pytest.raises(ConfigError):
            RedisTransport(url)


@pytest.mark.parametrize("path", ["/prod", "/1x", "/-1", "/0/1", "/%32x", "/٣"])
def test_a_database_that_is_no_number_is_refused_and_not_taken_for_the_first(path: str) -> None:
    for url in (f"redis://localhost{path}", f"redis://one,two{path}"):
        with pytest.raises(ConfigError, match="database in the broker URL is no number; write"):
            RedisTransport(url)
    for fine in ("", "/", "/15", "/%31"):
        RedisTransport(f"redis://localhost{fine}")


async def test_calls_on_one_line_are_answered_each_for_itself(transport: RedisTransport) -> None:
    line = Line(transport._endpoint)
    answers = await asyncio.gather(*(line.one(("ECHO", str(number))) for number in range(50)))
    assert answers == [str(number).encode() for number in range(50)]
    line.close()


async def test_who_asks_nothing_is_answered_at_once_and_needs_no_server() -> None:
    endpoint = Endpoint(f"redis://127.0.0.1:{free_port()}")
    line, lines = Line(endpoint), Lines(endpoint)
    async with asyncio.timeout(1):
        assert await line.call() == await lines.ask() == await lines.call() == []
    assert not line.connected


async def test_a_script_that_is_unknown_in_the_middle_of_calls_is_asked_for_behind_them_on_the_same_line(
    transport: RedisTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(transport._endpoint)
    text = f"return '{new_id()}'"
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(scripts_module._texts, sha, text)
    asked = ("EVALSHA", sha, 0)
    result = text[8:-1].encode()
    calls = line.call(asked, ("ECHO", "1"), asked), line.one(("ECHO", "2")), line.one(asked)
    assert await asyncio.gather(*calls) == [[result, b"1", result], b"2", result]
    assert line._opened == 1
    line.close()


async def test_a_half_open_line_is_noticed(redis_url: str) -> None:
    """Something takes the connection and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        transport = RedisTransport(f"redis://127.0.0.1:{mute.getsockname()[1]}?socket_timeout=0.2")
        with pytest.raises(ConnectError, match="no answer in time"):
            async with asyncio.timeout(10):
                await transport.connect()
        await transport.disconnect()


async def test_however_many_ask_at_once_there_are_only_so_many_lines(redis_url: str) -> None:
    lines = Lines(Endpoint(redis_url))
    answers = await asyncio.gather(*(lines.one(("ECHO", str(number))) for number in range(500)))
    assert answers == [str(number).encode() for number in range(500)]
    assert lines._here is not None
    assert len(lines._here.free) == MOST_LINES
    lines.close()
