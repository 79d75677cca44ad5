"""The order of durable steps: a copy goes only after the next one, and what says so, are on
disk."""

from __future__ import annotations

import errno
import os
import struct
import threading
from typing import NamedTuple

import pytest
from jobhelp import KIB, FaultyStore, check_equal, random_payloads, small_config

import aof2
from aof2._core import posix
from aof2._core.manifest import RecordType
from aof2.tiers.warm import WarmTier

SEED = 60


class Event(NamedTuple):
    """One step: a system call on a file, or a manifest record stored (not yet synced)."""

    what: str
    name: str = ""
    segment: int = 0


class StepLog:
    """Writes down, in order, the steps that matter for evictions."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()

    def __call__(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> None:
        del position
        event = None
        if op == "fdatasync":
            name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
            event = Event(op, "chunk" if name.endswith(".mlog") else name)
        elif op in ("unlink", "rename") and name is not None:
            event = Event(op, name)
        elif op == "store" and data is not None and n >= 24 and n % 8 == 0:
            # A record of the manifest: u16 type, u16 flags, u32 zero, u64 segment id.
            kind, flags, zero, segment = struct.unpack_from("<HHIQ", data)
            if flags == zero == 0 and segment < 1000 and kind in set(RecordType):
                event = Event(RecordType(kind).name, "", segment)
        if event is not None:
            with self._lock:
                self.events.append(event)

    def mark(self, what: str, name: str) -> None:
        with self._lock:
            self.events.append(Event(what, name))

    def before(self, at: int, *wanted: Event) -> bool:
        """Whether these steps happened, in this order, before step `at`."""
        for event in reversed(wanted):
            at -= 1
            while at >= 0 and self.events[at] != event:
                at -= 1
            if at < 0:
                return False
        return True


def test_a_copy_goes_only_after_the_next_one_is_on_record(tmp_path, monkeypatch):
    """Goal: no crash finds a segment in no tier. Method: log every sync, rename, unlink and
    manifest record of a small job, and look backwards from each eviction."""
    print(f"seed {SEED}")
    steps, store = StepLog(), FaultyStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    store.before = lambda key: steps.mark("put", key)
    store.after = lambda info: (steps.mark("stored", info.key), info)[1]
    records = list(random_payloads(SEED, 500))
    config = small_config(aof2.Tier2Config(url="memory://steps"), 256 * KIB, 1024 * KIB)
    posix.set_seam_hook(steps)
    try:
        with aof2.open(tmp_path / "r", config=config) as manager:
            log = manager.stream("s")
            log.extend(records)
            manager.drain("remote", timeout=60)
            keys = {info.segment_id: str(info.key) for info in log.segments()}
            check_equal(log.reader().payloads(), records)
    finally:
        posix.set_seam_hook(None)

    chunk = Event("fdatasync", "chunk")
    evicted = {"seg": 0, "zst": 0}
    for at, event in enumerate(steps.events):
        if event.what != "unlink" or event.name.startswith("."):
            continue
        number, _, kind = event.name.partition(".")
        if kind not in ("seg", "seg.zst") or int(number) not in keys:
            continue  # The spare of the end was never started.
        segment, warm = int(number), f"{number}.seg.zst"
        evicted[kind[-3:]] += 1
        # The warm file is synced under its temporary name, then named, then recorded. One sync may
        # cover that record and the eviction's, which stand in this order; then the name goes.
        assert steps.before(
            at,
            Event("SEAL_SEGMENT", "", segment),
            Event("fdatasync", f".tmp-{warm}"),
            Event("rename", warm),
            Event("COMPRESSION_DONE", "", segment),
            Event("LOCAL_EVICTED", "", segment),
            chunk,
        ), event
        if kind == "seg.zst":
            assert steps.before(
                at,
                Event("UPLOAD_STARTED", "", segment),
                chunk,
                Event("put", keys[segment]),
                Event("stored", keys[segment]),
                Event("UPLOAD_DONE", "", segment),
                Event("LOCAL_EVICTED", "", segment),
                chunk,
            ), event
    assert evicted["seg"] > 5
    assert evicted["zst"] > 3


@pytest.mark.parametrize("way", ["from the warm file", "straight"])
def test_nothing_is_sent_before_its_key_is_on_disk(tmp_path, monkeypatch, way):
    """Goal: a restart meets the object that an earlier attempt left, and makes no second one.

    Method: log the same steps of a job of 20 segments, whose warm files can be made or not, and
    look backwards from each request.
    """
    print(f"seed {SEED}")
    steps, store = StepLog(), FaultyStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    store.before = lambda key: steps.mark("put", key)
    if way == "straight":
        monkeypatch.setattr(WarmTier, "build", no_warm_file)
    config = small_config(aof2.Tier2Config(url="memory://steps"), 256 * KIB, 1024 * KIB)
    posix.set_seam_hook(steps)
    try:
        with aof2.open(tmp_path / "r", config=config) as manager:
            log = manager.stream("s")
            for record in random_payloads(SEED, 20):
                log.append(record)
                log.seal(timeout=20)
            manager.drain("remote", timeout=60)
            sent = {str(info.key): info.segment_id for info in log.segments()}
    finally:
        posix.set_seam_hook(None)
    puts = [(at, e.name) for at, e in enumerate(steps.events) if e.what == "put" and e.name in sent]
    assert len(puts) == len(sent) == 20
    for at, key in puts:
        started = Event("UPLOAD_STARTED", "", sent[key])
        assert steps.before(at, started, Event("fdatasync", "chunk")), key


def no_warm_file(*_: object, **__: object) -> None:
    """`WarmTier.build` on a full disk."""
    full = OSError(errno.ENOSPC, "No space left on device")
    raise aof2.CompressionFailed(f"compression failed: {full}") from full
