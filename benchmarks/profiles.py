"""What limits the work whose targets are missed: `perf` beside each kind of it, as text.

Samples of the processor's clock (`perf record -e cpu-clock`), summed by function: what is prepared
first is not in them. Symbols of the core are those of its C functions. Needs `perf`; without it,
this says so and ends.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import itertools
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from beside import at_rest

import aof2
from aof2.testing.seaweedfs import SeaweedFS

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from records import MIXED, record_pool

MIB = 1 << 20
ROWS = 14
WIDTH = 100
TIER2 = "AOF2_BENCH_TIER2"
"""The variable that tells a profiled process where tier 2 is, as JSON."""
HOT = aof2.AofManagerConfig(tier0=aof2.Tier0Config(bytes_max=4 << 30))
SMALL = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
    tier0=aof2.Tier0Config(bytes_max=2 << 30),
)


def payloads(size: int) -> list[bytes]:
    """Log lines of one size."""
    return record_pool(size).records


def fill(folder: Path, size: int, mib: int, *, batch: bool = False) -> None:
    """A root with so many MiB in its hot tier."""
    with aof2.open(folder / "root", config=HOT) as manager:
        log, left, pool = manager.stream("a"), mib * MIB, payloads(size)
        for at in itertools.cycle(range(0, len(pool), 1000)):
            records = pool[at : at + 1000]
            if batch:
                log.append_many(records)
            else:
                for record in records:
                    log.append(record)
            left -= sum(map(len, records))
            if left < 0:
                break


def with_tier2() -> aof2.AofManagerConfig:
    """The tier 2 that the environment names."""
    return dataclasses.replace(HOT, tier2=aof2.Tier2Config(**json.loads(os.environ[TIER2])))


def fill_cold(folder: Path) -> None:
    """A stream of which everything is in tier 2."""
    with aof2.open(folder / "root", config=with_tier2()) as manager:
        log, pool = manager.stream("a"), payloads(1024)
        for _ in range(500_000 // len(pool)):
            log.extend(pool)
        manager.drain("remote")


def fill_segments(folder: Path) -> None:
    """2,000 sealed segments, all of them hot."""
    with at_rest(), aof2.open(folder / "root", config=SMALL) as manager:
        log, payload = manager.stream("a"), b"x" * 30_000
        for _ in range(4_000):
            log.append(payload)
        log.flush()


def append(folder: Path, seconds: float) -> None:
    """`append` of 128 bytes, with the flushes that the defaults make."""
    records, until = payloads(128)[:10_000], time.perf_counter() + seconds
    while time.perf_counter() < until:
        with (
            tempfile.TemporaryDirectory(dir=folder) as fresh,
            aof2.open(fresh, config=HOT) as manager,
        ):
            call = manager.stream("a").append
            for _ in range(300):
                for record in records:
                    call(record)


def scan(folder: Path, seconds: float) -> None:
    """`payloads()` over a hot stream."""
    with aof2.open(folder / "root", config=HOT) as manager:
        log, until = manager.stream("a"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            collections.deque(log.reader().payloads(), 0)


def get(folder: Path, seconds: float) -> None:
    """`get` at random from a hot stream."""
    with aof2.open(folder / "root", config=HOT) as manager:
        log, chance = manager.stream("a"), random.Random(3)
        count, until = log.next_offset, time.perf_counter() + seconds
        offsets = [chance.randrange(count) for _ in range(100_000)]
        while time.perf_counter() < until:
            for offset in offsets:
                log.get(offset)


def cold(folder: Path, seconds: float) -> None:
    """`batches()` over a stream that is only in tier 2, each time from a fresh root."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        with (
            tempfile.TemporaryDirectory(dir=folder) as fresh,
            aof2.open(fresh, config=with_tier2()) as manager,
        ):
            collections.deque(manager.stream("a").reader().batches(), 0)


def sustained(folder: Path, seconds: float) -> None:
    """`append` without a pause, with tiers 0 to 2 and retention."""
    config = aof2.AofManagerConfig(
        retention=aof2.RetentionConfig(bytes_max=4 << 30, delete_grace_s=0)
    )
    records, until = payloads(1024), time.perf_counter() + 3 * seconds
    with aof2.open(folder / "root", tier2=folder / "cold", config=config) as manager:
        call = manager.stream("a").append
        while time.perf_counter() < until:
            for record in records:
                call(record, timeout=None)


def reopen(folder: Path, seconds: float) -> None:
    """`open` behind 2,000 hot segments."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        with aof2.open(folder / "root", config=SMALL) as manager:
            manager.stream("a")


Step = Callable[[Path], None]
WORKS: dict[str, tuple[Step, Callable[[Path, float], None]]] = {
    "append": (lambda folder: None, append),
    "scan": (lambda folder: fill(folder, 128, 64), scan),
    "get-mixed": (lambda folder: fill(folder, MIXED, 64), get),
    "get-batch": (lambda folder: fill(folder, 128, 64, batch=True), get),
    "cold": (fill_cold, cold),
    "sustained": (lambda folder: None, sustained),
    "open": (fill_segments, reopen),
}


def report(data: Path) -> str:
    """The functions that took the most, largest first, without what names this machine."""
    command = ["perf", "report", "-i", str(data), "--stdio", "--no-children", "--sort"]
    done = subprocess.run(
        [*command, "dso,symbol"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    lines = [line.rstrip() for line in done.stdout.decode().splitlines()]
    kept = [line[:WIDTH].rstrip() for line in lines if line and not line.startswith("#")]
    return "\n".join(kept[:ROWS])


def profile(name: str, base: str, seconds: float) -> str:
    """One kind of work, prepared here and sampled in a process of its own."""
    prepare, work = WORKS[name]
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        prepare(Path(folder))
        data = Path(folder) / "perf.data"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-o", str(data), "--"]
        child = [sys.executable, __file__, "--work", name, "--dir", folder, "--seconds"]
        # Without it numpy's linear algebra has a thread that only waits, but does so in turns.
        environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([*record, *child, str(seconds)], check=True, env=environ)
        return f"## {name}\n\n{work.__doc__}\n\n```\n{report(data)}\n```\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench profiles", description=__doc__)
    parser.add_argument("--only", choices=sorted(WORKS), action="append", help="again for more")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each, at least")
    parser.add_argument("--save", type=Path, help="write the text there, too")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    parser.add_argument("--work", choices=sorted(WORKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        WORKS[options.work][1](Path(options.dir), options.seconds)
        return 0
    if shutil.which("perf") is None:
        print("perf is not installed: nothing was profiled")
        return 0
    parts = [
        "# Profiles of what is missed\n\n"
        f"Made by `ci/bench profiles` on {datetime.date.today()}, {os.cpu_count()} processors "
        f"({platform.machine()}),\nLinux {platform.release()}, Python {platform.python_version()}. "
        "[performance.md](performance.md) says what they mean.\n"
    ]
    with SeaweedFS() as server:
        where = server.tier2("bench")
        os.environ[TIER2] = json.dumps(where)
        for name in options.only or WORKS:
            parts.append(profile(name, options.dir, options.seconds))
            print(parts[-1], flush=True)
    if options.save:
        options.save.write_text("\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
