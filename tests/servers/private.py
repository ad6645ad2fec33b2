"""What every private server has: a process with a port, a directory and a log, and an end with its owner."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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


def output_of(command: Sequence[str], *, env: Mapping[str, str], timeout: float) -> str:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=True)
    except subprocess.TimeoutExpired as exc:
        raise ServerError(f"{Path(command[0]).name} did not end within {timeout:g} s") from exc
    except subprocess.CalledProcessError as exc:
        raise ServerError(f"{Path(command[0]).name} failed: {exc.stderr.strip() or exc.stdout.strip()}") from exc
    return done.stdout.rstrip("\n")
