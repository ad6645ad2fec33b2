"""Growth: what gets slower or larger as there is more of everything, and what does not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks import growth_broker
from benchmarks.chain import Brokers, environment
from benchmarks.environments import root
from benchmarks.fold import ask
from benchmarks.journal_data import payload_of
from benchmarks.peers.floor_redis import Bare
from benchmarks.peers.paigeant import TOPIC
from benchmarks.report import Noise, Options, Plot, Section, Series, Table, Target
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.message import PaigeantMessage
from paigeant_core.transition import Span

SLIPS = (1, 3, 10, 30, 100)
IDLE_CPU = 0.01
"""Cores that count as none."""


def run(options: Options) -> Section:
    """See the module."""
    section = Section("growth", "Growth")
    section.how = (
        "Workflows of five steps folded in a fresh process each; a hop without its broker (decode, mark the step done,"
        " encode) by the steps in its slip; on a Redis with more and more workflows waiting: 2 000 hops of another"
        " activity in one process, the figures of all queues, and a key in the console, once it has read it all; a"
        " worker with nothing to do for eight seconds."
    )
    noise = Noise()
    noise.sample()
    sizes = [1_000, 10_000] if options.quick else [1_000, 10_000, 100_000, 1_000_000]
    folded: dict[int, list[dict[str, Any]]] = {10: [], 200: []}
    for activities, items in folded.items():
        for size in sizes:
            print(f"  folding {size:,} workflows, {activities} activities", file=sys.stderr)
            items.append(ask("benchmarks.probe", "fold", str(size), "5", str(activities)))
            noise.sample()
    _fold(section, sizes, folded)
    _slip(section, 200 if options.quick else 2000)
    noise.sample()
    growth_broker.measure(section, noise, quick=options.quick)
    noise.sample()
    _idle(section)
    noise.sample()
    section.noise = str(noise)
    return section


def _fold(section: Section, sizes: list[int], folded: dict[int, list[dict[str, Any]]]) -> None:
    rows, lines, xs = [], [], [float(count) for count in sizes]
    for activities, items in folded.items():
        each = [(item["fold_s"] + item["decode_s"]) / item["records"] * 1e6 for item in items]
        total = [item["fold_s"] + item["decode_s"] for item in items]
        size = [item["bytes"] for item in items]
        rows += [
            [f"{count:,}", f"{activities}", f"{seconds:.2f} s", f"{one:.1f} µs", f"{bytes_:,.0f}"]
            for count, seconds, one, bytes_ in zip(sizes, total, each, size, strict=True)
        ]
        lines += [
            Series(name=f"seconds for all, {activities} activities", x=xs, y=total),
            Series(name=f"µs a record, {activities} activities", x=xs, y=each),
            Series(name=f"bytes a workflow, {activities} activities", x=xs, y=size),
        ]
    columns = ["workflows", "activities", "decoded and folded in", "a record", "bytes each"]
    section.tables.append(Table("Workflows", columns, rows))
    section.plots.append(
        Plot(
            name="growth-fold",
            title="Workflows of five steps: time to fold all, time of a record, memory of a workflow",
            kind="lines",
            x_label="workflows",
            y_label="",
            series=lines,
        )
    )
    each = [(item["fold_s"] + item["decode_s"]) / item["records"] * 1e6 for item in folded[10]]
    size = [max(items) for items in zip(*([item["bytes"] for item in items] for items in folded.values()), strict=True)]
    section.targets.append(
        Target(
            "at most 700 bytes in memory for a workflow of five hops, at 1 million",
            f"{size[-1]:,.0f} bytes at {sizes[-1]:,}",
            size[-1] <= 700 if sizes[-1] >= 1_000_000 else None,
        )
    )
    section.targets.append(
        Target(
            "a record costs the same however many workflows there are (within 2 ×)",
            f"{each[0]:.1f} µs at {sizes[0]:,}, {each[-1]:.1f} µs at {sizes[-1]:,}",
            each[-1] <= 2 * each[0],
        )
    )


def _slip(section: Section, times: int) -> None:
    took: list[float] = []
    for steps in SLIPS:
        message = new_workflow(
            [f"step-{number}" for number in range(steps)], payload_of(1024), topic=TOPIC, at=1.79e9, name="growth"
        )
        body = message.encode()
        span = Span(worker="worker-1", started_at=1.79e9, completed_at=1.79e9 + 1)
        runs = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(times // 5):
                moves.done(PaigeantMessage.decode(body), None, span).record.encode_meta()
            runs.append((time.perf_counter() - begun) / (times // 5))
        took.append(min(runs) * 1e6)
    rows = [[f"{steps}", f"{one:.0f} µs"] for steps, one in zip(SLIPS, took, strict=True)]
    section.tables.append(Table("Steps in a slip", ["steps", "a hop without its broker"], rows))
    section.plots.append(
        Plot(
            name="growth-slip",
            title="A hop without its broker, by the steps in its slip",
            kind="lines",
            x_label="steps",
            y_label="µs",
            series=[Series(name="decode, mark done, encode", x=[float(steps) for steps in SLIPS], y=took)],
        )
    )
    section.targets.append(
        Target(
            "a hop grows at most as its slip does",
            f"{took[0]:.0f} µs with 1 step, {took[-1]:.0f} µs with 100",
            took[-1] <= 100 * took[0],
        )
    )


def _idle(section: Section) -> None:
    rows = []
    for broker, title in (("redis", "Redis"), ("rabbitmq", "RabbitMQ")):
        brokers = Brokers(broker)
        try:
            with brokers.one() as (url, _):
                cpu, asked = _idle_on(url)
        finally:
            brokers.close()
        said = "" if asked is None else f"{asked:.1f}"
        rows.append([title, f"{cpu:.2%}", said])
        polls = "" if asked is None else f"; it asks for work {asked:.1f} times a second"
        calm = cpu < IDLE_CPU and (asked is None or asked <= 1.0)
        section.targets.append(
            Target(
                f"{title}: an idle worker uses no processor time (below 1 %), and polls at most once a second",
                f"{cpu:.2%}{polls}",
                calm,
            )
        )
    section.tables.append(Table("Idle worker", ["", "of one core", "asks for work, a second"], rows))


def _idle_on(url: str) -> tuple[float, float | None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.probe", "idle", url],
        env=environment(),
        cwd=root(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    asked = None
    if url.startswith("redis"):
        before, begun = asyncio.run(_commands(url)), time.perf_counter()
        time.sleep(6.0)
        asked = (asyncio.run(_commands(url)) - before) / (time.perf_counter() - begun)
    said = json.loads(process.communicate()[0].splitlines()[-1])
    return float(said["cpu"]), asked


async def _commands(url: str) -> int:
    """How often work was asked for so far; everything else that a worker says is told once a second at most."""
    line = await Bare(url).open()
    (said,) = await line.call(("INFO", "commandstats"))
    await line.close()
    return int(said.decode().partition("cmdstat_xreadgroup:calls=")[2].partition(",")[0] or 0)
