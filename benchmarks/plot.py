"""Draw the pictures of RESULTS.md. Run in an environment of its own, so that nothing else needs matplotlib.

python plot.py results.json DIRECTORY [SECTION …]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "paigeant"

from matplotlib import pyplot as plt  # noqa: E402


def draw(plot: dict[str, Any], target: Path) -> None:
    if plot["kind"] == "bars":
        values = plot["series"][0]
        figure, axes = plt.subplots(figsize=(8, 0.34 * len(values["y"]) + 1.2))
        places = range(len(values["y"]))
        spread = None
        if values["low"]:
            below = [middle - low for middle, low in zip(values["y"], values["low"], strict=True)]
            above = [high - middle for middle, high in zip(values["y"], values["high"], strict=True)]
            spread = [below, above]
        own = ["tab:orange" if label.startswith("paigeant") else "tab:blue" for label in plot["labels"]]
        own = [
            "tab:gray" if label.startswith("floor") else color for label, color in zip(plot["labels"], own, strict=True)
        ]
        axes.barh(places, values["y"], xerr=spread, color=own, height=0.7)
        axes.set_yticks(places, plot["labels"])
        axes.invert_yaxis()
        axes.set_xlabel(plot["x_label"])
    else:
        figure, axes = plt.subplots(figsize=(8, 4.2))
        for series in plot["series"]:
            axes.plot(series["x"], series["y"], marker="o", label=series["name"])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(plot["x_label"])
        axes.set_ylabel(plot["y_label"])
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small")
    axes.set_title(plot["title"], fontsize="medium")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    source, directory, *wanted = sys.argv[1:]
    Path(directory).mkdir(exist_ok=True)
    for name, section in json.loads(Path(source).read_text()).items():
        if not wanted or name in wanted:
            for plot in section["plots"]:
                draw(plot, Path(directory) / f"{plot['name']}.svg")


if __name__ == "__main__":
    main()
