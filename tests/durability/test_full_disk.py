"""A full disk, on file systems that are really full: ordinary answers, and work goes on later."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aof2
from aof2._core import posix
from aof2.clock import Clock

KIB = 1024
BODY_BYTES = 3000
RETRY = aof2.CoordinatorConfig(retry_delay_s=0.02)


def settings(tier2: Path | None = None, **more: object) -> aof2.AofManagerConfig:
    """Little of everything: a disk of some hundred KiB has room for it, and chunks and snapshots
    come often."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=64 * KIB * KIB if tier2 is None else 256 * KIB),
        tier2=None if tier2 is None else aof2.Tier2Config(url=str(tier2)),
        coordinator=RETRY,
        flush=aof2.FlushConfig(ring_bytes=64 * KIB),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 * KIB, snapshot_chunks=1, publish_interval_s=0.01
        ),
        wait_timeout_s=20,
    )


def occupy(path: Path, leave_bytes: int = 0) -> None:
    """Take all room of a file system, but so many bytes."""
    free = os.statvfs(path.parent)
    taken = free.f_bavail * free.f_frsize - leave_bytes
    with path.open("wb") as file:
        if taken > 0:
            os.posix_fallocate(file.fileno(), 0, taken)


def append_until_refused(log: aof2.Aof, bodies: list[bytes]) -> BaseException:
    """Append until that is refused for more than a moment; the answer."""
    while True:
        body = os.urandom(BODY_BYTES)
        try:
            log.append(body, timeout=0.5)
        except (aof2.WouldBlock, aof2.StorageFull) as error:
            return error
        bodies.append(body)


def check_same(log: aof2.Aof, bodies: list[bytes]) -> None:
    assert log.next_offset == len(bodies)
    assert list(log.reader().payloads()) == bodies


def temporaries(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if ".tmp" in path.name or ".new" in path.name]


