"""A line that can be cut, stalled and slowed: a TCP proxy of the tests' own, in a thread with a loop of its own.

    with Proxy(server.port) as proxy:
        url = proxy.through(server.url)
        proxy.cut()        # both sides are hung up on, and nobody gets through until `mend`
        proxy.stall()      # half-open: connections stand, nothing passes, nobody is told
        proxy.delay(0.05)  # each way, from now on
        proxy.mend()

All of it may be called from any thread. What was taken in before a stall is passed on when it is mended, as a network
does; what was under way when the line was cut is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers import HOST, free_port

Way = Literal["both", "there", "back"]
"""Which way: there is from the client to the server."""

_CHUNK = 64 * 1024


def port_of(url: str) -> int:
    """The port in a URL."""
    port = urlsplit(url).port
    assert port is not None
    return port


class Proxy:
    """A proxy in front of one port of this machine.

    Args:
        targets: the port; of several the next one that answers, in turns, as a load balancer does.
    """

    def __init__(self, *targets: int) -> None:
        self.port = 0
        self.connections = 0
        """How many were made through it."""
        self._targets = list(targets)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut = False
        self._delay = 0.0
        self._flows: dict[str, asyncio.Event] = {}

    # -- life

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        self._do(self._listen())
        return self

    def close(self) -> None:
        """Hang up on everybody, and end."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def through(self, url: str) -> str:
        """`url` with this proxy's port in place of the server's."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{HOST}:{self.port}"))

    # -- faults

    def cut(self) -> None:
        """Reset every connection; a new one is reset at once, until `mend`."""
        self._do(self._set(cut=True))

    def drop(self) -> None:
        """Reset every connection; a new one gets through."""
        self._do(self._set(cut=True))
        self._do(self._set(cut=False))

    def stall(self, way: Way = "both") -> None:
        """Let nothing pass, and say nothing: also a new connection is made and not served."""
        self._do(self._set(stalled=("there", "back") if way == "both" else (way,)))

    def delay(self, seconds: float) -> None:
        """Let everything take so long each way."""
        self._do(self._set(delay=seconds))

    def turn(self, *targets: int) -> None:
        """Let new connections go elsewhere, as a name that leads to another server does; those that stand stay."""
        self._targets = list(targets)

    def aim(self, *targets: int) -> None:
        """Let new connections go elsewhere, and hang up on those that stand."""
        self.turn(*targets)
        self.drop()

    def mend(self) -> None:
        """All as before. What was held up passes now."""
        self._do(self._set(cut=False, stalled=(), delay=0.0))

    # -- in the thread

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(20)

    async def _listen(self) -> None:
        self._flows = {"there": asyncio.Event(), "back": asyncio.Event()}
        for flow in self._flows.values():
            flow.set()
        # Not a port that the kernel gives to outgoing connections: see `free_port`.
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set(
        self, *, cut: bool | None = None, stalled: tuple[str, ...] | None = None, delay: float | None = None
    ) -> None:
        if delay is not None:
            self._delay = delay
        if stalled is not None:
            for way, flow in self._flows.items():
                if way in stalled:
                    flow.clear()
                else:
                    flow.set()
        if cut is not None:
            self._cut = cut
            if cut:
                self._hang_up()

    def _hang_up(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._cut:
                return
            far_reader, far_writer = await self._connect()
            self._open.add(far_writer)
            try:
                await asyncio.gather(self._pass(reader, far_writer, "there"), self._pass(far_reader, writer, "back"))
            finally:
                self._open.discard(far_writer)
                far_writer.transport.abort()
        except (OSError, EOFError):
            return
        except asyncio.CancelledError:
            # The proxy ends; a handler of asyncio's that ends cancelled is complained about.
            return
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        refused: OSError = ConnectionRefusedError("no target")
        for _ in range(len(self._targets)):
            target = self._targets[self.connections % len(self._targets)]
            try:
                return await asyncio.open_connection(HOST, target)
            except OSError as error:
                refused = error
                self.connections += 1
        raise refused

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        """Pass on what comes, in order, each piece so much later."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def take() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(_CHUNK)
                except OSError:
                    data = b""
                await pieces.put((loop.time() + self._delay, data))

        taking = asyncio.create_task(take())
        try:
            while True:
                at, data = await pieces.get()
                await asyncio.sleep(max(0.0, at - loop.time()))
                await self._flows[way].wait()
                if not data:
                    # One side has no more to say.
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
