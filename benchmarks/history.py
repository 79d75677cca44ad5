"""What a long history costs: opening, appending, flushing and sealing behind many segments; memory.

Two roots, one with 10 sealed segments and one with 10,000, which were compressed and uploaded, as a
stream's history is. Asked: open at most 50 ms; append, flush and seal at most 1.2 times as dear
behind 10,000 as behind 10; at most 300 bytes of memory for a segment that nobody reads; at most 1
MiB for a further idle stream; `import aof2` without boto3.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aof2

KIB, MIB = 1 << 10, 1 << 20
OPEN_MS, COST_RATIO, SEGMENT_BYTES, STREAM_BYTES = 50.0, 1.2, 300.0, MIB
STREAMS = 100


def config(tier2: str) -> aof2.AofManagerConfig:
    """Small segments, and local budgets for some tens of them."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=4 * MIB),
        tier1=aof2.Tier1Config(bytes_max=1 * MIB),
        tier2=aof2.Tier2Config(url=tier2),
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    )


def resident() -> int:
    """Bytes of memory that this process has in use; a page that it maps twice counts once."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("Pss:"))


def build(root: Path, tier2: str, segments: int) -> None:
    """A closed root with so many sealed segments."""
    with aof2.open(root, config=config(tier2)) as manager:
        log = manager.stream("bench")
        # Two of these fit a segment.
        for _ in range(2 * segments + 2):
            log.append(bytes(28_000), timeout=None)
        manager.drain("remote", timeout=None)


def each_us(work: Callable[[], object], times: int) -> float:
    """Median microseconds of a call."""
    took = []
    for _ in range(times):
        began = time.perf_counter_ns()
        work()
        took.append((time.perf_counter_ns() - began) / 1e3)
    return statistics.median(took)


def open_ms(root: Path, tier2: str) -> float:
    """Median milliseconds of opening root and stream for writing, of seven."""
    took = []
    for _ in range(7):
        began = time.perf_counter()
        manager = aof2.open(root, config=config(tier2))
        manager.stream("bench")
        took.append((time.perf_counter() - began) * 1e3)
        manager.close()
    return statistics.median(took)


def costs(root: Path, tier2: str) -> dict[str, float]:
    """Microseconds of an append, a flush and a seal behind this history."""
    with aof2.open(root, config=config(tier2)) as manager:
        log = manager.stream("bench")
        payload = bytes(128)

        def sealed() -> None:
            log.append(payload)
            log.seal()

        for _ in range(5):
            sealed()
        out = {
            "append": each_us(lambda: [log.append(payload) for _ in range(50)], 400) / 50,
            "append and flush": each_us(lambda: (log.append(payload), log.flush()), 300),
            "append and seal": each_us(sealed, 100),
        }
        manager.drain("remote", timeout=None)
    return out


def memory(root: Path, tier2: str) -> float:
    """Resident bytes of a fresh process that has the stream open."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(held_open, (root, tier2))


def held_open(root: Path, tier2: str) -> int:
    """In that process: bytes in use while the stream is open."""
    with aof2.open(root, config=config(tier2)) as manager:
        manager.stream("bench")
        return resident()


def idle_streams(base: Path) -> float:
    """Resident bytes of each of `STREAMS` more streams that were appended to once."""
    with aof2.open(base / "many") as manager:
        manager.stream("first").append(b"first")
        before = resident()
        for number in range(STREAMS):
            manager.stream(f"s{number}").append(b"first")
        return (resident() - before) / STREAMS


def imports_boto3() -> bool:
    """Whether a plain import brings it in."""
    code = "import sys, aof2; sys.exit('boto3' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code]).returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench history", description=__doc__)
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; segments of 64 KiB\n"
    )
    rows: list[tuple[str, float, float, str, bool]] = []
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=options.dir) as folder:
        few, many = Path(folder) / "few", Path(folder) / "many-segments"
        stores = {path: f"{path}-cold" for path in (few, many)}
        build(few, stores[few], 10)
        build(many, stores[many], options.segments)
        opened = open_ms(few, stores[few]), open_ms(many, stores[many])
        rows.append(("open, ms", *opened, f"≤ {OPEN_MS:.0f}", opened[1] <= OPEN_MS))
        held = memory(few, stores[few]), memory(many, stores[many])
        each = max(0.0, held[1] - held[0]) / options.segments
        rows.append(("memory of a segment, bytes", 0, each, "≤ 300", each <= SEGMENT_BYTES))
        one, two = costs(few, stores[few]), costs(many, stores[many])
        for what in one:
            fine = two[what] <= COST_RATIO * one[what]
            rows.append((f"{what}, us", one[what], two[what], "≤ 1.2 times", fine))
        stream = idle_streams(Path(folder))
    print(f"| | 10 segments | {options.segments:,} segments | asked | |\n|---|--:|--:|---|---|")
    for what, small, large, asked, fine in rows:
        print(f"| {what} | {small:,.2f} | {large:,.2f} | {asked} | {'' if fine else 'missed'} |")
    lean = not imports_boto3()
    print(
        f"\na further idle stream: {stream / KIB:,.0f} KiB (asked at most {STREAM_BYTES // KIB:,})"
    )
    print(f"import aof2 {'leaves boto3 out' if lean else 'brings boto3 in'}")
    return 0 if all(row[4] for row in rows) and stream <= STREAM_BYTES and lean else 1


if __name__ == "__main__":
    sys.exit(main())
