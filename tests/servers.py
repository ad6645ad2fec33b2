"""Private, real Redis and RabbitMQ servers for the tests and the benchmarks.

Each server is a process of its own on the loopback interface, with a port, a data directory and a log of its own, so
that it can be killed, stopped and restarted in the middle of a test without touching a server that somebody else uses.
Nothing is left over: a running server dies, and its directory goes, when it is closed, when the interpreter exits, and
also when the interpreter is killed (a watchdog process sees the end of a pipe).

    with RedisServer(appendonly=True) as redis:
        redis.kill()      # as if the power had gone
        redis.restart()   # the same port, the same data

The classes are synchronous: an async test that must not block its loop calls them through `asyncio.to_thread`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

__all__ = [
    "PrivateServer",
    "RabbitCluster",
    "RabbitServer",
    "RedisSentinel",
    "RedisServer",
    "ServerError",
    "ServerMissing",
    "SharedServer",
    "free_port",
]

HOST = "127.0.0.1"
_PORTS = range(20_000, 30_000)
_PORT_TAKEN = re.compile(r"address already in use|eaddrinuse", re.IGNORECASE)
_STOP_TIMEOUT = 20.0
_LIVE: weakref.WeakSet[PrivateServer] = weakref.WeakSet()

# Reads until the pipe closes, which is when the process that holds its other end is gone, however it went.
_WATCHDOG = 'read -r _; dir=$1; shift; for group; do kill -s KILL -- "-$group"; done; rm -rf -- "$dir"'


class ServerError(RuntimeError):
    """A private server did not start, stop or answer."""


class ServerMissing(ServerError):
    """The program of a server is not installed."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} is not installed, and these tests need it: run `make servers`, "
            "or install redis-server, rabbitmq-server and tmux."
        )
        self.program = program


def free_port() -> int:
    """Return a free TCP port of the loopback interface.

    It lies below the range that the kernel gives to outgoing connections. A client that tries to reconnect to a stopped
    server in that range can be given the server's own port, connect to itself, and keep the server from coming back.
    """
    for port in random.SystemRandom().sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError(f"no free port among {_PORTS.start}-{_PORTS.stop - 1} on {HOST}")


@dataclass(frozen=True, slots=True)
class SharedServer:
    """How to reach a server that a whole test run shares. Nobody stops it, and others use it at the same time."""

    url: str
    management_url: str | None = None


