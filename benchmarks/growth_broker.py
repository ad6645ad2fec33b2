"""A Redis with more and more workflows waiting on it: a hop, the queue figures, and a key in the console."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.chain import Brokers
from benchmarks.console import CURSOR, latency
from benchmarks.peers.floor_redis import Bare
from benchmarks.peers.paigeant import TOPIC
from benchmarks.report import Noise, Plot, Section, Series, Table, Target
from benchmarks.terminal import Terminal
from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.names import new_id
from paigeant_core.transports import Transport
from paigeant_core.transports.redis.encoding import Move, move
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import Command, text_of

HOPS = 2000
KEYS = 12


class At(NamedTuple):
    """What was measured with so many workflows waiting.

    Attributes:
        hop_us: claim, run and settle of a step of another activity, in microseconds.
        queues_ms: the figures of all queues.
        key_ms: a key to what it brings on the console's screen; None: not measured.
    """

    hop_us: float
    queues_ms: float
    key_ms: float | None


def measure(section: Section, noise: Noise, *, quick: bool) -> None:
    """Add what it finds to a section."""
    many = [1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000]
    # Queues are what this is for, and they cost the same however much waits in them.
    fewer = [size for size in many if size <= 100_000]
    found: dict[int, dict[int, At]] = {}
    for activities, sizes in ((10, many), (200, fewer)):
        found[activities] = {}
        for size in sizes:
            print(f"  {size:,} workflows wait, {activities} activities", file=sys.stderr)
            with Brokers("redis").one() as (url, _):
                found[activities][size] = asyncio.run(_on_broker(url, size, activities))
                if activities == 10:
                    found[activities][size] = found[activities][size]._replace(key_ms=_key_to_paint(url))
            noise.sample()
    _tell(section, found)


def _tell(section: Section, found: dict[int, dict[int, At]]) -> None:
    rows, lines = [], []
    for activities, by_size in found.items():
        for size, at in by_size.items():
            key = "" if at.key_ms is None else f"{at.key_ms:.1f} ms"
            rows.append([f"{size:,}", f"{activities}", f"{at.hop_us:.0f} µs", f"{at.queues_ms:.1f} ms", key])
        xs = [float(size) for size in by_size]
        lines.append(Series(name=f"queue figures, {activities} activities, ms", x=xs, y=_of(by_size, "queues_ms")))
    ten = found[10]
    xs = [float(size) for size in ten]
    lines.append(Series(name="a hop, µs", x=xs, y=_of(ten, "hop_us")))
    lines.append(Series(name="key to paint, ms", x=xs, y=_of(ten, "key_ms")))
    columns = ["workflows waiting", "activities", "a hop", "queue figures", "key to paint"]
    section.tables.append(Table("A broker full of workflows, Redis", columns, rows))
    section.plots.append(
        Plot(
            name="growth-broker",
            title="Flat: a hop, the queue figures and a key in the console, by the workflows waiting on Redis",
            kind="lines",
            x_label="workflows waiting",
            y_label="",
            series=lines,
        )
    )
    for name, words, unit, slack in (
        ("hop_us", "a hop costs", "µs", 0.0),
        ("queues_ms", "queue figures cost", "ms", 1.0),
        ("key_ms", "key to paint takes", "ms", 5.0),
    ):
        values = _of(ten, name)
        section.targets.append(
            Target(
                f"{words} the same however many workflows wait (within 2 ×)",
                f"{values[0]:.3g} {unit} with {min(ten):,}, {values[-1]:.3g} {unit} with {max(ten):,}",
                values[-1] <= 2 * values[0] + slack,
            )
        )


def _of(by_size: dict[int, At], name: str) -> list[float]:
    return [float(getattr(at, name)) for at in by_size.values()]


async def _on_broker(url: str, waiting: int, activities: int) -> At:
    await _fill(url, waiting, activities)
    async with get_transport(url) as transport:
        return At(hop_us=await _hop(transport), queues_ms=await _queues(transport), key_ms=None)


async def _fill(url: str, count: int, activities: int) -> None:
    """Dispatch so many workflows that nobody serves, by the commands that a dispatch sends."""
    line = await Bare(url).open()
    models = [_dispatch(f"activity-{number}") for number in range(activities)]
    await line.call(("SCRIPT", "LOAD", text_of(models[0][0])))
    for start in range(0, count, 500):
        some = range(start, min(count, start + 500))
        await line.call(*[_another(*models[number % activities]) for number in some])
    await line.close()


def _dispatch(activity: str) -> tuple[Command, bytes, bytes]:
    message = new_workflow([activity, "after"], b'{"amount":12}', topic=TOPIC, at=time.time(), name="order")
    item = Move(Keys(TOPIC), "dispatch", moves.dispatch(message, time.time()), fresh=True)
    headers = message.headers
    return move(Keys(TOPIC), [item]), headers.correlation_id.encode(), headers.message_id.encode()


def _another(command: Command, workflow: bytes, message: bytes) -> Command:
    """The same for a workflow of another ID."""
    return tuple(_replaced(command, {workflow: new_id().encode(), message: new_id().encode()}))


def _replaced(command: Command, fresh: dict[bytes, bytes]) -> Iterator[bytes]:
    for argument in command:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        for old, new in fresh.items():
            value = value.replace(old, new)
        yield value


async def _hop(transport: Transport) -> float:
    """Microseconds of a hop: many workflows of one step, dispatched beforehand."""
    worker, done, begun, finished = Worker(topic=TOPIC, concurrency=64), 0, 0.0, asyncio.Event()

    @worker.activity("measured")
    async def step(_: ActivityContext) -> None:
        nonlocal done, begun
        # Without the start of the worker.
        begun = begun or time.perf_counter()
        done += 1
        if done >= HOPS:
            finished.set()

    dispatcher = WorkflowDispatcher(transport)
    for start in range(0, HOPS, 200):
        some = range(start, start + 200)
        await asyncio.gather(*(dispatcher.dispatch_workflow(["measured"], {}, topic=TOPIC) for _ in some))
    running = asyncio.create_task(worker.run(transport))
    await finished.wait()
    took = time.perf_counter() - begun
    worker.stop()
    await running
    return took / HOPS * 1e6


async def _queues(transport: Transport) -> float:
    runs = []
    for _ in range(20):
        begun = time.perf_counter()
        await transport.queues(TOPIC)
        runs.append(time.perf_counter() - begun)
    return statistics.median(runs) * 1000


def _key_to_paint(url: str) -> float:
    """Milliseconds from a key to the cursor that it moves, once the console has read the whole journal."""
    with Terminal(url=url, history=False) as terminal:
        terminal.wait("completed")
        terminal.settle()
        return statistics.median(latency(terminal, "j", "k", CURSOR, KEYS))
