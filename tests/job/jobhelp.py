"""Real and random input, small budgets, stores that fail, and watches on disk and system calls:
what the main job's tests share."""

from __future__ import annotations

import itertools
import math
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

import aof2
from aof2.objectstore import MemoryStore, ObjectInfo

KIB = 1 << 10
MIB = 1 << 20
SEGMENT_BYTES = MIB
BUDGET_BYTES = 4 * MIB
SMALL_FILES_BYTES = 64 * KIB
"""Room for `LOCK`, `stream.json`, the pointer and the like, a block each."""


def small_config(
    tier2: aof2.Tier2Config | None,
    segment_bytes: int = SEGMENT_BYTES,
    budget_bytes: int = BUDGET_BYTES,
    **more: object,
) -> aof2.AofManagerConfig:
    """Segments of 1 MiB, 4 MiB hot, 4 MiB warm, unless told otherwise."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=budget_bytes),
        tier1=aof2.Tier1Config(bytes_max=budget_bytes),
        tier2=tier2,
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        **more,  # type: ignore[arg-type]
    )


# --- input --------------------------------------------------------------------------------------


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


def random_payloads(seed: int, count: int) -> Iterator[bytes]:
    """Payloads of 0 to 100,000 bytes with log-uniform sizes; the same ones for the same seed."""
    rnd = random.Random(seed)
    for _ in range(count):
        yield rnd.randbytes(int(math.exp(rnd.uniform(0, math.log(100_001)))) - 1)


# --- appending and comparing --------------------------------------------------------------------


def feed(log: aof2.Aof, records: Iterable[bytes], seed: int) -> int:
    """Append everything by a seeded mix of all four ways, check the offsets that come back, and
    return how many records there were."""
    rnd = random.Random(seed)
    left, at = iter(records), log.next_offset
    while part := list(itertools.islice(left, rnd.randrange(1, 400))):
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
    return at


def check_equal(found: Iterable[bytes], records: Iterable[bytes]) -> None:
    """Every payload, in order, and not one more."""
    pairs = itertools.zip_longest(found, records)
    wrong = next((n for n, (payload, record) in enumerate(pairs) if payload != record), None)
    assert wrong is None, f"record {wrong} differs"


def check_by_segment(log: aof2.Aof, records: Iterable[bytes]) -> Counter[aof2.Tier]:
    """Read segment after segment, compare, and count the segments by the nearest tier that held
    each of them just before."""
    left, tiers = iter(records), Counter[aof2.Tier]()
    for info in log.segments():
        now = next(i for i in log.segments() if i.base_offset == info.base_offset)
        tiers[min(now.residency)] += 1
        with log.reader(info.base_offset, info.end_offset) as reader:
            count = info.end_offset - info.base_offset
            check_equal(reader.payloads(), itertools.islice(left, count))
    assert next(left, None) is None, "the segments do not cover all records"
    return tiers


# --- watches ------------------------------------------------------------------------------------


class DiskWatch:
    """Samples the bytes on disk below a directory until it is left.

    Attributes:
        tiers: The most that segments, landing rings and warm files took at one time.
        hot, warm: The most that segments and rings, and that warm files took, each by itself.
        rest: The most that manifests and small files took.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.tiers = self.hot = self.warm = self.rest = 0

    def _sample(self) -> None:
        found = list(self._look())
        # Only what is still there at the end of the walk was there at one time: while one
        # directory was looked at, files may have gone from another that was counted before.
        left = {(inode, path) for inode, path, _ in self._look()}
        taken: Counter[str] = Counter()
        for inode, path, n in found:
            if (inode, path) not in left:
                continue
            taken[os.path.basename(os.path.dirname(path))] += n
        hot, warm = taken["segments"], taken["warm"]
        self.hot, self.warm = max(self.hot, hot), max(self.warm, warm)
        self.tiers = max(self.tiers, hot + warm)
        self.rest = max(self.rest, sum(taken.values()) - hot - warm)

    def _look(self) -> Iterator[tuple[int, str, int]]:
        """Inode, path and bytes on disk of every file."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    found = os.stat(path)
                except FileNotFoundError:
                    # It was evicted between the two looks.
                    continue
                yield found.st_ino, path, found.st_blocks * 512

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self._sample()

    def check(self, config: aof2.AofManagerConfig, segments: int) -> None:
        """Both budgets and two segments for the tiers. For the rest, the manifests' chunks: the
        records of a segment take up to 1 KiB, 12 KiB of a chunk are no room for records, a chunk
        that is published is cut to whole pages, and each stream has an active chunk, a prepared
        one, one in the making, and two snapshots."""
        budgets = config.tier0.bytes_max + config.tier1.bytes_max
        limit = budgets + 2 * config.segment.segment_bytes_max
        assert 0 < self.tiers <= limit, f"{self.tiers} bytes in the tiers, {limit} allowed"
        chunk = config.manifest.chunk_bytes
        streams = sum(1 for path in self._root.iterdir() if path.is_dir())
        limit = segments * KIB * chunk // (chunk - 12 * KIB) + streams * 3 * chunk
        limit += 3 * segments * KIB + segments * 16 * KIB
        limit += SMALL_FILES_BYTES * (1 + streams)
        assert self.rest <= limit, f"{self.rest} bytes beside the tiers, {limit} allowed"

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()


class FaultyStore(MemoryStore):
    """A store in memory that counts what is asked of it about segments, and fails as it is told.

    Attributes:
        before: Called with the key before a segment is stored; raises what the request shall raise.
        after: Called with the info of a stored segment; its result is the answer, or it raises.
        puts: Keys of all upload requests of segments, in order, failed ones too.
        ranges: All ranged reads.
    """

    def __init__(self) -> None:
        super().__init__("faulty")
        self.before: Callable[[str], None] = lambda key: None
        self.after: Callable[[ObjectInfo], ObjectInfo] = lambda info: info
        self.puts: list[str] = []
        self.ranges: list[tuple[str, int, int]] = []

    def put(self, key: str, data: bytes, *, crc64: int) -> ObjectInfo:  # type: ignore[override]
        if "/seg/" not in key:
            return super().put(key, data, crc64=crc64)
        self.puts.append(key)
        self.before(key)
        return self.after(super().put(key, data, crc64=crc64))

    def segments(self) -> list[str]:
        """Keys of the segments that are there, ascending."""
        return [info.key for info in self.list() if "/seg/" in info.key]

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.ranges.append((key, start, end))
        return super().get_range(key, start, end)
