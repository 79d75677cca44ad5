"""The stateful model: a stream against a plain list, by rules that hypothesis draws and shrinks.

Background work runs only where a rule says so, on the one thread there is, so that a failure is
found again from its seed. A kill is what a kill leaves behind: the files and the objects as they
are at that moment, the landing ring among them.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import aof2
from aof2.clock import Clock
from aof2.coordinator.commands import Evict
from aof2.coordinator.runtime import Coordinator
from aof2.errors import WouldBlock
from aof2.objectstore import MemoryStore
from aof2.torture.damage import files_of, objects_of

STEPS = 60
_TURNS_MAX = 40

SIZES = st.sampled_from([0, 1, 7, 8, 100, 1000, 4096, 9000, 20_000])
BATCH_SIZES = st.lists(st.sampled_from([0, 1, 7, 8, 100, 1000, 4096]), max_size=5)


class SteppedClock(Clock):
    """Monotonic time moves only where the model says so; pauses after failures are none."""

    now_s = 1000.0

    def monotonic_s(self) -> float:
        """The model's seconds."""
        return self.now_s

    def jitter(self, seconds: float) -> float:
        """No pause."""
        return 0.0


def config(tier2: str) -> aof2.AofManagerConfig:
    """Small segments and budgets; nothing happens by itself."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=256 << 10),
        tier1=aof2.Tier1Config(bytes_max=128 << 10, frame_bytes=4096),
        tier2=aof2.Tier2Config(url=f"memory://{tier2}"),
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10, segment_age_s_max=float("inf")),
        flush=aof2.FlushConfig(interval_s=3600, confirm_interval_s=3600),
        retention=aof2.RetentionConfig(delete_grace_s=0),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 << 10, publish_interval_s=0.01, snapshot_chunks=1
        ),
    )


class LogMachine(RuleBasedStateMachine):
    """A stream and the list that it must equal."""

    def __init__(self) -> None:
        super().__init__()
        place = Path("/dev/shm")
        self._work = Path(
            tempfile.mkdtemp(prefix="aof2-model-", dir=place if place.exists() else None)
        )
        self._lives = 0
        self.records: list[bytes] = []
        self.first = 0
        self.marks = (0, 0, 0)

    @initialize()
    def begin(self) -> None:
        """Open a fresh root."""
        self._open({}, {})

    def teardown(self) -> None:
        """Close, and remove everything."""
        if self._lives:
            self._close()
        shutil.rmtree(self._work)

    # --- opening, closing, killing ---------------------------------------------------------------

    def _open(self, files: dict[str, bytes], objects: dict[str, bytes]) -> None:
        self._lives += 1
        self.root = self._work / str(self._lives)
        for path, data in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for stream in self.root.glob("s-*"):
            for name in ("warm", "quarantine", "segments"):
                (stream / name).mkdir(exist_ok=True)
        self.store = f"model-{uuid.uuid4().hex}"
        MemoryStore.named(self.store).load(objects)
        self._attach()

    def _attach(self) -> None:
        self.clock = SteppedClock()
        with patch.object(Coordinator, "start", lambda self: None):
            self.manager = aof2.open(self.root, config=config(self.store), clock=self.clock)
        self.log = self.manager.stream("s")
        self.reader: aof2.AofReader | None = None
        assert self.log.next_offset == len(self.records)
        assert self.log.watermarks.local == len(self.records), "a reopen proves what it found"

    def _close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.manager.close()
        MemoryStore.forget(self.store)

    @rule()
    def reopen(self) -> None:
        """An orderly end."""
        if self.reader is not None:
            self.reader.close()
        self.manager.close()
        self._attach()

    @rule()
    def kill(self) -> None:
        """The process dies; what the files had then is all there is."""
        files = files_of(self.root)
        objects = objects_of(MemoryStore.named(self.store))
        self._close()
        self._open(files, objects)

    # --- appending -------------------------------------------------------------------------------

    def _when_there_is_room(self, call: object, *arguments: object) -> object:
        """Call what never blocks; while it says "not now", do the work it waits for."""
        assert callable(call)
        for _ in range(_TURNS_MAX):
            try:
                return call(*arguments)
            except WouldBlock:
                self._work_once()
        return call(*arguments)

    def _payload(self, size: int) -> bytes:
        n = len(self.records)
        return (n.to_bytes(4, "little") * (size // 4 + 1))[:size]

    @rule(size=SIZES, ext_id=st.sampled_from([None, 7]))
    def append(self, size: int, ext_id: int | None) -> None:
        """One record."""
        data = self._payload(size)
        offset = self._when_there_is_room(lambda: self.log.append_nowait(data, ext_id=ext_id))
        assert offset == len(self.records)
        self.records.append(data)

    @rule(sizes=BATCH_SIZES)
    def append_many(self, sizes: list[int]) -> None:
        """An atomic batch."""
        parts = [self._payload(size) for size in sizes]
        span = self._when_there_is_room(lambda: self.log.append_many_nowait(parts))
        assert span == range(len(self.records), len(self.records) + len(parts))
        self.records += parts

    @rule(sizes=BATCH_SIZES)
    def append_packed(self, sizes: list[int]) -> None:
        """A batch as one buffer."""
        import numpy as np

        parts = [self._payload(size) for size in sizes]
        ends: Any = np.cumsum(sizes, dtype=np.int64)
        data = b"".join(parts)
        span = self._when_there_is_room(lambda: self.log.append_packed_nowait(data, ends))
        assert span == range(len(self.records), len(self.records) + len(parts))
        self.records += parts

    # --- durability and background work ----------------------------------------------------------

    @rule()
    def flush(self) -> None:
        """Everything so far is durable."""
        self.log.flush()
        assert self.log.watermarks.local == len(self.records)

    @rule()
    def seal(self) -> None:
        """Ask for a new segment, and have it."""
        self._when_there_is_room(self.log.seal_nowait)

    def _work_once(self) -> None:
        coordinator = self.manager._coordinator
        assert coordinator is not None
        self.clock.now_s += 0.5
        coordinator.kick()
        coordinator.poll()

    @rule(steps=st.integers(1, 4))
    def work(self, steps: int) -> None:
        """A little of the background work."""
        coordinator = self.manager._coordinator
        assert coordinator is not None
        self.clock.now_s += 0.1
        coordinator.kick()
        for _ in range(steps):
            coordinator.step()

    @rule()
    def drain(self) -> None:
        """All of the background work; what is sealed is in tier 2 then, and published."""
        self._when_there_is_room(self.log.seal_nowait)
        for _ in range(10):
            self._work_once()
        assert self.log.watermarks.remote == len(self.records)

    @rule(which=st.integers(0, 1 << 16), tier=st.sampled_from([aof2.Tier.HOT, aof2.Tier.WARM]))
    def evict(self, which: int, tier: aof2.Tier) -> None:
        """Drop a local copy, where another tier has one."""
        segments = self.log.segments()
        coordinator = self.manager._coordinator
        if segments and coordinator is not None:
            segment = segments[which % len(segments)]
            coordinator.submit(Evict("s", segment.segment_id, tier))
            coordinator.poll()

    @rule(part=st.floats(0, 1))
    def trim(self, part: float) -> None:
        """Give up the beginning."""
        before = self.first + round((len(self.records) - self.first) * part)
        self.log.trim(before=before)
        self.first = max(self.first, before)

    # --- reading ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.records) > self.first)
    @rule(which=st.integers(0, 1 << 16))
    def get(self, which: int) -> None:
        """One record."""
        offset = self.first + which % (len(self.records) - self.first)
        assert self.log.get(offset).payload == self.records[offset]

    @rule()
    def read_all(self) -> None:
        """Every record."""
        with self.log.reader() as reader:
            assert list(reader.payloads()) == self.records[self.first :]

    @rule(which=st.integers(0, 1 << 16))
    def seek(self, which: int) -> None:
        """Open a reader, or move the one there is."""
        offset = self.first + which % (len(self.records) - self.first + 1)
        if self.reader is None:
            self.reader = self.log.reader(offset)
        else:
            self.reader.seek(offset)

    @precondition(lambda self: self.reader is not None and self.reader.offset >= self.first)
    @rule(count=st.integers(1, 20))
    def read_on(self, count: int) -> None:
        """Some records from where the reader is."""
        assert self.reader is not None
        for _ in range(count):
            at = self.reader.offset
            record = self.reader.read()
            if record is None:
                break
            assert (record.offset, record.payload) == (at, self.records[at])

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def marks_never_go_back(self) -> None:
        """Offsets and watermarks are those of the list, and only grow."""
        if not self._lives:
            return
        found = self.log.watermarks
        marks = (found.appended, found.local, found.remote)
        assert all(new >= old for new, old in zip(marks, self.marks, strict=True)), (
            marks,
            self.marks,
        )
        assert found.appended == self.log.next_offset == len(self.records)
        assert found.remote <= found.local <= found.appended
        assert self.log.first_offset == self.first
        self.marks = marks


def run_examples(number: int, examples: int, steps: int = STEPS) -> None:
    """Run some examples by one seed; raises what the first failing one does."""
    machine = seed(number)(type("SeededLogMachine", (LogMachine,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