class PrivateServer(ABC):
    """One server process with a directory of its own. Use it as a context manager, or call `start` and `close`."""

    name: str
    """What the server is called in errors and in the name of its directory."""

    poll_interval = 0.01
    """Seconds between two looks whether it answers."""

    def __init__(self, *, start_timeout: float) -> None:
        self.start_timeout = start_timeout
        self.port = 0
        self._dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    # -- what a kind of server says about itself

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that a client connects to, with user and password."""

    @abstractmethod
    def _choose_ports(self) -> None:
        """Choose free ports. Called once, before the first start, and again if another process took one of them."""

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Write the configuration and start the process."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server answers its clients by now."""

    @property
    @abstractmethod
    def log_path(self) -> Path:
        """The server's own log."""

    # -- life

    @property
    def directory(self) -> Path:
        """Where the server keeps its data, configuration and logs. It lasts until `close`."""
        if self._dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix=f"paigeant-{self.name}-"))
        return self._dir

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process ID of the running server."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            ServerMissing: The program is not installed.
            ServerError: It did not come up; the message ends with the last lines of its log.
        """
        if self.running:
            return self
        self._owner = os.getpid()
        _LIVE.add(self)
        first = self.port == 0
        for tries_left in (2, 1, 0) if first else (0,):
            if first:
                self._choose_ports()
            try:
                self._process = self._launch()
                self._watch()
                self._await_ready()
            except BaseException as exc:
                self.kill()
                if tries_left and isinstance(exc, ServerError) and _PORT_TAKEN.search(str(exc)):
                    continue
                if first:
                    self.close()
                raise
            break
        return self

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would. The data stays."""
        self._unwatch()
        for process in (self._process, *self._helpers):
            if process is not None:
                _kill_group(process)
        self._process = None
        self._helpers.clear()

    def stop(self) -> None:
        """Shut the server down in order (SIGTERM), or kill it when that takes too long. The data stays."""
        if self._process is not None and self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT)
        self.kill()

    def restart(self) -> Self:
        """Stop the server if it runs, and start it again on the same port with the same data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Kill the server and delete its directory. It can be started anew, empty and on another port."""
        self.kill()
        _LIVE.discard(self)
        if self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None
        self.port = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {HOST}:{self.port} {'running' if self.running else 'stopped'}>"

    # -- for the kinds

    def _spawn(self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that a Ctrl-C meant for the tests does not reach it."""
        with (self.directory / "output.log").open("ab") as output:
            try:
                return subprocess.Popen(
                    command,
                    env=env,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError as exc:
                raise ServerMissing(Path(command[0]).name) from exc

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while not self._is_ready():
            if not self.running:
                raise ServerError(f"{self.name} ended while starting.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer within {self.start_timeout:g} s.\n{self.log_tail()}")
            time.sleep(self.poll_interval)

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of what the process printed and of its own log."""
        found: list[str] = []
        for path in (self.directory / "output.log", self.log_path):
            with contextlib.suppress(OSError):
                found += path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(found)

    def _watch(self) -> None:
        assert self._process is not None
        groups = [str(process.pid) for process in (self._process, *self._helpers)]
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self.directory), *groups],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _unwatch(self) -> None:
        """End the watchdog before its pipe closes: from now on the process IDs it knows may be another's."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            if self._watchdog.stdin is not None:
                self._watchdog.stdin.close()
            self._watchdog = None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@atexit.register
def _close_all() -> None:
    for server in list(_LIVE):
        if server._owner == os.getpid():  # a fork of this process has the objects, but not the servers
            server.close()


class RedisServer(PrivateServer):
    """A Redis server.

    Args:
        appendonly: Keep an append-only file. Without it the data is gone after a restart.
        appendfsync: When that file reaches the disk.
        password: What clients must give, if anything.
        options: More lines of redis.conf, by name.
        start_timeout: Seconds until a start counts as failed.
    """

    name = "redis"

    def __init__(
        self,
        *,
        appendonly: bool = False,
        appendfsync: Literal["always", "everysec"] = "everysec",
        password: str | None = None,
        options: Mapping[str, str] | None = None,
        start_timeout: float = 20.0,
    ) -> None:
        super().__init__(start_timeout=start_timeout)
        self.appendonly = appendonly
        self.appendfsync = appendfsync
        self.password = password
        self.options = dict(options or {})

    @property
    def url(self) -> str:
        """The URL of database 0."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{user}{HOST}:{self.port}/0"

    @property
    def log_path(self) -> Path:
        """Where redis-server logs."""
        return self.directory / "redis.log"

    def cli(self, *arguments: str, timeout: float = 20.0) -> str:
        """Run redis-cli with `arguments` against this server and return what it printed.

        Raises:
            ServerError: It failed, or the server answered with an error.
        """
        program = shutil.which("redis-cli")
        if program is None:
            raise ServerMissing("redis-cli")
        environment = dict(os.environ)
        if self.password:
            environment["REDISCLI_AUTH"] = self.password
        command = [program, "-h", HOST, "-p", str(self.port), "-e", *arguments]
        return _output_of(command, env=environment, timeout=timeout)

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            "logfile": str(self.log_path),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": self.appendfsync,
            **({"requirepass": _redis_quoted(self.password)} if self.password else {}),
            **self.options,
        }
        configuration = self.directory / "redis.conf"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in options.items()), encoding="utf-8")
        return self._spawn(["redis-server", configuration])

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                # With a password set the answer to a stranger is -NOAUTH. While it reads its data, it is -LOADING.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def _redis_quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class RedisSentinel(RedisServer):
    """A Redis Sentinel that watches one primary, and makes its replica the primary when it is gone for a second.

    Args:
        primary: Started already.
    """

    name = "sentinel"
    watched = "primary"

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self.primary = primary

    def primary_port(self) -> int:
        """Where the primary is by now."""
        return int(self.cli("sentinel", "get-master-addr-by-name", self.watched).splitlines()[1])

    def _launch(self) -> subprocess.Popen[bytes]:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.directory}",
            f"logfile {self.log_path}",
            # One sentinel: it is the servers that fail here.
            f"sentinel monitor {self.watched} {HOST} {self.primary.port} 1",
            f"sentinel down-after-milliseconds {self.watched} 1000",
            f"sentinel failover-timeout {self.watched} 5000",
        ]
        configuration = self.directory / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self._spawn(["redis-server", configuration, "--sentinel"])


