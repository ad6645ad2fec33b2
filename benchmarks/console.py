"""What the console costs over a real pseudo terminal: bytes, CPU by the operating system's accounting, waiting time.

    python -m benchmarks.console [--workflows 100000] [--rate 2000] [--seconds 10] [--only load]

On private servers, and beside a stock DataTable in the same run. Every figure stands beside what is asked for. Figures
in milliseconds depend on the machine and its neighbours; bytes and CPU much less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.operations import Hold, Operations
from paigeant_core.transports.redis.keys import Keys
from tests.console.ptyrun import ANSWERS
from tests.servers import RabbitServer, RedisServer

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


class Report:
    """What was measured, a line each, beside what is asked for."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.missed = 0

    def title(self, text: str) -> None:
        """Begin a part."""
        if not self._as_json:
            print(text, flush=True)

    def told(
        self, what: str, figures: Sequence[float], unit: str, asked: float | None = None, *, p95: bool = False
    ) -> None:
        """Tell one figure: the median (or the 95th percentile) of some, with the least and the most of them."""
        ordered = sorted(figures)
        figure = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] if p95 else statistics.median(ordered)
        missed = asked is not None and figure > asked
        self.missed += missed
        if self._as_json:
            document = {"what": what, "figure": figure, "unit": unit, "asked": asked, "p95": p95}
            print(json.dumps({**document, "least": ordered[0], "most": ordered[-1], "of": len(ordered)}), flush=True)
            return
        spread = f"({ordered[0]:,.4g} to {ordered[-1]:,.4g} of {len(ordered)})" if len(ordered) > 1 else ""
        wanted = "" if asked is None else f"at most {asked:,.6g}{', MISSED' if missed else ''}"
        name = f"{what}{', p95' if p95 else ''}"
        print(f"  {name:<58} {figure:>10,.4g} {unit:<9} {spread:<34} {wanted}".rstrip(), flush=True)


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


def measure_start(report: Report, url: str, rounds: int) -> None:
    """First paint."""
    paints = []
    for _ in range(rounds):
        with Terminal(url=url) as terminal:
            paints.append((terminal.wait("workflows") - terminal.started) * 1000)
    report.told("first paint after exec", paints, "ms", 500)


def measure_list(report: Report, url: str, driver: str, rounds: int) -> None:
    """`list --json` on an empty broker beside the import of its driver, in turn."""
    ratios = []
    for _ in range(rounds):
        floor = spent([sys.executable, "-c", f"import {driver}"])
        ratios.append(spent([sys.executable, "-m", "paigeant_console", "--url", url, "list", "--json"]) / floor)
    report.told(f"list --json, empty broker / import {driver}, CPU", ratios, "times", 2)


def measure_rest(report: Report, url: str, seconds: float, rounds: int) -> None:
    """What an idle console and one changed row cost."""
    asyncio.run(dispatch(url, 200))
    with Terminal(url=url) as terminal:
        terminal.wait("queued")
        time.sleep(40)  # until every row says that it waits, and ages are minutes
        rate, cpu = terminal.over(seconds)
        report.told("idle, 200 workflows known", [rate * 60], "bytes/min", 1024)
        report.told("the same: CPU", [cpu * 100], "% of one", 1)
        sizes = []
        for _ in range(rounds):
            before = len(terminal.raw)
            asyncio.run(hold_one(url))
            time.sleep(1.5)
            sizes.append(float(len(terminal.raw) - before))
        report.told("one row changes", sizes, "bytes", 1024)


def measure_load(report: Report, url: str, workflows: int, rate: int, seconds: float, rounds: int) -> None:
    """The tail, keys and the filter while much is known and much arrives."""
    subprocess.run([sys.executable, "-m", "benchmarks.traffic", url, TOPIC, "--total", str(workflows)], check=True)
    with Terminal(url=url) as terminal:
        begun = time.perf_counter()
        terminal.wait("queued")
        report.told(f"newest shown, of {workflows:,} in the journal", [time.perf_counter() - begun], "s", 1)
        terminal.settle()
        report.told("all of them folded", [time.perf_counter() - begun - 3], "s")
        filtering(report, terminal, workflows, rounds)
        with Traffic(url, rate) as traffic:
            terminal.send("2")
            time.sleep(2)
            before = terminal.threads()
            written, cpu = terminal.over(seconds)
            screen = terminal.since(before)
            report.told(f"tail at {rate:,} records/s, 80x24", [written / 1024], "KB/s", 40)
            report.told("the same: CPU of the screen (its threads)", [screen / seconds * 100], "% of one", 20)
            report.told("the same: CPU of screen and feed", [cpu * 100], "% of one")
            terminal.send("1")
            time.sleep(2)
            keys = latency(terminal, "?", "q", b"Keys of", rounds * 4)
            report.told("key to paint: help opens over the list", keys, "ms", 50, p95=True)
            terminal.send("p")
            time.sleep(1)
            keys = latency(terminal, "j", "k", CURSOR, rounds * 8)
            report.told("key to paint: the cursor moves, view paused", keys, "ms", 50, p95=True)
            terminal.send("p")
            report.told("records that were written meanwhile", [traffic.rate()], "a second")
        report.told("resident memory with all of it", [terminal.rss() / 2**20], "MB")


def filtering(report: Report, terminal: Terminal, workflows: int, rounds: int) -> None:
    """What is typed is echoed, and the result comes, while `/` filters all of them."""
    echoes, results = [], []
    for number in range(rounds):
        terminal.send("/")
        time.sleep(0.3)
        # Letters that are in no ID, name or activity here, so that only the echo brings them.
        for letter in "zxkjwz":
            begun = time.perf_counter()
            before = len(terminal.raw)
            terminal.send(letter)
            echoes.append((terminal.wait(letter, before) - begun) * 1000)
            time.sleep(0.07)
        terminal.send("\x15" + "name:order-0")
        time.sleep(1.5)
        begun = time.perf_counter()
        before = len(terminal.raw)
        terminal.send(str(number % 10))
        found = len(range(number % 10, workflows, 100))
        results.append((terminal.wait(f"{found:,} of {workflows:,}", before) - begun) * 1000)
        terminal.send("\x1b")
        time.sleep(1.0)
    report.told(f"/ over {workflows:,} workflows: echo of a letter", echoes, "ms", 50, p95=True)
    report.told("the same: the result, from the last letter", results, "ms", 300, p95=True)


CURSOR = "\u258c".encode()
"""What the console puts before the row under the cursor."""


def latency(terminal: Terminal, there: str, back: str, marker: bytes, rounds: int) -> list[float]:
    """Milliseconds from a key to what it brings on the screen."""
    took = []
    for number in range(rounds):
        # Not in step with the flushes, which are four a second.
        time.sleep(0.15 + 0.1 * (number % 7) / 7)
        before, begun = len(terminal.raw), time.perf_counter()
        terminal.send(there)
        took.append((terminal.wait(marker, before) - begun) * 1000)
        time.sleep(0.3)
        terminal.send(back)
        time.sleep(0.3)
    return took


def measure_peer(report: Report, workflows: int, rate: int, seconds: float, rounds: int) -> None:
    """A stock DataTable that does the same, from memory."""

    def peer(rows: int, tail: int) -> Terminal:
        return Terminal("--rows", str(rows), "--tail", str(tail), module="benchmarks.peer_table")

    with peer(200, 0) as terminal:
        terminal.wait("queued")
        terminal.settle()
        sizes = []
        for _ in range(rounds):
            before = len(terminal.raw)
            terminal.send("u")
            time.sleep(0.7)
            sizes.append(float(len(terminal.raw) - before))
        report.told("one row changes", sizes, "bytes")
    with peer(0, rate) as terminal:
        terminal.wait("queued")
        time.sleep(2)
        written, cpu = terminal.over(seconds)
        report.told(f"tail at {rate:,} records/s, 80x24", [written / 1024], "KB/s")
        report.told("the same: CPU", [cpu * 100], "% of one")
    with peer(workflows, rate) as terminal:
        report.told(f"shown, of {workflows:,}", [terminal.wait("queued") - terminal.started], "s")
        time.sleep(2)
        # Any paint: while rows arrive it repaints all of itself four times a second, its cursor among it.
        keys = latency(terminal, "j", "k", b"queued", max(3, rounds // 2))
        report.told("key to paint: the cursor moves", keys, "ms", p95=True)
        report.told("resident memory with all of it", [terminal.rss() / 2**20], "MB")


def main() -> int:
    """Run all of it; the exit code is 1 where something asked for was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement that goes by time")
    parser.add_argument("--rounds", type=int, default=10, help="of each measurement that is repeated")
    parser.add_argument("--only", choices=["start", "rest", "load", "peer"], action="append")
    parser.add_argument("--json", action="store_true", help="a JSON line for each figure")
    options = parser.parse_args()
    parts = options.only or ["start", "rest", "load", "peer"]
    report = Report(options.json)
    if "start" in parts or "rest" in parts:
        report.title("The console on a private Redis, 80x24")
        with RedisServer() as server:
            if "start" in parts:
                measure_start(report, server.url, options.rounds)
                measure_list(report, server.url, "redis.asyncio", options.rounds)
            if "rest" in parts:
                measure_rest(report, server.url, max(60.0, options.seconds), options.rounds)
    if "start" in parts:
        with RabbitServer() as rabbit:
            measure_list(report, rabbit.url, "aio_pika", options.rounds)
    if "load" in parts:
        report.title(f"The console with {options.workflows:,} workflows known and {options.rate:,} records/s arriving")
        with RedisServer() as server:
            measure_load(report, server.url, options.workflows, options.rate, options.seconds, options.rounds)
    if "peer" in parts:
        report.title("A stock DataTable that does the same, from memory, without a broker")
        measure_peer(report, options.workflows, options.rate, options.seconds, options.rounds)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
