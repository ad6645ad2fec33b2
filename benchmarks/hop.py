"""The hop: a 4-step chain of no-op steps, durable and journalled, beside its floor and its peers in the same run."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from benchmarks import chain
from benchmarks.chain import Contender, Sample
from benchmarks.environments import CannotInstall
from benchmarks.report import Noise, Options, Plot, Section, Series, Table, Target, spread

OURS = {
    "redis": Contender("paigeant", "paigeant", "", 40_000),
    "rabbitmq": Contender("paigeant", "paigeant", "", 16_000),
}
FLOOR = {
    "redis": Contender("floor, coalesced", "floor_redis", "", 120_000),
    "rabbitmq": Contender("floor, aio-pika", "floor_rabbitmq", "", 12_000),
}
PEERS = {
    "redis": [
        Contender("faststream", "faststream_redis", "faststream", 7_000),
        Contender("taskiq", "taskiq_chain", "taskiq", 5_000),
        Contender("saq", "saq_chain", "saq", 5_000),
        Contender("dramatiq", "dramatiq_chain", "dramatiq", 5_000),
    ],
    "rabbitmq": [
        Contender("faststream", "faststream_rabbitmq", "faststream", 5_000),
        Contender("taskiq", "taskiq_chain", "taskiq", 5_000),
        Contender("dramatiq", "dramatiq_chain", "dramatiq", 5_000),
    ],
}
ONCE = {
    "redis": [
        Contender("celery, late ack", "celery_chain", "celery", 2_500),
        Contender("arq", "arq_chain", "arq", 4_000),
        Contender("rq SimpleWorker", "rq_chain", "rq", 1_500, durable=False),
    ],
    "rabbitmq": [Contender("celery, late ack", "celery_chain", "celery", 2_500)],
}
"""For the table, one short run each."""
TITLES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
Samples = dict[str, list[Sample]]


class Comparison:
    """Contenders in turns, round after round; one that fails is said to, and left out once it failed twice."""

    def __init__(self, brokers: chain.Brokers, noise: Noise) -> None:
        self._brokers = brokers
        self._noise = noise
        self.failed: dict[str, str] = {}
        """Why those failed that did, by name."""
        self._left_out: set[str] = set()

    def run(
        self,
        contenders: Sequence[Contender],
        rounds: int,
        seconds: float,
        *,
        processes: int = 1,
        size: int = 1024,
        alone: bool = False,
    ) -> Samples:
        """So many rounds; see :func:`chain.run`."""
        found: Samples = {contender.name: [] for contender in contenders}
        for number in range(rounds):
            for contender in contenders:
                if contender.name in self._left_out:
                    continue
                self._noise.sample()
                try:
                    sample = chain.run(
                        self._brokers, contender, seconds=seconds, processes=processes, size=size, alone=alone
                    )
                except Exception as error:  # noqa: BLE001 - a peer that fails in any way is said to, and the rest goes on
                    if contender.name in self.failed:
                        self._left_out.add(contender.name)
                    known = isinstance(error, chain.Failed | CannotInstall)
                    self.failed[contender.name] = str(error) if known else f"{type(error).__name__}: {error}"[:200]
                    print(f"  {contender.name} failed: {self.failed[contender.name]}", file=sys.stderr)
                    continue
                found[contender.name].append(sample)
                ran_out = "; its workflows ran out" if sample.short else ""
                print(f"  round {number + 1}: {contender.name} {sample.rate:,.0f} hops/s{ran_out}", file=sys.stderr)
        return found


def rate(samples: Sequence[Sample]) -> float:
    """The median; 0: nothing was measured."""
    return statistics.median([sample.rate for sample in samples]) if samples else 0.0


def run(options: Options) -> Section:
    """See the module."""
    section = Section("hop", "Hop")
    seconds = options.seconds or (2.0 if options.quick else 10.0)
    rounds = options.rounds or (1 if options.quick else 5)
    section.how = (
        "A chain of four steps that do nothing, 64 at a time in one worker process,"
        f" {rounds} rounds of {seconds:g} s in turns ({min(rounds, 3)} on RabbitMQ)."
        " Messages are durable and acknowledged after the work; ours are also journalled and fenced. Redis has its"
        " append-only file on (everysec), and what was put in is on the disk before a run begins."
        " `µs` is processor time of the workers for one hop, `broker` the cores that"
        " the broker used. Celery, arq and RQ ran once, shorter."
    )
    noise = Noise()
    for broker in ("redis", "rabbitmq"):
        brokers = chain.Brokers(broker)
        try:
            # RabbitMQ's figures vary less from run to run.
            turns = rounds if broker == "redis" else min(rounds, 3)
            _measure(section, brokers, Comparison(brokers, noise), turns, seconds)
        finally:
            brokers.close()
    section.noise = str(noise)
    return section


def _measure(section: Section, brokers: chain.Brokers, comparison: Comparison, rounds: int, seconds: float) -> None:
    broker = brokers.kind
    ours, floor, peers = OURS[broker], FLOOR[broker], PEERS[broker]
    title = TITLES[broker]
    print(f"{title}: 1 KB", file=sys.stderr)
    found = comparison.run([ours, floor, *peers], rounds, seconds)
    again, short = min(rounds, 2), min(seconds, 5.0)
    print(f"{title}: two processes", file=sys.stderr)
    two = comparison.run([ours, floor, peers[0]], again, short, processes=2)
    print(f"{title}: 10 KB", file=sys.stderr)
    large = comparison.run([ours, floor, peers[0]], again, short, size=10_240)
    print(f"{title}: for the table", file=sys.stderr)
    once = comparison.run(ONCE[broker], 1, min(seconds, 4.0))

    section.tables.append(_table(f"{title}, 1 KB, one process", {**found, **once}, ours.name, comparison.failed))
    section.tables.append(_table(f"{title}, 1 KB, two processes", two, ours.name, {}))
    section.tables.append(_table(f"{title}, 10 KB, one process", large, ours.name, {}))
    rows = sorted(
        ((name, samples) for name, samples in {**found, **once}.items() if samples), key=lambda i: -rate(i[1])
    )
    section.plots.append(
        Plot(
            name=f"hop-{broker}",
            title=f"{title}: hops a second of one worker process, 1 KB",
            kind="bars",
            x_label="hops/s",
            y_label="",
            labels=[name for name, _ in rows],
            series=[
                Series(
                    name="hops/s",
                    x=[],
                    y=[rate(samples) for _, samples in rows],
                    low=[min(sample.rate for sample in samples) for _, samples in rows],
                    high=[max(sample.rate for sample in samples) for _, samples in rows],
                )
            ],
        )
    )
    fastest = max(peers, key=lambda peer: rate(found[peer.name]))
    own, best, least = rate(found[ours.name]), rate(found[fastest.name]), rate(found[floor.name])
    of_peer = own / best if best else 0.0
    of_floor = own / least if least else 0.0
    if broker == "redis":
        section.targets.append(
            Target(
                "Redis, 1 KB: at least 3.5 times the fastest durable peer (aim: 5)",
                f"{of_peer:.2f} × {fastest.name} ({_ratios(found, ours.name, fastest.name)})",
                of_peer >= 3.5 if own and best else None,
            )
        )
        section.targets.append(
            Target(
                "Redis: at least 40 % of the coalesced floor",
                f"{of_floor:.0%} ({_ratios(found, ours.name, floor.name)})",
                of_floor >= 0.4 if own and least else None,
            )
        )
    else:
        section.targets.append(
            Target(
                "RabbitMQ: at least 85 % of aio-pika's floor",
                f"{of_floor:.0%} ({_ratios(found, ours.name, floor.name)})",
                of_floor >= 0.85 if own and least else None,
            )
        )
        section.targets.append(
            Target(
                "RabbitMQ: ahead of every peer that confirms and acknowledges late",
                f"{of_peer:.2f} × {fastest.name}, the fastest",
                of_peer > 1 if own and best else None,
            )
        )
    reference = peers[0].name
    at_1k, at_10k = _ratio(found, ours.name, reference), _ratio(large, ours.name, reference)
    section.targets.append(
        Target(
            f"{title}, 10 KB: no worse than half of the ratio to {reference} at 1 KB",
            f"{at_10k:.2f} × against {at_1k:.2f} × (the floor itself: {_ratio(large, floor.name, reference):.2f} ×)",
            at_10k >= at_1k / 2 if at_1k and at_10k else None,
        )
    )
    if broker == "redis":
        one_cpu, two_cpu = _cpu(found[ours.name]), _cpu(two[ours.name])
        # Three busy processes on two cores: what that alone costs is what the floor's hop costs more.
        bare = _cpu(two[floor.name]) / _cpu(found[floor.name]) - 1 if _cpu(found[floor.name]) else 0.0
        section.targets.append(
            Target(
                "Redis: processor time of a hop with two processes within 10 % of one",
                f"{two_cpu:.0f} µs against {one_cpu:.0f} µs ({two_cpu / one_cpu - 1:+.0%}; the floor's own {bare:+.0%})"
                if one_cpu
                else "–",
                two_cpu <= one_cpu * 1.1 if one_cpu and two_cpu else None,
            )
        )


def _cpu(samples: Sequence[Sample]) -> float:
    """The median processor time of a hop, in microseconds; 0: nothing was measured."""
    return statistics.median([sample.cpu_us for sample in samples]) if samples else 0.0


def _ratio(samples: Samples, one: str, other: str) -> float:
    return rate(samples[one]) / rate(samples[other]) if rate(samples.get(other, [])) else 0.0


def _ratios(samples: Samples, one: str, other: str) -> str:
    """The ratio of each round: its spread."""
    ratios = [a.rate / b.rate for a, b in zip(samples[one], samples[other], strict=False)]
    return f"{min(ratios):.2f}–{max(ratios):.2f} by rounds" if ratios else "–"


def _table(title: str, samples: Samples, own: str, failed: dict[str, str]) -> Table:
    ours = rate(samples[own])
    rows = []
    for name, runs in samples.items():
        if not runs:
            rows.append([name, f"failed: {failed.get(name, 'not run')}", "", "", ""])
            continue
        ratio = "" if name == own else f"{ours / rate(runs):.2f} ×"
        short = " (its workflows ran out: too low)" if any(run.short for run in runs) else ""
        cpu = f"{_cpu(runs):.0f}"
        cores = f"{statistics.median([run.broker_cpu for run in runs]):.2f}"
        rows.append([name, spread([run.rate for run in runs]) + short, ratio, cpu, cores])
    return Table(title, ["", "hops/s", "paigeant to it", "µs", "broker"], rows)
