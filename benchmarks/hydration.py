"""How long a segment takes to come back from tier 2: idle, and while the upload queue is full.

Every request takes 50 ms. Segments that only tier 2 has are brought back one by one; then again
while another stream is appended to faster than its segments can be uploaded, so that the queue
always has as many uploads as the planner ever puts there. Asked: the median then is at most twice
the median before.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import aof2
from aof2.coordinator.commands import Upload
from aof2.coordinator.context import PENDING_MAX
from aof2.objectstore.memory import MemoryStore

KIB, MIB = 1 << 10, 1 << 20
REQUEST_S = 0.05
RATIO_MAX = 2.0
QUEUED = PENDING_MAX + 32
"""Segments that wait for their upload all the time: more than the queue ever has of a stream."""
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=256 * KIB),
    tier0=aof2.Tier0Config(bytes_max=32 * MIB),
    tier1=aof2.Tier1Config(bytes_max=48 * MIB),
)


def slow_store() -> str:
    """The address of a fresh store whose every request takes `REQUEST_S`."""
    name = uuid.uuid4().hex
    store = MemoryStore.named(name)
    for call in ("put", "get", "get_range", "head", "delete"):
        quick = getattr(store, call)

        def slow(*arguments: Any, quick: Any = quick, **options: Any) -> Any:
            time.sleep(REQUEST_S)
            return quick(*arguments, **options)

        setattr(store, call, slow)
    return f"memory://{name}"


def only_cold(log: aof2.Aof) -> list[int]:
    """Segments that tier 2 alone has."""
    return [s.segment_id for s in log.segments() if s.residency == {aof2.Tier.COLD}]


def bring_back(log: aof2.Aof, segment_ids: list[int]) -> list[float]:
    """Seconds that each segment took."""
    times = []
    for segment_id in segment_ids:
        began = time.perf_counter()
        log._instance.hydration.hydrate(segment_id).block(None)
        times.append(time.perf_counter() - began)
    return times


def show(label: str, times: list[float], queued: str) -> float:
    """Print a row; the median."""
    middle, late = statistics.median(times), statistics.quantiles(times, n=20)[18]
    print(f"| {label} | {len(times)} | {middle * 1e3:.1f} | {late * 1e3:.1f} | {queued} |")
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench hydration", description=__doc__)
    parser.add_argument("--segments", type=int, default=40, help="for each of the two rows")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()},")
    print(f"Python {platform.python_version()}; segments of 256 KiB, 50 ms a request\n")
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as folder,
        aof2.open(Path(folder) / "root", tier2=slow_store(), config=CONFIG) as manager,
    ):
        log, other = manager.stream("old"), manager.stream("busy")
        while len(only_cold(log)) < 2 * options.segments + 4:
            for _ in range(500):
                log.append(os.urandom(1000), timeout=None)
        manager.drain("remote", timeout=None)
        chosen = only_cold(log)[: 2 * options.segments]
        ended, depths = threading.Event(), []

        def queued() -> int:
            entries = manager._coordinator.entries()
            return sum(isinstance(entry.command, Upload) for entry in entries)

        def offer() -> None:
            # Far more would fill tier 0 with what cannot go, and nothing could come back.
            while not ended.is_set():
                if len(other._instance.to_upload) + len(other._instance.to_compress) >= QUEUED:
                    ended.wait(0.001)
                else:
                    other.append(os.urandom(1000), timeout=None)

        def watch() -> None:
            while not ended.wait(0.05):
                depths.append(queued())

        print("| Uploads | Segments | p50 ms | p95 ms | Uploads in the queue |")
        print("|---|--:|--:|--:|--:|")
        idle = show("none", bring_back(log, chosen[: options.segments]), "0")
        threads = [threading.Thread(target=work) for work in (offer, watch)]
        for thread in threads:
            thread.start()
        while not depths or depths[-1] < PENDING_MAX:
            time.sleep(0.05)
        depths.clear()
        try:
            busy_times = bring_back(log, chosen[options.segments :])
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        busy = show("as many as fit", busy_times, f"{min(depths)} to {max(depths)}")
    print(f"\nratio {busy / idle:.2f}, asked at most {RATIO_MAX}")
    return 0 if busy <= RATIO_MAX * idle else 1


if __name__ == "__main__":
    sys.exit(main())
