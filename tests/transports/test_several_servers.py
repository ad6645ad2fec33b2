"""URLs that name several servers: whoever is there is found, at the start and when one goes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from paigeant_core.errors import AuthenticationError, ConfigError, ConnectError, Unsupported
from paigeant_core.journal import State
from paigeant_core.transports import get_transport
from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.endpoint import STAY
from paigeant_core.transports.types import Settled
from tests.chaos.proxy import Proxy, port_of
from tests.servers import HOST, RedisSentinel, RedisServer, free_port
from tests.transports import on_rabbitmq, on_redis
from tests.transports.hands import PATIENCE, Hands


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, in step."""
    at_once = {"repl-diskless-sync-delay": "0", "masterauth": "right-word"}
    with RedisServer(password="right-word", options=at_once) as primary:
        replica = RedisServer(password="right-word", options={"replicaof": f"{HOST} {primary.port}", **at_once})
        with replica:
            wait_for(lambda: "master_link_status:up" in replica.cli("info", "replication"))
            yield primary, replica


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_copied(primary: RedisServer) -> bool:
    """Whether the replica has all that its primary has: what it has not is lost with a failover, as Redis promises."""
    told = primary.cli("info", "replication")
    replica, own = re.search(r"offset=(\d+),lag=", told), re.search(r"master_repl_offset:(\d+)", told)
    return replica is not None and own is not None and replica[1] == own[1]


def listed(*ports: int) -> str:
    return f"redis://:right-word@{','.join(f'{HOST}:{port}' for port in ports)}/0?socket_timeout=2"


async def runs(transport: RedisTransport, hands: Hands, topic: str) -> None:
    """A workflow goes through."""
    workflow = await on_redis.dispatch(transport, topic, "a")
    assert await hands.finish(await hands.take_one()) is Settled.DONE
    assert await on_redis.states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]


async def test_of_several_redis_servers_the_one_that_leads_is_used_and_its_heir_after_it(
    pair: tuple[RedisServer, RedisServer], topic: str
) -> None:
    primary, replica = pair
    async with RedisTransport(listed(free_port(), replica.port, primary.port)) as transport:
        hands = Hands(transport, topic, "a")
        await runs(transport, hands, topic)
        held = await on_redis.dispatch(transport, topic, "a")
        delivery = await hands.take_one()
        await asyncio.to_thread(wait_for, lambda: is_copied(primary))
        # Demoted, it cuts nobody off: what it answers must make its clients look for the other one.
        await asyncio.to_thread(primary.cli, "replicaof", HOST, str(replica.port))
        settling = asyncio.create_task(hands.finish(delivery))
        await asyncio.to_thread(replica.cli, "replicaof", "no", "one")
        assert await settling is Settled.DONE
        assert await on_redis.states(transport, topic, held) == [State.QUEUED, State.COMPLETED]
        await runs(transport, hands, topic)
        await hands.consumer.close()


@pytest.mark.parametrize("waits", [False, True], ids=["busy", "idle"])
async def test_a_redis_server_that_leads_no_more_is_left_when_its_only_name_leads_to_another_one(
    pair: tuple[RedisServer, RedisServer], topic: str, waits: bool
) -> None:
    primary, replica = pair
    with Proxy(primary.port) as name:
        async with RedisTransport(listed(name.port)) as transport:
            hands = Hands(transport, topic, "a")
            await runs(transport, hands, topic)
            held = await on_redis.dispatch(transport, topic, "a")
            delivery = await hands.take_one()
            asking = asyncio.create_task(hands.take_one()) if waits else None
            await asyncio.to_thread(wait_for, lambda: not waits or " flags=b " in primary.cli("client", "list"))
            await asyncio.to_thread(wait_for, lambda: is_copied(primary))
            # It cuts nobody off but who waits, and for a while the name leads nowhere else.
            await asyncio.to_thread(primary.cli, "replicaof", HOST, str(replica.port))
            settling = asyncio.create_task(hands.finish(delivery))
            before, began = name.connections, time.monotonic()
            await asyncio.sleep(3)
            # Whether another one leads by now is looked at for each of three lines, and not with every try.
            seconds = time.monotonic() - began
            assert 1 <= name.connections - before <= 3 * (seconds / STAY + 2)
            await asyncio.to_thread(replica.cli, "replicaof", "no", "one")
            name.turn(replica.port)
            async with asyncio.timeout(PATIENCE):
                assert await settling is Settled.DONE
            assert await on_redis.states(transport, topic, held) == [State.QUEUED, State.COMPLETED]
            if asking is None:
                await runs(transport, hands, topic)
            else:
                await on_redis.dispatch(transport, topic, "a")
                assert await hands.finish(await asking) is Settled.DONE
            await hands.consumer.close()


