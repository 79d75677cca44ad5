"""Every piece of damage that a small root and its bucket can take, by number."""

from __future__ import annotations

import array
import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aof2.torture.forge import FRAMES_AT

Files = dict[str, bytes]
Item = tuple[int, int, int, bytes]

SECTOR = 512
WHOLE = ("delete", "roll back")
ZERO_STRIDE = 64
"""Where a file is all zeros, one bit of so many bytes is flipped instead of every one."""


@dataclass
class World:
    """A root and its bucket at one moment.

    Attributes:
        name: `closed` or `killed`.
        files, objects: Contents by path below the root, and by key.
        rows: The records: offset, time stamp, ext_id, payload.
        durable: So many of them may never be missing.
        older: Earlier contents of files and objects that change.
    """

    name: str
    files: Files
    objects: Files
    rows: list[Item]
    durable: int
    older: dict[str, list[bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mutation:
    """One piece of damage: `kind` at `place` of one file or object of a world."""

    world: int
    target: str
    kind: str
    place: int

    def __str__(self) -> str:
        return f"world {self.world} {self.target} {self.kind} {self.place}"


class Mutations:
    """Every mutation of every world, in a fixed order, by number.

    Attributes:
        whole: Numbers of those that take a whole file or object: too few among the others for a
            draw to meet them.
    """

    def __init__(self, worlds: list[World]) -> None:
        self._groups: list[tuple[int, str, str, Sequence[int]]] = []
        self._ends: list[int] = []
        self.whole: list[int] = []
        for number, world in enumerate(worlds):
            for target, data in (*world.files.items(), *world.objects.items()):
                if target == "LOCK":
                    continue
                older, other = len(world.older.get(target, ())), stale_of(world, target)
                for kind, places in _kinds(data, older, other):
                    self._groups.append((number, target, kind, places))
                    before = len(self)
                    self._ends.append(before + len(places))
                    if kind in WHOLE:
                        self.whole += range(before, len(self))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, number: int) -> Mutation:
        """The mutation of a number."""
        group = bisect.bisect_right(self._ends, number)
        world, target, kind, places = self._groups[group]
        return Mutation(world, target, kind, places[number - self._ends[group]])

    def __iter__(self) -> Iterator[Mutation]:
        return map(self.at, range(len(self)))


def stale_of(world: World, target: str) -> bytes:
    """What a file system may give for blocks that were never written: the contents, at the same
    place, of another file of the kind that lay there before. Empty where there is none."""
    where = PurePosixPath(target)
    kind = [
        path for path in world.files if PurePosixPath(path).match(f"{where.parent}/*{where.suffix}")
    ]
    others = [path for path in sorted(kind) if path != target]
    before = [path for path in others if path < target]
    return world.files[(before or others)[-1]] if others and target in world.files else b""


def _kinds(data: bytes, older: int, other: bytes) -> Iterator[tuple[str, Sequence[int]]]:
    yield "flip", array.array("I", _bits(data))
    yield "cut", range(len(data))
    sectors = range(-(-len(data) // SECTOR))
    # A sector that is all zeros, or the same as its neighbour, would not be changed.
    yield "zero", [n for n in sectors if any(data[n * SECTOR : (n + 1) * SECTOR])]
    yield "swap", [n for n in sectors[1:] if _swapped(data, n) != data]
    changed = [n for n in sectors if _stale(data, other, n) != data]
    yield "stale", changed
    # What says how much was durable was written and synced at other times than the frames behind.
    yield "stale from", [n for n in changed if n * SECTOR >= FRAMES_AT]
    yield "delete", range(1)
    yield "roll back", range(older)


def _bits(data: bytes) -> Iterator[int]:
    for at in range(0, len(data), ZERO_STRIDE):
        if any(data[at : at + ZERO_STRIDE]):
            yield from range(at * 8, min(len(data), at + ZERO_STRIDE) * 8)
        else:
            yield at * 8 + at // ZERO_STRIDE % (8 * min(ZERO_STRIDE, len(data) - at))


def _swapped(data: bytes, n: int) -> bytes:
    one, two = (data[at * SECTOR : (at + 1) * SECTOR] for at in (n - 1, n))
    return data[: (n - 1) * SECTOR] + two + one + data[(n + 1) * SECTOR :]


def _stale(data: bytes, other: bytes, n: int) -> bytes:
    there = other[n * SECTOR : (n + 1) * SECTOR][: len(data) - n * SECTOR]
    return data[: n * SECTOR] + there + data[n * SECTOR + len(there) :]


def damaged(world: World, mutation: Mutation) -> bytes | None:
    """The target's contents under a mutation; None: it is gone."""
    data = world.files.get(mutation.target, world.objects.get(mutation.target, b""))
    place = mutation.place
    if mutation.kind == "flip":
        at = place // 8
        return data[:at] + bytes([data[at] ^ 1 << place % 8]) + data[at + 1 :]
    if mutation.kind == "cut":
        return data[:place]
    if mutation.kind == "zero":
        zeros = bytes(len(data[place * SECTOR : (place + 1) * SECTOR]))
        return data[: place * SECTOR] + zeros + data[(place + 1) * SECTOR :]
    if mutation.kind == "swap":
        return _swapped(data, place)
    if mutation.kind == "stale":
        return _stale(data, stale_of(world, mutation.target), place)
    if mutation.kind == "stale from":
        there = stale_of(world, mutation.target)[place * SECTOR : len(data)]
        return data[: place * SECTOR] + there + data[place * SECTOR + len(there) :]
    return world.older[mutation.target][place] if mutation.kind == "roll back" else None
