"""A Redis server that takes no writes. RabbitMQ is where a node is at hand, in tests/cli/test_doctor.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from paigeant_core import get_transport
from tests.console.no_writes import no_writes
from tests.servers import RedisServer, free_port


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as private:
        yield private


@pytest.mark.redis
@pytest.mark.timeout(240)
async def test_a_full_server_is_told_of_and_nobody_is_taken_for_lost(
    server: RedisServer, topic: str, tmp_path: Path
) -> None:
    await no_writes(
        server.url,
        topic,
        tmp_path,
        refuse=lambda: server.cli("config", "set", "maxmemory", "1"),
        accept=lambda: server.cli("config", "set", "maxmemory", "0"),
        why="Redis is out of memory (maxmemory)",
    )


@pytest.mark.redis
async def test_why_a_server_takes_no_writes(server: RedisServer, topic: str) -> None:
    async with get_transport(server.url) as transport:
        with redis.Redis.from_url(server.url) as admin:
            for setting, value, normal, why in (
                ("maxmemory", "1", "0", "Redis is out of memory (maxmemory)"),
                ("min-replicas-to-write", "1", "0", "Redis has too few replicas (min-replicas-to-write)"),
            ):
                admin.config_set(setting, value)
                assert await transport.refusal(topic) == why
                admin.config_set(setting, normal)
                assert await transport.refusal(topic) == ""
            admin.replicaof("127.0.0.1", str(free_port()))
            assert await transport.refusal(topic) == "this Redis server is a replica"
            admin.replicaof("NO", "ONE")
            # A snapshot that cannot be put in its place.
            (server.directory / "dump.rdb").mkdir()
            (server.directory / "dump.rdb" / "in the way").touch()
            admin.config_set("save", "3600 1")
            with pytest.raises(redis.ResponseError):
                admin.save()
            admin.bgsave()
            while admin.info("persistence")["rdb_bgsave_in_progress"]:
                pass
            assert await transport.refusal(topic) == "Redis could not save to its disk"
            assert admin.dbsize() == 0, "nothing is written to find out"


@pytest.mark.redis
async def test_a_user_who_may_not_write_is_told_nothing_and_tries_no_more(server: RedisServer, topic: str) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser("eve", enabled=True, passwords=["+x"], keys=["*"], categories=["+@read", "+@connection"])
        admin.acl_setuser("eve", enabled=True, commands=["+info"])
        async with get_transport(server.url.replace("redis://", "redis://eve:x@")) as transport:
            admin.config_set("maxmemory", "1")
            assert [await transport.refusal(topic) for _ in range(3)] == ["", "", ""]
        assert [entry["count"] for entry in admin.acl_log()] == [1]
