"""A store that is watched and broken at will, managers driven by hand, kills as copies, and what a
manifest and its bucket must agree on."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aof2
from aof2.clock import Clock
from aof2.coordinator.runtime import Coordinator
from aof2.objectstore import MemoryStore

REQUESTS = ("put", "replace", "get", "get_range", "head", "delete", "list")


class WatchedStore(MemoryStore):
    """A store in memory that counts its requests.

    Attributes:
        before, after: Called with request and key around each request; raise what it shall raise.
        calls: `(request, key)` of each request so far.
    """

    def __init__(self) -> None:
        super().__init__("watched")
        self.before: Callable[[str, str], object] = lambda request, key: None
        self.after: Callable[[str, str], object] = lambda request, key: None
        self.calls: list[tuple[str, str]] = []

    def counts(self) -> Counter[str]:
        """Requests by kind."""
        return Counter(request for request, _ in self.calls)

    def named(self, part: str = "") -> list[str]:
        """Keys that contain something, ascending; not counted as a request."""
        return sorted(key for key in self._objects if part in key)

    def copy(self) -> WatchedStore:
        """A store that has what this one has now."""
        other = WatchedStore()
        with self._lock:
            other._objects = dict(self._objects)
        return other


def _watched(request: str) -> Callable[..., Any]:
    plain = getattr(MemoryStore, request)

    def call(self: WatchedStore, key: str = "", *arguments: Any, **named: Any) -> Any:
        self.calls.append((request, key))
        self.before(request, key)
        answer = plain(self, key, *arguments, **named)
        self.after(request, key)
        return answer

    return call


for _request in REQUESTS:
    setattr(WatchedStore, _request, _watched(_request))


class SteppedClock(Clock):
    """A clock whose monotonic time moves only when it is told; pauses after failures are short."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def jitter(self, seconds: float) -> float:
        return 0.05


def config(*, interval_s: float = 0.01, grace_s: float = 0.0, **more: Any) -> aof2.AofManagerConfig:
    """Small chunks and segments, one worker's work done by hand."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=65536),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16384,
            snapshot_chunks=more.pop("snapshot_chunks", 8),
            publish_interval_s=interval_s,
        ),
        retention=aof2.RetentionConfig(delete_grace_s=grace_s),
        **more,
    )


@contextmanager
def opened(
    monkeypatch, root: Path, store: WatchedStore | None, *, clock: Clock | None = None, **more: Any
) -> Iterator[aof2.AofManager]:
    """A manager whose background work runs only when the test says `settle`."""
    with monkeypatch.context() as patch:
        patch.setattr("aof2.opening.open_store", lambda url, **options: store)
        patch.setattr(Coordinator, "start", lambda self: None)
        manager = aof2.open(
            root,
            tier2=None if store is None else "memory://watched",
            config=config(**more),
            clock=SteppedClock() if clock is None else clock,
        )
    try:
        yield manager
    finally:
        manager.close()


def settle(manager: aof2.AofManager, seconds: float = 1.0, rounds: int = 8) -> None:
    """Run all background work, and what becomes due in a while."""
    for _ in range(rounds):
        manager._coordinator.kick()
        manager._coordinator.poll()
        manager._clock.now_s += seconds / rounds  # type: ignore[attr-defined]
    manager._coordinator.kick()
    manager._coordinator.poll()


def fill(log: aof2.Aof, segments: int) -> list[bytes]:
    """Append some segments of three records each; what was appended."""
    records = []
    for _ in range(segments):
        for _ in range(3):
            n = log.next_offset
            records.append(b"%d:" % n + bytes(n % 251))
            append(log, records[-1])
        end_segment(log)
    return records


def append(log: aof2.Aof, record: bytes) -> int:
    """Append one record; where that waits for background work, do it."""
    assert log._coordinator is not None
    for _ in range(10):
        try:
            return log.append_nowait(record)
        except aof2.WouldBlock:
            log._coordinator.kick()
            log._coordinator.poll()
    return log.append_nowait(record)


def end_segment(log: aof2.Aof) -> None:
    """End the active segment and run the background work that follows."""
    writer = log._instance.writer
    assert writer is not None
    writer.end_segment()
    assert log._coordinator is not None
    log._coordinator.kick()
    log._coordinator.poll()


def kill(root: Path, to: Path) -> Path:
    """What a root leaves behind when its process is killed now: a copy of its files."""
    shutil.copytree(root, to)
    return to


def payloads(log: aof2.Aof) -> list[bytes]:
    """All that can be read."""
    with log.reader(log.first_offset) as reader:
        return [bytes(payload) for payload in reader.payloads()]


def check_agree(log: aof2.Aof, store: WatchedStore, *, orphans: bool = False) -> None:
    """Every object that a row names is there, with its size and checksum; and no other one is,
    but, after a lost root, those of uploads that were never published."""
    named = set()
    for row in log._instance.manifest.index.rows():
        if row.cold is not None:
            info = MemoryStore.head(store, row.cold.key)
            assert info is not None, f"segment {row.segment_id}: its object is missing"
            assert (info.size, info.crc64) == (row.cold.size, row.cold.crc64)
        if row.upload_key is not None:
            named.add(row.upload_key)
    assert orphans or set(store.named("/seg/")) <= named
