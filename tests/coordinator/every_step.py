"""One program that has every kind of background work done, and a hook at each durable step of it.

The steps are not listed anywhere: they are the calls to the system and the requests that handlers
make, as the seam and the store see them. A new one is found by itself.
"""

from __future__ import annotations

import errno
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from coordinatorhelp import SteppedClock

import aof2
from aof2 import Tier
from aof2._core import posix
from aof2.coordinator.commands import Command, Evict
from aof2.coordinator.handlers import handle
from aof2.coordinator.runtime import Coordinator
from aof2.objectstore import MemoryStore

KIB = 1 << 10
WRITES = {"pwrite", "fdatasync", "fsync_dir", "rename", "unlink", "fallocate", "ftruncate"}
"""Calls that change what a crash leaves."""
STREAMS = ("one", "two", "three", "four")
ROUNDS_MAX = 300
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB, segment_age_s_max=20.0),
    tier0=aof2.Tier0Config(bytes_max=448 * KIB),
    tier1=aof2.Tier1Config(bytes_max=256 * KIB),
    tier2=aof2.Tier2Config(url="memory://steps"),
    flush=aof2.FlushConfig(ring_bytes=64 * KIB, interval_s=3600),
    manifest=aof2.ManifestConfig(chunk_bytes=16 * KIB, snapshot_chunks=2),
    retention=aof2.RetentionConfig(delete_grace_s=0.0, bytes_max=720 * KIB),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.5),
)


class Place(NamedTuple):
    """A durable step: the command, the call, and which one of its run it is."""

    command: str
    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.command}.{self.call}.{self.nth}"


class Steps:
    """Tells of each durable step that a command makes on its thread.

    Args:
        act: Called before each step with its place; returns an errno to have it fail.
        after: Called after a request.

    Attributes:
        full: Whether the disk has no room for a warm file, so that segments go straight to tier 2.
    """

    def __init__(self, act: Callable[[Place], int], after: Callable[[Place], int]) -> None:
        self.full = False
        self._act, self._after = act, after
        self._now = threading.local()

    def begin(self, command: Command) -> None:
        """A command begins on this thread."""
        self._now.command, self._now.seen = type(command).__name__, Counter()

    def end(self) -> None:
        """What this thread does from here on is no command's work."""
        self._now.command = None

    def _place(self, call: str) -> Place | None:
        command = getattr(self._now, "command", None)
        if command is None:
            return None
        self._now.seen[call] += 1
        return Place(command, call, self._now.seen[call])

    def on_call(self, call: str, *_: object) -> int:
        """The seam's hook."""
        place = self._place(call) if call in WRITES else None
        no_room = self.full and call in ("pwrite", "fallocate")
        if no_room and place is not None and place.command == "Compress":
            return errno.ENOSPC
        return 0 if place is None else self._act(place)

    def request(self, call: str, work: Callable[[], Any]) -> Any:
        """A request that changes something, between two chances to fail."""
        place = self._place(call)
        if place is not None and self._act(place):
            raise aof2.Tier2Unavailable("planned, before the request")
        result = work()
        if place is not None and self._after(place):
            raise aof2.Tier2Unavailable("planned, after the request")
        return result


class StepStore(MemoryStore):
    """A store that tells of its requests."""

    def __init__(self) -> None:
        super().__init__("steps")
        self.steps: Steps | None = None

    def _step(self, call: str, work: Callable[[], Any]) -> Any:
        return work() if self.steps is None else self.steps.request(call, work)

    def put(self, key: str, data: Any, *, crc64: int) -> Any:
        put = super().put
        return self._step("put", lambda: put(key, data, crc64=crc64))

    def replace(self, key: str, data: Any, *, crc64: int) -> Any:
        replace = super().replace
        return self._step("replace", lambda: replace(key, data, crc64=crc64))

    def delete(self, key: str) -> None:
        delete = super().delete
        self._step("delete", lambda: delete(key))


@contextmanager
def stepping(store: StepStore, steps: Steps) -> Iterator[None]:
    """Have the steps told while this lasts."""
    store.steps, before = steps, posix.set_seam_hook(steps.on_call)
    try:
        yield
    finally:
        store.steps = None
        posix.set_seam_hook(before)