class RabbitServer(PrivateServer):
    """A RabbitMQ node, apart from any other on this machine: an epmd, a cookie and directories of its own.

    The user is guest with the password guest. Quorum queues, streams and their feature flags are on, as on every fresh
    node. The alarms for memory and disk are out of the way, so no publisher is ever blocked by them. A start
    takes about ten seconds of work on a small machine: share a node wherever a test does not kill it.

    Args:
        management: Also run the management plugin with its HTTP API, at `management_url`.
        vhost: The virtual host, made at the first boot.
        plugins: More plugins to enable.
        conf: More lines of rabbitmq.conf, by name.
        start_timeout: Seconds until a start counts as failed.
        cluster: What it belongs to; else it is alone.
    """

    name = "rabbitmq"
    poll_interval = 0.1
    user = "guest"
    password = "guest"

    def __init__(
        self,
        *,
        management: bool = False,
        vhost: str = "/",
        plugins: Sequence[str] = (),
        conf: Mapping[str, str] | None = None,
        start_timeout: float = 50.0,
        cluster: RabbitCluster | None = None,
    ) -> None:
        super().__init__(start_timeout=start_timeout)
        self.cluster = cluster
        self.management = management
        self.vhost = vhost
        self.plugins = tuple(plugins)
        self.conf = dict(conf or {})
        self.management_port = 0
        self.node = ""
        self._epmd_port = 0
        self._dist_port = 0
        self._log_offset = 0

    @property
    def url(self) -> str:
        """The AMQP URL of the virtual host."""
        return self.url_for(self.vhost)

    def url_for(self, vhost: str) -> str:
        """Return the AMQP URL of any virtual host of this node."""
        return f"amqp://{self.user}:{self.password}@{HOST}:{self.port}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str | None:
        """The base URL of the management API, without user and password; None where the plugin is off."""
        return f"http://{HOST}:{self.management_port}" if self.management else None

    @property
    def log_path(self) -> Path:
        """Where the node logs."""
        return self.directory / "log" / f"{self.node}.log"

    def ctl(self, *arguments: str, timeout: float = 40.0) -> str:
        """Run rabbitmqctl with `arguments` against this node and return what it printed. It costs 1 to 2 s.

        Raises:
            ServerError: It failed.
        """
        command = [self._program("rabbitmqctl"), "--quiet", "--node", self.node, *arguments]
        return _output_of(command, env=self._environment(), timeout=timeout)

    def add_vhost(self, vhost: str) -> str:
        """Make another virtual host that the user may use, and return its URL."""
        self.ctl("add_vhost", vhost)
        self.ctl("set_permissions", "--vhost", vhost, self.user, ".*", ".*", ".*")
        return self.url_for(vhost)

    def flush(self) -> None:
        """Write to disk which quorum queues and streams there are. Call it between declaring one and `kill`.

        The node (3.10) keeps that list in a file that it flushes only after half a second or more without a change. One
        killed before comes back with the queue, but without its messages, confirmed ones too, and without a leader: the
        queue then answers nobody.
        """
        self.ctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    @staticmethod
    def _program(name: str) -> str:
        # Debian's wrapper in /usr/sbin switches to the user rabbitmq, who cannot write to our directory. The real ones:
        found = shutil.which(name, path="/usr/lib/rabbitmq/bin") or shutil.which(name)
        if found is None:
            raise ServerMissing(name)
        return found

    def _choose_ports(self) -> None:
        ports: set[int] = set()
        while len(ports) < 4:
            ports.add(free_port())
        self.port, self._epmd_port, self._dist_port, self.management_port = ports
        if self.cluster is not None:
            self._epmd_port = self.cluster.epmd_port
        self.node = f"paigeant-{self.port}@localhost"

    def _environment(self) -> dict[str, str]:
        """The environment of the node and its tools: nothing of /etc/rabbitmq, nothing of the caller's RABBITMQ_*."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_", "ELIXIR_"))
        }
        return inherited | {
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.directory / "config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            # Without a shell as a parent, so that a signal reaches the node itself; `+B i`: no Ctrl-C menu.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_START_ARGS": "+B i",
        }

    def _launch(self) -> subprocess.Popen[bytes]:
        server, epmd = self._program("rabbitmq-server"), shutil.which("epmd")
        if epmd is None:
            raise ServerMissing("epmd")
        self._write_configuration()
        # The log is appended to: what it said before this start is no sign of readiness.
        self._log_offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        environment = self._environment()
        if self.cluster is None:
            # In the foreground: one that a node starts for itself would stay behind as a daemon.
            self._helpers = [self._spawn([epmd, "-address", HOST, "-port", str(self._epmd_port)], env=environment)]
        return self._spawn([server], env=environment)

    def _write_configuration(self) -> None:
        directory = self.directory
        cookie = directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.cluster.cookie if self.cluster else os.urandom(16).hex(), encoding="ascii")
            cookie.chmod(stat.S_IRUSR)
        plugins = [*self.plugins, *(["rabbitmq_management"] if self.management else [])]
        (directory / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n", encoding="ascii")
        (directory / "rabbitmq-env.conf").touch()
        conf = {
            "listeners.tcp.1": f"{HOST}:{self.port}",
            "default_user": self.user,
            "default_pass": self.password,
            "default_vhost": self.vhost,
            "vm_memory_high_watermark.relative": "0.9",
            "disk_free_limit.absolute": "1MB",
            "log.console": "false",
        }
        if self.management:
            conf |= {"management.tcp.ip": HOST, "management.tcp.port": str(self.management_port)}
        if self.cluster is not None:
            conf |= self.cluster.conf_for(self)
        conf |= self.conf
        text = "".join(f"{key} = {value}\n" for key, value in conf.items())
        (directory / "rabbitmq.conf").write_text(text, encoding="utf-8")

    def _is_ready(self) -> bool:
        # The listener is up a moment before the plugins are; the line in the log comes after both.
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_offset)
                return b"Server startup complete" in log.read() and _speaks_amqp(self.port)
        except OSError:
            return False


class _Epmd(PrivateServer):
    """The name server of a cluster's nodes: it must outlive each of them."""

    name = "epmd"

    @property
    def url(self) -> str:
        return f"epmd://{HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.directory / "output.log"

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _launch(self) -> subprocess.Popen[bytes]:
        program = shutil.which("epmd")
        if program is None:
            raise ServerMissing("epmd")
        return self._spawn([program, "-address", HOST, "-port", str(self.port)])

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=2):
            return True
        return False