async def test_leases_are_renewed_where_the_only_name_of_a_redis_server_leads_now(
    pair: tuple[RedisServer, RedisServer], topic: str
) -> None:
    primary, replica = pair
    with Proxy(primary.port) as name:
        async with RedisTransport(listed(name.port)) as transport, RedisTransport(listed(replica.port)) as other:
            # It runs a step, and has nothing to settle and no slot free: its heartbeat alone can find out.
            slow, idle = Hands(transport, topic, "a", lease=2), Hands(other, topic, "a", lease=2)
            await on_redis.dispatch(transport, topic, "a")
            delivery = await slow.take_one()
            await asyncio.to_thread(wait_for, lambda: " flags=b " not in primary.cli("client", "list"))
            await asyncio.to_thread(wait_for, lambda: is_copied(primary))
            await asyncio.to_thread(replica.cli, "replicaof", "no", "one")
            name.turn(replica.port)
            # Of nobody: while it loads what another one has it says so, and that alone would break the lines.
            await asyncio.to_thread(primary.cli, "replicaof", HOST, str(free_port()))
            await idle.nothing(6)
            assert await slow.finish(delivery) is Settled.DONE
            await slow.consumer.close()
            await idle.consumer.close()


async def test_whoever_only_looks_stays_with_a_replica(pair: tuple[RedisServer, RedisServer], topic: str) -> None:
    primary, replica = pair
    with Proxy(replica.port) as name:
        async with RedisTransport(listed(primary.port)) as transport, RedisTransport(listed(name.port)) as console:
            workflow = await on_redis.dispatch(transport, topic, "a")
            await asyncio.to_thread(wait_for, lambda: is_copied(primary))
            for _ in range(3):
                assert await console.refusal(topic) == "this Redis server is a replica"
                assert await on_redis.states(console, topic, workflow) == [State.QUEUED]
                assert [queue.ready for queue in await console.queues(topic)] == [1]
                await asyncio.sleep(0.5)
            # The queues are asked with four questions at once.
            assert name.connections <= 4


async def test_a_silent_redis_server_does_not_keep_from_the_others(
    pair: tuple[RedisServer, RedisServer], topic: str
) -> None:
    primary, replica = pair
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        async with RedisTransport(listed(replica.port, primary.port)) as transport:
            hands = Hands(transport, topic, "a")
            await runs(transport, hands, topic)
            await hands.consumer.close()
    finally:
        os.kill(replica.pid, signal.SIGCONT)


async def test_what_is_said_when_none_of_several_redis_servers_leads(pair: tuple[RedisServer, RedisServer]) -> None:
    primary, replica = pair
    nobody = free_port()
    transport = RedisTransport(listed(replica.port, nobody))
    with pytest.raises(ConnectError) as raised:
        await transport.connect()
    assert str(raised.value) == (
        f"no Redis that leads answers: {HOST}:{replica.port} is a replica; {HOST}:{nobody}: connection refused"
    )
    assert transport.url == listed(replica.port, nobody).replace("right-word", "***")
    wrong = RedisTransport(listed(nobody, primary.port).replace("right", "wr0ng"))
    with pytest.raises(AuthenticationError):
        await wrong.connect()


