"""Warm files for tests: segments of many shapes, compressed, and readers over them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

from segfile import FRAMES_AT, TIME_NS, Item, Segment, items_of, sealed_segment

from aof2._core.compressed import CompressedInfo, build
from aof2._core.compressed_read import CompressedSegment
from aof2._core.directory import Directory

SEG, WARM = "1.seg", "1.seg.zst"


def text(rng: random.Random, n: int) -> bytes:
    """Compressible bytes, like lines of a log."""
    words = [b"INFO ", b"block ", b"received ", b"10.250.19.102 ", b"%d " % rng.randrange(10**6)]
    return b"".join(rng.choices(words, k=n // 6 + 1))[:n]


def mixed(seed: int, count: int, largest: int) -> list[Item]:
    """Records and batches of many sizes, with a clock that sometimes goes back."""
    rng = random.Random(seed)
    made, now = [], TIME_NS
    for _ in range(count):
        now += rng.randrange(-2000, 5000)
        size = rng.choice([0, 1, 100, 700, rng.randrange(largest)])
        if rng.random() < 0.4:
            n = rng.randrange(1, 40)
            parts = tuple(text(rng, size // n) for _ in range(n))
            made.append(Item(parts, now, rng.choice([None, 7]), batch=True))
        else:
            made.append(Item((text(rng, size),), now, rng.choice([None, 9])))
    return made


SHAPES: dict[str, Callable[[], list[Item]]] = {
    "one empty record": lambda: items_of([b""]),
    "one record": lambda: items_of([b"hello"]),
    "first is long": lambda: items_of([text(random.Random(1), 50_000), b"x", b"y"]),
    "last is long": lambda: items_of([b"x", b"y", text(random.Random(2), 50_001)]),
    "only long": lambda: items_of([random.Random(i).randbytes(9000 + i) for i in range(9)]),
    "exactly one frame": lambda: items_of([bytes(4096 - 32)] * 7),
    "mixed": lambda: mixed(3, 300, 30_000),
    "no record": list,
}


def made(
    tmp_path: Path, items: list[Item], frame_bytes: int = 4096, base_offset: int = 1000
) -> tuple[Segment, Directory, CompressedInfo]:
    """`(segment, directory, what build answered)`."""
    segment = sealed_segment(items, base_offset=base_offset, segment_id=5, epoch=3, ext_id=77)
    directory = Directory(tmp_path)
    (tmp_path / SEG).write_bytes(segment.data)
    return segment, directory, build(directory, SEG, directory, WARM, frame_bytes=frame_bytes)


def scan(reader: CompressedSegment, position: int = FRAMES_AT) -> bytes:
    """All bytes of frames from a position on, as a sequential reader takes them."""
    out = bytearray()
    start = position
    while (window := reader.window(position)) is not None:
        assert window.start == position
        out += bytes(window)
        position = window.end
    assert position == reader.frames_end or start >= reader.frames_end
    return bytes(out)


def in_memory(
    data: bytes,
    table_bytes: int,
    fetched: list[tuple[int, int]] | None = None,
    **more: int,
) -> CompressedSegment:
    """A reader over bytes that notes its fetches."""

    def fetch(start: int, end: int) -> bytes:
        if fetched is not None:
            fetched.append((start, end))
        return data[start:end]

    return CompressedSegment(fetch, len(data), table_bytes, path="object", **more)


def frame_table(packed: bytes, table_bytes: int) -> list[tuple[int, ...]]:
    """Entries of our table, read with nothing but the format's text."""
    body = packed[len(packed) - table_bytes + 8 :]
    (count,) = struct.unpack_from("<I", body, 20)
    return [struct.unpack_from("<IIIIQQq", body, 104 + 40 * i) for i in range(count)]
