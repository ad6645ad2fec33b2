"""Fuzz: ``python -m tests.fuzz [--minutes 10] [--jobs 1] [TARGET…]``.

Each target runs in a process of its own: with atheris, which sees what an input reaches, where it is installed (the
dependency group `fuzz`), else with changed seeds. What is found is written to a file whose name is printed, and
`--input FILE TARGET` runs that again.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SLOWEST = 10
"""Seconds for one input: more is a finding."""
MEMORY = 2 * 1024**3
_EXECUTED = re.compile(r"^executed (\d+)$|stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_REACHED = re.compile(r"cov: (\d+)")


def main() -> int:
    """Fuzz what was asked for; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random numbers")
    parser.add_argument("--engine", choices=["atheris", "seeds"], help="else atheris where it is installed")
    parser.add_argument("--input", type=Path, help="run this file alone, once")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    engine = options.engine or _engine()
    if options.one:
        (name,) = options.targets
        return _one(name, engine, options.minutes * 60, options.seed)

    from tests.fuzz.targets import all_targets

    known = all_targets()
    if unknown := sorted(set(options.targets) - set(known)):
        parser.error(f"no target {unknown[0]}; there are {', '.join(known)}")
    if options.input is not None:
        for name in options.targets:
            known[name].check(options.input.read_bytes())
        return 0
    print(f"{engine}, {options.minutes:g} minutes a target, seed {options.seed}", flush=True)
    arguments = ["--minutes", str(options.minutes), "--seed", str(options.seed), "--engine", engine]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda name: _spawn(name, arguments), options.targets or known))
    return int(any(found))


def _engine() -> str:
    import importlib.util

    return "atheris" if importlib.util.find_spec("atheris") else "seeds"


def _spawn(name: str, arguments: list[str]) -> bool:
    begun = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz", "--one", *arguments, name]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    took = time.monotonic() - begun
    said = done.stdout + done.stderr
    counts = [int(one or other) for one, other in _EXECUTED.findall(said)]
    reached = _REACHED.findall(said)
    edges = f", {reached[-1]} edges reached" if reached else ""
    executed = counts[-1] if counts else 0
    verdict = "nothing found" if done.returncode == 0 else "FOUND"
    print(f"{name:<10} {executed:>11,} executions in {took:>5.0f} s, {executed / took:>8,.0f}/s{edges}: {verdict}")
    if done.returncode:
        print(said[-6000:])
    sys.stdout.flush()
    return done.returncode != 0


def _one(name: str, engine: str, seconds: float, seed: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY, 4 * MEMORY))
    return _atheris(name, seconds, seed) if engine == "atheris" else _seeds(name, seconds, seed)


def _seeds(name: str, seconds: float, seed: int) -> int:
    from tests.fuzz.mutate import inputs
    from tests.fuzz.targets import all_targets

    target = all_targets()[name]
    count, until = 0, time.monotonic() + seconds
    for data in inputs(target.seeds, target.words, seed):
        begun = time.monotonic()
        if begun > until:
            break
        try:
            target.check(data)
            count += 1
            if time.monotonic() - begun > SLOWEST:
                raise TimeoutError(f"it took longer than {SLOWEST} s")
        except Exception:  # noqa: BLE001 - any is a finding
            path = Path(tempfile.gettempdir()) / f"fuzz-{name}-{count}"
            path.write_bytes(data)
            traceback.print_exc()
            print(f"executed {count}\nthe input is in {path}")
            return 1
    print(f"executed {count}")
    return 0


def _atheris(name: str, seconds: float, seed: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["paigeant_core", "paigeant_console", "joserfc", "pamqp"]):
        from tests.fuzz.targets import all_targets

        target = all_targets()[name]
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    dictionary = corpus.parent / f"{corpus.name}.dict"
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words)
    dictionary.write_text("\n".join(lines) + "\n")
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed % 2**31 or 1}",
        "-max_len=8192",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MEMORY // 2**20}",
        "-print_final_stats=1",
        f"-artifact_prefix={corpus}-",
        f"-dict={dictionary}",
        str(corpus),
    ]
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