class RabbitCluster:
    """RabbitMQ nodes on this machine that form one cluster. Quorum queues and streams have a member on each.

    Args:
        size: How many nodes.
    """

    def __init__(self, size: int = 3) -> None:
        self.cookie = os.urandom(16).hex()
        self.nodes = [RabbitServer(cluster=self, start_timeout=120.0) for _ in range(size)]
        self._epmd = _Epmd(start_timeout=20.0)

    @property
    def epmd_port(self) -> int:
        """Where the nodes find each other."""
        return self._epmd.port

    def conf_for(self, node: RabbitServer) -> dict[str, str]:
        """The lines of rabbitmq.conf that let a node join the first one when it starts for the first time."""
        first = self.nodes[0]
        if node is first:
            return {}
        return {
            "cluster_formation.peer_discovery_backend": "classic_config",
            "cluster_formation.classic_config.nodes.1": first.node,
        }

    def start(self) -> Self:
        """Start the nodes, one after the other: each joins the first."""
        self._epmd.start()
        try:
            for node in self.nodes:
                node.start()
            found = self.nodes[0].ctl("eval", "length(rabbit_nodes:all_running()).")
            if found.strip() != str(len(self.nodes)):
                raise ServerError(f"only {found} of {len(self.nodes)} nodes form a cluster")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill all nodes and delete what they had."""
        for server in (*self.nodes, self._epmd):
            server.close()

    def leads(self, queue: str) -> dict[RabbitServer, int]:
        """By node that runs: how many queues whose names contain `queue` it leads."""
        asked = next(node for node in self.nodes if node.running)
        leaders = asked.ctl("list_queues", "--no-table-headers", "name", "leader").splitlines()
        counts = dict.fromkeys((node for node in self.nodes if node.running), 0)
        for line in leaders:
            name, _, leader = line.partition("\t")
            for node in counts:
                counts[node] += queue in name and leader.strip() == node.node
        return counts

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _speaks_amqp(port: int) -> bool:
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        # A method frame (type 1) on channel 0: Connection.Start.
        return connection.recv(3) == b"\x01\x00\x00"


def _output_of(command: Sequence[str], *, env: Mapping[str, str], timeout: float) -> str:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=True)
    except subprocess.TimeoutExpired as exc:
        raise ServerError(f"{Path(command[0]).name} did not end within {timeout:g} s") from exc
    except subprocess.CalledProcessError as exc:
        raise ServerError(f"{Path(command[0]).name} failed: {exc.stderr.strip() or exc.stdout.strip()}") from exc
    return done.stdout.rstrip("\n")
