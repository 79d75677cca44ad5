"""A test scheduler: random schedules of commands with failures and deaths, replayed by their seed.

One thread plays all parts. At every durable step of a handler it may let another command run in
between (what two workers do to each other), fail the step, or kill the worker. Users append, seal,
wait and read meanwhile; whoever is told `WouldBlock` tries again later. Then the faults end, and

* every try ends: nothing waits for ever;
* the records are those that were accepted, in order, also after reopening;
* the residency map is what the files and the store say.
"""

from __future__ import annotations

import errno
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import aof2
from aof2.coordinator.commands import Lane
from aof2.manifest.log import Manifest
from aof2.objectstore import MemoryStore
from aof2.tiers.hot import HotTier
from aof2.tiers.passing import PassingSegment
from aof2.tiers.warm import WarmTier
from aof2.torture.byhand import SteppedClock, no_workers
from aof2.torture.row import Cases, Row, Setting, Tally

KIB = 1 << 10
STEPS = (
    (Manifest, "append"),
    (Manifest, "flush"),
    (MemoryStore, "put"),
    (HotTier, "prepare"),
    (HotTier, "write_pointer"),
    (HotTier, "evict"),
    (WarmTier, "build"),
    (WarmTier, "evict"),
    (PassingSegment, "pieces"),
)
"""Calls of the handlers after which, or before which, something else may happen."""
DEPTH_MAX = 2
ROUNDS_MAX = 200


class Death(BaseException):
    """Kills a worker."""


class Schedule:
    """One random run on one root.

    Attributes:
        told: What happened, by name, for the table of counts.
    """

    def __init__(self, seed: int, root: Path, told: Counter[str]) -> None:
        root.parent.mkdir(parents=True, exist_ok=True)
        self.told = told
        self._chance = random.Random(seed)
        self._root = root
        self._clock = SteppedClock(seed)
        self._store = MemoryStore("schedule")
        self._faulty = self._chance.choice((0.0, 0.05, 0.2))
        self._full = self._chance.random() < 0.3
        self._deadly = self._chance.choice((0.0, 0.0, 0.01, 0.05))
        self._depth = 0
        self._running = False
        self._records: list[bytes] = []
        self._pending: list[Callable[[], object]] = []

    # --- the parts --------------------------------------------------------------------------------

    def step(self, name: str) -> None:
        """A durable step is about to be made, or was made."""
        if not self._running or threading.current_thread() is not threading.main_thread():
            return
        if self._depth < DEPTH_MAX and self._chance.random() < 0.2:
            self._depth += 1
            try:
                self._work()
            finally:
                self._depth -= 1
        if self._full and name == "build":
            self.told["full disks"] += 1
            raise OSError(errno.ENOSPC, "planned want of room")
        draw = self._chance.random()
        if draw < self._deadly:
            self.told["deaths"] += 1
            raise Death(name)
        if draw < self._deadly + self._faulty:
            self.told["failures"] += 1
            kinds = (aof2.UploadFailed, aof2.Tier2Unavailable) if name == "put" else (OSError,)
            raise self._chance.choice(kinds)(f"planned failure of {name}")

    def _work(self) -> None:
        lanes = self._chance.sample(list(Lane), self._chance.randint(1, 3))
        command = self._manager._coordinator.step(lanes)
        if command is not None:
            self.told[type(command).__name__] += 1

    def _append(self) -> None:
        payload = b"%d." % len(self._records) * self._chance.choice((1, 10, 4000, 9000))
        try:
            offset = self._log.append_nowait(payload)
        except aof2.WouldBlock:
            self.told["blocked appends"] += 1
            return
        assert offset == len(self._records)
        self._records.append(payload)

    def _wait_for(self, work: Callable[[], object]) -> None:
        if self._blocks(work):
            self._pending.append(work)

    def _blocks(self, work: Callable[[], object]) -> bool:
        """Try once; whether it has to be tried again."""
        try:
            work()
        except (aof2.WouldBlock, aof2.RolloverFailed):
            return True
        except aof2.CoordinatorDied:
            self.told["told that all is over"] += 1
        return False

    def _read(self) -> None:
        if self._records:
            offset = self._chance.randrange(len(self._records))
            try:
                assert self._log.get(offset).payload == self._records[offset]
            except (aof2.TierError, OSError):
                self.told["failed reads"] += 1

    def _act(self) -> None:
        seen = len(self._records)
        self._chance.choice(
            (
                self._append,
                self._append,
                self._append,
                self._work,
                self._work,
                self._work,
                self._read,
                lambda: self._wait_for(self._log.seal_nowait),
                lambda: self._wait_for(lambda: self._remote(seen)),
                lambda: self._clock.step(self._chance.choice((0.01, 1.0, 30.0))),
            )
        )()

    def _remote(self, upto: int) -> None:
        if upto:
            self._log.wait_nowait(upto - 1, "remote")

    # --- the run ----------------------------------------------------------------------------------

    def run(self, actions: int = 150) -> None:
        """Play, settle, and check; raises what is wrong."""
        config = aof2.AofManagerConfig(
            segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB, segment_age_s_max=float("inf")),
            tier0=aof2.Tier0Config(bytes_max=384 * KIB),
            tier1=aof2.Tier1Config(bytes_max=256 * KIB),
            tier2=aof2.Tier2Config(url="memory://schedule"),
            coordinator=aof2.CoordinatorConfig(retry_delay_s=0.5),
        )
        with (
            no_workers(),
            mock.patch("aof2.opening.open_store", return_value=self._store),
            hooked(self.step),
        ):
            self._manager = aof2.open(self._root, config=config, clock=self._clock)
            self._log = self._manager.stream("s")
            self._running = True
            try:
                for _ in range(actions):
                    try:
                        self._act()
                    except aof2.CoordinatorDied:
                        self.told["told that all is over"] += 1
            finally:
                self._running = False
            self._settle()
            self._close()
            self._check_reopened(config)

    def _settle(self) -> None:
        """The faults have ended: everything that waits comes to its end."""
        for _ in range(ROUNDS_MAX):
            self._pending = [work for work in self._pending if self._blocks(work)]
            if not self._pending:
                return
            self._clock.step(60.0)
            self._manager._coordinator.poll()
        raise AssertionError(f"{len(self._pending)} calls wait for ever")

    def _close(self) -> None:
        died = self._manager._coordinator.died is not None
        try:
            self._manager.close()
        except aof2.CoordinatorDied:
            assert died
            self.told["given up"] += 1
        else:
            assert not died

    def _check_reopened(self, config: aof2.AofManagerConfig) -> None:
        """Every record, and an index that agrees with the files."""
        with aof2.open(self._root, config=config, clock=self._clock) as manager:
            log = manager.stream("s")
            if self._records:
                for _ in range(ROUNDS_MAX):
                    if not self._blocks(lambda: log.wait_nowait(None, "remote")):
                        break
                    manager._coordinator.poll()
                    self._clock.step(60.0)
                assert log.watermarks.remote == len(self._records)
            assert list(log.reader().payloads()) == self._records
            check_residency(self._root, log, {info.key for info in self._store.list()})