@pytest.mark.redis
@pytest.mark.slow
async def test_the_primary_that_the_sentinels_name_is_used_and_the_next_one_after_a_failover(topic: str) -> None:
    with RedisServer(options={"repl-diskless-sync-delay": "0"}) as primary:
        replica = RedisServer(options={"replicaof": f"{HOST} {primary.port}"})
        with replica, RedisSentinel(primary) as sentinel:
            known = ("sentinel", "replicas", sentinel.watched)
            await asyncio.to_thread(wait_for, lambda: str(replica.port) in sentinel.cli(*known))
            hosts = f"{HOST}:{free_port()},{HOST}:{sentinel.port}"
            async with RedisTransport(f"redis+sentinel://{hosts}/{sentinel.watched}/0") as transport:
                hands = Hands(transport, topic, "a")
                await runs(transport, hands, topic)
                await asyncio.to_thread(wait_for, lambda: is_copied(primary))
                await asyncio.to_thread(primary.kill)
                asking = asyncio.create_task(hands.take_one())
                await asyncio.to_thread(wait_for, lambda: sentinel.primary_port() == replica.port)
                workflow = await on_redis.dispatch(transport, topic, "a")
                assert await hands.finish(await asking) is Settled.DONE
                assert await on_redis.states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]
                await hands.consumer.close()
            other = RedisTransport(f"redis+sentinel://{hosts}/other")
            with pytest.raises(ConnectError, match=rf"sentinel {HOST}:{sentinel.port} knows no 'other'"):
                await other.connect()


@pytest.mark.parametrize("url", ["redis+sentinel://one,two", "redis+sentinel://one/", "rediss+sentinel://one/main/x"])
def test_a_url_of_sentinels_must_name_their_primary(url: str) -> None:
    with pytest.raises(ConfigError, match="must name their primary"):
        get_transport(url)


async def test_a_rabbitmq_node_that_is_gone_is_left_for_another_one(rabbit_url: str, topic: str) -> None:
    port = port_of(rabbit_url)
    with Proxy(port) as one, Proxy(port) as two:
        hosts = ",".join(f"{HOST}:{each}" for each in (free_port(), one.port, two.port))
        parts = urlsplit(rabbit_url)
        login = parts.netloc.rpartition("@")[0]
        async with RabbitTransport(f"amqp://{login}@{hosts}{parts.path}") as transport:
            workflow = await on_rabbitmq.dispatch(transport, topic, "a", "b")
            async with on_rabbitmq.hands(transport, topic, "a", "b") as hands:
                delivery = await hands.take_one()
                await asyncio.to_thread(one.cut)
                assert await hands.finish(delivery) is Settled.DONE
                line = on_rabbitmq.consumer_of(hands)._line
                assert line.where == f"{HOST}:{two.port}"
                assert line.url == f"amqp://{login}@{HOST}:{two.port}{parts.path}"
                assert await hands.finish(await hands.take_one()) is Settled.DONE
            assert await on_rabbitmq.kinds(transport, topic, workflow) == ["dispatched", "advanced", "finished"]


async def test_what_is_said_when_none_of_several_rabbitmq_nodes_answers() -> None:
    ports = [free_port(), free_port()]
    transport = get_transport(f"amqp://ann:s3cret@{HOST}:{ports[0]},{HOST}:{ports[1]}/")
    with pytest.raises(ConnectError) as raised:
        await transport.connect()
    for port in ports:
        assert f"no RabbitMQ answers at {HOST}:{port}: " in str(raised.value)
    assert "s3cret" not in f"{raised.value} {transport.url}"


# -- Redis Cluster ----------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes with half of the slots each."""
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    with RedisServer(options=options) as one, RedisServer(options=options) as two:
        one.cli("cluster", "addslotsrange", "0", "8191")
        two.cli("cluster", "addslotsrange", "8192", "16383")
        one.cli("cluster", "meet", HOST, str(two.port))
        wait_for(lambda: all("cluster_state:ok" in node.cli("cluster", "info") for node in (one, two)))
        yield one, two


async def test_a_topic_lives_on_the_node_of_a_cluster_that_has_it_and_another_one_says_which(
    cluster: tuple[RedisServer, RedisServer], topic: str
) -> None:
    slot = int(cluster[0].cli("cluster", "keyslot", f"{{paigeant:{topic}}}"))
    has, lacks = cluster if slot < 8192 else (cluster[1], cluster[0])
    async with RedisTransport(lacks.url) as transport:
        with pytest.raises(Unsupported, match=rf"the topic is at 127\.0\.0\.1:{has.port}: name that node"):
            await on_redis.dispatch(transport, topic, "a")
    async with RedisTransport(has.url) as transport:
        hands = Hands(transport, topic, "a")
        await runs(transport, hands, topic)
        await hands.consumer.close()
        assert [queue.activity for queue in await transport.queues(topic)] == ["a"]
