"""Real power cuts: ext4 on a loop device, shut down under a writing process, mounted again.

What counts is what an observer had read before the cut. A case is one file system and `CUTS` cuts.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aof2.clock import Clock, Pauses
from aof2.torture import writer_child
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

CUTS = 10
IMAGE_BYTES = 96 << 20
FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = struct.pack("I", 2)
"""Nothing more reaches the device, not even the file system's log."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def image(work: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 file system in a file, and the directory to mount it at."""
    work.mkdir(parents=True)
    path, place = work / "image", work / "mounted"
    place.mkdir()
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", str(path))
    try:
        yield path, place
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
        shutil.rmtree(work, ignore_errors=True)


def mount(path: Path, place: Path) -> None:
    """Mount it; the log of the file system is replayed."""
    _run("mount", "-o", "loop", str(path), str(place))


def unmount(place: Path) -> None:
    """Unmount it; a process that was just killed may hold it for a moment."""
    pauses = Pauses(Clock(), 0.001, 0.1)
    for attempt in range(60):
        gc.collect()
        try:
            _run("umount", str(place))
            break
        except OSError:
            if attempt == 59:
                raise
            pauses.sleep()


def cut(place: Path) -> None:
    """Cut the power of a mounted file system."""
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, NOLOGFLUSH)
    finally:
        os.close(fd)


def one_cut(path: Path, place: Path, seed: int, tally: Tally) -> None:
    """Write, cut, look."""
    chance, told, clock = random.Random(seed), writer_child.Told(), Clock()
    root = place / "root"
    pid, pipe = writer_child.start(root, None, seed, lambda: None)
    try:
        told.read(pipe)
        until_s = clock.monotonic_s() + chance.uniform(0, 0.06)
        while clock.monotonic_s() < until_s and told.read(pipe):
            pass
        promised = told.durable
        cut(place)
    finally:
        os.close(pipe)
        writer_child.end(pid)
    unmount(place)
    mount(path, place)
    kept = writer_child.check(root, None, promised)
    tally.units += 1
    tally.counts["records promised"] += promised
    tally.counts["records kept"] += kept
    if kept > 20_000:
        shutil.rmtree(root)


def _begin(setting: Setting) -> Cases:
    if os.geteuid() or not all(map(shutil.which, ("mkfs.ext4", "mount", "umount"))):
        raise CannotRun("it takes root, mkfs.ext4 and mount")
    try:
        with image(setting.work / "try") as (path, place):
            mount(path, place)
            cut(place)
    except OSError as error:
        raise CannotRun(f"a file system cannot be mounted and shut down: {error}") from error

    def case(number: int) -> Tally:
        tally = Tally(units=0)
        with image(setting.work / f"power-{number}") as (path, place):
            mount(path, place)
            for turn in range(CUTS):
                one_cut(path, place, (setting.seed << 32) + number * CUTS + turn, tally)
        return tally

    return Cases(case)


ROW = Row("power-cuts", "real power cuts, ext4", "cuts", 1_000, 2, _begin, batch=1)
