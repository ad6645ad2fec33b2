"""The long form: `python -m tests.chaos --workflows 2000 --kills 20 --restarts 2 [redis-always … memory]`.

Prints a table, transport × fault, and ends with 1 where a promise was broken. `kill` is the run that the numbers above
are for; the others are smaller: `points` kills each worker at a place of the hand-off, `line` breaks the workers'
connections, `clock` lets their clocks jump by up to 20 s to and fro, `power` takes from Redis what it had not synced. A
broker of several servers (`rabbitmq-cluster`, `redis-sentinel`) goes on while the one that leads is killed: of these
the recovery is the longest time in which no step began. A failover of `redis-sentinel` is measured, not promised.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

from tests.chaos.grounds import GROUNDS, ClusterGround, Ground, MemoryGround, RedisEverysecGround, SentinelGround
from tests.chaos.storm import Plan, Verdict, complaints, ride, too_late

FAULTS = ("kill", "points", "line", "clock", "power")
HEADS = (
    *("transport", "fault", "workflows", "steps", "kills", "restarts", "lost", "handed on twice"),
    *("handlers restarted (worker/broker/line/no reason)", "takeover max s", "recovery max s", "steps/s before/during"),
)


def faults_of(ground: type[Ground], wanted: list[str]) -> list[str]:
    """The faults that make sense on a broker, and that another one does not show as well."""
    if issubclass(ground, MemoryGround | SentinelGround | ClusterGround):
        sensible = {"kill"}
    elif issubclass(ground, RedisEverysecGround):
        sensible = {"kill", "power"}
    else:
        sensible = {"kill", "points", "line", "clock"}
    return [fault for fault in wanted if fault in sensible]


def plan_for(fault: str, options: argparse.Namespace, ground: type[Ground]) -> Plan:
    """The run for one line of the table."""
    restarts = 0 if issubclass(ground, MemoryGround) else options.restarts
    small, few = min(options.workflows, 300), min(options.kills, 5)
    plan = partial(Plan, fault=fault, seed=options.seed, lease=options.lease, patience=6 * options.lease)
    if fault == "kill" and ground.promised:
        return plan(workflows=options.workflows, kills=options.kills, restarts=restarts, every=2.5)
    if fault == "points":
        return plan(workflows=small, kills=2 * 5, restarts=0, every=1.5)
    if fault == "line":
        return plan(workflows=small, kills=1, restarts=0, every=2.5)
    return plan(workflows=small, kills=few, restarts=restarts, every=2.0)


def cells(verdict: Verdict) -> list[str]:
    """One line of the table."""
    lost = f"{len(verdict.lost)}"
    if verdict.fault == "power":
        lost += f" (+{verdict.excused} confirmed in the last {verdict.forgotten:.1f} s)"
    if not verdict.promised:
        lost += " (not promised)"
    if verdict.unsure:
        lost += f"; {verdict.unsure} unknown, {len(verdict.half_stored)} of them stuck"
    again = "/".join(str(verdict.again[cause]) for cause in ("worker", "broker", "line", "nothing"))
    return [
        verdict.ground,
        verdict.fault,
        str(verdict.workflows),
        str(verdict.steps),
        str(verdict.kills),
        str(verdict.restarts),
        lost,
        f"{len(verdict.twice)}" + (f" (+{verdict.by_crash} by a crash of the broker)" if verdict.by_crash else ""),
        again,
        f"{verdict.takeover:.1f}" if verdict.takeover else "-",
        f"{verdict.recovery:.1f}" if verdict.restarts else "-",
        f"{verdict.before:.0f}/{verdict.during:.0f}",
    ]


def table(verdicts: list[Verdict]) -> str:
    """All lines, as Markdown."""
    rows = [list(HEADS), ["---"] * len(HEADS), *map(cells, verdicts)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    """Ride all that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("grounds", nargs="*", metavar="GROUND", help=f"of {', '.join(GROUNDS)}; all of them if none")
    parser.add_argument("--workflows", type=int, default=2000, metavar="N")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--restarts", type=int, default=2, metavar="N")
    parser.add_argument("--lease", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--keep", action="store_true", help="keep ledgers and logs")
    options = parser.parse_args()
    if unknown := [name for name in options.grounds if name not in GROUNDS]:
        parser.error(f"no such broker: {', '.join(unknown)}")
    folder = Path(tempfile.mkdtemp(prefix="paigeant-chaos-"))
    verdicts, wrong = _all(options, folder)
    print(table(verdicts))
    for text in wrong:
        print(f"NOT AS PROMISED: {text}")
    if options.keep or wrong:
        print(f"ledgers and logs: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _all(options: argparse.Namespace, folder: Path) -> tuple[list[Verdict], list[str]]:
    """What came of each run, and what was not as promised; one that broke off does not keep the others."""
    verdicts: list[Verdict] = []
    wrong: list[str] = []
    for name in options.grounds or GROUNDS:
        ground = GROUNDS[name]
        try:
            with ground() as started:
                for fault in faults_of(ground, options.faults):
                    plan = plan_for(fault, options, ground)
                    try:
                        verdict = _one(started, plan, folder / f"{name}-{fault}")
                    except Exception:  # noqa: BLE001 - whatever it was, the others are run and the table printed
                        wrong.append(f"{name}, {fault}: it broke off\n{traceback.format_exc()}")
                        break  # nobody knows what it left behind
                    verdicts.append(verdict)
                    broken = complaints(verdict) + too_late(verdict, ground, plan)
                    wrong += [f"{name}, {fault}: {text}" for text in broken]
        except Exception:  # noqa: BLE001 - as above
            wrong.append(f"{name}: it could not be started or ended\n{traceback.format_exc()}")
    return verdicts, wrong


def _one(ground: Ground, plan: Plan, folder: Path) -> Verdict:
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{ground.name} {plan.fault} {time.monotonic() - begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    say(f"{plan.workflows} workflows over {plan.seconds:.0f} s")
    verdict = asyncio.run(ride(ground, plan, folder, say))
    say(f"done\n{verdict}")
    return verdict


if __name__ == "__main__":
    sys.exit(main())
