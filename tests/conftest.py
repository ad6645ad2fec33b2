"""What every test can use: real brokers, shared by the whole run, and a topic that no other test has.

The brokers are started by the process that runs the session, when the first test asks for one, and die with it. Under
xdist the workers ask that process, so that a run has one RabbitMQ node and not one for each worker. A test that kills
or restarts a broker starts one of its own from `tests.servers`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, ClassVar, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import HOST, PrivateServer, RabbitServer, RedisServer, ServerError, SharedServer

# Time never decides a test: no deadline for one example, and a slow machine is no finding. In CI the examples are the
# same in every run, so that a red run has its cause in the change that was submitted.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("dev", _UNTIMED)
settings.register_profile("ci", _UNTIMED, derandomize=True)
settings.register_profile("thorough", _UNTIMED, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# A run in the background of a shell, or under nohup, begins with these ignored, and hands that on to all it starts.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


class ServerSource(Protocol):
    """Where a fixture gets its server from."""

    def get(self, name: str) -> SharedServer:
        """Return the server, started if need be, or raise ServerError."""


def _redis() -> PrivateServer:
    return RedisServer()


def _rabbit() -> PrivateServer:
    # The management API shows figures of the last second instead of the last five.
    return RabbitServer(management=True, conf={"collect_statistics_interval": "1000"})


class ServerPool:
    """The shared servers, in the process that owns them. Each is started at most once, also when that fails."""

    _KINDS: ClassVar[dict[str, Callable[[], PrivateServer]]] = {"redis": _redis, "rabbitmq": _rabbit}

    def __init__(self) -> None:
        self._servers: dict[str, PrivateServer] = {}
        self._results: dict[str, SharedServer | ServerError] = {}
        self._locks = {name: threading.Lock() for name in self._KINDS}
        self._listener: Listener | None = None
        self._key = secrets.token_bytes(16)

    def get(self, name: str) -> SharedServer:
        with self._locks[name]:
            if name not in self._results:
                self._results[name] = self._start(name)
            result = self._results[name]
        if isinstance(result, ServerError):
            raise result
        return result

    def _start(self, name: str) -> SharedServer | ServerError:
        server = self._servers[name] = self._KINDS[name]()
        try:
            server.start()
        except ServerError as exc:
            return exc
        return SharedServer(server.url, server.management_url if isinstance(server, RabbitServer) else None)

    def address(self) -> tuple[int, str]:
        """Start to listen for the workers, and return the port and the key that they need."""
        if self._listener is None:
            self._listener = Listener((HOST, 0), authkey=self._key)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self._listener.address[1], self._key.hex()

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except (OSError, EOFError):
                return  # closed
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            try:
                connection.send(self.get(connection.recv()))
            except ServerError as exc:
                connection.send(str(exc))

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for server in self._servers.values():
            server.close()


class RemotePool:
    """The shared servers, seen from an xdist worker."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = bytes.fromhex(key)

    def get(self, name: str) -> SharedServer:
        with Client((HOST, self._port), authkey=self._key) as connection:
            connection.send(name)
            result: SharedServer | str = connection.recv()
        if isinstance(result, str):
            raise ServerError(result)
        return result


_SOURCE: pytest.StashKey[ServerSource] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    config.stash[_SOURCE] = ServerPool() if worker is None else RemotePool(*worker["paigeant_servers"])


@pytest.hookimpl(optionalhook=True)  # of xdist, which need not be there
def pytest_configure_node(node: Any) -> None:
    pool = node.config.stash[_SOURCE]
    node.workerinput["paigeant_servers"] = pool.address()


def pytest_unconfigure(config: pytest.Config) -> None:
    pool = config.stash.get(_SOURCE, None)
    if isinstance(pool, ServerPool):
        pool.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a broker, so that `-m "not rabbitmq"` is true to its word."""
    for item in items:
        for name in ("redis", "rabbitmq"):
            if f"{name.removesuffix('mq')}_server" in getattr(item, "fixturenames", ()):
                item.add_marker(name)


def _shared(request: pytest.FixtureRequest, name: str) -> SharedServer:
    try:
        return request.config.stash[_SOURCE].get(name)
    except ServerError as exc:
        reason = str(exc)
    pytest.fail(reason, pytrace=False)  # never a skip: a run without its brokers says nothing about them


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> SharedServer:
    """The Redis server of this run."""
    return _shared(request, "redis")


@pytest.fixture(scope="session")
def rabbit_server(request: pytest.FixtureRequest) -> SharedServer:
    """The RabbitMQ node of this run, with the management API."""
    return _shared(request, "rabbitmq")


@pytest.fixture
def redis_url(redis_server: SharedServer) -> str:
    """The URL of the Redis server of this run. Keep to `topic`: other tests use it at the same time."""
    return redis_server.url


@pytest.fixture
def rabbit_url(rabbit_server: SharedServer) -> str:
    """The URL of the RabbitMQ node of this run. Keep to `topic`: other tests use it at the same time."""
    return rabbit_server.url


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic that no other test has, named after the test."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name).strip("-")[:40]
    return f"{name}-{secrets.token_hex(4)}"
