"""Real and random input, small budgets, and a watch on the disk: what the main job's tests
share."""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aof2

MIB = 1 << 20
SEGMENT_BYTES = MIB
BUDGET_BYTES = 4 * MIB
MANIFEST_BYTES = MIB
"""Room for the manifest's chunks and the small files beside the tiers."""


def small_config(tier2: aof2.Tier2Config | None) -> aof2.AofManagerConfig:
    """Segments of 1 MiB, 4 MiB hot, 4 MiB warm."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=BUDGET_BYTES),
        tier1=aof2.Tier1Config(bytes_max=BUDGET_BYTES),
        tier2=tier2,
        segment=aof2.SegmentConfig(segment_bytes_max=SEGMENT_BYTES),
    )


def loghub_lines() -> list[bytes]:
    """The records of the twelve log files, a line each, bytes as they are; skips where there are
    none."""
    named = os.environ.get("AOF2_LOGHUB")
    above = Path(__file__).resolve().parents[3]
    folders = [Path(named)] if named else sorted(above.glob("*/data/loghub"))
    files = [path for folder in folders for path in sorted(folder.glob("*.log"))]
    if len(files) < 12:
        pytest.skip("the twelve log files are not here: name their directory in AOF2_LOGHUB")
    return [line for path in files for line in path.read_bytes().split(b"\n")]


def random_payloads(seed: int, count: int) -> list[bytes]:
    """Payloads of 0 to 100,000 bytes with log-uniform sizes."""
    rnd = random.Random(seed)
    sizes = [int(math.exp(rnd.uniform(0, math.log(100_001)))) - 1 for _ in range(count)]
    return [rnd.randbytes(size) for size in sizes]


def feed(log: aof2.Aof, records: list[bytes], seed: int) -> None:
    """Append everything by a seeded mix of all four ways, and check the offsets that come back."""
    rnd = random.Random(seed)
    at = 0
    while at < len(records):
        part = records[at : at + rnd.randrange(1, 400)]
        way = rnd.randrange(4)
        if way == 0 or sum(map(len, part)) > SEGMENT_BYTES // 4:
            offsets = [log.append(record) for record in part]
        elif way == 1:
            offsets = list(log.append_many(part))
        elif way == 2:
            ends = np.cumsum([len(record) for record in part], dtype=np.int64)
            offsets = list(log.append_packed(b"".join(part), ends))
        else:
            offsets = list(log.extend(iter(part)))
        assert offsets == list(range(at, at + len(part)))
        at += len(part)


def check_equal(found: Iterator[bytes], records: list[bytes]) -> None:
    """Every payload, in order, and not one more."""
    count = 0
    for payload in found:
        assert payload == records[count], f"record {count} differs"
        count += 1
    assert count == len(records)


class DiskWatch:
    """Samples the bytes on disk below a directory until it is left; `peak` is the largest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.peak = 0

    def sample(self) -> int:
        total = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    # It was evicted between the two looks.
                    continue
        return total

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self.sample())

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self.sample())