@dataclass
class Program:
    """Appends, seals, reads, trims, in two streams; commands run when `poll` is called.

    Attributes:
        taken: What each stream accepted.
        durable: Of how many records it was said that they are durable.
        remote: Of how many that they are in tier 2.
        lost: Whether a stream's writer has stopped.
    """

    root: Path
    store: StepStore
    threads: bool = False
    taken: dict[str, list[bytes]] = field(default_factory=lambda: {name: [] for name in STREAMS})
    durable: Counter[str] = field(default_factory=Counter)
    remote: Counter[str] = field(default_factory=Counter)
    lost: bool = False
    clock: SteppedClock = field(default_factory=SteppedClock)

    def open(self) -> aof2.AofManager:
        """Without workers, unless `threads`."""
        with mock.patch("aof2.opening.open_store", return_value=self.store):
            if self.threads:
                return aof2.open(self.root, config=CONFIG)
            with mock.patch.object(Coordinator, "start", return_value=None):
                return aof2.open(self.root, config=CONFIG, clock=self.clock)

    def run(self, manager: aof2.AofManager) -> None:
        """All kinds of work; ends early where a writer has stopped."""
        self.manager, noise = manager, random.Random(3)
        try:
            logs = [manager.stream(name) for name in STREAMS]
            for turn in range(16):
                # The others sleep in between, so that they have to give back what they hold.
                for log in logs if turn % 8 == 0 else logs[:1]:
                    for _ in range(4):
                        payload = b"%d." % turn + noise.randbytes(9 * KIB)
                        self.until(lambda log=log, p=payload: self.append(log, p))
                    if turn % 4 == 3:
                        self.until(log.seal_nowait)
                        self.flushed(log)
            self.settle()
            self._visit(logs[0])
            self._damage(logs[0])
            self._go_straight(logs[0], noise)
            first = logs[0].segments()[2].base_offset
            self.until(lambda: logs[0].trim_nowait(first))
            self.until(lambda: self._deleted(logs[0]))
            self._outgrow(logs[0], noise)
            self.settle()
        except aof2.DurabilityLost:
            self.lost = True

    def run_until_closed(self, manager: aof2.AofManager) -> None:
        """The same, on a thread, until somebody closes the manager."""
        with suppress(aof2.Closed):
            self.run(manager)

    def append(self, log: aof2.Aof, payload: bytes) -> None:
        log.append_nowait(payload)
        self.taken[log.name].append(payload)

    def flushed(self, log: aof2.Aof) -> None:
        """What was appended is durable from here on."""
        log.flush(timeout=20)
        self.durable[log.name] = len(self.taken[log.name])

    def _visit(self, log: aof2.Aof) -> None:
        """Read cold records more than once, so that their segments come back."""
        for _ in range(3):
            for info in log.segments()[:3]:
                log.get(info.base_offset, timeout=20)
                with log.reader(start=info.base_offset, stop=info.base_offset + 1) as reader:
                    assert len(list(reader)) == 1
            self.clock.step(2.0)
            if not self.threads:
                self.manager._coordinator.poll()
            if self.store.steps is not None:
                self.store.steps.end()

    def _go_straight(self, log: aof2.Aof, noise: random.Random) -> None:
        """Two segments that get no warm file."""
        assert self.store.steps is not None
        self.store.steps.full = True
        for _ in range(8):
            payload = b"straight." + noise.randbytes(9 * KIB)
            self.until(lambda p=payload: self.append(log, p))
        self.until(log.seal_nowait)
        self.settle()
        self.store.steps.full = False

    def _outgrow(self, log: aof2.Aof, noise: random.Random) -> None:
        """More than the stream keeps: its beginning is given up without anybody's doing."""
        first = log.first_offset
        for _ in range(32):
            payload = b"more." + noise.randbytes(9 * KIB)
            self.until(lambda p=payload: self.append(log, p))
        self.until(lambda: self._deleted(log))
        assert log.first_offset > first or self.threads

    def _damage(self, log: aof2.Aof) -> None:
        """Damage a warm copy that is all there is here, and have it found and made again."""
        lower = {Tier.WARM, Tier.COLD}
        one = next(info for info in reversed(log.segments()) if info.residency >= lower)
        stream = self.manager._instances[log.name]
        if Tier.HOT in one.residency:
            handle(Evict(log.name, one.segment_id, Tier.HOT), self.manager._context)
        path = Path(stream.warm.directory.join(stream.warm.name(one.segment_id)))
        data = path.read_bytes()
        path.write_bytes(data[:64] + bytes(len(data) - 128) + data[-64:])
        stream.drop_open(one.segment_id)
        with log.reader(start=one.base_offset, stop=one.end_offset) as reader:
            assert list(reader.payloads()) == self.taken[log.name][one.base_offset : one.end_offset]
        assert stream.hydration.is_pending(one.segment_id) or self.threads
        self.until(lambda: self._replaced(log, one.segment_id))

    def _replaced(self, log: aof2.Aof, segment_id: int) -> None:
        self.manager._check_open()
        self.manager._instances[log.name].check_seals()
        if self.manager._instances[log.name].hydration.is_pending(segment_id):
            raise aof2.WouldBlock("the copy", kind=aof2.WouldBlockKind.HYDRATION)

    def _deleted(self, log: aof2.Aof) -> None:
        self.manager._check_open()
        self.manager._instances[log.name].check_manifest()
        if self.manager._instances[log.name].remote.deletes:
            raise aof2.WouldBlock("deletions", kind=aof2.WouldBlockKind.REMOTE)

    def settle(self) -> None:
        """Everything is in tier 2."""
        self.until(lambda: self.manager.drain_nowait("remote"))
        for name in STREAMS:
            self.durable[name] = self.remote[name] = len(self.taken[name])

    def until(self, work: Callable[[], object]) -> None:
        """Try until it succeeds, while commands run and time passes."""
        pause = threading.Event()
        for _ in range(20 * ROUNDS_MAX if self.threads else ROUNDS_MAX):
            try:
                work()
                return
            except (aof2.WouldBlock, aof2.RolloverFailed):
                if self.threads:
                    pause.wait(0.002)
                    continue
            self.manager._coordinator.poll()
            if self.store.steps is not None:
                self.store.steps.end()
            self.clock.step(5.0)
            # What the threads of the core do is waited for where it matters.
            for log in self.manager._streams.values():
                with suppress(aof2.WouldBlock, aof2.NotYetDurable):
                    log.flush(timeout=20)
        raise AssertionError("it would wait for ever")

    def check_reopened(self) -> None:
        """An exact prefix, with all that was acknowledged; and the work goes on to its end."""
        manager = self.manager = self.open()
        try:
            for name in STREAMS:
                log, taken = manager.stream(name), self.taken[name]
                found = list(log.reader().payloads())
                first = log.first_offset
                assert taken[first : first + len(found)] == found, f"{name}: not a prefix"
                assert first + len(found) >= self.durable[name], f"{name}: acknowledged, not there"
                assert log.next_offset == first + len(found)
                del taken[first + len(found) :]
            self.until(lambda: manager.drain_nowait("remote"))
            for name in STREAMS:
                log = manager.stream(name)
                assert log.watermarks.remote == log.next_offset
                assert list(log.reader().payloads()) == self.taken[name][log.first_offset :]
        finally:
            manager.close()


def failing(place: Place, *, after: bool = False, turn: int = 1) -> Steps:
    """Steps of which one fails, the `turn`-th time that it comes."""
    left = [turn]

    def fail(here: Place) -> int:
        if here != place:
            return 0
        left[0] -= 1
        return errno.EIO if left[0] == 0 else 0

    def pass_by(here: Place) -> int:
        return 0

    return Steps(pass_by, fail) if after else Steps(fail, pass_by)


def every_place(root: Path) -> Counter[Place]:
    """All durable steps that the program makes, with how often each."""
    found: Counter[Place] = Counter()

    def note(place: Place) -> int:
        found[place] += 1
        return 0

    program = Program(root, StepStore())
    manager = program.open()
    steps = Steps(note, lambda place: 0)
    manager._coordinator.before = steps.begin
    with stepping(program.store, steps):
        program.run(manager)
    assert not program.lost
    manager.close()
    return found
