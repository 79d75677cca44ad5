"""Roots that are read while their files are damaged, and what can be read of them at best."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aof2
from aof2._core.compressed_read import CompressedSegment, open_warm
from aof2.framecache import FrameCache

FRAMES_AT = 8192


@dataclass(frozen=True)
class Frame:
    """Where a frame of a segment lies, and which records it has."""

    start: int
    end: int
    first: int
    next: int


def frames_of(data: bytes, base: int = 0) -> list[Frame]:
    """The frames of a sealed segment, END left out, read with nothing but the format's text."""
    found, at = [], FRAMES_AT
    while True:
        size, ordinal, kind, flags = struct.unpack_from("<II12xBB", data, at)
        if kind == 3:
            return found
        count = 1
        if kind == 2:
            (count,) = struct.unpack_from("<I", data, at + 32 + 8 * (flags & 1))
        end = at + (size + 7) // 8 * 8
        found.append(Frame(at, end, base + ordinal, base + ordinal + count))
        at = end


def mixed(log: aof2.Aof, seed: int, count: int, largest: int = 200) -> list[bytes]:
    """Append records and batches, with and without an ext_id; all payloads in order."""
    rng, payloads = random.Random(seed), []
    for _ in range(count):
        ext_id = rng.choice([None, 7])
        made = [rng.randbytes(rng.randrange(largest)) for _ in range(rng.choice([1, 1, 1, 2, 9]))]
        if len(made) == 1 and rng.random() < 0.8:
            log.append(made[0], ext_id=ext_id)
        else:
            log.append_many(made, ext_ids=None if ext_id is None else [7] * len(made))
        payloads += made
    return payloads


class Damaged:
    """A stream that is only read, whose files can be damaged between reads.

    Attributes:
        log: The stream.
        payloads: What was appended.
        hot, warm: Files of its first segment.
        frames: Of that segment.
    """

    def __init__(self, log: aof2.Aof, folder: Path, payloads: list[bytes]) -> None:
        self.log, self.payloads = log, payloads
        self.hot = folder / "segments" / f"{1:020d}.seg"
        self.warm = folder / "warm" / f"{1:020d}.seg.zst"
        self.frames = frames_of(self.hot.read_bytes())
        self.count = log.segments()[0].end_offset

    def fresh(self) -> None:
        """Forget everything that was read so far."""
        instance = self.log._instance
        for info in self.log.segments():
            instance.forget(info.segment_id)
        instance.frames = FrameCache(instance.frames._pool)

    @contextlib.contextmanager
    def patched(self, path: Path, at: int, data: bytes) -> Iterator[None]:
        """Other bytes at a place of a file, while it lasts."""
        self.fresh()
        fd = os.open(path, os.O_RDWR)
        try:
            before = os.pread(fd, len(data), at)
            os.pwrite(fd, data[: len(before)], at)
            try:
                yield
            finally:
                self.fresh()
                os.pwrite(fd, before, at)
        finally:
            os.close(fd)

    def flipped(self, path: Path, at: int, bit: int) -> contextlib.AbstractContextManager[None]:
        """One bit flipped."""
        with path.open("rb") as file:
            file.seek(at)
            (byte,) = file.read(1)
        return self.patched(path, at, bytes([byte ^ 1 << bit]))

    @contextlib.contextmanager
    def cut(self, path: Path, size: int) -> Iterator[None]:
        """The file ends early."""
        self.fresh()
        data = path.read_bytes()
        os.truncate(path, size)
        try:
            yield
        finally:
            self.fresh()
            path.write_bytes(data)

    @contextlib.contextmanager
    def without(self, path: Path) -> Iterator[None]:
        """The file is gone."""
        self.fresh()
        aside = path.with_name("aside")
        path.rename(aside)
        try:
            yield
        finally:
            self.fresh()
            aside.rename(path)

    def run_frames(self) -> list[tuple[int, int, int, int]]:
        """`(start, end)` of each run of the warm file, and the offsets `(first, next)` in it."""
        spans: list[tuple[int, int]] = []
        reader = open_warm(self.log._instance.warm.directory, self.warm.name)
        data = self.warm.read_bytes()

        def fetch(start: int, end: int) -> bytes:
            spans.append((start, end))
            return data[start:end]

        noting = CompressedSegment(fetch, len(data), 0, path="x")
        spans.clear()
        for run in range(reader.run_count):
            noting.read(run, run + 1)
        return [
            (*span, reader.run_offset(run), reader.run_offset(run + 1))
            for run, span in enumerate(spans)
        ]

    # --- what must come out -----------------------------------------------------------------------

    def check_whole(self) -> None:
        """Every record comes back, by every form; nothing is left out."""
        reader = self.log.reader(stop=self.count, on_corruption="skip")
        assert [record.payload for record in reader] == self.payloads[: self.count]
        assert reader.gaps == ()

    def check_lost(self, first: int, following: int) -> aof2.CorruptionError:
        """Exactly these records are lost: `raise` stops there, `skip` goes around them."""
        wanted = self.payloads
        reader = self.log.reader(stop=self.count, on_corruption="skip")
        assert [record.offset for record in reader] == [
            n for n in range(self.count) if not first <= n < following
        ]
        assert [(gap.first, gap.next) for gap in reader.gaps] == [(first, following)]
        payloads = self.log.reader(stop=self.count, on_corruption="skip").payloads()
        assert list(payloads) == wanted[:first] + wanted[following : self.count]
        return self.check_raises(first)

    def check_raises(self, first: int) -> aof2.CorruptionError:
        """All records before one come back, then an error that says where, again and again."""
        reader, found = self.log.reader(stop=self.count), []
        for _ in range(2):
            try:
                for record in reader:
                    found.append(record.payload)
            except aof2.CorruptionError as error:
                assert error.offset == first == reader.offset  # noqa: PT017
                assert error.path  # noqa: PT017
                assert error.intact_on == ()  # noqa: PT017
                caught = error
            else:
                raise AssertionError("nothing was raised")
        assert found == self.payloads[:first]
        return caught


@contextlib.contextmanager
def damaged(root: Path, count: int = 40, frame_bytes: int = 4096) -> Iterator[Damaged]:
    """A stream of one sealed segment that is hot and warm, and some records in the active one."""
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=256 << 10),
        tier0=aof2.Tier0Config(bytes_max=4 << 20),
        tier1=aof2.Tier1Config(frame_bytes=frame_bytes),
    )
    with aof2.open(root, config=config) as manager:
        log = manager.stream("a", ext_id=3)
        payloads = mixed(log, 5, count)
        log.seal()
        payloads += mixed(log, 6, 5)
        manager.drain()
    folder = next(path for path in root.iterdir() if path.name.startswith("a-"))
    with aof2.open(root, config=config, readonly=True) as manager:
        log = manager.stream("a", create=False)
        assert log.segments()[0].residency == {aof2.Tier.HOT, aof2.Tier.WARM}
        yield Damaged(log, folder, payloads)
