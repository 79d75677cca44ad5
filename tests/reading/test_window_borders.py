"""Frames across the borders of the windows that readers go through, their headers too."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import aof2
from aof2._core.cursor import CursorStatus, RecordCursor
from aof2._core.directory import Directory
from aof2._core.mapping import MappedSegment
from aof2._core.window import Window

KIB = 1024
HEADER_BYTES = 32
FRAMES_AT = 8192
STRETCH_BYTES = 4096 * KIB
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=8192 * KIB, segment_age_s_max=None),
    tier0=aof2.Tier0Config(bytes_max=64 * 1024 * KIB),
    tier1=aof2.Tier1Config(frame_bytes=64 * KIB),
)


def fill(log: aof2.Aof, border: int, before: int, small: bool) -> list[bytes]:
    """Append records so that a frame begins `before` bytes before a position; all payloads."""
    chance = random.Random(before)
    payloads: list[bytes] = []
    position = FRAMES_AT
    while position < border - before:
        left = border - before - position - HEADER_BYTES
        size = left if not small or left < 4000 else chance.randrange(8, 2000, 8)
        payloads.append(chance.randbytes(size))
        position += HEADER_BYTES + size + -size % 8
    assert position == border - before
    payloads += [chance.randbytes(size) for size in (100, 0, 5000, 8)]
    for payload in payloads:
        log.append(payload)
    return payloads


def check(log: aof2.Aof, wanted: list[bytes]) -> None:
    """Every way of reading gives what was appended."""
    assert list(log.reader().payloads()) == wanted
    assert [record.payload for record in log.reader()] == wanted
    read = []
    for batch in log.reader().batches():
        with batch:
            read += [bytes(batch.payload(i)) for i in range(len(batch))]
    assert read == wanted
    for offset in range(max(0, len(wanted) - 6), len(wanted)):
        assert log.get(offset).payload == wanted[offset]
        assert next(iter(log.reader(start=offset))).payload == wanted[offset]


@pytest.mark.parametrize("before", [0, 8, 16, 24, 32, 40])
@pytest.mark.parametrize("border", [64 * KIB, STRETCH_BYTES])
@pytest.mark.parametrize("small", [False, True], ids=["one record", "many records"])
def test_a_frame_may_begin_anywhere_before_a_border(
    tmp_path: Path, before: int, border: int, small: bool
) -> None:
    """Goal: a header across the end of what is at hand stops nobody, in any state of a segment.

    Method: a frame begins 0 to 40 bytes before the end of a stretch of a mapping and of a zstd
    frame; read it from the ring, from the file, sealed, after a reopen, and from the warm copy.
    """
    root = tmp_path / "root"
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("a")
        wanted = fill(log, border, before, small)
        check(log, wanted)
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("a")
        check(log, wanted)
        log.seal()
        check(log, wanted)
        manager.drain("local")
    (hot,) = (path for path in root.glob("*/segments/*.seg") if path.stem.endswith("1"))
    hot.unlink()
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("a")
        assert aof2.Tier.HOT not in log.segments()[0].residency
        check(log, wanted)


@pytest.mark.parametrize("have", [1, 3, 4, 8, 24, 31])
def test_a_cursor_asks_for_a_whole_header(tmp_path: Path, have: int) -> None:
    """Goal: the same window is never enough twice. Method: windows that end inside a header."""
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("a")
        log.append(b"x" * 100)
        log.seal()
    (folder,) = (tmp_path / "root").glob("*/segments")
    segment = MappedSegment(Directory(folder), "00000000000000000001.seg")
    cursor = RecordCursor()
    cursor.enter(segment.salt, 0, 0, FRAMES_AT)
    cursor.load(Window(bytes(memoryview(segment.window(FRAMES_AT)))[:have], FRAMES_AT))
    assert cursor.next_record() is None
    assert (cursor.status, cursor.needed) == (CursorStatus.WINDOW_END, HEADER_BYTES)
    cursor.load(segment.window(FRAMES_AT, cursor.needed))
    record = cursor.next_record()
    assert record is not None
    assert record.payload == b"x" * 100