def check_residency(root: Path, log: aof2.Aof, keys: set[str]) -> None:
    """Files and objects are those that the residency map names; nothing else lies about."""
    files = {(path.parent.name, int(path.name.split(".")[0])) for path in root.glob("*/*/0*.seg*")}
    named = {
        (folder, info.segment_id)
        for info in log.segments()
        for tier, folder in ((aof2.Tier.HOT, "segments"), (aof2.Tier.WARM, "warm"))
        if tier in info.residency
    }
    spares = {file for file in files - named if file[0] == "segments"}
    assert named <= files
    assert files - named == spares
    assert len(spares) <= 1
    assert {info.key for info in log.segments() if aof2.Tier.COLD in info.residency} == {
        key for key in keys if "/seg/" in key
    }


OBJECTS = ("/seg/", "/manifest/")
"""Parts of the keys that background work stores."""


@contextmanager
def hooked(step: Callable[[str], None]) -> Iterator[None]:
    """Call `step` before and after each durable step."""

    def around(original: Callable[..., object], name: str) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            # What makes a stream runs on the caller's thread, and is no command's step.
            mine = name != "put" or any(part in str(arguments[1]) for part in OBJECTS)
            if mine:
                step(name)
            result = original(*arguments, **more)
            if mine:
                step(name)
            return result

        return call

    patches = [
        mock.patch.object(cls, name, around(getattr(cls, name), name)) for cls, name in STEPS
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def run_schedule(number: int, work: Path, told: Counter[str]) -> None:
    """Run one schedule in a directory of its own; raises what is wrong."""
    folder = work / f"schedule-{number}"
    try:
        Schedule(number, folder / "root", told).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        tally = Tally()
        run_schedule(setting.seed + number, setting.work, tally.counts)
        return tally

    return Cases(case)


ROW = Row(
    "schedules",
    "coordinator schedules, thread death at each step",
    "schedules",
    50_000,
    40,
    _begin,
)
