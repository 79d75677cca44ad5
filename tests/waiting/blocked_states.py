"""Real states in which each operation of the interface has to wait, and how to end them."""

from __future__ import annotations

import errno
import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import aof2
from aof2._core import posix
from aof2.coordinator.commands import Compress, Prepare, Rollover, Upload
from aof2.manager import FETCHES_MAX

KIB = 1024
RECORD = bytes(1000)
HOUR = aof2.FlushConfig(ring_bytes=64 * KIB, interval_s=3600)


class Held:
    """Something that is held until `release`."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, *_: object) -> int:
        self.event.wait(30)
        return 0

    def release(self) -> None:
        self.event.set()


Blocked = tuple[Any, Held]
"""The object whose operation has to wait, and what holds it."""


@contextmanager
def device_held(root: Path, *operations: str) -> Iterator[tuple[aof2.AofManager, aof2.Aof, Held]]:
    """Threads of the library wait in a system call."""
    held, main = Held(), threading.main_thread()

    def hook(operation: str, *_: object) -> int:
        on_main = threading.current_thread() is main
        return held() if operation in operations and not on_main else 0

    with aof2.open(root, config=aof2.AofManagerConfig(flush=HOUR)) as manager:
        log = manager.stream("a")
        log.append(b"first", durable=True)
        before = posix.set_seam_hook(hook)
        try:
            yield manager, log, held
        finally:
            held.release()
            posix.set_seam_hook(before)


@contextmanager
def ring_full(root: Path) -> Iterator[Blocked]:
    """An append finds no room in the landing ring."""
    with device_held(root, "pwrite", "fdatasync") as (_, log, held):
        try:
            while True:
                log.append_nowait(RECORD)
        except aof2.WouldBlock:
            pass
        yield log, held


@contextmanager
def ring_brimful(root: Path) -> Iterator[Blocked]:
    """Not even an END fits into the landing ring."""
    with ring_full(root) as (log, held):
        for record in (bytes(100), b""):
            until_refused(lambda r=record: log.append_nowait(r), KIND.FLUSH)
        yield log, held


@contextmanager
def sync_held(root: Path) -> Iterator[Blocked]:
    """Nothing becomes durable."""
    with device_held(root, "fdatasync") as (_, log, held):
        log.append(RECORD)
        yield log, held


@contextmanager
def command_held(root: Path, kind: type, **options: Any) -> Iterator[tuple[Any, Any, Held]]:
    """Commands of a kind do not run."""
    held = Held()
    with aof2.open(root, **options) as manager:
        coordinator = manager._coordinator
        coordinator.before = lambda command: held() if isinstance(command, kind) else None
        try:
            yield manager, manager.stream("a"), held
        finally:
            held.release()


@contextmanager
def no_segment(root: Path) -> Iterator[Blocked]:
    """An append finds no segment."""
    with command_held(root, Prepare) as (_, log, held):
        yield log, held


@contextmanager
def tier0_full(root: Path) -> Iterator[Blocked]:
    """An append finds no room in tier 0; the release gives back what somebody else holds."""
    with aof2.open(root) as manager:
        log, budget = manager.stream("a"), manager._context.tier0
        held, guard = Held(), budget.claim(budget.room)
        assert guard is not None
        held.release = guard.drop  # type: ignore[method-assign]
        try:
            yield log, held
        finally:
            held.release()


SMALL = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=384 * KIB),
    tier1=aof2.Tier1Config(bytes_max=128 * KIB),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
)


@contextmanager
def backlog(root: Path) -> Iterator[Blocked]:
    """Both local tiers are full, and tier 2 takes nothing."""
    options = {"tier2": root / "cold", "config": SMALL}
    with command_held(root, Upload, **options) as (manager, log, held):
        noise, settled = random.Random(7), False
        while not settled:
            # Compressions that are under way still make room.
            settled = manager._coordinator.is_settled(lambda c: not isinstance(c, Upload))
            for size in (20 * KIB, len(RECORD)):
                append = functools.partial(log.append_nowait, noise.randbytes(size))
                until_refused(append, KIND.TIER2_BACKLOG)
        yield log, held


def until_refused(append: Callable[[], object], kind: aof2.WouldBlockKind) -> None:
    """Append until that is refused for a reason, and waits for others."""
    for _ in range(100_000):
        try:
            append()
        except aof2.WouldBlock as blocked:
            if blocked.kind is kind:
                return
            blocked.wait(0.1)
    raise AssertionError(f"{kind} never came")


@contextmanager
def disk_full(root: Path) -> Iterator[Blocked]:
    """No file can be allocated."""
    full, held = [True], Held()
    held.release = full.clear  # type: ignore[method-assign]

    def hook(operation: str, *_: object) -> int:
        return errno.ENOSPC if full and operation == "fallocate" else 0

    with aof2.open(root, config=SMALL) as manager:
        log = manager.stream("a")
        log.append(RECORD)
        before = posix.set_seam_hook(hook)
        try:
            until_refused(lambda: log.append_nowait(RECORD), KIND.DISK_FULL)
            yield log, held
        finally:
            held.release()
            posix.set_seam_hook(before)


@contextmanager
def seal_held(root: Path) -> Iterator[Blocked]:
    """A seal is not acknowledged."""
    with command_held(root, Rollover) as (_, log, held):
        log.append(RECORD)
        yield log, held


@contextmanager
def upload_held(root: Path) -> Iterator[Blocked]:
    """Nothing reaches tier 2."""
    with command_held(root, Upload, tier2=root / "cold") as (_, log, held):
        log.append(RECORD)
        yield log, held


@contextmanager
def compression_held(root: Path) -> Iterator[Blocked]:
    """Background work does not settle."""
    with command_held(root, Compress) as (manager, log, held):
        log.append(RECORD)
        log.seal()
        yield manager, held


@contextmanager
def flush_held(root: Path) -> Iterator[Blocked]:
    """A drain waits for a sync first."""
    with device_held(root, "fdatasync") as (manager, log, held):
        log.append(RECORD)
        yield manager, held


@contextmanager
def drain_held(root: Path) -> Iterator[Blocked]:
    """A drain waits for tier 2."""
    with command_held(root, Upload, tier2=root / "cold") as (manager, log, held):
        log.append(RECORD)
        log.seal()
        yield manager, held


@contextmanager
def tail(root: Path) -> Iterator[Blocked]:
    """A reader is at the end; the release is an append."""
    with aof2.open(root) as manager:
        log = manager.stream("a")
        held = Held()
        held.release = lambda: log.append(RECORD)  # type: ignore[method-assign]
        yield log.reader(follow=True), held


@contextmanager
def cold(root: Path, choose: Callable[[aof2.Aof], Any]) -> Iterator[Blocked]:
    """Every record is in tier 2 only, and the threads that fetch are busy."""
    held = Held()
    with aof2.open(root) as manager:
        log = manager.stream("a")
        log.append(RECORD)
        log.seal()
        instance = manager._instances["a"]
        instance.nearest = lambda segment_id, but=(): aof2.Tier.COLD  # type: ignore[method-assign]
        instance.lowest = lambda: aof2.Tier.COLD  # type: ignore[method-assign]
        for _ in range(FETCHES_MAX):
            manager._pool().submit(held)
        try:
            yield choose(log), held
        finally:
            held.release()


@contextmanager
def cold_get(root: Path) -> Iterator[Blocked]:
    """`get` of a record in tier 2."""
    with cold(root, lambda log: log) as blocked:
        yield blocked


@contextmanager
def cold_read(root: Path) -> Iterator[Blocked]:
    """A reader whose next record is in tier 2."""
    with cold(root, lambda log: log.reader()) as blocked:
        yield blocked


@contextmanager
def recovery(root: Path) -> Iterator[Blocked]:
    """Another thread is opening a stream."""
    with aof2.open(root) as manager:
        held, taken = Held(), threading.Event()

        def hold() -> None:
            with manager._lock:
                taken.set()
                held()

        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait(10)
        try:
            yield manager, held
        finally:
            held.release()
            thread.join()


KIND = aof2.WouldBlockKind
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
PACKED = (RECORD, np.array([1000], np.int32))

APPENDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("Aof.append", (RECORD,)),
    ("Aof.append_many", ([RECORD],)),
    ("Aof.append_packed", PACKED),
)
NO_ROOM = (
    (tier0_full, KIND.ADMISSION),
    (no_segment, KIND.ROLLOVER),
    (ring_full, KIND.FLUSH),
    (backlog, KIND.TIER2_BACKLOG),
    (disk_full, KIND.DISK_FULL),
)

STATES: list[tuple[str, Any, tuple[Any, ...], aof2.WouldBlockKind, type[Exception]]] = [
    *(
        (operation, state, arguments, kind, aof2.WaitTimeout)
        for operation, arguments in APPENDS
        for state, kind in NO_ROOM
    ),
    ("Aof.flush", sync_held, (), KIND.FLUSH, aof2.NotYetDurable),
    ("Aof.wait", sync_held, (1,), KIND.FLUSH, aof2.NotYetDurable),
    ("Aof.wait", upload_held, (0, "remote"), KIND.REMOTE, aof2.NotYetDurable),
    ("Aof.trim", sync_held, (1,), KIND.FLUSH, aof2.NotYetDurable),
    ("Aof.seal", seal_held, (), KIND.ROLLOVER, aof2.WaitTimeout),
    ("Aof.seal", ring_brimful, (), KIND.FLUSH, aof2.WaitTimeout),
    ("Aof.get", cold_get, (0,), KIND.HYDRATION, aof2.WaitTimeout),
    ("AofReader.read", tail, (), KIND.TAIL, aof2.WaitTimeout),
    ("AofReader.read", cold_read, (), KIND.HYDRATION, aof2.WaitTimeout),
    ("AofReader.read_batch", tail, (100,), KIND.TAIL, aof2.WaitTimeout),
    ("AofReader.read_batch", cold_read, (), KIND.HYDRATION, aof2.WaitTimeout),
    ("AofReader.seek", cold_read, (LONG_AGO,), KIND.HYDRATION, aof2.WaitTimeout),
    ("AofManager.stream", recovery, ("b",), KIND.HYDRATION, aof2.WaitTimeout),
    ("AofManager.drain", compression_held, (), KIND.ROLLOVER, aof2.WaitTimeout),
    ("AofManager.drain", flush_held, (), KIND.FLUSH, aof2.WaitTimeout),
    ("AofManager.drain", drain_held, ("remote",), KIND.REMOTE, aof2.WaitTimeout),
]
"""Operation, state, arguments, kind of the `WouldBlock`, error when the time is up."""
