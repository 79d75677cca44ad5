"""Appending at full speed beside the library's own background work, on two processors.

512 MiB of records of 1 KiB go into a tier 0 of 1 GiB: once with compressions and uploads held back,
once with both. The two take turns, each in a fresh root. Asked: at least 70 % of the rate without
the work, and p99.9 of `append` at most 5 times its p50 + 50 microseconds. Calls that waited for a
flush or for room are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
import unittest.mock
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aof2
from aof2.coordinator import planner
from aof2.coordinator.commands import Command, Compress, Upload

MIB = 1 << 20
RATE_MIN = 0.7
EXTRA_US = 50.0


@dataclass
class Run:
    """One run: megabytes per second, sorted microseconds of each call, calls that had to wait, and
    what was sealed, compressed and uploaded meanwhile."""

    mb_s: float
    calls_us: list[float]
    waited: int
    done: tuple[int, ...]

    def at(self, share: float) -> float:
        """Microseconds below which this share of the calls lies."""
        return self.calls_us[min(len(self.calls_us) - 1, int(share * len(self.calls_us)))]


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """Have coordinators begin no compression and no upload inside the block."""
    plan = planner.plan

    def without(view: planner.View) -> list[Command]:
        return [c for c in plan(view) if not isinstance(c, Compress | Upload)]

    with unittest.mock.patch.object(planner, "plan", without):
        yield


def run(base: str, payloads: list[bytes], mib: int, *, tiers: bool) -> Run:
    """Append `mib` MiB; the rate is that of the appends and the flush at their end."""
    config = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=1 << 30),
        flush=aof2.FlushConfig(interval_s=None, bytes=8 * MIB),
    )
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        tier2 = str(Path(folder) / "cold") if tiers else None
        with aof2.open(Path(folder) / "root", tier2=tier2, config=config) as manager:
            log = manager.stream("bench")
            log.append(payloads[0])
            log.flush()
            count = mib * MIB // len(payloads[0])
            took = array("q", bytes(8 * count))
            append, now = log.append, time.perf_counter_ns
            with contextlib.nullcontext() if tiers else at_rest():
                gc.collect()
                began = now()
                for n in range(count):
                    start = now()
                    append(payloads[n % len(payloads)])
                    took[n] = now() - start
                log.flush()
                seconds = (now() - began) / 1e9
                metrics = manager.metrics()
    done = tuple(metrics.commands_done.get(name, 0) for name in ("Rollover", "Compress", "Upload"))
    calls_us = sorted(ns / 1e3 for ns in took)
    return Run(mib * MIB / seconds / 1e6, calls_us, sum(metrics.would_block.values()), done)


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench beside", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    from records import record_pool

    payloads = record_pool(1024).records
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; {options.mib} MiB of records of 1 KiB\n"
    )
    print(
        "| Work beside | MB/s | p50 us | p99 us | p99.9 us | most us | Waits "
        "| Seals, compressions, uploads |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    rates: dict[bool, list[float]] = {False: [], True: []}
    late: list[float] = []
    bounds: list[float] = []
    for _ in range(options.rounds):
        for tiers in (False, True):
            done = run(options.dir, payloads, options.mib, tiers=tiers)
            rates[tiers].append(done.mb_s)
            if tiers:
                late.append(done.at(0.999))
                bounds.append(5 * done.at(0.5) + EXTRA_US)
            print(
                f"| {'seal, compress, upload' if tiers else 'none'} | {done.mb_s:,.0f} "
                f"| {done.at(0.5):.1f} | {done.at(0.99):.1f} | {done.at(0.999):.1f} "
                f"| {done.calls_us[-1]:,.0f} | {done.waited} | {', '.join(map(str, done.done))} |"
            )
    share = statistics.median(rates[True]) / statistics.median(rates[False])
    p999, bound = statistics.median(late), statistics.median(bounds)
    print(f"\nrate beside the work: {share:.2f} of the rate without (asked {RATE_MIN})")
    print(f"p99.9 beside the work: {p999:.1f} us (asked at most {bound:.1f})")
    return 0 if share >= RATE_MIN and p999 <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
