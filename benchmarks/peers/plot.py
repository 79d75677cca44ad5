"""Draws saved figures of the peers as SVG: one panel for each kind of work, a bar for each peer."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

matplotlib.use("svg")
import matplotlib.pyplot as plt

Panel = tuple[str, int, str, str]
"""`(title, record bytes, mode, figure)`."""
PANELS: list[Panel] = [
    ("append, 128 B", 128, "one", "write"),
    ("append_many, 128 B", 128, "batch", "write"),
    ("append, 1 KiB", 1024, "one", "write"),
    ("sync each 1,000, 128 B", 128, "group", "write"),
    ("scan as bytes, 128 B", 128, "one", "scan"),
    ("append, mixed sizes", 0, "one", "write"),
]
OURS, OTHERS, RAW = "#c1442e", "#6b7d8c", "#c9d1d8"


def load(path: Path) -> dict[tuple[int, str, str], list[dict[str, float]]]:
    """Figures by `(record bytes, mode, peer)`."""
    found: dict[tuple[int, str, str], list[dict[str, float]]] = {}
    for line in path.read_text().splitlines():
        _, size, mode, peer, figures = json.loads(line)
        found.setdefault((size, mode, peer), []).append(figures)
    return found


def draw(
    axes: Axes, panel: Panel, found: dict[tuple[int, str, str], list[dict[str, float]]]
) -> None:
    """Medians as bars, the smallest and largest as whiskers, the fastest first."""
    title, size, mode, figure = panel
    rows = []
    for (its_size, its_mode, peer), runs in found.items():
        values = [run[figure] / 1e6 for run in runs if figure in run]
        if (its_size, its_mode) == (size, mode) and values:
            rows.append((statistics.median(values), min(values), max(values), peer))
    rows.sort()
    for y, (middle, low, high, peer) in enumerate(rows):
        color = OURS if peer == "aof2" else RAW if peer == "device" else OTHERS
        axes.barh(y, middle, color=color, xerr=[[middle - low], [high - middle]], ecolor="#333333")
        axes.text(high * 1.02, y, f"{middle:.2f}", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [row[3] for row in rows], fontsize=8)
    axes.set_title(f"{title}, million records/s", fontsize=9, loc="left")
    axes.set_xlim(0, max((row[2] for row in rows), default=1) * 1.15)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench plot", description=__doc__)
    parser.add_argument("figures", type=Path, help="what `ci/bench peers --save` wrote")
    parser.add_argument("svg", type=Path, help="where the drawing goes")
    options = parser.parse_args()
    found = load(options.figures)
    panels = [panel for panel in PANELS if any(key[:2] == panel[1:3] for key in found)]
    rows = -(-len(panels) // 2)
    # The same input gives the same bytes: no date, and ids from a fixed seed.
    plt.rcParams["svg.hashsalt"] = "aof2"
    figure, grid = plt.subplots(rows, 2, figsize=(10, 2.4 * rows), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw(axes, panel, found)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    figure.tight_layout()
    figure.savefig(options.svg, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
