"""Hours of ingest in minutes: thousands of natural rollovers under small budgets, while tier 2 is
slow."""

from __future__ import annotations

import hashlib
import os
import random
import time
from pathlib import Path

import pytest
from jobhelp import KIB, MIB, DiskWatch
from test_rollovers import Counts, counts

import aof2
from aof2.admission import Budget
from aof2.objectstore import BytesLike, Contents, LocalStore, ObjectInfo

STREAMS = 3
SEGMENT_BYTES = 256 * KIB
CONFIG = aof2.AofManagerConfig(
    tier0=aof2.Tier0Config(bytes_max=4 * MIB),
    tier1=aof2.Tier1Config(bytes_max=8 * MIB),
    tier2=aof2.Tier2Config(url="memory://slow"),
    segment=aof2.SegmentConfig(segment_bytes_max=SEGMENT_BYTES),
)
SIZES = [random.Random(50).randrange(0, 8000) for _ in range(61)]
NOISE = random.Random(51).randbytes(16_000)
GETS = 300
POINTER_BYTES = 8192
"""A stream's pointer and the one that takes its place are a block each, and no part of a tier."""


class SlowStore(LocalStore):
    """Objects in a directory; every request takes a while longer.

    Attributes:
        delay_s: How much longer.
    """

    delay_s = 0.05

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        time.sleep(self.delay_s)
        return super().put(key, data, crc64=crc64)

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        time.sleep(self.delay_s)
        return super().replace(key, data, crc64=crc64)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        time.sleep(self.delay_s)
        return super().get_range(key, start, end)


class Peaks:
    """The most that was ever claimed of each budget, not sampled but noted at every change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most: dict[int, int] = {}
        for name in ("claim", "charge", "change"):
            monkeypatch.setattr(Budget, name, self._noting(getattr(Budget, name)))

    def _noting(self, original):
        def call(budget: Budget, *arguments: int, **more: bool):
            result = original(budget, *arguments, **more)
            self.most[id(budget)] = max(self.most.get(id(budget), 0), budget.used)
            return result

        return call

    def of(self, budget: Budget) -> int:
        return self.most[id(budget)]


def payload(stream: int, n: int) -> bytes:
    """A record that its stream and number tell."""
    at = (7919 * n + 31 * stream) % 7000
    return b"%d.%d." % (stream, n) + NOISE[at : at + SIZES[n % len(SIZES)]]


def resident_kib() -> int:
    """Resident memory of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def rolled(logs: list[aof2.Aof]) -> int:
    """Segments that were sealed so far."""
    return sum(len(log._instance.manifest.index.segments) for log in logs)


def ingest(logs: list[aof2.Aof], rollovers: int) -> tuple[list[tuple[Counts, int]], list[bytes]]:
    """Append to all streams in turn until so many segments were full; what the process held at a
    fifth and at the end, and a checksum of each stream's records."""
    sums = [hashlib.sha256() for _ in logs]
    held: list[tuple[Counts, int]] = []
    n = 0
    while (done := rolled(logs)) < rollovers:
        for stream, log in enumerate(logs):
            for k in range(n, n + 50):
                data = payload(stream, k)
                assert log.append(data, timeout=120) == k
                sums[stream].update(data)
        n += 50
        if not held and done > rollovers // 5:
            held.append((counts(), resident_kib()))
    held.append((counts(), resident_kib()))
    return held, [found.digest() for found in sums]


def check_contents(logs: list[aof2.Aof], sums: list[bytes]) -> None:
    """All records of all streams, by a scan and by number."""
    rnd = random.Random(52)
    for stream, log in enumerate(logs):
        found = hashlib.sha256()
        for data in log.reader().payloads():
            found.update(data)
        assert found.digest() == sums[stream]
        for _ in range(GETS // len(logs)):
            n = rnd.randrange(log.next_offset)
            assert log.get(n).payload == payload(stream, n)


def check_nothing_pending(manager: aof2.AofManager, logs: list[aof2.Aof]) -> None:
    assert manager._coordinator.is_settled()
    assert manager._coordinator.entries() == []
    metrics = manager.metrics()
    assert metrics.compress_backlog == metrics.upload_backlog == 0
    assert set(metrics.command_failures.values()) <= {0}
    for log in logs:
        assert log.watermarks.remote == log.next_offset


def soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rollovers: int) -> str:
    """The whole job; a line of figures."""
    store = SlowStore(tmp_path / "cold")
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    peaks, root, began_s = Peaks(monkeypatch), tmp_path / "r", time.monotonic()
    with DiskWatch(root) as disk, aof2.open(root, config=CONFIG) as manager:
        logs = [manager.stream(f"s{n}") for n in range(STREAMS)]
        held, sums = ingest(logs, rollovers)
        (early, early_kib), (late, late_kib) = held
        took_s = time.monotonic() - began_s
        assert peaks.of(manager._context.tier0) <= CONFIG.tier0.bytes_max
        assert peaks.of(manager._context.tier1) <= CONFIG.tier1.bytes_max
        assert late.threads <= early.threads
        assert late.descriptors <= early.descriptors + 8, "a few are open at any moment"
        assert late.mappings <= early.mappings + 32, "a few are open at any moment"
        assert late_kib <= early_kib + 8 * KIB
        manager.drain("remote", timeout=120)
        check_nothing_pending(manager, logs)
        # Segments are as large as they may be: back-pressure does not make them small.
        sealed = [info.bytes for log in logs for info in log.segments() if info.sealed]
        assert sum(sealed) > 0.7 * len(sealed) * SEGMENT_BYTES
        store.delay_s = 0.0
        check_contents(logs, sums)
        assert peaks.of(manager._context.tier0) <= CONFIG.tier0.bytes_max
        assert peaks.of(manager._context.tier1) <= CONFIG.tier1.bytes_max
        most = peaks.of(manager._context.tier0), peaks.of(manager._context.tier1)
    assert 0 < disk.hot <= CONFIG.tier0.bytes_max + STREAMS * POINTER_BYTES
    assert 0 < disk.warm <= CONFIG.tier1.bytes_max
    with aof2.open(root, config=CONFIG) as manager:
        logs = [manager.stream(f"s{n}") for n in range(STREAMS)]
        assert all(log.recovery.clean for log in logs)
        check_contents(logs, sums)
    return (
        f"{rollovers} rollovers in {took_s:.1f} s; most of tier 0 {most[0]}, of tier 1 {most[1]} "
        f"bytes, on disk {disk.hot} and {disk.warm}; {early} and {early_kib} KiB at a fifth, "
        f"{late} and {late_kib} KiB at the end"
    )


def test_a_soak_stays_within_its_budgets(tmp_path, monkeypatch):
    """Goal: budgets bind to the byte, nothing grows, nothing is lost, nothing is left to do.
    Method: 300 natural rollovers over 3 streams, 50 ms a request; every claim is noted, the disk
    sampled; all is read twice, also after reopening."""
    soak(tmp_path, monkeypatch, 300)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_whole_soak(tmp_path, monkeypatch, capsys):
    """Goal: the same for hours of ingest. Method: 5,000 rollovers; prints its figures."""
    told = soak(tmp_path, monkeypatch, int(os.environ.get("AOF2_SOAK_ROLLOVERS", "5000")))
    with capsys.disabled():
        print(f"\n{told}")
