"""What the durability tests share: small roots, a record of the core's calls, copies."""

from __future__ import annotations

import contextlib
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aof2
from aof2._core import posix

KIB = 1024
START_AT = 2048
FRAMES_AT = 8192
END_BYTES = 40


def settings(segment_bytes: int = 64 * KIB, **flush: Any) -> aof2.AofManagerConfig:
    """Small segments, so that rollovers happen by themselves."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        tier0=aof2.Tier0Config(bytes_max=64 * segment_bytes),
        flush=aof2.FlushConfig(**flush),
        coordinator=aof2.CoordinatorConfig(workers=2, retry_delay_s=0.01),
    )


class Seam(contextlib.AbstractContextManager["Seam"]):
    """Lets `see` look at every call to the operating system, and answer it.

    Python must not switch threads inside of a hook: one that is called in the middle of an append
    would let another append in.
    """

    def __enter__(self) -> Seam:
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        posix.set_seam_hook(self.see)
        return self

    def __exit__(self, *_: object) -> None:
        posix.set_seam_hook(None)
        sys.setswitchinterval(self._before)

    def see(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> int | None:
        """One call; an errno makes it fail."""
        raise NotImplementedError


class Calls(Seam):
    """Every write and sync, and whether segments were synced in their order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, int]] = []
        self.segments = 0
        self.out_of_order: list[int] = []
        self.unchecked: list[int] = []
        self._number: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._to_check: set[int] = set()

    def of(self, op: str) -> list[tuple[str, int, int, int]]:
        """The calls of one kind."""
        return [call for call in self.seen if call[0] == op]

    def see(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> int | None:
        """Note it."""
        if op not in ("pwrite", "fdatasync"):
            return None
        self.seen.append((op, fd, position, n))
        if op == "pwrite" and position == START_AT and data is not None:
            self.segments += 1
            self._number[fd] = self.segments
            # The start block says where the segment before it ends; behind that lies its footer.
            self._ends[self.segments - 1] = struct.unpack_from("<Q", data, 56)[0] + END_BYTES
        number = self._number.get(fd)
        if number is None:
            return None
        if op == "pwrite" and n and FRAMES_AT <= position < self._ends.get(number, 1 << 60):
            self._dirty.add(number)
        if number in self._to_check and n:
            self.unchecked.append(len(self.seen))
        self._to_check.discard(number)
        if op == "fdatasync":
            self._to_check.add(number)
            if any(other < number for other in self._dirty):
                self.out_of_order.append(len(self.seen))
            self._dirty.discard(number)
        return None


def copy_without_ring(root: Path, to: Path) -> Path:
    """The root as a power cut could leave it: what was synced, and not the landing ring."""

    def copy(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, target)

    shutil.copytree(
        root,
        to,
        copy_function=copy,
        ignore=lambda _, names: [n for n in names if n in ("LOCK", "landing.ring")],
    )
    return to


def last_frame(root: Path) -> tuple[Path, int]:
    """File and position of the last frame of the newest segment that has one."""
    for path in sorted(root.glob("*/segments/*.seg"), reverse=True):
        data, at, last = path.read_bytes(), FRAMES_AT, 0
        while at + 32 <= len(data) and (size := struct.unpack_from("<I", data, at)[0]):
            at, last = at + size + 7 & ~7, at
        if last:
            return path, last
    raise AssertionError("no frames")


Ready = Callable[[], bool]
