"""What the console costs over a real pseudo terminal: bytes, CPU by the operating system's accounting, waiting time.

    python -m benchmarks.console [--workflows 100000] [--rate 2000] [--seconds 10]

On a private Redis. Every figure stands beside what issue and design ask for. Figures in
milliseconds and percent depend on the machine and its neighbours; bytes do not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import select
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.operations import Hold, Operations
from tests.console.ptyrun import ANSWERS
from tests.servers import RedisServer

TOPIC = "bench"
SIZE = (80, 24)
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<=>$]*[a-zA-Z]|\][^\x07]*\x07)")
_TICKS = os.sysconf("SC_CLK_TCK")


class Terminal:
    """A program under a pseudo terminal; all it writes is counted, and nothing of it is drawn."""

    def __init__(self, *arguments: str, url: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}
        environment |= {"TERM": "xterm-256color", "PAIGEANT_URL": url, "PAIGEANT_TOPIC": TOPIC}
        self._master, slave = os.openpty()
        os.set_inheritable(slave, True)
        self.raw = bytearray()
        self._written = threading.Condition()
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paigeant_console", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "COLUMNS": str(SIZE[0]), "LINES": str(SIZE[1])},
            start_new_session=True,
        )
        os.close(slave)
        self._closing = False
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
                self.raw += data
                self._written.notify_all()

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait(self, text: str, since: int = 0, seconds: float = 60.0) -> float:
        """Wait until a text was written behind a place; the time when it was there."""
        wanted = text.encode()
        deadline = time.perf_counter() + seconds
        with self._written:
            while wanted not in _ESCAPES.sub(b"", bytes(self.raw[since:])):
                if not self._written.wait(max(0.0, deadline - time.perf_counter())):
                    raise SystemExit(f"{text!r} was never written; the end of what was: {bytes(self.raw[-400:])!r}")
            return time.perf_counter()

    def cpu(self) -> float:
        """Seconds of CPU that the program has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def over(self, seconds: float) -> tuple[float, float]:
        """Bytes a second and CPU (a part of a core) over some seconds."""
        bytes_before, cpu_before, begun = len(self.raw), self.cpu(), time.perf_counter()
        time.sleep(seconds)
        took = time.perf_counter() - begun
        return (len(self.raw) - bytes_before) / took, (self.cpu() - cpu_before) / took


class Traffic:
    """Workflows that are dispatched in another process, at a rate."""

    def __init__(self, url: str, rate: int) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.console", "--write", url, str(rate)])

    def __enter__(self) -> Self:
        time.sleep(2.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


async def write(url: str, rate: int, total: int | None = None) -> None:
    """Dispatch workflows: ``rate`` a second for ever, or ``total`` as fast as can be."""
    async with get_transport(url) as transport:
        dispatcher = WorkflowDispatcher(transport)

        async def one() -> None:
            variables = {"customer_email": "ann@example.com", "amount": 12}
            await dispatcher.dispatch_workflow(["validate", "charge", "notify"], variables, topic=TOPIC, name="order")

        if total is not None:
            for start in range(0, total, 500):
                await asyncio.gather(*(one() for _ in range(min(500, total - start))))
            return
        begun, made = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - begun) * rate) - made
            await asyncio.gather(*(one() for _ in range(due)))
            made += due
            await asyncio.sleep(0.02)


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


def told(what: str, figure: str, asked: str) -> None:
    """Print one line."""
    print(f"  {what:<58} {figure:>16}   asked: {asked}", flush=True)


def timed(program: list[str], rounds: int = 7) -> float:
    """The median milliseconds that a program takes."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000


def measure_start(url: str) -> None:
    """First paint, and `list --json` beside its driver's import."""
    paints = []
    for _ in range(7):
        with Terminal(url=url) as terminal:
            paints.append((terminal.wait("workflows") - terminal.started) * 1000)
    told("first paint after exec, median of 7", f"{statistics.median(paints):,.0f} ms", "500 ms")
    driver = timed([sys.executable, "-c", "import redis.asyncio"])
    listing = timed([sys.executable, "-m", "paigeant_console", "--url", url, "list", "--json"])
    told("list --json on an empty broker / its driver's import", f"{listing / driver:.2f}", "2")


def measure_rest(url: str) -> None:
    """What an idle console and one changed row cost."""
    asyncio.run(write(url, 0, 200))
    with Terminal(url=url) as terminal:
        terminal.wait("queued")
        time.sleep(40)  # until every row says that it waits, and ages are minutes
        rate, cpu = terminal.over(60)
        told("idle, 200 workflows known: bytes a minute", f"{rate * 60:,.0f}", "1,024")
        told("idle: CPU", f"{cpu:.2%}", "1 %")
        sizes = []
        for _ in range(5):
            before = len(terminal.raw)
            asyncio.run(hold_one(url))
            time.sleep(1.5)
            sizes.append(len(terminal.raw) - before)
        told("one row changes: bytes, median of 5", f"{statistics.median(sizes):,.0f}", "1,024")


def measure_load(url: str, workflows: int, rate: int, seconds: float) -> None:
    """The tail, keys and the filter while much is known and much arrives."""
    asyncio.run(write(url, 0, workflows))
    with Terminal(url=url) as terminal:
        begun = time.perf_counter()
        terminal.wait("queued")
        told(f"newest shown, of {workflows:,} workflows in the journal", f"{time.perf_counter() - begun:.1f} s", "1 s")
        _settle(terminal)
        told("all of them folded", f"{time.perf_counter() - begun - 3:.1f} s", "-")
        with Traffic(url, rate):
            terminal.send("2")
            time.sleep(2)
            written, cpu = terminal.over(seconds)
            told(f"tail at {rate:,} records/s, 80x24: KB/s", f"{written / 1024:,.1f}", "40 KB/s")
            told("the same: CPU of the whole console", f"{cpu:.0%}", "20 % for the screen")
            terminal.send("1")
            time.sleep(2)
            median, late = latency(terminal, "?", "q", "Keys of")
            told("key to paint: help opens, p50 / p95", f"{median:.0f} / {late:.0f} ms", "50 ms")
        told("RSS with all of it", f"{_rss(terminal.process.pid) / 2**20:,.0f} MB", "-")


def latency(terminal: Terminal, there: str, back: str, marker: str) -> tuple[float, float]:
    """Milliseconds from a key to what it brings on the screen: the median, and the 95th percentile."""
    took = []
    for _ in range(40):
        before, begun = len(terminal.raw), time.perf_counter()
        terminal.send(there)
        took.append((terminal.wait(marker, before) - begun) * 1000)
        time.sleep(0.15)
        terminal.send(back)
        time.sleep(0.35)
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.95)]


def _settle(terminal: Terminal) -> None:
    """Wait until the console has caught up: it uses no CPU to speak of."""
    while True:
        before = terminal.cpu()
        time.sleep(3)
        if terminal.cpu() - before < 0.3:
            return


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--write", nargs=2, metavar=("URL", "RATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        asyncio.run(write(options.write[0], int(options.write[1])))
        return
    print("Console, 80x24, private Redis", flush=True)
    with RedisServer() as server:
        measure_start(server.url)
        measure_rest(server.url)
    with RedisServer() as server:
        measure_load(server.url, options.workflows, options.rate, options.seconds)


if __name__ == "__main__":
    main()
