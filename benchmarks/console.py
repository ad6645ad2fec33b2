"""What the console costs over a real pseudo terminal: bytes, CPU by the operating system's accounting, waiting time.

    python -m benchmarks.console [--workflows 100000] [--rate 2000] [--seconds 10] [--only load]

On private servers, and beside a stock DataTable in the same run. Every figure stands beside what is asked for. Figures
in milliseconds depend on the machine and its neighbours; bytes and CPU much less. RESULTS.md is written where all of it
was measured, as much as is asked for; `python -m benchmarks console` does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import report as results
from benchmarks.terminal import TOPIC, Terminal, Traffic, compile_modules, dispatch, hold_one, spent
from tests.servers import RabbitServer, RedisServer

WORKFLOWS, RATE, SECONDS, ROUNDS = 100_000, 2_000, 10.0, 10
"""What is asked for: so many known, so many records a second; seconds and rounds of each measurement."""
PARTS = ("start", "rest", "load", "peer")
IDLE = 60.0
"""Seconds of watching what does nothing."""

# What the console and the table beside it both do, in the same words.
FIRST_PAINT = "first paint after exec"
IDLE_BYTES = "idle, 200 workflows known"
IDLE_CPU = "idle: CPU"
CHANGES = "one row changes"
SHOWN = "newest shown, of {:,} in the journal"
TAIL_CPU = "tail: CPU of screen and feed"
MOVES = "key to paint: the cursor moves, view paused"
MEMORY = "resident memory with all of it"


class Figure(NamedTuple):
    """What was measured of the console, or of the table beside it, and what is asked for."""

    what: str
    values: list[float]
    unit: str
    asked: float | None
    p95: bool
    peer: bool

    @property
    def value(self) -> float:
        """The median, or the 95th percentile: the least value that 95 of a hundred do not exceed."""
        ordered = sorted(self.values)
        return ordered[math.ceil(len(ordered) * 0.95) - 1] if self.p95 else statistics.median(ordered)

    @property
    def met(self) -> bool | None:
        """Whether it is as asked; None: nothing is."""
        return None if self.asked is None else self.value <= self.asked

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"{self.what}{', p95' if self.p95 else ''}"

    def __str__(self) -> str:
        text = f"{self.value:,.4g} {self.unit}"
        return text if len(self.values) == 1 else f"{text} ({min(self.values):,.4g}–{max(self.values):,.4g})"


class Report:
    """What was measured, a line each as it comes.

    Args:
        as_json: print JSON lines.
    """

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self.figures: list[Figure] = []
        self.noise = results.Noise()

    def title(self, text: str) -> None:
        """Begin a part."""
        self.noise.sample()
        if not self._as_json:
            print(text, flush=True)

    def told(
        self,
        what: str,
        values: Sequence[float],
        unit: str,
        asked: float | None = None,
        *,
        p95: bool = False,
        peer: bool = False,
    ) -> None:
        """Take up one figure, and print it.

        Args:
            what: it is of; the same words for both where console and table do the same.
            values: that were measured.
            unit: of them.
            asked: how much it may be; None: nothing is asked.
            p95: the 95th percentile counts, not the median.
            peer: it is the table's.
        """
        figure = Figure(what, list(values), unit, asked, p95, peer)
        self.figures.append(figure)
        least, most, number = min(values), max(values), len(values)
        if self._as_json:
            document = {"what": what, "figure": figure.value, "unit": unit, "asked": asked, "p95": p95, "peer": peer}
            print(json.dumps({**document, "least": least, "most": most, "of": number}), flush=True)
            return
        spread = f"({least:,.4g} to {most:,.4g} of {number})" if number > 1 else ""
        wanted = "" if asked is None else f"at most {asked:,.6g}{'' if figure.met else ', MISSED'}"
        print(f"  {figure.name:<58} {figure.value:>10,.4g} {unit:<9} {spread:<34} {wanted}".rstrip(), flush=True)

    @property
    def missed(self) -> bool:
        """Whether something is not as asked."""
        return any(figure.met is False for figure in self.figures)

    def section(self) -> results.Section:
        """All of it, for RESULTS.md."""
        section = results.Section("console", "Console", noise=str(self.noise))
        section.how = (
            "A real pseudo terminal of 80x24 on private servers: bytes are what came out of it, CPU is the operating"
            " system's accounting, milliseconds are from a key (or exec) to the bytes that show what it brings. Modules"
            " are compiled, as an installation has them. Beside"
            " it Textual's own DataTable, which has its rows from memory and no broker, in the same run."
        )
        words = {True: "yes", False: "**no**", None: ""}
        theirs = {figure.what: figure for figure in self.figures if figure.peer}
        rows = []
        for figure in self.figures:
            if not figure.peer:
                other = theirs.pop(figure.what, None)
                asked = "" if figure.asked is None else f"at most {figure.asked:,.6g} {figure.unit}"
                rows.append([figure.name, asked, str(figure), words[figure.met], "" if other is None else str(other)])
            if figure.asked is not None:
                wanted = f"{figure.name}: at most {figure.asked:,.6g} {figure.unit}"
                section.targets.append(results.Target(wanted, str(figure), figure.met))
        rows += [[figure.name, "", "", "", str(figure)] for figure in theirs.values()]
        section.tables.append(results.Table("", ["", "asked", "console", "met", "stock DataTable"], rows))
        return section


def measure_start(report: Report, url: str, rounds: int) -> None:
    """First paint."""
    paints = []
    for _ in range(rounds):
        with Terminal(url=url) as terminal:
            paints.append((terminal.wait("workflows") - terminal.started) * 1000)
    report.told(FIRST_PAINT, paints, "ms", 500)


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
        report.told(IDLE_BYTES, [rate * 60], "bytes/min", 1024)
        report.told(IDLE_CPU, [cpu * 100], "% of one", 1)
        sizes = []
        for _ in range(rounds):
            before = len(terminal.raw)
            asyncio.run(hold_one(url))
            time.sleep(1.5)
            sizes.append(float(len(terminal.raw) - before))
        report.told(CHANGES, sizes, "bytes", 1024)


def measure_load(report: Report, url: str, workflows: int, rate: int, seconds: float, rounds: int) -> None:
    """The tail, keys and the filter while much is known and much arrives."""
    subprocess.run([sys.executable, "-m", "benchmarks.traffic", url, TOPIC, "--total", str(workflows)], check=True)
    with Terminal(url=url) as terminal:
        begun = time.perf_counter()
        terminal.wait("queued")
        report.told(SHOWN.format(workflows), [time.perf_counter() - begun], "s", 1)
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
            report.told("tail: CPU of the screen (its threads)", [screen / seconds * 100], "% of one", 20)
            report.told(TAIL_CPU, [cpu * 100], "% of one")
            terminal.send("1")
            time.sleep(2)
            for what, first, there, back, marker in KEYS:
                keys = latency(terminal, there, back, marker, rounds * 2, first)
                report.told(f"key to paint: {what}", keys, "ms", 50, p95=True)
            terminal.send("p")
            time.sleep(1)
            keys = latency(terminal, "j", "k", CURSOR, rounds * 8)
            report.told(MOVES, keys, "ms", 50, p95=True)
            terminal.send("p")
            report.told("records that were written meanwhile", [traffic.rate()], "a second")
        report.told(MEMORY, [terminal.rss() / 2**20], "MB")


def filtering(report: Report, terminal: Terminal, workflows: int, rounds: int) -> None:
    """What is typed is echoed, and the result comes, while `/` filters all of them."""
    echoes, found = [], []
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
        selected = len(range(number % 10, workflows, 100))
        found.append((terminal.wait(f"{selected:,} of {workflows:,}", before) - begun) * 1000)
        terminal.send("\x1b")
        time.sleep(1.0)
    report.told(f"/ over {workflows:,} workflows: echo of a letter", echoes, "ms", 50, p95=True)
    report.told(f"/ over {workflows:,} workflows: the result, from the last letter", found, "ms", 300, p95=True)


CURSOR = "\u258c".encode()
"""What the console puts before the row under the cursor."""
ESCAPE, CONTROL_P = "\x1b", "\x10"
KEYS = (
    ("help opens over the list", "", "?", "q", b"Keys of"),
    ("the palette opens over the list", "", CONTROL_P, ESCAPE, b"> "),
    ("a reason is asked for", "", "h", ESCAPE, b"it is parked"),
    # The workflows were never on the broker, only in its journal, which is what the question says of them.
    ("a confirmation, with the broker's answer", "hx", "\r", ESCAPE, b"nothing can be done"),
    ("one workflow opens", "", "\r", "q", b"hops"),
    ("view 2, traffic", "", "2", "1", b"KIND"),
    ("view 3, queues and workers", "", "3", "1", b"QUEUE"),
    ("view 4, dead letters", "", "4", "1", b"nothing is dead"),
    ("view 5, audit", "", "5", "1", b"ACTION"),
    ("view 1, the list", "5", "1", "", b"STATE"),
)
"""Keys that open something over the list: what that is, what is typed before, the key, the way back, what is seen."""


def latency(terminal: Terminal, there: str, back: str, marker: bytes, rounds: int, first: str = "") -> list[float]:
    """Milliseconds from a key to what it brings on the screen."""
    took = []
    for number in range(rounds):
        if first:
            terminal.send(first)
            time.sleep(0.5)
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

    paints = []
    for _ in range(rounds):
        with peer(200, 0) as terminal:
            paints.append((terminal.wait("queued") - terminal.started) * 1000)
    report.told(FIRST_PAINT, paints, "ms", peer=True)
    with peer(200, 0) as terminal:
        terminal.settle()
        rate_idle, cpu_idle = terminal.over(IDLE)
        report.told(IDLE_BYTES, [rate_idle * 60], "bytes/min", peer=True)
        report.told(IDLE_CPU, [cpu_idle * 100], "% of one", peer=True)
        sizes = []
        for _ in range(rounds):
            before = len(terminal.raw)
            terminal.send("u")
            time.sleep(0.7)
            sizes.append(float(len(terminal.raw) - before))
        report.told(CHANGES, sizes, "bytes", peer=True)
    with peer(0, rate) as terminal:
        terminal.wait("queued")
        time.sleep(2)
        written, cpu = terminal.over(seconds)
        report.told(f"tail at {rate:,} records/s, 80x24", [written / 1024], "KB/s", peer=True)
        report.told(TAIL_CPU, [cpu * 100], "% of one", peer=True)
    with peer(workflows, rate) as terminal:
        report.told(SHOWN.format(workflows), [terminal.wait("queued") - terminal.started], "s", peer=True)
        time.sleep(2)
        # Any paint: while rows arrive it repaints all of itself four times a second, its cursor among it.
        keys = latency(terminal, "j", "k", b"queued", max(3, rounds // 2))
        report.told(MOVES, keys, "ms", p95=True, peer=True)
        report.told(MEMORY, [terminal.rss() / 2**20], "MB", peer=True)


class Asked(NamedTuple):
    """How much is measured."""

    workflows: int = WORKFLOWS
    rate: int = RATE
    seconds: float = SECONDS
    rounds: int = ROUNDS
    parts: tuple[str, ...] = PARTS


def measure(report: Report, asked: Asked) -> None:
    """Measure, and tell the report."""
    workflows, rate, seconds, rounds, parts = asked
    compile_modules()
    if "start" in parts or "rest" in parts:
        report.title("The console on a private Redis, 80x24")
        with RedisServer() as server:
            if "start" in parts:
                measure_start(report, server.url, rounds)
                measure_list(report, server.url, "redis.asyncio", rounds)
            if "rest" in parts:
                measure_rest(report, server.url, max(IDLE, seconds), rounds)
    if "start" in parts:
        with RabbitServer() as rabbit:
            measure_list(report, rabbit.url, "aio_pika", rounds)
    if "load" in parts:
        report.title(f"The console with {workflows:,} workflows known and {rate:,} records/s arriving")
        with RedisServer() as server:
            measure_load(report, server.url, workflows, rate, seconds, rounds)
    if "peer" in parts:
        report.title("A stock DataTable that does the same, from memory, without a broker")
        measure_peer(report, workflows, rate, seconds, rounds)
    report.noise.sample()


def run(options: results.Options) -> results.Section:
    """Measure all of it for RESULTS.md; see the module."""
    asked = Asked(rounds=options.rounds or ROUNDS, seconds=options.seconds or SECONDS)
    if options.quick:
        asked = Asked(workflows=2_000, seconds=3.0, rounds=1)
    report = Report()
    measure(report, asked)
    return report.section()


def main() -> int:
    """Run what is asked for; the exit code is 1 where something was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=WORKFLOWS)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement that goes by time")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each measurement that is repeated")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--json", action="store_true", help="a JSON line for each figure")
    options = parser.parse_args()
    machine, begun = f"{results.machine()}, {results.server_versions()}", time.perf_counter()
    report = Report(options.json)
    asked = Asked(options.workflows, options.rate, options.seconds, options.rounds, tuple(options.only or PARTS))
    measure(report, asked)
    if set(asked.parts) == set(PARTS) and asked.workflows >= WORKFLOWS and asked.rate >= RATE:
        section = report.section()
        section.machine, section.took_s = machine, time.perf_counter() - begun
        results.keep(section)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
