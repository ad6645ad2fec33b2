"""The proxy itself: one that lies makes every test behind it lie."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.servers import HOST, free_port

PATIENCE = 20.0


class Echo:
    """A server that answers with what it was told, in a thread of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard = b""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(1000):
                    self.heard += data
                    writer.write(data)
                    await writer.drain()
            except (OSError, asyncio.CancelledError):
                pass  # cancelled: the server ends, and asyncio complains about a handler that ends so
            finally:
                writer.transport.abort()

        async def serve() -> None:
            self._server = await asyncio.start_server(answer, HOST, self.port)
            self._ready.set()

        async def end() -> None:
            self._server.close()
            answering = asyncio.all_tasks() - {asyncio.current_task()}
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
            await asyncio.sleep(0)  # in which the connections are closed

        self._loop.run_until_complete(serve())
        self._loop.run_forever()
        self._loop.run_until_complete(end())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as made:
        yield made


async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, proxy.port)


async def test_it_passes_everything_in_both_directions(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    sent = bytes(range(256)) * 4000
    writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(len(sent)) == sent
    writer.close()
    assert proxy.through("amqp://me:pw@127.0.0.1:5672/%2F?heartbeat=3") == (
        f"amqp://me:pw@127.0.0.1:{proxy.port}/%2F?heartbeat=3"
    )


async def test_a_cut_line_breaks_and_nobody_gets_through_until_it_is_mended(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    writer.write(b"x")
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(1) == b"x"
        await asyncio.to_thread(proxy.cut)
        assert await _ends(reader)
        writer.close()
        again, other = await connected(proxy)
        assert await _ends(again)
        other.close()
        await asyncio.to_thread(proxy.mend)
        reader, writer = await connected(proxy)
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"
    writer.close()


async def test_a_stalled_line_is_silent_and_gives_all_when_it_is_mended(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    await asyncio.to_thread(proxy.stall)
    writer.write(b"held up")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    await asyncio.to_thread(proxy.mend)
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(7) == b"held up"
    writer.close()


async def test_a_line_that_is_stalled_one_way_lets_the_request_through_and_not_the_answer(
    proxy: Proxy, echo: Echo
) -> None:
    reader, writer = await connected(proxy)
    await asyncio.to_thread(proxy.stall, "back")
    writer.write(b"asked")
    async with asyncio.timeout(PATIENCE):
        while echo.heard != b"asked":  # noqa: ASYNC110 - another thread hears it
            await asyncio.sleep(0.01)
        await asyncio.to_thread(proxy.cut)
        assert await _ends(reader)
    writer.close()


async def test_a_slow_line_takes_its_time_each_way(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    await asyncio.to_thread(proxy.delay, 0.2)
    begun = time.monotonic()
    writer.write(b"a")
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(1) == b"a"
    assert time.monotonic() - begun >= 0.4
    writer.close()


async def _ends(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except OSError:
        return True
