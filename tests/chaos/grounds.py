"""What the chaos runs stand on: a broker that can be killed, and the ways to its death."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from redis import Redis
from redis.exceptions import RedisError

from paigeant_core.clock import Clock
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.chaos.proxy import Proxy
from tests.servers import HOST, RabbitCluster, RabbitServer, RedisSentinel, RedisServer, ServerError

FORGOTTEN = 1.0
"""Seconds of writing that a machine loses with its power where the file is synced every second."""


class Ground(ABC):
    """A broker.

    Attributes:
        name: of it.
        eventual: its crash may let a hop that it had not confirmed run twice.
        promised: what is lost or done twice breaks a promise; else it is measured.
        takes_over: seconds beside the lease within which a dead worker's steps begin again.
        leased: whether the lease must be over before that; else the broker sees the line go.
        goes_on: it serves on when one of its processes is killed.
    """

    name: ClassVar[str] = ""
    eventual: ClassVar[bool] = False
    promised: ClassVar[bool] = True
    takes_over: ClassVar[float] = 5.0
    leased: ClassVar[bool] = True
    goes_on: ClassVar[bool] = False

    @property
    @abstractmethod
    def url(self) -> str: ...

    def transport(self, clock: Clock | None = None) -> Transport:
        """A new way to it."""
        return get_transport(self.url, clock=clock)

    def settle_down(self) -> None:
        """What is needed before a kill, so that the kill finds a broker that has been up for a while."""

    def kill(self, *, power: bool = False) -> float:
        """SIGKILL.

        Args:
            power: and what a failing power supply would take with it.

        Returns:
            Seconds before it that are forgotten.
        """
        return 0.0

    def revive(self) -> None:
        """Start it again, on the same port with the same data."""

    def start(self) -> Self:
        return self

    def close(self) -> None:
        """End it."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Shared(Ground):
    """A broker that is somebody else's to start and end.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url


class MemoryGround(Ground):
    """The in-memory broker: it lives as long as its process, so nobody kills it."""

    name = "memory"

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    @property
    def url(self) -> str:
        return "memory://chaos"

    def transport(self, clock: Clock | None = None) -> Transport:
        return MemoryTransport("chaos", broker=self.broker)


class RedisGround(Ground):
    """Redis with an append-only file that is synced with each write."""

    name = "redis-always"
    fsync: ClassVar[str] = "always"

    def __init__(self) -> None:
        # Without rewrites the file only grows, so that its end can be cut off.
        options = {"auto-aof-rewrite-percentage": "0"}
        if self.fsync == "always":
            self._server = RedisServer(appendonly=True, appendfsync="always", options=options)
        else:
            self._server = RedisServer(appendonly=True, appendfsync="everysec", options=options)

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> Self:
        self._server.start()
        return self

    def kill(self, *, power: bool = False) -> float:
        self._server.kill()
        return 0.0

    def revive(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.close()

    def files(self) -> list[Path]:
        """The append-only files that grow."""
        return sorted(self._server.directory.glob("appendonlydir/*.incr.aof"))


class RedisEverysecGround(RedisGround):
    """Redis with a file that is synced every second.

    A SIGKILL takes nothing of it, since the kernel has what was written. A power failure is made by cutting off the
    file what was written in its last second, and more where Redis had put writing off, as it does while a slow disk
    still syncs: the file ends where, at some moment, all was written that had been answered until then.
    """

    name = "redis-everysec"
    fsync = "everysec"

    def __init__(self) -> None:
        super().__init__()
        self._sizes: deque[tuple[float, int]] = deque(maxlen=1000)
        self._ending = threading.Event()
        self._watch = threading.Thread(target=self._measure, name="chaos-aof", daemon=True)

    def start(self) -> Self:
        super().start()
        self._watch.start()
        return self

    def close(self) -> None:
        self._ending.set()
        self._watch.join()
        super().close()

    def kill(self, *, power: bool = False) -> float:
        at = time.monotonic()
        super().kill()
        if not power:
            return 0.0
        sizes = list(self._sizes)
        whole, size = next((sample for sample in reversed(sizes) if sample[0] <= at - FORGOTTEN), sizes[0])
        with self.files()[-1].open("r+b") as tail:
            tail.truncate(size)
        return at - whole

    def _measure(self) -> None:
        while not self._ending.wait(0.02):
            try:
                with Redis.from_url(self.url, decode_responses=True) as redis:
                    while not self._ending.wait(0.02):
                        now = time.monotonic()
                        # Of what was answered before `now` nothing waits to be written.
                        if redis.info("persistence")["aof_buffer_length"] == 0:
                            self._sizes.append((now, self.files()[-1].stat().st_size))
            except (RedisError, OSError):
                continue  # it is down for the moment


class SentinelGround(Ground):
    """Two Redis servers and a Sentinel, behind a balancer of ours that goes to whichever is the primary.

    Replication is asynchronous: what the primary had answered and not sent on when it was killed is lost. Nothing of
    this is promised.
    """

    name = "redis-sentinel"
    promised = False
    goes_on = True

    def __init__(self) -> None:
        self._primary = RedisServer(appendonly=True)
        self._replica = RedisServer(appendonly=True)
        self._sentinel = RedisSentinel(self._primary)
        self._proxy: Proxy | None = None

    @property
    def url(self) -> str:
        assert self._proxy is not None
        return self._proxy.through(self._primary.url)

    def start(self) -> Self:
        self._primary.start()
        self._replica.options["replicaof"] = f"{HOST} {self._primary.port}"
        self._replica.start()
        self._sentinel.start()
        self._proxy = Proxy(self._primary.port).start()
        return self

    def settle_down(self) -> None:
        self._until(lambda: "master_link_status:up" in self._replica.cli("info", "replication"), "no replica")
        known = ("sentinel", "replicas", RedisSentinel.watched)
        self._until(lambda: str(self._replica.port) in self._sentinel.cli(*known), "a replica that nobody knows of")

    def kill(self, *, power: bool = False) -> float:
        self._primary.kill()
        return 0.0

    def revive(self) -> None:
        """Wait for the other one to become the primary; then the killed one comes back as its replica."""
        assert self._proxy is not None
        self._until(lambda: self._sentinel.primary_port() == self._replica.port, "no failover")
        self._proxy.aim(self._replica.port)
        self._primary, self._replica = self._replica, self._primary
        self._replica.options["replicaof"] = f"{HOST} {self._primary.port}"
        self._replica.start()

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.close()
        for server in (self._sentinel, self._primary, self._replica):
            server.close()

    def _until(self, check: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not check():
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name}: {what}\n{self._sentinel.log_tail()}")
            time.sleep(0.1)


class RabbitGround(Ground):
    """A RabbitMQ node of one's own."""

    name = "rabbitmq"
    eventual = True
    leased = False

    def __init__(self) -> None:
        self._server = RabbitServer()

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> Self:
        self._server.start()
        return self

    def settle_down(self) -> None:
        # See RabbitServer.flush: a node that is killed right after a declaration forgets the queue.
        self._server.flush()

    def kill(self, *, power: bool = False) -> float:
        self._server.kill()
        return 0.0

    def revive(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.close()


class ClusterGround(Ground):
    """Three RabbitMQ nodes that form a cluster, behind a balancer of ours.

    Each kill takes the node that leads most of the work queues.
    """

    name = "rabbitmq-cluster"
    eventual = True
    leased = False
    goes_on = True

    def __init__(self) -> None:
        self._cluster = RabbitCluster()
        self._proxy: Proxy | None = None
        self._killed: list[RabbitServer] = []

    @property
    def url(self) -> str:
        assert self._proxy is not None
        return self._proxy.through(self._cluster.nodes[0].url)

    def start(self) -> Self:
        self._cluster.start()
        self._proxy = Proxy(*(node.port for node in self._cluster.nodes)).start()
        return self

    def settle_down(self) -> None:
        for node in self._cluster.nodes:
            node.flush()

    def kill(self, *, power: bool = False) -> float:
        leads = self._cluster.leads(".work.")
        node = max(leads, key=lambda found: leads[found])
        node.kill()
        self._killed.append(node)
        return 0.0

    def revive(self) -> None:
        while self._killed:
            self._killed.pop().start()

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.close()
        self._cluster.close()


GROUNDS: dict[str, type[Ground]] = {
    ground.name: ground
    for ground in (MemoryGround, RedisGround, RedisEverysecGround, SentinelGround, RabbitGround, ClusterGround)
}
