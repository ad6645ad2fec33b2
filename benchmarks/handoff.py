"""The hand-off, beside what somebody would take instead: from the start of a step to the start of the next."""

from __future__ import annotations

import statistics

from benchmarks.chain import Brokers
from benchmarks.hop import ONCE, OURS, PEERS, TITLES, Comparison
from benchmarks.report import Noise, Section, Table

__all__ = ["measure"]


def measure(section: Section, brokers: Brokers, noise: Noise, rounds: int, seconds: float) -> None:
    """One workflow alone goes round four queues, one worker process serves them; all contenders in turns.

    Args:
        section: where the table goes.
        brokers: where.
        noise: sampled before each run.
        rounds: of each contender.
        seconds: of each run.
    """
    ours = OURS[brokers.kind]
    comparison = Comparison(brokers, noise)
    found = comparison.run([ours, *PEERS[brokers.kind], *ONCE[brokers.kind]], rounds, seconds, alone=True)
    own = statistics.median([sample.p50 for sample in found[ours.name]]) if found[ours.name] else 0.0
    rows: list[tuple[float, list[str]]] = []
    for name, samples in found.items():
        if not samples:
            rows.append((float("inf"), [name, f"failed: {comparison.failed.get(name, 'not run')}", "", ""]))
            continue
        halves, late = [sample.p50 for sample in samples], statistics.median([sample.p99 for sample in samples])
        middle = statistics.median(halves)
        shown = f"{middle * 1000:.2f} ms"
        if len(halves) > 1:
            shown += f" ({min(halves) * 1000:.2f}–{max(halves) * 1000:.2f})"
        ratio = "" if name == ours.name or not own else f"{middle / own:.2f} ×"
        rows.append((middle, [name, shown, f"{late * 1000:.2f} ms", ratio]))
    section.tables.append(
        Table(
            f"{TITLES[brokers.kind]}, one workflow alone: from the start of a step to the start of the next",
            ["", "p50", "p99", "to paigeant's"],
            [row for _, row in sorted(rows, key=lambda row: row[0])],
        )
    )
