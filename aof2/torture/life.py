"""A small life of a root whose every step is logged: what it does is a row of words."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aof2
from aof2.objectstore import MemoryStore
from aof2.torture.byhand import SteppedClock, no_workers
from aof2.torture.facts import tell

KIB = 1 << 10
ROUNDS_MAX = 50
FLUSH_S = 5.0
_names = itertools.count()

Objects = dict[str, tuple[bytes, int]]


class ToldStore(MemoryStore):
    """Objects in memory; each change is told.

    Attributes:
        states: All objects after each change.
    """

    def __init__(self, name: str, objects: Objects) -> None:
        super().__init__(name)
        self._objects = dict(objects)
        self.states: list[Objects] = [dict(objects)]

    def _changed(self) -> None:
        self.states.append(dict(self._objects))
        tell("objects", "", len(self.states) - 1)

    def put(self, key: str, data: Any, *, crc64: int) -> Any:
        done = super().put(key, data, crc64=crc64)
        self._changed()
        return done

    def replace(self, key: str, data: Any, *, crc64: int) -> Any:
        done = super().replace(key, data, crc64=crc64)
        self._changed()
        return done

    def delete(self, key: str) -> None:
        super().delete(key)
        self._changed()


@dataclass(frozen=True)
class Workload:
    """What a life does.

    Attributes:
        name: As messages know it.
        words: In this order; each is a method of `Life`.
        before: Done first, and not part of what is cut.
        after: What became of it then: `closed`, `killed`, or the root is `lost`.
        bytes_max: Records have up to so many bytes.
        tier2: Whether there is one.
        fails: Whether a word makes a sync fail.
        strict: Whether each flush is stated in the segment before it counts.
        direct: Whether segments are written past the page cache.
        ring_bytes, interval_s, segment_bytes: As configured.
    """

    name: str
    words: str
    before: str = ""
    after: str = "closed"
    bytes_max: int = 400
    tier2: bool = False
    fails: bool = False
    strict: bool = False
    direct: bool = False
    ring_bytes: int = 64 * KIB
    interval_s: float = 3600.0
    segment_bytes: int = 64 * KIB

    def config(self, tier2: str) -> aof2.AofManagerConfig:
        """Small chunks and budgets, nothing that happens by itself."""
        return aof2.AofManagerConfig(
            segment=aof2.SegmentConfig(
                segment_bytes_max=self.segment_bytes, segment_age_s_max=float("inf")
            ),
            tier0=aof2.Tier0Config(bytes_max=8 * self.segment_bytes),
            tier1=aof2.Tier1Config(bytes_max=8 * self.segment_bytes, frame_bytes=16 * KIB),
            tier2=aof2.Tier2Config(url=f"memory://{tier2}") if self.tier2 else None,
            flush=aof2.FlushConfig(
                interval_s=self.interval_s,
                confirm_interval_s=0.002,
                ring_bytes=self.ring_bytes,
                strict=self.strict,
                write_out="direct" if self.direct else "buffered",
            ),
            manifest=aof2.ManifestConfig(
                chunk_bytes=16 * KIB, snapshot_chunks=1, publish_interval_s=0.01
            ),
            retention=aof2.RetentionConfig(delete_grace_s=0),
            wait_timeout_s=5,
        )


def payload(stream: str, offset: int, bytes_max: int) -> bytes:
    """The payload of an offset: it names itself."""
    text = b"%s.%d." % (stream.encode(), offset)
    return text * (1 + offset * 7919 % max(1, bytes_max // len(text)))


class Life:
    """One life of one root.

    Args:
        workload: What it does.
        seed: Decides how often and how much.
        root: An empty directory.
        objects: What tier 2 begins with.
    """

    def __init__(self, workload: Workload, seed: int, root: Path, objects: Objects) -> None:
        self.workload = workload
        self.root = root
        self.store = ToldStore(f"life-{next(_names)}", objects)
        self._chance = random.Random(seed)
        self._clock = SteppedClock(seed)
        self._config = workload.config(self.store._name)
        self._manager: aof2.AofManager | None = None
        self._stream = "a"
        self._syncs_to_failure = 0

    def run(self, words: str) -> None:
        """Do what the words say; the manager stays open."""
        MemoryStore.stand_in(self.store._name, self.store)
        try:
            with no_workers():
                for word in words.split():
                    name, _, times = word.partition("*")
                    action: Callable[[], None] = getattr(self, f"do_{name}")
                    for _ in range(int(times or 1)):
                        action()
        finally:
            MemoryStore.forget(self.store._name)

    # --- the means --------------------------------------------------------------------------------

    @property
    def manager(self) -> aof2.AofManager:
        """The manager; opened where there is none."""
        if self._manager is None:
            self._manager = aof2.open(self.root, config=self._config, clock=self._clock)
        return self._manager

    @property
    def log(self) -> aof2.Aof:
        """The stream that the words are about."""
        return self.manager.stream(self._stream)

    def _work(self) -> None:
        coordinator = self.manager._coordinator
        coordinator.kick()
        coordinator.poll()
        self._clock.step(1.0)

    def _until(self, action: Callable[[], object]) -> None:
        """Do it, with background work in between where it waits for that."""
        for _ in range(ROUNDS_MAX):
            try:
                action()
                return
            except aof2.WouldBlock as blocked:
                self._work()
                # Write-out has a thread of its own, which a loaded machine may not have run yet.
                if blocked.kind is aof2.WouldBlockKind.FLUSH:
                    blocked.wait(FLUSH_S)
        action()

    def _next(self, count: int) -> list[bytes]:
        first = self.log.next_offset
        tell("issued", self._stream, first + count)
        return [
            payload(self._stream, n, self.workload.bytes_max) for n in range(first, first + count)
        ]

    def _returned(self) -> None:
        tell("returned", self._stream, self.log.next_offset)
        tell("durable", self._stream, self.log.watermarks.local)

    def leave(self) -> None:
        """Close the manager where it is open, whatever it says."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with suppress(aof2.AofError):
                manager.close()

    # --- the words --------------------------------------------------------------------------------

    def do_one(self) -> None:
        """Append a record."""
        (data,) = self._next(1)
        self._until(lambda: self.log.append_nowait(data))
        self._returned()

    def do_some(self) -> None:
        """Append a few, one by one."""
        for _ in range(self._chance.randrange(1, 12)):
            self.do_one()

    def do_batch(self) -> None:
        """Append a batch."""
        most = max(2, 8 * KIB // self.workload.bytes_max)
        parts = self._next(self._chance.randrange(1, most))
        self._until(lambda: self.log.append_many_nowait(parts))
        self._returned()

    def do_fill(self) -> None:
        """Append until the segment ends."""
        segments = len(self.log.segments())
        while len(self.log.segments()) <= segments:
            self.do_batch()

    def do_durable(self) -> None:
        """Append a record and wait until it is durable."""
        (data,) = self._next(1)
        self._until(lambda: self.log.append_nowait(data))
        self.do_flush()

    def do_flush(self) -> None:
        """Make all durable."""
        upto = self.log.next_offset
        self.log.flush()
        tell("durable", self._stream, upto)

    def do_seal(self) -> None:
        """Seal the active segment."""
        self._until(self.log.seal_nowait)
        self._returned()

    def do_end(self) -> None:
        """End the active segment, and begin the next one, without sealing."""
        writer = self.log._instance.writer
        assert writer is not None
        writer.end_segment()

    def do_work(self) -> None:
        """Let background work do all that it can."""
        for _ in range(4):
            self._work()
        if self.workload.tier2:
            tell("remote", self._stream, self.log.watermarks.remote)

    def do_step(self) -> None:
        """Let background work do one thing."""
        self.manager._coordinator.kick()
        self.manager._coordinator.step()
        self._clock.step(0.5)

    def do_pause(self) -> None:
        """Let the threads of the core do what they do when nothing is asked for."""
        aof2.clock.Clock().sleep(0.01)
        tell("durable", self._stream, self.log.watermarks.local)

    def do_trim(self) -> None:
        """Give up the older half."""
        first, end = self.log.first_offset, self.log.next_offset
        before = self._chance.randrange(first, end + 1)
        tell("trims", self._stream, before)
        self._until(lambda: self.log.trim(before))
        tell("trimmed", self._stream, self.log.first_offset)

    def do_other(self) -> None:
        """From now on it is about the other stream."""
        self._stream = "b" if self._stream == "a" else "a"

    def do_close(self) -> None:
        """Close the manager; all is durable then."""
        ends = {name: log.next_offset for name, log in self.manager._streams.items()}
        self.manager.close()
        self._manager = None
        for name, end in ends.items():
            tell("durable", name, end)

    def do_break(self) -> None:
        """The next sync of a file fails; the writer is lost, and a new one recovers."""
        self._fail_sync(1)

    def do_break_second(self) -> None:
        """The sync after that fails: that of a slot, of a strict flush or of the close."""
        self._fail_sync(2)

    def _fail_sync(self, number: int) -> None:
        self._syncs_to_failure = number
        with suppress(aof2.DurabilityLost):
            self.log.flush()
        with suppress(aof2.DurabilityLost):
            self.manager.close()
        self._manager = None
        tell("durable", self._stream, self.log.watermarks.local)

    def hook(self, op: str, *_: object) -> int:
        """What the seam asks before each call."""
        if self._syncs_to_failure and op == "fdatasync":
            self._syncs_to_failure -= 1
            if self._syncs_to_failure == 0:
                return errno.EIO
        return 0
