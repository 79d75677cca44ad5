"""Streams of which only tier 2 has the beginning, over a store that counts and can be held."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import aof2
from aof2.objectstore import MemoryStore

KIB = 1 << 10


class CountingStore(MemoryStore):
    """A store in memory that notes every read of a segment, and does what it is told before each.

    Attributes:
        ranges: `(key, start, end)` of all ranged reads.
        before: Called with them; it may wait or raise.
        flying_most: The most reads that were under way at one time.
    """

    def __init__(self) -> None:
        super().__init__("counting")
        self.ranges: list[tuple[str, int, int]] = []
        self.before: Callable[[str, int, int], object] = lambda key, start, end: None
        self.flying_most = self._flying = 0
        self._counts = threading.Lock()

    def get_range(self, key: str, start: int, end: int) -> bytes:
        if "/seg/" not in key:
            return super().get_range(key, start, end)
        with self._counts:
            self.ranges.append((key, start, end))
            self._flying += 1
            self.flying_most = max(self.flying_most, self._flying)
        try:
            self.before(key, start, end)
            return super().get_range(key, start, end)
        finally:
            with self._counts:
                self._flying -= 1

    def check_each_byte_once(self) -> None:
        """No byte of an object was asked for twice."""
        asked: Counter[str] = Counter()
        for key, start, end in sorted(self.ranges):
            assert start >= asked[key], f"{key}: [{start}, {end}) was read before"
            asked[key] = end


def cold_config(segment_bytes: int = 256 * KIB, frame_bytes: int = 16 * KIB, **more: object):
    """Local tiers of a few segments, so that the older ones are in tier 2 alone."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=4 * segment_bytes),
        tier1=aof2.Tier1Config(bytes_max=2 * segment_bytes, frame_bytes=frame_bytes),
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        **more,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def cold_stream(
    root: Path, monkeypatch, records: list[bytes], config: aof2.AofManagerConfig | None = None
) -> Iterator[tuple[aof2.Aof, CountingStore]]:
    """A stream of these records, read by another manager than wrote it; no read was counted yet."""
    store = CountingStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    config = config or cold_config()
    with aof2.open(root, tier2="memory://counting", config=config) as manager:
        log = manager.stream("a")
        for record in records:
            log.append(record)
        manager.drain("remote")
    with aof2.open(root, tier2="memory://counting", config=config) as manager:
        log = manager.stream("a")
        store.ranges.clear()
        store.flying_most = 0
        yield log, store


def cold_segments(log: aof2.Aof) -> list[aof2.SegmentInfo]:
    """Those that only tier 2 has."""
    found = [info for info in log.segments() if info.residency == {aof2.Tier.COLD}]
    assert found
    return found


def noise(seed: int, count: int, n: int) -> list[bytes]:
    """Records that do not compress."""
    rng = random.Random(seed)
    return [rng.randbytes(n) for _ in range(count)]
