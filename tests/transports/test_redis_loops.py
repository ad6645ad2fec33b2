"""Redis: one transport in several event loops, one after the other and in threads, as programs use it that block."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from paigeant_core import ActivityContext, Worker
from paigeant_core.names import new_id
from paigeant_core.transports.redis import RedisTransport
from tests.transports.on_redis import dispatch, states

PATIENCE = 20.0
"""Seconds after which something hangs."""


@pytest.fixture
def name() -> str:
    """The name that a test's connections have at the server."""
    return f"loops-{new_id()[:8]}"


@pytest.fixture
def transport(redis_url: str, name: str) -> RedisTransport:
    return RedisTransport(f"{redis_url}?client_name={name}")


async def _dispatch_many(transport: RedisTransport, topic: str) -> set[str]:
    async with asyncio.timeout(PATIENCE):
        return set(await asyncio.gather(*[dispatch(transport, topic, "a") for _ in range(20)]))


def _connections(redis_url: str, name: str) -> int:
    client = redis.Redis.from_url(redis_url)
    try:
        return sum(info["name"] == name for info in client.client_list())
    finally:
        client.close()


def test_every_loop_is_served_on_one_transport_and_leaves_no_connection_open(
    redis_url: str, transport: RedisTransport, topic: str, name: str
) -> None:
    made = [asyncio.run(_dispatch_many(transport, topic)) for _ in range(3)]
    assert len(set().union(*made)) == 60
    deadline = time.monotonic() + PATIENCE
    while (left := _connections(redis_url, name)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == 0


def test_loops_in_threads_share_no_line_and_one_that_disconnects_leaves_the_other_at_work(
    redis_url: str, transport: RedisTransport, topic: str
) -> None:
    together = threading.Barrier(2, timeout=PATIENCE)

    async def serve(*, leaves: bool) -> set[str]:
        made: set[str] = set()
        for _ in range(3):
            together.wait()  # both loops have lines, and neither runs on before the other
            made |= await _dispatch_many(transport, topic)
            together.wait()
            if leaves:
                await transport.disconnect()
        return made

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(asyncio.run, serve(leaves=leaves)) for leaves in (False, True)]
        made = [thread.result() for thread in running]
    assert len(made[0] | made[1]) == 120


def test_a_loop_that_was_closed_does_not_keep_disconnect_from_its_end(
    redis_url: str, transport: RedisTransport, topic: str, name: str
) -> None:
    asyncio.run(_dispatch_many(transport, topic))

    async def leave() -> None:
        await _dispatch_many(transport, topic)
        assert _connections(redis_url, name)
        await transport.disconnect()

    asyncio.run(leave())


def test_a_worker_is_run_again_in_another_loop_on_its_transport(transport: RedisTransport, topic: str) -> None:
    worker = Worker(topic, transport=transport)

    @worker.activity("a")
    async def a(ctx: ActivityContext) -> None:
        worker.stop()

    async def serve() -> list[str]:
        async with asyncio.timeout(PATIENCE):
            workflow = await dispatch(transport, topic, "a")
            await worker.run()
            return await states(transport, topic, workflow)

    assert [asyncio.run(serve())[-1] for _ in range(2)] == ["completed", "completed"]
