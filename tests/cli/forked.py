"""Commands as processes of their own that need not start Python anew: forked from one that has imported what they need.

Starting Python and importing a driver is most of what a short command costs, and the tests run some hundred. A forked
process has its own arguments, environment, folder and standard streams, and ends as any other does. What depends on the
start of the interpreter itself (signals in its first moments, what is imported when, PYTHON* variables) needs a real
one: `tests/cli/test_process.py`, and here the first run of each command.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

PROGRAM = "paigeant_console"
_IMPORTED = (
    "aio_pika",
    "httpx",
    "redis.asyncio",
    "paigeant_console.cli",
    "paigeant_console.commands.program",
    "paigeant_core.operations",
    "paigeant_core.transports.rabbitmq",
    "paigeant_core.transports.redis",
)
_REQUEST = 64 * 1024


class ForkServer:
    """A process that forks commands; it ends with the one that made it.

    Args:
        root: the folder that the packages are in.
    """

    def __init__(self, root: Path) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line, self._lock = here, threading.Lock()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(there.fileno())],
                cwd=root,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(
        self, arguments: list[str], *, env: dict[str, str], cwd: Path, stdin: bytes, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Run one command; may be called from several threads.

        Returns:
            Its exit code (negative: minus the signal that ended it), and what it wrote to stdout and stderr.

        Raises:
            TimeoutError: it did not end in time; it was killed.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            mine, its = socket.socketpair()
            with mine:
                with its:
                    request = json.dumps({"arguments": arguments, "env": env, "cwd": str(cwd)}).encode()
                    streams = [given.fileno(), out.fileno(), err.fileno(), its.fileno()]
                    with self._lock:
                        socket.send_fds(self._line, [request], streams)
                mine.settimeout(timeout)
                with mine.makefile("r", encoding="ascii") as told:
                    process = int(told.readline())
                    try:
                        code = int(told.readline())
                    except TimeoutError:
                        os.kill(process, 9)
                        raise
            out.seek(0)
            err.seek(0)
            return code, out.read(), err.read()

    def close(self) -> None:
        """End it; commands that run go on."""
        self._line.close()
        self._process.wait(10)


def _serve(line: socket.socket) -> None:
    """Fork until nobody asks any more; returns in each forked command too, by its SystemExit."""
    for name in _IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a process with threads cannot be forked"
    while True:
        data, descriptors, _, _ = socket.recv_fds(line, _REQUEST, 4)
        if not data:
            return
        if keeper := os.fork():
            os.waitpid(keeper, 0)
        elif os.fork():
            # What waits for the command is nobody's child: the one that forks goes on at once.
            os._exit(0)
        else:
            line.close()
            _keep(json.loads(data), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(asked: dict[str, Any], descriptors: list[int]) -> None:
    """Run a command in a child, and tell how it ended."""
    *streams, told = descriptors
    if process := os.fork():
        os.write(told, b"%d\n" % process)
        _, status = os.waitpid(process, 0)
        os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(told)
    _become(asked, streams)


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Be the command, to its end."""
    # Python's own streams are on these numbers, and nothing was read from them or written to them so far.
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [PROGRAM, *asked["arguments"]]
    runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
