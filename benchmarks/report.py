"""What a section found, as values; and RESULTS.md, written from the values of all sections.

They are kept in results.json: a section that is run alone takes the place of its own former figures and of no others.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.environments import CannotInstall, python_of, root

HERE = root() / "benchmarks"
STORE = HERE / "results.json"
RESULTS = HERE / "RESULTS.md"


class Table(msgspec.Struct):
    """Figures, as text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Target(msgspec.Struct):
    """What was asked for, what was measured, and whether that is enough; None: it could not be measured."""

    asked: str
    measured: str
    met: bool | None


class Series(msgspec.Struct):
    """Values to draw, with their spread where there is one."""

    name: str
    x: list[float]
    y: list[float]
    low: list[float] = []
    high: list[float] = []


class Plot(msgspec.Struct):
    """A picture: ``bars`` has one series, with ``labels`` beside the bars; ``lines`` has axes by the logarithm."""

    name: str
    title: str
    kind: str
    x_label: str
    y_label: str
    series: list[Series]
    labels: list[str] = []


class Section(msgspec.Struct):
    """One section's findings."""

    name: str
    title: str
    tables: list[Table] = []
    targets: list[Target] = []
    plots: list[Plot] = []
    notes: list[str] = []
    how: str = ""
    machine: str = ""
    noise: str = ""
    took_s: float = 0.0


class Options(msgspec.Struct, frozen=True):
    """How thoroughly to measure.

    Attributes:
        quick: one round, short runs, small journals: to see that everything works.
        rounds: of each comparison.
        seconds: of each run of a comparison; None: as the section needs.
    """

    quick: bool = False
    rounds: int | None = None
    seconds: float | None = None


class Noise:
    """How long one fixed piece of work took at several moments: what the machine's other work does to all figures."""

    def __init__(self) -> None:
        self._took: list[float] = []

    def sample(self) -> None:
        """Do the piece of work."""
        begun = time.perf_counter()
        total = 0
        for number in range(400_000):
            total += number & 7
        self._took.append(time.perf_counter() - begun)

    def __str__(self) -> str:
        if not self._took:
            return ""
        low, middle, high = min(self._took), statistics.median(self._took), max(self._took)
        above, under = (high / middle - 1) * 100, (1 - low / middle) * 100
        times = f"a fixed loop, done {len(self._took)} times between the runs, took {middle * 1000:.0f} ms"
        return f"{times} (−{under:.0f} % to +{above:.0f} %)"


def machine() -> str:
    """What this machine is and how busy it is, in one line."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) / 1e6 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0.0)
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({model}), {memory:.0f} GB, {platform.system()} {platform.release().partition('-')[0]},"
        f" Python {platform.python_version()}, load average at the start {load:.1f}"
    )


def server_versions() -> str:
    """Which brokers are measured."""
    found = []
    for program, arguments in (("redis-server", ["--version"]), ("/usr/lib/rabbitmq/bin/rabbitmqctl", ["version"])):
        try:
            said = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30).stdout.split()
        except (OSError, subprocess.TimeoutExpired):
            continue
        found.append(f"RabbitMQ {said[-1]}" if "ctl" in program else f"Redis {said[2].removeprefix('v=')}")
    return ", ".join(found)


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, with the least and the most of several."""
    if not values:
        return "–"
    middle = statistics.median(values)
    text = f"{middle:,.0f}{unit}" if middle >= 100 else f"{middle:.3g}{unit}"
    if len(values) == 1:
        return text
    low, high = (f"{value:,.0f}" if middle >= 100 else f"{value:.3g}" for value in (min(values), max(values)))
    return f"{text} ({low}–{high})"


def keep(section: Section) -> None:
    """Put a section in the place of its former findings, and write RESULTS.md and its pictures anew."""
    sections = load()
    sections[section.name] = section
    STORE.write_bytes(msgspec.json.format(msgspec.json.encode(sections), indent=1) + b"\n")
    RESULTS.write_text(markdown(sections), encoding="utf-8")
    try:
        drawing = [python_of("plot"), str(HERE / "plot.py"), str(STORE), str(HERE / "plots"), section.name]
        subprocess.run(drawing, check=True, stdin=subprocess.DEVNULL)
    except (CannotInstall, subprocess.CalledProcessError) as error:
        print(f"  the pictures of {section.name} could not be drawn: {error}")


def load() -> dict[str, Section]:
    """What was found so far, by section."""
    if not STORE.exists():
        return {}
    return msgspec.json.decode(STORE.read_bytes(), type=dict[str, Section])


ORDER = ("hop", "latency", "fold", "attach", "growth", "console", "kill")


def markdown(sections: dict[str, Section]) -> str:
    """RESULTS.md."""
    ordered = sorted(sections.values(), key=lambda item: ORDER.index(item.name) if item.name in ORDER else len(ORDER))
    lines = [
        "# Measured",
        "",
        "Written by `make bench`; `python -m benchmarks SECTION` measures one section anew, and `--quick` only shows",
        "that it works. Every figure is a median with its least and most in parentheses, and what counts is the ratio",
        "to the floor or the peer beside it: they ran in turns, in the same minutes, on the same machine.",
        "",
        "## Targets",
        "",
        "| | asked | measured | |",
        "| --- | --- | --- | --- |",
    ]
    words = {True: "met", False: "**not met**", None: "not measured"}
    lines += [
        f"| {section.name} | {target.asked} | {target.measured} | {words[target.met]} |"
        for section in ordered
        for target in section.targets
    ]
    for section in ordered:
        lines += ["", f"## {section.title}", ""]
        if section.how:
            lines += [section.how, ""]
        for table in section.tables:
            lines += [f"**{table.title}**", ""] if table.title else []
            lines += ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
            lines.append("")
        for plot in section.plots:
            lines += [f"![{plot.title}](plots/{plot.name}.svg)", ""]
        lines += [f"- {note}" for note in section.notes]
        if section.notes:
            lines.append("")
        lines.append(
            f"Machine: {section.machine}. Noise: {section.noise or 'not measured'}. Took {section.took_s:.0f} s."
        )
    return "\n".join(lines) + "\n"
