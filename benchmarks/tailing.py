"""From append to seen: how long a reader in another process takes to get a record that follows.

One process appends records that say when, another one reads them with `follow=True`. Appends that
come quickly one after the other find the reader spinning; after a pause it has to be woken. Asked:
p50 at most 10 microseconds spinning, at most 60 woken, and no system call for each record that a
spinning reader gets.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import aof2

SPINNING_US, WOKEN_US = 10.0, 60.0
GAPS_S = {"spinning": 20e-6, "woken": 5e-3}
SWITCHES_MAX = 0.1


def follow(root: str, records: int, to: Connection) -> None:
    """The reading process: sends microseconds from append to seen, and its voluntary switches."""
    with aof2.open(root, readonly=True) as manager:
        reader = manager.stream("bench").reader(start=0, follow=True)
        payloads = reader.payloads()
        to.send("ready")
        next(payloads)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        took = []
        for _ in range(records):
            payload = next(payloads)
            now = time.perf_counter_ns()
            took.append((now - int.from_bytes(payload[:8], "little")) / 1e3)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
        to.send((took, switches))


def measure(base: str, gap_s: float, records: int) -> tuple[list[float], float]:
    """Microseconds of each record, and the reader's voluntary context switches for each."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        root = str(Path(folder) / "root")
        with aof2.open(root) as manager:
            log = manager.stream("bench")
            reading = context.Process(target=follow, args=(root, records, theirs))
            reading.start()
            ours.recv()
            log.append(bytes(128))
            time.sleep(0.1)
            for _ in range(records):
                until = time.perf_counter() + gap_s
                if gap_s > 1e-3:
                    time.sleep(gap_s)
                while time.perf_counter() < until:
                    pass
                log.append(time.perf_counter_ns().to_bytes(8, "little") + bytes(120))
            took, switches = ours.recv()
            reading.join()
    return took, switches / records


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench tailing", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="of the spinning row")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; records of 128 bytes\n"
    )
    print("| Reader | Gap, us | Records | p50 us | p99 us | p99.9 us | Switches a record | Asked |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    met = []
    for label, gap_s in GAPS_S.items():
        spinning = label == "spinning"
        records = options.records if spinning else min(options.records, 1000)
        took, switches = measure(options.dir, gap_s, records)
        bound = SPINNING_US if spinning else WOKEN_US
        cuts = statistics.quantiles(took, n=1000)
        middle = statistics.median(took)
        met.append(middle <= bound and (not spinning or switches <= SWITCHES_MAX))
        print(
            f"| {label} | {gap_s * 1e6:.0f} | {records:,} | {middle:.1f} | {cuts[989]:.1f} "
            f"| {cuts[998]:.1f} | {switches:.3f} | p50 ≤ {bound:.0f} |"
        )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
