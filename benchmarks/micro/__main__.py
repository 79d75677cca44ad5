"""Runs the microbenchmarks and compares them with the saved ones of the same kind of machine.

Criterion's way: rounds are calibrated or fixed per benchmark, the first ones warm up, and a
difference counts only when a bootstrap interval of the medians' ratio leaves the noise out. Every
argument that is not listed goes to pytest (`-k append`, `--benchmark-histogram`, ...).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from baseline import compare, load, machine_kind, save

HERE = Path(__file__).parent


def measure(arguments: list[str]) -> dict[str, list[float]]:
    """Seconds of each round of each benchmark."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, "-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider"]
        command += ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"]
        command += ["-W", "default", "--benchmark-columns=median,iqr,outliers,rounds"]
        command += ["--benchmark-group-by=func", "--benchmark-sort=fullname"]
        command += ["--benchmark-save-data", f"--benchmark-json={out.name}", *arguments]
        done = subprocess.run(command)
        if done.returncode:
            raise SystemExit(done.returncode)
        found = json.loads(Path(out.name).read_text())
    return {one["name"]: one["stats"]["data"] for one in found["benchmarks"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench micro", description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep this run as the new baseline")
    parser.add_argument("--threshold", type=float, default=0.05, help="differences below are noise")
    options, rest = parser.parse_known_args()
    runs = measure(rest)
    before = load()
    if before is None:
        print(f"\nno baseline for {machine_kind()} yet: --save keeps this run as one")
    else:
        print(f"\nBeside the baseline of {before.date} for {machine_kind()}:\n")
        print("| Benchmark | Time by baseline | 95 % interval | |\n|---|--:|--:|---|")
        for name, data in sorted(runs.items()):
            if name in before.runs:
                found = compare(before.runs[name], data, options.threshold)
                print(
                    f"| {name} | {found.ratio:.2f} | {found.low:.2f} to {found.high:.2f} "
                    f"| {found.verdict} |"
                )
    if options.save:
        print(f"\nsaved {save(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
