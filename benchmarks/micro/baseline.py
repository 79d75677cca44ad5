"""Saved runs, one file per kind of machine, and whether a new one differs from them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / "baselines"
ROUNDS_KEPT = 60
DRAWS = 2000


@dataclass(frozen=True)
class Baseline:
    """A saved run: when, and the seconds of each round of each benchmark."""

    date: str
    runs: dict[str, list[float]]


@dataclass(frozen=True)
class Comparison:
    """A new run by an old one.

    Attributes:
        ratio: Of the medians; above 1 is slower.
        low, high: Bounds of its 95 % interval.
        verdict: "slower", "faster", or nothing.
    """

    ratio: float
    low: float
    high: float
    verdict: str


def machine_kind() -> str:
    """What must agree for two runs to be compared."""
    model = ""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = "".join(c if c.isalnum() else "-" for c in line.partition(":")[2].strip())
            break
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.system()}-{platform.machine()}-{os.cpu_count()}x{model}-py{version}"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def load() -> Baseline | None:
    """The saved run of this kind of machine, None when there is none."""
    path = FOLDER / f"{machine_kind()}.json"
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return Baseline(saved["date"], saved["runs"])


def save(runs: dict[str, list[float]]) -> str:
    """Keep a run as the baseline of this kind of machine; benchmarks that were left out stay."""
    FOLDER.mkdir(exist_ok=True)
    before = load()
    kept = {} if before is None else dict(before.runs)
    for name, data in runs.items():
        # Spread over the run, so that drift within it stays in.
        picked = np.linspace(0, len(data) - 1, min(len(data), ROUNDS_KEPT)).round().astype(int)
        kept[name] = [float(f"{data[i]:.4g}") for i in picked]
    path = FOLDER / f"{machine_kind()}.json"
    text = json.dumps({"date": datetime.date.today().isoformat(), "runs": kept}, indent=0)
    path.write_text(text + "\n")
    return path.name


def compare(before: list[float], after: list[float], threshold: float) -> Comparison:
    """Whether the medians of two runs differ by more than `threshold`.

    The interval is a percentile bootstrap (Efron and Tibshirani 1993, chapter 13) of the ratio of
    the medians, with a fixed seed.
    """
    draw = np.random.default_rng(1)
    old, new = np.asarray(before), np.asarray(after)
    medians = [np.median(draw.choice(run, (DRAWS, len(run))), axis=1) for run in (old, new)]
    low, high = np.percentile(medians[1] / medians[0], [2.5, 97.5])
    verdict = "slower" if low > 1 + threshold else "faster" if high < 1 - threshold else ""
    return Comparison(float(np.median(new) / np.median(old)), float(low), float(high), verdict)
