"""Times the manifest: replay, opening, one durable record beside a raw sync, cost and history.

Prints each figure with its bound; exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aof2
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType as T
from aof2.clock import Clock
from aof2.manifest.log import Manifest
from aof2.root import Root
from aof2.types import StreamIdentity, Tier

IDENTITY = StreamIdentity("bench", "bench-00000000", bytes(16), bytes(16), 1)
RECORDS_PER_SEGMENT = 6


@contextmanager
def scratch(base: str) -> Iterator[Path]:
    """A directory for one measurement."""
    path = Path(tempfile.mkdtemp(prefix="aof2-bench-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def fresh(path: Path, **options: int) -> Manifest:
    """A manifest in an empty directory."""
    directory = Directory(str(path))
    Manifest.create(directory, IDENTITY)
    return Manifest.open(directory, IDENTITY, clock_s=time.perf_counter, **options)


def add_segment(manifest: Manifest, segment_id: int) -> None:
    """One segment that went all the way: it is in tier 2 only."""
    base, end = (segment_id - 1) * 1000, segment_id * 1000
    key = f"{IDENTITY.directory}/{IDENTITY.uuid.hex()}/seg/00/{base:020d}-{end:020d}.seg.zst"
    manifest.append(T.SEGMENT_OPENED, segment_id, base, base_offset=base, epoch=1)
    manifest.append(
        T.SEAL_SEGMENT,
        segment_id,
        end,
        durable_bytes=65536,
        segment_crc64=segment_id,
        ext_id=0,
        coordinator_watermark=0,
        flush_failure=0,
    )
    sizes = {"bytes": 9000, "table_bytes": 200, "crc64": segment_id, "raw_crc64": segment_id}
    manifest.append(T.COMPRESSION_DONE, segment_id, base, **sizes)
    manifest.append(T.UPLOAD_STARTED, segment_id, base, key=key)
    uploaded = {"key": key, "size": 9000, "crc64": segment_id, "etag": "0" * 32}
    manifest.append(T.UPLOAD_DONE, segment_id, base, **uploaded)
    evicted = {"tier": int(Tier.HOT), "bytes": 65536, "copy_tier": int(Tier.COLD)}
    manifest.append(T.LOCAL_EVICTED, segment_id, base, **evicted)


def replay_rate(base: str, segments: int) -> float:
    """Records per second of an open that has no snapshot."""
    with scratch(base) as path:
        manifest = fresh(path, snapshot_chunks=1000)
        for segment_id in range(1, segments + 1):
            add_segment(manifest, segment_id)
        manifest.close()
        rates = []
        for _ in range(5):
            again = Manifest.open(
                Directory(str(path)), IDENTITY, readonly=True, clock_s=time.perf_counter
            )
            rates.append(again.replay.records / again.replay.duration_s)
            again.close()
        return statistics.median(rates)


def flush_ratio(base: str, rounds: int) -> tuple[float, float]:
    """Median microseconds of one durable record, and of a raw write with a sync, in turns."""
    with scratch(base) as path:
        manifest = fresh(path)
        fd = os.open(path / "raw", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, 1 << 20)
        os.fsync(fd)
        ours, raw = [], []
        for n in range(rounds):
            began = time.perf_counter()
            manifest.append(T.CUSTOM_EVENT, 0, 0, text="x")
            manifest.flush()
            middle = time.perf_counter()
            os.pwrite(fd, bytes(64), n * 64)
            os.fdatasync(fd)
            ours.append(middle - began)
            raw.append(time.perf_counter() - middle)
        os.close(fd)
        manifest.close()
        return statistics.median(ours) * 1e6, statistics.median(raw) * 1e6


def transition_cost(base: str, segments: int) -> float:
    """Median nanoseconds to append one record with so many segments behind."""
    with scratch(base) as path:
        manifest = fresh(path)
        for segment_id in range(1, segments + 1):
            add_segment(manifest, segment_id)
        times = []
        for segment_id in range(segments + 1, segments + 301):
            began = time.perf_counter_ns()
            add_segment(manifest, segment_id)
            times.append((time.perf_counter_ns() - began) / RECORDS_PER_SEGMENT)
        manifest.close()
        return statistics.median(times)


def open_time(base: str, segments: int) -> float:
    """Median milliseconds to open a root and its stream with so many segments in tier 2."""
    config = aof2.AofManagerConfig(segment=aof2.SegmentConfig(segment_bytes_max=65536))
    with scratch(base) as path:
        root = path / "root"
        with aof2.open(root, config=config) as manager:
            manager.stream("bench")
        home = next(entry for entry in root.iterdir() if entry.is_dir())
        _, identity = Root(str(root), Clock(), readonly=True).open_stream("bench")
        manifest = Manifest.open(Directory(str(home / "manifest")), identity)
        for segment_id in range(1, segments + 1):
            add_segment(manifest, segment_id)
            manifest.write_snapshot()
        manifest.close()
        times = []
        for _ in range(7):
            began = time.perf_counter()
            manager = aof2.open(root, config=config)
            times.append(time.perf_counter() - began)
            log = manager.stream("bench")
            assert log.next_offset == segments * 1000
            manager.close()
        return statistics.median(times) * 1e3


def report(name: str, value: float, unit: str, bound: float, *, at_least: bool) -> bool:
    """Print one line; True when the bound holds."""
    good = value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    print(f"{name:<58} {value:>12,.2f} {unit:<10} {sign} {bound:,.2f}  {'' if good else 'MISSED'}")
    return good


def main() -> int:
    """Run all of it; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", default=".", help="where to write; best on the usual disk")
    chosen = parser.parse_args()
    base = os.path.abspath(chosen.directory)
    ours, raw = flush_ratio(base, 2000)
    few, many = transition_cost(base, 10), transition_cost(base, 10_000)
    print(f"append and flush of one record {ours:.0f} us, pwrite and fdatasync {raw:.0f} us")
    print(f"one record after 10 segments {few:.0f} ns, after 10,000 {many:.0f} ns")
    results = [
        report("replay", replay_rate(base, 100_000), "records/s", 1e6, at_least=True),
        report("append and flush, by raw", ours / raw, "x", 1.3, at_least=False),
        report("one record, 10,000 segments by 10", many / few, "x", 1.2, at_least=False),
        report("open with 10,000 segments", open_time(base, 10_000), "ms", 50, at_least=False),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
