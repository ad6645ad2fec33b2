"""What the programs of all peers share: the roles they are started in, and how their hops are counted.

A peer's module is run by the interpreter of its own environment, with this repository on PYTHONPATH, as

    python -m benchmarks.peers.NAME fill URL COUNT BYTES       put so many workflows of four steps into the first queue
    python -m benchmarks.peers.NAME work URL CONCURRENCY       serve the four steps, count, and answer on stdout
    python -m benchmarks.peers.NAME ten URL                    put ten slow tasks into a queue, for benchmarks.kill

A worker says `ready` after its first hop, waits for a line with a moment and a span of time, and then tells how many
hops and how much processor time it took. With BENCH_ALONE in its environment a workflow that comes to its end begins
again, so that one alone goes round for ever, and the worker tells how long it takes from the start of a step to the
start of the next. Only the standard library is imported here.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("one", "two", "three", "four")
ALONE = "BENCH_ALONE" in os.environ
NEXT = dict(zip(STEPS, [*STEPS[1:], STEPS[0] if ALONE else ""], strict=True))
SLOW_S = 2.0
"""Seconds that a slow task takes."""
MARK = "BENCH "

_hops = [0]
_begun: list[float] = []
"""When each step began, where one workflow goes round alone."""


def hop() -> None:
    """One step was run."""
    _hops[0] += 1
    if ALONE:
        _begun.append(time.perf_counter())


def payload(size: int) -> dict[str, str]:
    """A payload that takes ``size`` bytes as JSON."""
    head = {"customer_email": "ann@example.com", "pad": ""}
    return {**head, "pad": "x" * (size - len(json.dumps(head)))}


def ledger(word: str, number: int) -> None:
    """Note in the ledger that a slow task began or ended; an append of one line is one write."""
    with Path(os.environ["PAIGEANT_LEDGER"]).open("a", encoding="ascii") as file:
        file.write(f"{word} {number} {os.getpid()} {time.time():.3f}\n")


async def slow(number: int) -> None:
    """A slow task of an asyncio peer."""
    ledger("begin", number)
    await asyncio.sleep(SLOW_S)
    ledger("end", number)


def slow_blocking(number: int) -> None:
    """A slow task of a peer that runs threads or processes."""
    ledger("begin", number)
    time.sleep(SLOW_S)
    ledger("end", number)


def _say(word: str) -> None:
    sys.__stdout__.write(f"{MARK}{word}\n")  # type: ignore[union-attr]  # never None in a program of ours
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _measure() -> None:
    while not _hops[0]:
        time.sleep(0.01)
    _say("ready")
    line = sys.stdin.readline()
    if not line:
        os._exit(1)
    start, seconds = map(float, line.split())
    time.sleep(max(0.0, start - time.time()))
    before, cpu, begun = _hops[0], time.process_time(), time.perf_counter()
    time.sleep(seconds)
    result = {"hops": _hops[0] - before, "cpu": time.process_time() - cpu, "seconds": time.perf_counter() - begun}
    if ALONE and len(took := sorted(after - at for at, after in itertools.pairwise(_begun[before:]))) > 1:
        result |= {"p50": took[len(took) // 2], "p99": took[int(len(took) * 0.99)]}
    _say(json.dumps({**result, "total": _hops[0]}))
    # The next one gets a broker of its own: nothing is worth to be shut down in order.
    os._exit(0)


def main(*, fill: Callable[..., Any], work: Callable[..., Any], ten: Callable[..., Any] | None = None) -> None:
    """Be the peer in the role that the command line asks for.

    Args:
        fill: with URL, count and bytes.
        work: with URL and concurrency; serves for ever.
        ten: with the URL.
    """
    logging.basicConfig(level=logging.WARNING)
    role, url, *numbers = sys.argv[1:]
    if role == "work" and "PAIGEANT_LEDGER" not in os.environ:
        threading.Thread(target=_measure, daemon=True).start()
    called = {"fill": fill, "work": work, "ten": ten}[role]
    assert called is not None
    result = called(url, *map(int, numbers))
    if inspect.iscoroutine(result):
        asyncio.run(result)
