"""The private servers themselves: a broken one would make every test of a transport lie."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aio_pika
import httpx
import pytest
import redis

from tests.servers import HOST, RabbitServer, RedisServer, ServerError, ServerMissing, SharedServer


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that is dead but not yet collected by its parent does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not Path("/proc/self").exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.mark.redis
def test_redis_keeps_its_data_over_a_kill() -> None:
    with RedisServer(appendonly=True, appendfsync="always", password='s3c ret"/') as server:
        port, directory = server.port, server.directory
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "kept")
        server.kill()
        assert not is_listening(port)
        server.restart()
        assert server.port == port
        assert server.cli("GET", "key") == "kept"
        server.restart()
        assert server.cli("GET", "key") == "kept"
        with pytest.raises(ServerError, match="ERR unknown command"):
            server.cli("NONSENSE")
    assert not is_listening(port)
    assert not directory.exists()


@pytest.mark.redis
def test_redis_without_a_file_forgets() -> None:
    with RedisServer() as server:
        server.cli("SET", "key", "gone")
        server.restart()
        assert server.cli("EXISTS", "key") == "0"


@pytest.mark.redis
def test_a_killed_owner_leaves_nothing_behind() -> None:
    """The interpreter that started the server is killed, so neither `close` nor atexit runs."""
    program = """
        import time
        from tests.servers import RedisServer
        server = RedisServer().start()
        print(server.pid, server.directory, flush=True)
        time.sleep(60)
    """
    code = "\n".join(line.strip() for line in program.splitlines())
    root = Path(__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert is_alive(int(pid))
        os.kill(owner.pid, signal.SIGKILL)
    wait_until_dead(int(pid))
    deadline = time.monotonic() + 20
    while Path(directory).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(180)  # two starts
async def test_rabbit_keeps_its_data_over_a_kill() -> None:
    with RabbitServer(vhost="orders/eu") as server:
        port, pid, directory = server.port, server.pid, server.directory
        assert pid is not None
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
            message = aio_pika.Message(b"body", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, queue.name)
        server.flush()
        server.kill()
        wait_until_dead(pid)
        assert not is_listening(port)
        server.restart()
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            received = await (await channel.get_queue("kept")).get(timeout=20)
            assert received is not None
            assert received.body == b"body"
        assert "orders/eu" in server.ctl("list_vhosts")
        pid = server.pid
        assert pid is not None
        server.stop()
        wait_until_dead(pid)
        assert not is_listening(port)
    assert not directory.exists()


async def test_the_shared_rabbit_has_streams_and_a_management_api(rabbit_server: SharedServer, topic: str) -> None:
    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(topic, durable=True, arguments={"x-queue-type": "stream"})
    async with httpx.AsyncClient(auth=("guest", "guest"), base_url=rabbit_server.management_url or "") as client:
        queue = (await client.get(f"/api/queues/%2F/{topic}")).raise_for_status().json()
    assert queue["type"] == "stream"


def test_the_shared_redis_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServerMissing, match=r"redis-server is not installed.*make servers"):
        RedisServer().start()


def test_a_wrong_configuration_shows_the_log() -> None:
    with pytest.raises(ServerError, match=r"(?s)ended while starting.*no-such-option"):
        RedisServer(options={"no-such-option": "1"}).start()
