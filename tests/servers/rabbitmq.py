"""Private RabbitMQ nodes, alone or three of them as a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.servers.private import HOST, PrivateServer, ServerError, ServerMissing, free_port, output_of


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

    def ctl(self, *arguments: str, timeout: float = 90.0) -> str:
        """Run rabbitmqctl with `arguments` against this node and return what it printed. It costs 1 to 2 s.

        Raises:
            ServerError: It failed.
        """
        command = [self._program("rabbitmqctl"), "--quiet", "--node", self.node, *arguments]
        return output_of(command, env=self._environment(), timeout=timeout)

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
