"""Private Redis servers, and a sentinel of one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tests.servers.private import HOST, PrivateServer, ServerMissing, free_port, output_of


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
        return output_of(command, env=environment, timeout=timeout)

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
