"""Programs under a pseudo terminal, with what they cost by the operating system's accounting.

What they write is counted, not drawn. And what moves behind them: workflows, and records at a rate.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from benchmarks.environments import root
from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.operations import Hold, Operations
from paigeant_core.transports.redis.keys import Keys
from tests.console.ptyrun import ANSWERS

__all__ = ["TOPIC", "Terminal", "Traffic", "compile_modules", "dispatch", "hold_one", "spent"]

TOPIC = "bench"
SIZE = (80, 24)
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<=>$]*[a-zA-Z]|\][^\x07]*\x07)")
_TICKS = os.sysconf("SC_CLK_TCK")


def _cpu(stat: str) -> float:
    fields = Path(stat).read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Terminal:
    """A program under a pseudo terminal; all it writes is counted, and nothing of it is drawn."""

    def __init__(self, *arguments: str, url: str = "", module: str = "paigeant_console", history: bool = True) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PAIGEANT_", "COLOR"))}
        environment |= {"TERM": "xterm-256color", "PAIGEANT_URL": url, "PAIGEANT_TOPIC": TOPIC}
        environment |= {"PAIGEANT_CONFIG": os.devnull} if url else {}
        environment |= {} if history else {"PAIGEANT_HISTORY": "0"}
        self._master, slave = os.openpty()
        os.set_inheritable(slave, True)
        self.raw = bytearray()
        self._written = threading.Condition()
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "COLUMNS": str(SIZE[0]), "LINES": str(SIZE[1])},
            start_new_session=True,
        )
        os.close(slave)
        self._closing = False
        self._read_at = self.started
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while not self._closing:
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            for question, answer in ANSWERS.items():
                if question in data:
                    os.write(self._master, answer)
            with self._written:
                self._read_at = time.perf_counter()
                self.raw += data
                self._written.notify_all()

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait(self, text: str | bytes, since: int = 0, seconds: float = 120.0) -> float:
        """Wait until a text was written behind a place; the time when it was there."""
        wanted = text.encode() if isinstance(text, str) else text
        deadline = time.perf_counter() + seconds
        with self._written:
            while wanted not in _ESCAPES.sub(b"", bytes(self.raw[since:])):
                if not self._written.wait(max(0.0, deadline - time.perf_counter())):
                    raise SystemExit(f"{text!r} was never written; the end of what was: {bytes(self.raw[-400:])!r}")
            # When it was read, not when it was looked for.
            return self._read_at

    def cpu(self) -> float:
        """Seconds of CPU that the program has had."""
        return _cpu(f"/proc/{self.process.pid}/stat")

    def threads(self) -> dict[str, float]:
        """The same for each of its threads, the feed's last: it is the one that the app starts for itself."""
        found = {}
        for task in sorted(Path(f"/proc/{self.process.pid}/task").iterdir(), key=lambda path: int(path.name)):
            with contextlib.suppress(FileNotFoundError):
                found[task.name] = _cpu(f"{task}/stat")
        return found

    def since(self, before: dict[str, float]) -> float:
        """Seconds of CPU that the screen had since: all but the feed's thread, the busiest beside the main one."""
        now = self.threads()
        grown = {name: now[name] - before.get(name, 0.0) for name in now}
        main = grown.pop(str(self.process.pid))
        others = sorted(grown.values())
        return main + sum(others[:-1])

    def rss(self) -> int:
        """Bytes that it has in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def settle(self) -> None:
        """Wait until it has caught up: it uses no CPU to speak of."""
        while True:
            before = self.cpu()
            time.sleep(3)
            if self.cpu() - before < 0.3:
                return

    def over(self, seconds: float) -> tuple[float, float]:
        """Bytes a second and CPU (a part of a core) over some seconds."""
        bytes_before, cpu_before, begun = len(self.raw), self.cpu(), time.perf_counter()
        time.sleep(seconds)
        took = time.perf_counter() - begun
        return (len(self.raw) - bytes_before) / took, (self.cpu() - cpu_before) / took


class Traffic:
    """Journal records at a rate, from another process; `benchmarks.traffic`."""

    def __init__(self, url: str, rate: int) -> None:
        self._journal = redis.Redis.from_url(url), Keys(TOPIC).journal
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.traffic", url, TOPIC, "--rate", str(rate)])

    def __enter__(self) -> Self:
        before = self._length()
        while self._length() < before + 100:
            time.sleep(0.1)
        self._since = time.perf_counter(), self._length()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _length(self) -> int:
        client, journal = self._journal
        return int(client.xlen(journal))

    def rate(self) -> float:
        """Records a second that were really written since the traffic began."""
        begun, before = self._since
        return (self._length() - before) / (time.perf_counter() - begun)


async def dispatch(url: str, total: int) -> None:
    """Start workflows for real, which can then be acted on."""
    async with get_transport(url) as transport:
        dispatcher = WorkflowDispatcher(transport)
        variables = {"customer_email": "ann@example.com", "amount": 12}
        for _ in range(total):
            await dispatcher.dispatch_workflow(["validate", "charge", "notify"], variables, topic=TOPIC, name="order")


async def hold_one(url: str) -> None:
    """Hold the newest workflow that waits, so that one row changes."""
    async with get_transport(url) as transport:
        queued: list[str] = []
        async for batch in transport.records(TOPIC):
            for record in batch:
                workflow = record.headers.correlation_id
                if record.state == "queued":
                    queued.append(workflow)
                elif workflow in queued:
                    queued.remove(workflow)
        operations = Operations(transport, TOPIC)
        await operations.execute(await operations.plan(Hold(), queued[-1:], reason="benchmark"))


def compile_modules() -> None:
    """Compile what is measured, as an installer does; else each start would, where no bytecode may be written."""
    for package in ("paigeant_core", "paigeant_console"):
        compileall.compile_dir(root() / package, quiet=1)


def spent(program: list[str], environment: dict[str, str] | None = None) -> float:
    """Milliseconds of CPU that a program takes, its own and the system's for it: neighbours have no part in them."""
    with Path(os.devnull).open("wb") as nowhere:
        pid = os.posix_spawn(
            program[0],
            program,
            os.environ | (environment or {}),
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)],
        )
        _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{program} ended with {os.waitstatus_to_exitcode(status)}")
    return (usage.ru_utime + usage.ru_stime) * 1000
