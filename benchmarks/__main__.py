"""Measure, and write RESULTS.md.

python -m benchmarks                     every section, as `make bench` does; an hour
python -m benchmarks hop fold            these sections
python -m benchmarks --quick             all, one short round each: to see that they work; RESULTS.md stays as it is
"""

from __future__ import annotations

import argparse
import importlib
import logging
import time
import traceback

from benchmarks import report

SECTIONS = ("hop", "latency", "fold", "attach", "growth", "console", "kill", "trust")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="short runs, and nothing is written")
    parser.add_argument("--keep", action="store_true", help="with --quick: write RESULTS.md all the same")
    parser.add_argument("--rounds", type=int, help="of each comparison")
    parser.add_argument("--seconds", type=float, help="of each run of a comparison")
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    logging.basicConfig(level=logging.WARNING)
    options = report.Options(quick=given.quick, rounds=given.rounds, seconds=given.seconds)
    versions, failed = report.server_versions(), False
    for name in given.sections or SECTIONS:
        print(f"== {name}", flush=True)
        machine, begun = f"{report.machine()}, {versions}", time.perf_counter()
        try:
            section = importlib.import_module(f"benchmarks.{name}").run(options)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is printed and put into the results
            # The figures of the others are not to be lost with it.
            traceback.print_exc()
            section = report.Section(name, name.capitalize(), notes=[f"Failed: {type(error).__name__}"])
            failed = True
        section.machine, section.took_s = machine, time.perf_counter() - begun
        print(report.markdown({name: section}).partition("## Targets")[2])
        if not options.quick or given.keep:
            report.keep(section)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
