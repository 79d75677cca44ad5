"""Crash states: a life is logged at the seam, and every state that a crash could leave is reopened.

A case is one life of a workload and `STATES` crashes of it: the moment is one of its durable steps
or one of its stores to mapped memory, the state one that a process kill or a power cut may leave.
For some, the recovery is logged as well, and cut in turn.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aof2
from aof2._core import posix, seamlog
from aof2.objectstore import MemoryStore
from aof2.torture.byhand import SteppedClock, no_workers
from aof2.torture.disk import Disk, Logged
from aof2.torture.facts import Facts, StreamFacts, tell
from aof2.torture.life import Life, Objects, ToldStore, Workload, payload
from aof2.torture.row import Cases, Row, Setting, Tally
from aof2.torture.states import KILL, STYLES, State, crash
from aof2.torture.workloads import WORKLOADS

STATES = 200
"""Crashes of one life."""
LOST = "lost root"
GOES_ON_SHARE = 0.2
"""Of so many states appends and background work go on after the second open."""
AGAIN_SHARE = 0.06
AGAIN_CUTS = 4
"""Of so many states the recovery is cut as well, at so many of its steps."""
LOST_SHARE = 0.1
"""Of so many states with a tier 2, the root is lost as well."""


@dataclass
class Moment:
    """One crash: what was there, what had been promised."""

    disk: Disk
    facts: Facts
    objects: Objects
    text: str


class Episode:
    """One life, its log, and what becomes of its crashes.

    Args:
        workload: What the life does.
        seed: Decides the life and the crashes.
        work: A directory of its own.
        mutate: Changes the log, for negative controls.
    """

    def __init__(
        self,
        workload: Workload,
        seed: int,
        work: Path,
        mutate: Callable[[list[Logged]], list[Logged]] = list,
    ) -> None:
        self.workload = workload
        self.tally = Tally(units=0)
        self._chance = random.Random(seed)
        self._work = work
        self._facts = Facts()
        work.mkdir(parents=True)
        steps, self._disk, self._store = self._live(seed)
        self.steps = mutate(steps)

    # --- the life ---------------------------------------------------------------------------------

    def _live(self, seed: int) -> tuple[list[Logged], Disk, ToldStore]:
        workload, root = self.workload, self._work / "life"
        root.mkdir()
        objects: Objects = {}
        if workload.before:
            objects = self._earlier(root, seed)
        life = Life(workload, seed, root, objects)
        disk = Disk.load(root)
        previous = posix.set_seam_hook(life.hook) if workload.fails else None
        seamlog.start()
        try:
            life.run(workload.words)
        finally:
            steps = seamlog.stop()
            posix.set_seam_hook(previous)
            life.leave()
        return steps, disk, life.store

    def _earlier(self, root: Path, seed: int) -> Objects:
        """What comes before the part that is cut; leaves its files in `root`."""
        place = self._work / "earlier"
        place.mkdir()
        life = Life(self.workload, seed + 1, place, {})
        seamlog.start()
        try:
            life.run(self.workload.before)
        finally:
            steps = seamlog.stop()
            if self.workload.after == "closed":
                life.leave()
            if self.workload.after != "lost":
                shutil.copytree(place, root, dirs_exist_ok=True)
            life.leave()
        for logged in steps:
            if logged[0] == "mark":
                self._facts.learn(logged[7])
        self._facts.objects = 0
        for stream in self._facts.streams.values():
            # A kill loses nothing that was returned, a lost root nothing that was in tier 2.
            lost = self.workload.after == "lost"
            stream.returned = stream.durable = stream.remote if lost else stream.returned
        return life.store.states[-1]

    # --- its crashes ------------------------------------------------------------------------------

    def run(self, states: int) -> Tally:
        """Crash so many times."""
        plan = self._plan(states)
        disk, facts = self._disk, self._facts
        for step in range(len(self.steps) + 1):
            for style in plan.get(step, ()):
                moment = Moment(disk, facts, self._store.states[facts.objects], f"step {step}")
                self._crash(moment, style, step)
            if step < len(self.steps):
                advance(disk, facts, step, self.steps[step])
        return self.tally

    def _plan(self, states: int) -> dict[int, list[str]]:
        """Where to crash, and how: half of it around durable steps."""
        durable = [n for n, logged in enumerate(self.steps) if logged[0] not in ("store", "mapped")]
        durable.append(len(self.steps))
        plan: dict[int, list[str]] = {}
        phase = self._chance.randrange(len(durable))
        for n in range(states):
            if n % 2:
                step = durable[(phase + n // 2) % len(durable)]
            else:
                step = self._chance.randrange(len(self.steps) + 1)
            plan.setdefault(step, []).append(self._chance.choice(STYLES))
        return plan

    def _crash(self, moment: Moment, style: str, step: int) -> None:
        state = crash(moment.disk, style, self._chance.randrange(step + 1), self._chance)
        again = self._chance.random() < AGAIN_SHARE
        steps, objects = self._check(state, moment, style, log=again)
        if self.workload.tier2 and self._chance.random() < LOST_SHARE:
            self._check(State(), moment, LOST)
        if steps:
            self._crash_again(state, moment, style, steps, objects)

    def _crash_again(
        self,
        state: State,
        moment: Moment,
        style: str,
        steps: list[Logged],
        objects: list[Objects],
    ) -> None:
        """Cut the recovery of a state at some of its steps."""
        cuts = sorted(self._chance.sample(range(len(steps) + 1), min(AGAIN_CUTS, len(steps) + 1)))
        # What a dead process had written is still in the page cache, unsafe as it was.
        disk = moment.disk.copy() if style == KILL else state.disk()
        facts, base = moment.facts.copy(), len(self.steps) + 1
        facts.objects = 0
        if style != KILL:
            facts.lose_power()
        for step in range(len(steps) + 1):
            if step in cuts:
                how = self._chance.choice(STYLES)
                text = f"{moment.text} {style}, step {step} of the recovery"
                at = Moment(disk, facts, objects[facts.objects], text)
                upto = self._chance.randrange(base + step)
                self._check(crash(disk, how, upto, self._chance), at, how)
            if step < len(steps):
                advance(disk, facts, base + step, steps[step])

    def _check(
        self, state: State, moment: Moment, style: str, *, log: bool = False
    ) -> tuple[list[Logged], list[Objects]]:
        """Reopen a state; the steps that this took, if wanted, and all states of its store."""
        self.tally.units += 1
        self.tally.counts[style] += 1
        root, steps = self._work / f"state-{self.tally.units}", []
        state.write(root)
        real = state.real(root) if log else {}
        reopened = Reopened(self.workload, root, moment.objects)
        if log:
            seamlog.start()
        try:
            try:
                reopened.check(moment.facts, style, goes_on=self._chance.random() < GOES_ON_SHARE)
            finally:
                steps = [as_modelled(logged, real) for logged in seamlog.stop()] if log else []
        except Exception as error:
            text = f"{self.workload.name}, {moment.text}, {style}: {type(error).__name__}: {error}"
            self.tally.violations.append(text)
            steps = []
        shutil.rmtree(root)
        return steps, reopened.store.states


def advance(disk: Disk, facts: Facts, step: int, logged: Logged) -> None:
    """A step happens to what there is and to what was promised."""
    if logged[0] == "mark":
        facts.learn(logged[7])
    else:
        disk.apply(step, logged)


def as_modelled(logged: Logged, real: dict[int, int]) -> Logged:
    """A step with the model's inodes instead of those of the files that stand for them."""
    op, answer, inode, other, *rest = logged
    inode = real.get(inode, inode)
    # Of a mapping, the second number is a position.
    other = other if op == "mapped" else real.get(other, other)
    return (op, answer, inode, other, *rest)  # type: ignore[return-value]