@pytest.mark.parametrize("disk_kib", [250, 290, 350, 420, 510, 640, 900, 1500, 3000])
def test_wherever_the_room_ends_appends_are_refused_and_go_on_later(small_disk, disk_kib):
    """Goal: promise 7, whatever meets the end of the disk: ring, segment, warm file, chunk,
    snapshot. Method: disks of many sizes; append until refused; read, flush; make room; the same
    handle goes on; every copy checks, and nothing half-made stays."""
    disk = small_disk(disk_kib)
    root, bodies = disk / "root", []
    with aof2.open(root, config=settings()) as manager:
        log = manager.stream("a")
        occupy(disk / "ballast", disk_kib * KIB // 2)
        answer = append_until_refused(log, bodies)
        assert isinstance(answer, aof2.WaitTimeout)
        assert answer.kind is aof2.WouldBlockKind.DISK_FULL
        with pytest.raises(aof2.WouldBlock) as caught:
            log.append_nowait(os.urandom(BODY_BYTES))
        assert caught.value.kind is aof2.WouldBlockKind.DISK_FULL
        assert [reason.code for reason in manager.health().reasons] == ["disk_full"]
        log.flush()
        check_same(log, bodies)
        (disk / "ballast").unlink()
        for _ in range(10):
            bodies.append(os.urandom(BODY_BYTES))
            assert log.append(bodies[-1], durable=True) == len(bodies) - 1
    assert temporaries(root) == []
    with aof2.open(root, config=settings()) as manager:
        check_same(manager.stream("a"), bodies)
    assert aof2.verify(root).is_good


def test_a_stream_that_finds_no_room_is_not_there_at_all(small_disk):
    """Goal: a stream is made whole or not. Method: a page more room each time, until there
    is enough."""
    disk = small_disk(400)
    root = disk / "root"
    with aof2.open(root, config=settings()) as manager:
        refused = 0
        while "a" not in manager.streams():
            occupy(disk / "ballast", refused * 4 * KIB)
            try:
                log = manager.stream("a")
            except aof2.StorageFull:
                refused += 1
                assert list(manager.streams()) == []
                assert temporaries(root) == []
            (disk / "ballast").unlink()
        assert refused > 3
        log.append(b"first", durable=True)
    assert aof2.verify(root).is_good


def test_a_full_disk_above_a_bucket_keeps_going(small_disk, tmp_path):
    """Goal: reads of tier 2 need no room, and segments pass straight to tier 2. Method: most of it
    in tier 2 only; no page free; read, append more than the disk could hold; make room."""
    disk = small_disk(6 * KIB)
    root, cold = disk / "root", tmp_path / "cold"
    bodies = [os.urandom(BODY_BYTES) for _ in range(400)]
    with aof2.open(root, config=settings(cold)) as manager:
        log = manager.stream("a")
        log.extend(bodies)
        manager.drain("remote")
        oldest = log.segments()[0]
        assert oldest.residency == {aof2.Tier.COLD}
        occupy(disk / "ballast")
        check_same(log, bodies)
        for _ in range(3):
            part = [os.urandom(BODY_BYTES) for _ in range(1000)]
            log.extend(part)
            bodies += part
        check_same(log, bodies)
        (disk / "ballast").unlink()
        manager.drain("remote")
        bodies.append(b"more")
        log.append(b"more", durable=True)
    assert temporaries(root) == []
    assert aof2.verify(root, tier2=cold).is_good


def test_a_hydration_without_room_leaves_nothing_and_is_read_where_it_is(tmp_path):
    """Goal: want of room for a hydration costs nothing but the hydration. Method: nothing can be
    allocated; hydrate, read; then again with room."""
    root, cold = tmp_path / "root", tmp_path / "cold"
    bodies = [os.urandom(BODY_BYTES) for _ in range(400)]
    with aof2.open(root, config=settings(cold)) as manager:
        log = manager.stream("a")
        log.extend(bodies)
        manager.drain("remote")
        oldest = log.segments()[0]
        assert oldest.residency == {aof2.Tier.COLD}

        def hydrate() -> None:
            log._instance.hydration.hydrate(oldest.segment_id).block(Clock().monotonic_s() + 20)

        posix.set_seam_hook(lambda op, *_: errno.ENOSPC if op == "fallocate" else 0)
        try:
            with pytest.raises(aof2.HydrationFailed, match="No space left"):
                hydrate()
            assert list(root.glob("*/segments/*tmp*")) == []
            assert log.segments()[0].residency == {aof2.Tier.COLD}
            check_same(log, bodies)
        finally:
            posix.set_seam_hook(None)
        hydrate()
        assert aof2.Tier.HOT in log.segments()[0].residency
        check_same(log, bodies)
    assert aof2.verify(root, tier2=cold).is_good


KILLED = """
import os, signal, sys, aof2
sys.path.insert(0, sys.argv[2])
from test_full_disk import settings
manager = aof2.open(sys.argv[1], config=settings())
log = manager.stream("a")
for n in range(60):
    log.append(b"%d" % n * 500, durable=n == 20)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_recovery_on_a_full_disk_loses_nothing(small_disk):
    """Goal: what a crash left is served and sealed without room. Method: kill a writer, fill the
    disk; open readonly, then to write; make room; append."""
    disk = small_disk(1000)
    root = disk / "root"
    here = str(Path(__file__).parent)
    child = subprocess.run([sys.executable, "-c", KILLED, str(root), here], check=False)
    assert child.returncode == -signal.SIGKILL
    bodies = [b"%d" % n * 500 for n in range(60)]
    occupy(disk / "ballast")
    with aof2.open(root, readonly=True) as manager:
        check_same(manager.stream("a"), bodies)
    with aof2.open(root, config=settings()) as manager:
        log = manager.stream("a")
        check_same(log, bodies)
        answer = append_until_refused(log, bodies)
        assert isinstance(answer, aof2.WaitTimeout)
        assert answer.kind is aof2.WouldBlockKind.DISK_FULL
        (disk / "ballast").unlink()
        bodies.append(b"more")
        log.append(b"more", durable=True)
        check_same(log, bodies)
    assert aof2.verify(root).is_good
