"""A small root whose old segments are in lower tiers, and a store that can be held, broken and
counted: what the tests of hydration share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from waithelp import until

import aof2
from aof2 import Tier
from aof2.objectstore import MemoryStore, ObjectInfo
from aof2.objectstore.base import Contents

KIB = 1 << 10
SEGMENT_BYTES = 64 * KIB
PAYLOAD_BYTES = 1200


def payload(n: int) -> bytes:
    """The record at an offset: hard to compress, and never the same as another."""
    return b"%08d" % n + n.to_bytes(4, "big") * ((PAYLOAD_BYTES - 8) // 4)


class HeldStore(MemoryStore):
    """Objects in memory whose ranged reads can be held, failed or falsified.

    Attributes:
        gate: Ranged reads of segments wait until it is set.
        answer: What becomes of the bytes of a ranged read of a segment; it may raise.
        ranges: `(key, start, end)` of all of them.
        put_gate: Uploads of segments wait until it is set.
    """

    def __init__(self) -> None:
        super().__init__("held")
        self.gate = threading.Event()
        self.gate.set()
        self.put_gate = threading.Event()
        self.put_gate.set()
        self.answer: Callable[[bytes], bytes] = lambda data: data
        self.ranges: list[tuple[str, int, int]] = []

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        if "/seg/" in key:
            self.put_gate.wait(30)
        return super().put(key, data, crc64=crc64)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        if "/seg/" not in key:
            return super().get_range(key, start, end)
        self.ranges.append((key, start, end))
        self.gate.wait(30)
        return self.answer(super().get_range(key, start, end))


def config(
    *, hot_bytes: int = 1024 * KIB, warm_bytes: int = 16 << 20, tier2: bool = True, **more: object
) -> aof2.AofManagerConfig:
    """Segments of 64 KiB."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=SEGMENT_BYTES),
        tier0=aof2.Tier0Config(bytes_max=hot_bytes),
        tier1=aof2.Tier1Config(bytes_max=warm_bytes),
        tier2=aof2.Tier2Config(url="memory://held") if tier2 else None,
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.02, **more),  # type: ignore[arg-type]
        manifest=aof2.ManifestConfig(publish_interval_s=0.01),
    )


@contextmanager
def root(
    home: Path, store: MemoryStore | None = None, made: aof2.AofManagerConfig | None = None
) -> Iterator[aof2.AofManager]:
    """The root, open for writing."""
    with mock.patch("aof2.opening.open_store", return_value=store):
        manager = aof2.open(home, config=made or config(tier2=store is not None))
    try:
        yield manager
    finally:
        manager.close()


def fill(manager: aof2.AofManager, records: int = 1500) -> aof2.Aof:
    """Records up to an offset, everything in the lowest tier that there is; in the hot tier only
    the newest segments are left."""
    log = manager.stream("a")
    for n in range(log.next_offset, records):
        log.append(payload(n))
    manager.drain("local" if manager.config.tier2 is None else "remote")
    settle(manager)
    return log


def settle(manager: aof2.AofManager) -> None:
    """Wait until nothing waits, runs or is to be planned."""
    until(manager._coordinator.is_settled)


def info(log: aof2.Aof, segment_id: int) -> aof2.SegmentInfo:
    """The row of a segment in the residency map."""
    return next(i for i in log.segments() if i.segment_id == segment_id)


def tiers(log: aof2.Aof, segment_id: int) -> frozenset[Tier]:
    return info(log, segment_id).residency


def make_cold(manager: aof2.AofManager, log: aof2.Aof) -> None:
    """Drop every warm file of what is in tier 2, as pressure on tier 1 would."""
    from aof2.coordinator.commands import Evict
    from aof2.coordinator.handlers import handle

    for one in log.segments():
        if one.sealed and Tier.COLD in one.residency and Tier.WARM in one.residency:
            handle(Evict(log.name, one.segment_id, Tier.WARM), manager._context)


def hydrate(log: aof2.Aof, segment_id: int, timeout_s: float = 20.0) -> None:
    """Have a segment brought to the hot tier, and wait for it."""
    log._instance.hydration.hydrate(segment_id).block(time.monotonic() + timeout_s)


def warm_file(home: Path, segment_id: int) -> Path:
    return next(home.glob("a-*")) / "warm" / f"{segment_id:020d}.seg.zst"


def hot_file(home: Path, segment_id: int) -> Path:
    return next(home.glob("a-*")) / "segments" / f"{segment_id:020d}.seg"


def quarantined(home: Path) -> list[str]:
    return sorted(path.name for path in (next(home.glob("a-*")) / "quarantine").iterdir())


def flip(path: Path, at: int) -> None:
    """Damage one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def check_all(log: aof2.Aof) -> None:
    """Every record, from wherever it is."""
    found = list(log.reader().payloads())
    assert found == [payload(n) for n in range(log.first_offset, log.next_offset)]
