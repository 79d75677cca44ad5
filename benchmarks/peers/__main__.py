"""Times aof2 beside what else can be installed, on the same records, in turn.

Every measurement is a fresh process on an empty directory. A round measures each peer once, so that
drift of the machine falls on all of them, and ratios are taken within a round; what is shown is
their median, with the smallest and the largest. Correctness of what comes back is checked.

Exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from measure import PEERS, Figures, measure
from records import MIXED
from store import Mode
from targets import BEST, TARGETS, Target, lower_is_better

MODES: tuple[Mode, ...] = ("one", "batch", "packed", "group", "each")
Run = tuple[int, int, Mode, str]
"""`(round, record bytes, mode, peer)`."""
Results = dict[Run, Figures]


def run(key: Run, payload_bytes: int, folder: str) -> Figures | None:
    """One measurement in a process of its own; None where the peer cannot do it."""
    _, record_bytes, mode, peer = key
    path = tempfile.mkdtemp(prefix="aof2-peer-", dir=folder)
    try:
        command = [sys.executable, os.path.dirname(__file__), "--one", peer, "--modes", mode]
        command += ["--sizes", str(record_bytes), "--bytes", str(payload_bytes), "--dir", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            print(f"# {peer}, {mode}, {record_bytes}: {done.stderr[-800:]}", file=sys.stderr)
            return None
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures
    finally:
        shutil.rmtree(path)


def ratios(results: Results, target: Target, rounds: int) -> list[tuple[float, float | None]]:
    """`(ratio to the peer, share of the device's pace)` of each round that has both."""
    out = []
    for number in range(rounds):

        def figure(peer: str, name: str = target.figure, number: int = number) -> float | None:
            key = (number, target.record_bytes, target.mode, peer)
            return results.get(key, {}).get(name)

        ours = figure("aof2")
        others = [target.peer]
        if target.peer == BEST:
            others = [peer for peer in PEERS if peer not in ("aof2", "device")]
        theirs = [value for value in map(figure, others) if value is not None]
        if ours is None or not theirs:
            continue
        low = lower_is_better(target.figure)
        ratio = min(theirs) / ours if low else ours / max(theirs)
        device = figure("device")
        out.append((ratio, None if low or device is None else ours / device))
    return out


def show_targets(results: Results, rounds: int, out: TextIO) -> int:
    """Print the table of targets; how many were missed."""
    missed = 0
    print("| Work | Beside | Asked | Ratio (min to max) | Of the device | |", file=out)
    print("|---|---|--:|--:|--:|---|", file=out)
    for target in TARGETS:
        found = ratios(results, target, rounds)
        if not found:
            continue
        middle = statistics.median(ratio for ratio, _ in found)
        shares = [share for _, share in found if share is not None]
        share = statistics.median(shares) if shares else None
        by_device = (target.device_share or 9.0) <= (share or 0.0)
        held = middle >= target.at_least or by_device
        missed += not held
        low, high = min(found)[0], max(found)[0]
        print(
            f"| {target.what} | {target.peer} | {target.at_least:.2f} "
            f"| **{middle:.2f}** ({low:.2f} to {high:.2f}) "
            f"| {'' if share is None else f'{share:.0%}'} | {'' if held else 'missed'} |",
            file=out,
        )
    return missed


def show_figures(results: Results, out: TextIO) -> None:
    """Print every figure: the median over the rounds."""
    groups: dict[tuple[int, Mode], dict[str, list[Figures]]] = {}
    for (_, size, mode, peer), figures in results.items():
        groups.setdefault((size, mode), {}).setdefault(peer, []).append(figures)
    columns = ("write", "p50_us", "p99_us", "cpu_s", "scan", "columns", "get_us")
    for (size, mode), peers in groups.items():
        label = "mixed sizes" if size == MIXED else f"{size} bytes"
        print(f"\n### {label}, `{mode}`\n", file=out)
        print(
            "| Peer | records/s | p50 us | p99 us | cpu s/GB | scan/s | columns MB/s | get us |",
            file=out,
        )
        print("|---|" + "--:|" * len(columns), file=out)
        for peer, runs in peers.items():
            cells = []
            for column in columns:
                values = [figures[column] for figures in runs if column in figures]
                middle = statistics.median(values) if values else None
                scale = 1e-6 if column == "columns" else 1
                wide = ",.2f" if column in ("cpu_s", "get_us") else ",.0f"
                cells.append("" if middle is None else format(middle * scale, wide))
            print(f"| {peer} | {' | '.join(cells)} |", file=out)


def show_machine(peers: list[str], rounds: int, payload_bytes: int, out: TextIO) -> None:
    """What it was measured on, and how each peer was set."""
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()},", file=out
    )
    print(
        f"Python {platform.python_version()}; {rounds} rounds, {payload_bytes >> 20} MiB each.\n",
        file=out,
    )
    for peer in peers:
        named = ", ".join(f"{name} {version(name)}" for name in PEERS[peer].packages)
        print(f"* {peer}{f' ({named})' if named else ''}: {PEERS[peer].settings}", file=out)
    print(file=out)


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench peers", description=__doc__)
    parser.add_argument("--sizes", default="128,0,1024,16384", help="bytes of a record; 0: mixed")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=64 << 20, help="payload bytes of a run")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    parser.add_argument("--save", type=Path, help="write every figure there, as JSON lines")
    parser.add_argument("--one", choices=sorted(PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    modes = [mode for mode in MODES if mode in options.modes.split(",")]
    if options.one:
        print(json.dumps(measure(options.one, modes[0], sizes[0], options.bytes, options.dir)))
        return 0
    peers = options.peers.split(",")
    show_machine(peers, options.rounds, options.bytes, sys.stdout)
    results: Results = {}
    for number in range(options.rounds):
        for size in sizes:
            for mode in modes:
                for peer in peers:
                    if mode not in PEERS[peer].modes:
                        continue
                    key: Run = (number, size, mode, peer)
                    figures = run(key, options.bytes, options.dir)
                    if figures is None:
                        continue
                    results[key] = figures
                    if options.save:
                        with options.save.open("a") as file:
                            file.write(json.dumps([*key, figures]) + "\n")
    missed = show_targets(results, options.rounds, sys.stdout)
    show_figures(results, sys.stdout)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
