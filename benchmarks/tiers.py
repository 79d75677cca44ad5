"""Scans of warm and of cold segments, and one cold record, beside what the bytes cost anyway.

* Warm, as batches: asked for at least 80 % of the pace of `zstd -d` on the same files.
* Cold, as batches, from a local S3 server: at least 80 % of the pace of bare ranged GETs of the
  same objects, as large and as many at once as the library's own.
* One record out of a cold segment of 256 MiB, after the open: at most 2 GETs and 2 MiB.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zstandard

import aof2
from aof2.objectstore import ObjectStore, open_store
from aof2.testing.seaweedfs import SeaweedFS

MIB = 1 << 20
SHARE_MIN = 0.8
GETS_MAX, BYTES_MAX = 2, 2 * MIB
SEGMENT = 64 * MIB


def log_config(tier2: dict[str, object] | None, segment: int, warm: int) -> aof2.AofManagerConfig:
    """Budgets that leave nothing hot, and `warm` bytes of compressed files."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=4 * segment),
        tier1=aof2.Tier1Config(bytes_max=warm),
        tier2=None if tier2 is None else aof2.Tier2Config(**tier2),  # type: ignore[arg-type]
        segment=aof2.SegmentConfig(segment_bytes_max=segment),
    )


def fill(log: aof2.Aof, payloads: list[bytes], total: int) -> int:
    """Append records up to about `total` bytes; how many."""
    count = 0
    size = sum(map(len, payloads))
    for _ in range(max(1, total // size)):
        for n in range(0, len(payloads), 1000):
            log.append_many(payloads[n : n + 1000], timeout=None)
        count += len(payloads)
    return count


def scan(log: aof2.Aof, segments: list[aof2.SegmentInfo]) -> tuple[float, int]:
    """`(seconds, raw bytes)` of a scan of these segments, as batches."""
    total, began = 0, time.perf_counter()
    first, last = segments[0].base_offset, segments[-1].end_offset
    for batch in log.reader(start=first, stop=last).batches():
        with batch:
            total += batch.data.nbytes
    return time.perf_counter() - began, total


def only(log: aof2.Aof, tier: aof2.Tier) -> list[aof2.SegmentInfo]:
    """The first run of large segments that only this tier has."""
    run: list[aof2.SegmentInfo] = []
    for info in log.segments():
        if info.residency == {tier} and info.bytes > SEGMENT // 2:
            run.append(info)
        elif run:
            break
    return run


def unpack(files: list[str]) -> float:
    """Seconds that `zstd -d` takes; where it is not installed, the same library does it here."""
    began = time.perf_counter()
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-dqc", *files], check=True, stdout=subprocess.DEVNULL)
    else:
        for path in files:
            with open(path, "rb") as packed, open(os.devnull, "wb") as nowhere:
                reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
                shutil.copyfileobj(reader, nowhere, MIB)
    return time.perf_counter() - began


def warm(base: str, payloads: list[bytes], mib: int) -> list[float]:
    """Shares of zstd's own pace, in turns."""
    shares = []
    with (
        tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder,
        aof2.open(Path(folder) / "r", config=log_config(None, SEGMENT, 1 << 34)) as manager,
    ):
        log = manager.stream("bench")
        fill(log, payloads, mib * MIB)
        manager.drain("local", timeout=None)
        chosen = only(log, aof2.Tier.WARM)
        files = [
            str(next(Path(folder).glob(f"r/bench-*/warm/{s.segment_id:020d}.seg.zst")))
            for s in chosen
        ]
        for _ in range(5):
            theirs = unpack(files)
            took, total = scan(log, chosen)
            shares.append(theirs / took)
            print(
                f"warm: {len(files)} files, {total / took / 1e6:,.0f} MB/s of payload; zstd -d "
                f"{total / theirs / 1e6:,.0f}: {shares[-1]:.2f}"
            )
    return shares


def bare(store: ObjectStore, keys: list[tuple[str, int]], piece: int, at_once: int) -> float:
    """Seconds for all bytes of some objects by ranged GETs."""
    ranges = [(k, at, min(at + piece, n)) for k, n in keys for at in range(0, n, piece)]
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(lambda one: store.get_range(*one), ranges):
            pass
    return time.perf_counter() - began


def cold(base: str, payloads: list[bytes], mib: int, server: SeaweedFS) -> list[float]:
    """Shares of the pace of bare ranged GETs, in turns; each scan by a fresh manager."""
    shares: list[float] = []
    tier2 = server.tier2("bench")
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        config = log_config(tier2, SEGMENT, 2 * SEGMENT)
        with aof2.open(Path(folder) / "r", config=config) as manager:
            fill(manager.stream("bench"), payloads, mib * MIB)
            manager.drain("remote", timeout=None)
        store = open_store(**tier2)  # type: ignore[arg-type]
        for _ in range(5):
            with aof2.open(Path(folder) / "r", config=config) as manager:
                log = manager.stream("bench")
                chosen = only(log, aof2.Tier.COLD)
                infos = [(s.key, store.head(s.key)) for s in chosen if s.key is not None]
                keys = [(key, info.size) for key, info in infos if info is not None]
                before = manager.metrics()
                took, total = scan(log, chosen)
                after = manager.metrics()
            gets = sum(
                after.tier2_requests[op] - before.tier2_requests.get(op, 0)
                for op in ("get", "get_range")
                if op in after.tier2_requests
            )
            packed = sum(size for _, size in keys)
            theirs = min(bare(store, keys, max(1, packed // max(1, gets)), n) for n in (4, 8))
            shares.append(theirs / took)
            print(
                f"cold: {len(keys)} objects of {packed / MIB:.0f} MiB in {gets} GETs, "
                f"{packed / took / 1e6:,.0f} MB/s ({total / took / 1e6:,.0f} of payload); bare "
                f"GETs {packed / theirs / 1e6:,.0f}: {shares[-1]:.2f}"
            )
        store.close()
    return shares


def one_record(base: str, payloads: list[bytes], server: SeaweedFS) -> tuple[int, int]:
    """`(GETs, bytes)` of the first `get` into a cold segment of 256 MiB, after the open."""
    tier2 = server.tier2("single")
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        large = log_config(tier2, 256 * MIB, 512 * MIB)
        with aof2.open(Path(folder) / "r", config=large) as manager:
            fill(manager.stream("bench"), payloads, 600 * MIB)
            manager.drain("remote", timeout=None)
            whole = max(manager.stream("bench").segments(), key=lambda s: s.bytes)
        fresh = log_config(tier2, 256 * MIB, 512 * MIB)
        with aof2.open(Path(folder) / "fresh", config=fresh) as manager:
            log = manager.stream("bench")
            before = manager.metrics()
            log.get((whole.base_offset + whole.end_offset) // 2)
            after = manager.metrics()
    print(f"one record: of a segment of {whole.bytes / MIB:.0f} MiB that only tier 2 has")
    gets = sum(after.tier2_requests.values()) - sum(before.tier2_requests.values())
    return gets, sum(after.tier2_bytes.values()) - sum(before.tier2_bytes.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="ci/bench tiers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=768, help="raw bytes of each scan's stream")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    from records import record_pool

    payloads = record_pool(1024).records
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; log lines of 1 KiB in batches of 1,000\n"
    )
    warm_share = statistics.median(warm(options.dir, payloads, options.mib))
    with SeaweedFS() as server:
        cold_share = statistics.median(cold(options.dir, payloads, options.mib, server))
        gets, received = one_record(options.dir, payloads, server)
    print(f"\nwarm scan: {warm_share:.2f} of zstd -d (asked {SHARE_MIN})")
    print(f"cold scan: {cold_share:.2f} of bare GETs (asked {SHARE_MIN})")
    print(f"one record: {gets} requests, {received:,} bytes (asked {GETS_MAX}, {BYTES_MAX:,})")
    met = warm_share >= SHARE_MIN and cold_share >= SHARE_MIN
    return 0 if met and gets <= GETS_MAX and received <= BYTES_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