class Reopened:
    """A root after a crash."""

    def __init__(self, workload: Workload, root: Path, objects: Objects) -> None:
        self._workload, self._root = workload, root
        self.store = ToldStore(f"{root}", objects)
        self._config = workload.config(self.store._name)

    def check(self, facts: Facts, style: str, *, goes_on: bool) -> None:
        """Open it twice: an exact prefix with all that was promised, the same each time. Whatever
        is sealed then checks, with its footer's sums."""
        MemoryStore.stand_in(self.store._name, self.store)
        try:
            with no_workers():
                first = self._open(facts, style, goes_on=False)
                second = self._open(None, style, goes_on=goes_on)
        finally:
            MemoryStore.forget(self.store._name)
        assert first == second, f"{first} at the first open, {second} at the second"
        if goes_on:
            report = aof2.verify(self._root)
            assert report.is_good, f"{report.damage} {report.findings}"

    def _open(
        self, facts: Facts | None, style: str, *, goes_on: bool
    ) -> dict[str, tuple[int, int]]:
        found = {}
        clock = SteppedClock()
        with aof2.open(self._root, config=self._config, clock=clock) as manager:
            names = set(manager.streams())
            for name in sorted(names | set(facts.streams if facts is not None else ())):
                log = manager.stream(name)
                found[name] = log.first_offset, log.next_offset
                if facts is not None:
                    promised = facts.streams.get(name, StreamFacts())
                    check_promises(log, promised, style)
                    tell("recovered", name, log.next_offset)
                self._read(log, name)
            if goes_on:
                for name in found:
                    self._go_on(manager, manager.stream(name), name)
        return found

    def _read(self, log: aof2.Aof, name: str) -> None:
        first, end = log.first_offset, log.next_offset
        with log.reader(first) as reader:
            held = list(reader.payloads())
        assert len(held) == end - first, f"{name}: {len(held)} records from {first} to {end}"
        for offset, data in enumerate(held, first):
            if data != payload(name, offset, self._workload.bytes_max):
                raise AssertionError(f"{name}: record {offset} is {data[:60]!r}")

    def _go_on(self, manager: aof2.AofManager, log: aof2.Aof, name: str) -> None:
        """Appends and background work go on."""
        end, coordinator = log.next_offset, manager._coordinator
        tell("issued", name, end + 1)
        data = payload(name, end, self._workload.bytes_max)
        for _ in range(20):
            try:
                assert log.append_nowait(data) == end
                break
            except aof2.WouldBlock:
                coordinator.kick()
                coordinator.poll()
        log.flush()
        tell("durable", name, end + 1)
        for _ in range(20):
            coordinator.kick()
            coordinator.poll()
            manager._clock.step(1.0)  # type: ignore[attr-defined]
            with suppress(aof2.WouldBlock):
                log.wait_nowait(None, "remote" if self._workload.tier2 else "local")
                break
        else:
            raise AssertionError(f"{name}: tier 2 does not follow")
        self._read(log, name)


def check_promises(log: aof2.Aof, promised: StreamFacts, style: str) -> None:
    """What is there is what may be there."""
    least = promised.returned if style == KILL else promised.durable
    first, end = log.first_offset, log.next_offset
    if style == LOST:
        least = promised.remote
    assert least <= end <= max(promised.issued, least), (
        f"{log.name} ends at {end}; {least} promised, {promised.issued} appended"
    )
    assert first in promised.trims, f"{log.name} begins at {first}"
    assert style == LOST or first >= promised.trimmed, (
        f"{log.name} begins at {first}, but was trimmed before {promised.trimmed}"
    )
    assert log.watermarks.local == end, f"{log.watermarks.local} of {end} are durable"


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        workload = WORKLOADS[number % len(WORKLOADS)]
        work = setting.work / f"crash-{number}"
        try:
            return Episode(workload, setting.seed * 1_000_003 + number, work).run(STATES)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    return Cases(case)


ROW = Row(
    "crash-states",
    "every state that a crash may leave, also during recovery",
    "states",
    300_000,
    14,
    _begin,
    batch=1,
    case_timeout_s=600,
)
