"""The fold: records a second and bytes a workflow, beside celery's State for as many events in the same run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.chain import environment
from benchmarks.environments import CannotInstall, python_of, root
from benchmarks.report import Noise, Options, Section, Table, Target, spread


def ask(*command: str, python: str = sys.executable) -> dict[str, Any]:
    """The JSON object that a program of ours prints last.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        [python, "-m", *command],
        env=environment(),
        cwd=root(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: Options) -> Section:
    """See the module."""
    rounds = options.rounds or (1 if options.quick else 3)
    workflows = 2_000 if options.quick else 25_000
    records = workflows * 6
    section = Section("fold", "Fold")
    section.how = (
        f"{records:,} journal records of {workflows:,} workflows of five steps, 1 KB, and as many events of Celery"
        f" tasks, {rounds} rounds in turns, a fresh process each. Alone: of records (events) that are decoded already;"
        " with decoding: from bytes, of ours the headers alone."
    )
    noise, failed = Noise(), ""
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for _ in range(rounds):
        noise.sample()
        ours.append(ask("benchmarks.probe", "fold", str(workflows), "5"))
        if not failed:
            try:
                theirs.append(ask("benchmarks.peers.celery_state", str(records // 4), python=python_of("celery")))
            except (CannotInstall, subprocess.CalledProcessError) as error:
                failed = f"failed: {type(error).__name__}"
    section.noise = str(noise)
    rows = [["paigeant", *_figures(ours)], ["celery State", *_figures(theirs)] if theirs else ["celery State", failed]]
    section.tables.append(Table("", ["", "alone, records/s", "with decoding, records/s", "bytes each"], rows))
    for alone, words in ((True, "alone"), (False, "with decoding")):
        own, other = (statistics.median([_rate(item, alone) for item in found] or [0]) for found in (ours, theirs))
        ratios = [_rate(a, alone) / _rate(b, alone) for a, b in zip(ours, theirs, strict=False)]
        section.targets.append(
            Target(
                f"records folded a second, {words}: at least 3 times celery's State",
                f"{own / other:.1f} × ({min(ratios):.1f}–{max(ratios):.1f}), {own:,.0f}/s" if other else failed,
                own >= 3 * other if other else None,
            )
        )
    return section


def _rate(found: dict[str, Any], alone: bool) -> float:
    seconds: float = found["fold_s"] + (0.0 if alone else found["decode_s"])
    return float(found["records"]) / seconds


def _figures(found: list[dict[str, Any]]) -> list[str]:
    return [
        spread([_rate(item, True) for item in found]),
        spread([_rate(item, False) for item in found]),
        spread([item["bytes"] for item in found]),
    ]
