"""kill -9: at random instants, and right before or after every named step.

The observer's side of the pipe says which appends had returned: all of them must be there.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from aof2._core.posix import set_seam_hook
from aof2.clock import Clock
from aof2.manifest.keeper import SnapshotKeeper
from aof2.manifest.log import Manifest
from aof2.objectstore.local import LocalStore
from aof2.tiers.hot import HotTier
from aof2.tiers.warm import WarmTier
from aof2.torture import writer_child
from aof2.torture.row import Cases, Row, Setting, Tally

KILLS = 10
"""Kills of one root."""
CALLS = ("pwrite", "fdatasync", "fsync_dir", "rename", "unlink", "fallocate", "ftruncate", "mkdir")
STEPS: tuple[tuple[type, str], ...] = (
    (HotTier, "prepare"),
    (HotTier, "write_pointer"),
    (HotTier, "evict"),
    (WarmTier, "build"),
    (WarmTier, "evict"),
    (Manifest, "append"),
    (Manifest, "flush"),
    (SnapshotKeeper, "write"),
    (LocalStore, "put"),
    (LocalStore, "replace"),
)
RECORDS_MAX = 20_000
POINTS: tuple[str, ...] = (
    *CALLS,
    *(f"{kind.__name__}.{name}" for kind, name in STEPS),
    *(f"after {kind.__name__}.{name}" for kind, name in STEPS),
)
"""Named steps; the first are calls of the system."""


def die() -> None:
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, nth: int) -> None:
    """Let this process die the n-th time that it comes to a step."""
    left = [nth]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    if point in CALLS:
        set_seam_hook(lambda op, *_: count() if op == point else None)
        return
    step = point.removeprefix("after ")
    kind, name = next(each for each in STEPS if f"{each[0].__name__}.{each[1]}" == step)
    original = getattr(kind, name)

    @functools.wraps(original)
    def call(*arguments: object, **more: object) -> object:
        if point == step:
            count()
        result = original(*arguments, **more)
        if point != step:
            count()
        return result

    mock.patch.object(kind, name, call).start()


def one_kill(root: Path, tier2: Path | None, seed: int, point: str | None, tally: Tally) -> int:
    """Write, kill, look; how long the stream is then."""
    chance, told, clock = random.Random(seed), writer_child.Told(), Clock()
    before: Callable[[], object] = lambda: None  # noqa: E731
    if point is not None:
        before = functools.partial(arm, point, int(1.5 ** chance.randrange(1, 12)))
    pid, pipe = writer_child.start(root, tier2, seed, before)
    try:
        until_s = clock.monotonic_s() + (chance.uniform(0, 0.12) if point is None else 20)
        while told.read(pipe) and clock.monotonic_s() < until_s:
            pass
        status = writer_child.end(pid)
        # What it wrote before it died is in the pipe.
        while told.read(pipe):
            pass
    finally:
        os.close(pipe)
    tally.units += 1
    killed = os.waitstatus_to_exitcode(status)
    assert killed != 1, f"the writer failed before it was killed ({point})"
    tally.counts["at an instant" if point is None else point] += killed == -signal.SIGKILL
    return writer_child.check(root, tier2, told.returned)


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        tally = Tally(units=0)
        home = setting.work / f"kill-{number}"
        home.mkdir()
        tier2 = home / "tier2" if number % 2 else None
        try:
            for turn in range(KILLS):
                seed = (setting.seed << 32) + number * KILLS + turn
                point = POINTS[seed // 2 % len(POINTS)] if turn % 2 else None
                if one_kill(home / "root", tier2, seed, point, tally) > RECORDS_MAX:
                    # Reading it would take longer than writing it.
                    shutil.rmtree(home)
                    home.mkdir()
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return tally

    return Cases(case)


ROW = Row(
    "kills",
    "kill -9 at random instants and at every named step",
    "kills",
    10_000,
    18,
    _begin,
    batch=1,
)
