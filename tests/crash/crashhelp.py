"""What the crash tests share: payloads that name themselves, checks of a prefix, small roots."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import aof2

KIB = 1024
FRAMES_AT = 8192
PROJECT = Path(__file__).resolve().parents[2]


def config(segment_bytes: int = 64 * KIB, **flush: float) -> aof2.AofManagerConfig:
    """Small segments, so that rollovers, seals and compressions happen by themselves."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        tier0=aof2.Tier0Config(bytes_max=64 * segment_bytes),
        flush=aof2.FlushConfig(**flush),  # type: ignore[arg-type]
        coordinator=aof2.CoordinatorConfig(workers=2),
    )


def payload(offset: int) -> bytes:
    """The payload of an offset: its number, and a length that depends on it."""
    return b"%d." % offset * (1 + offset * 7919 % 60)


def fill(log: aof2.Aof, upto: int, seed: int = 0) -> None:
    """Append single records and batches until the stream has `upto` records."""
    chance = random.Random(seed)
    while (n := log.next_offset) < upto:
        if chance.random() < 0.5:
            log.append(payload(n))
        else:
            log.append_many([payload(k) for k in range(n, min(upto, n + chance.randrange(1, 8)))])


def check(log: aof2.Aof, at_least: int = 0) -> int:
    """The stream is an exact prefix with at least so many records; returns how many it has."""
    records = list(log.reader())
    assert [r.offset for r in records] == list(range(len(records)))
    assert len(records) == log.next_offset >= at_least, (len(records), log.next_offset, at_least)
    wrong = [r.offset for r in records if r.payload != payload(r.offset)]
    assert wrong == []
    assert log.watermarks.local == log.next_offset
    return len(records)


def reopen(root: Path, at_least: int = 0) -> tuple[int, aof2.RecoveryReport]:
    """Open twice: an exact prefix, the same each time, and it can be appended to; the first
    report."""
    with aof2.open(root, config=config()) as manager:
        log = manager.stream("a", create=at_least == 0)
        report = log.recovery
        count = check(log, at_least)
        assert report.records == count
    with aof2.open(root, config=config()) as manager:
        log = manager.stream("a")
        assert log.recovery.truncated_bytes == 0
        assert check(log) == count
        fill(log, count + 5)
        log.flush()
        assert check(log) == count + 5
    return count, report


def copy_of(root: Path, to: Path) -> Path:
    """The root as a process that died now would leave it."""

    def copy(source: str, target: str) -> None:
        # A spare or a pointer may get its final name meanwhile; neither is ever required.
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, target)

    shutil.copytree(root, to, copy_function=copy)
    (to / "LOCK").unlink(missing_ok=True)
    return to


def segments(root: Path) -> list[Path]:
    """Segment files of the stream that hold frames, oldest first."""
    return [path for path in sorted(root.glob("*/segments/*.seg")) if frames(path)]


def frames(path: Path) -> list[tuple[int, int]]:
    """`(position, bytes)` of every frame in a segment, by its lengths alone."""
    data, at, found = path.read_bytes(), FRAMES_AT, []
    while at + 32 <= len(data) and (size := struct.unpack_from("<I", data, at)[0]):
        found.append((at, size))
        at += size + 7 & ~7
    return found


def python(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """A Python process that can import the project and this directory."""
    path = os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )
