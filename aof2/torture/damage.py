"""Damage: every bit, every length, every sector, every file and object of a small root.

A *world* is a root and its bucket, small, with at least one of every kind of file and object. A
mutation damages one of them. Then everything is read back: by a readonly manager, by one that
writes, or by a fresh root that restores the stream from the bucket. Each must give exactly the
records that were appended, or a typed error. Of a root that was killed, records that no flush
covered may be missing at the end. Without the object that gives a name its stream, a fresh root
finds that there is none: the bucket's rules say so.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
from contextlib import suppress
from pathlib import Path

import aof2
from aof2.errors import AofError
from aof2.objectstore import MemoryStore
from aof2.torture.job import STREAM, fresh
from aof2.torture.mutations import Files, Item, Mutation, Mutations, World, damaged
from aof2.torture.order import drawn
from aof2.torture.pool import run_forked
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

TOGETHER = 50
"""Mutations of one case of the row."""
WAYS = ("readonly", "write", "restore")


def config(tier2: str) -> aof2.AofManagerConfig:
    """The smallest of everything."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=256 << 10),
        tier1=aof2.Tier1Config(bytes_max=128 << 10, frame_bytes=4096),
        tier2=aof2.Tier2Config(url=f"memory://{tier2}"),
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
        flush=aof2.FlushConfig(interval_s=3600, confirm_interval_s=0.01),
        coordinator=aof2.CoordinatorConfig(workers=2, retry_delay_s=0.01, shutdown_timeout_s=0.1),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 << 10, publish_interval_s=0.01, snapshot_chunks=1
        ),
        wait_timeout_s=2,
    )


# --- worlds -------------------------------------------------------------------------------------


def build(work: Path) -> list[World]:
    """A closed and a killed world; the same sizes each time, other random bits."""
    name = f"torture-build-{work.name}"
    root, chance = fresh(work / "build") / "r", random.Random(1)
    moments: list[tuple[Files, Files]] = []

    def look() -> None:
        moments.append((files_of(root), objects_of(MemoryStore.named(name))))

    with aof2.open(root, config=config(name)) as manager:
        log = manager.stream(STREAM)
        for turn in range(3):
            for size in (0, 7, 300):
                log.append(chance.randbytes(size), ext_id=turn)
            log.append_many([chance.randbytes(40), b"", b"x" * 100])
            look()
            log.seal()
            manager.drain("remote")
            look()
        # Segment 1 is cold only, 2 has all copies, 3 is hot and cold.
        drop_local_copies(root, manager, log)
        log.append(b"durable", durable=True)
        durable = log.next_offset
        look()
        log.append(b"in the ring only")
        rows = rows_of(log)
        look()
    killed = World("killed", *moments[-1], rows, durable)
    with aof2.open(root, config=config(name)) as manager:
        log = manager.stream(STREAM)
        log.append(b"after the first close", durable=True)
        look()
        log.append(b"the last")
        rows = rows_of(log)
    look()
    closed = World("closed", *moments[-1], rows, len(rows))
    for world, until in ((killed, -3), (closed, -1)):
        for files, objects in moments[:until]:
            for path, data in (*files.items(), *objects.items()):
                now = world.files.get(path, world.objects.get(path))
                versions = world.older.setdefault(path, [])
                if now is not None and data != now and data not in versions:
                    versions.append(data)
    MemoryStore.forget(name)
    return [closed, killed]


def drop_local_copies(root: Path, manager: aof2.AofManager, log: aof2.Aof) -> None:
    """Evict as budgets would: the manager's own commands, for two chosen files."""
    from aof2.coordinator.commands import Evict

    coordinator = manager._coordinator
    for segment, tiers in ((1, (0, 1)), (3, (1,))):
        for tier in tiers:
            coordinator.submit(Evict(STREAM, segment, aof2.Tier(tier)))
    manager.drain("local")


def files_of(root: Path) -> Files:
    """Every file below a directory, as of a moment in which none went."""
    while True:
        with suppress(FileNotFoundError):
            return {
                str(path.relative_to(root)): path.read_bytes()
                for path in sorted(root.rglob("*"))
                if path.is_file()
            }


def objects_of(store: MemoryStore) -> Files:
    """Every object of a store."""
    return {info.key: store.get(info.key, 1 << 30) for info in store.list()}


def rows_of(log: aof2.Aof) -> list[Item]:
    """Every record, read from whichever tier has it."""
    with log.reader() as reader:
        return [(r.offset, r.timestamp_ns, r.ext_id, r.payload) for r in reader]


# --- a case -------------------------------------------------------------------------------------


class Bench:
    """A directory and a store in which one process tries mutations, one after the other."""

    def __init__(self, worlds: list[World], work: Path, name: str) -> None:
        self.worlds, self.name = worlds, f"torture-damage-{name}"
        self.root = work / name
        self.store = MemoryStore(self.name)
        MemoryStore.stand_in(self.name, self.store)
        self._clean: int | None = None

    def close(self) -> None:
        """Remove the directory and the store."""
        MemoryStore.forget(self.name)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, mutation: Mutation, way: str) -> tuple[str, str]:
        """Damage, read back, judge.

        Returns:
            `(verdict, text)`: `same`, `error` with its type, `shorter` where that is allowed, or
            `SILENT` or `UNTYPED` with what was wrong.
        """
        world = self.worlds[mutation.world]
        self._lay_out(mutation.world, fresh_root=way == "restore")
        is_file = mutation.target in world.files
        data = damaged(world, mutation)
        if is_file:
            path = self.root / mutation.target
            path.unlink() if data is None else path.write_bytes(data)
        else:
            self._put(mutation.target, data)
        unnamed = mutation.kind == "delete" and "/current/" in mutation.target
        try:
            rows = self._read(way == "readonly")
            if way == "restore" and unnamed and not rows:
                return "no stream", ""
            return self._judge(world, rows, way)
        except AofError as error:
            return "error", type(error).__name__
        except Exception as error:
            return "UNTYPED", f"{type(error).__name__}: {error}"
        finally:
            if way == "readonly" and is_file:
                (self.root / mutation.target).write_bytes(world.files[mutation.target])
            elif way == "readonly":
                self._put(mutation.target, world.objects[mutation.target])
            else:
                self._clean = None

    def _lay_out(self, number: int, fresh_root: bool) -> None:
        if self._clean == number and not fresh_root:
            return
        world = self.worlds[number]
        fresh(self.root)
        for path, data in () if fresh_root else world.files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for path in () if fresh_root else ("quarantine", "warm"):
            for stream in self.root.glob(f"{STREAM}-*"):
                (stream / path).mkdir(exist_ok=True)
        self.store.load(world.objects)
        self._clean = None if fresh_root else number

    def _put(self, key: str, data: bytes | None) -> None:
        objects = {info.key: self.store.get(info.key, 1 << 30) for info in self.store.list()}
        objects.pop(key, None)
        self.store.load(objects if data is None else {**objects, key: data})

    def _read(self, readonly: bool) -> list[Item]:
        with aof2.open(self.root, config=config(self.name), readonly=readonly) as manager:
            return rows_of(manager.stream(STREAM, create=False) if readonly else _stream(manager))

    def _judge(self, world: World, rows: list[Item], way: str) -> tuple[str, str]:
        if rows == world.rows:
            return "same", ""
        if rows != world.rows[: len(rows)]:
            return "SILENT", f"other records: {_difference(rows, world.rows)}"
        least = published(world) if way == "restore" else world.durable
        if len(rows) < least:
            return "SILENT", f"{len(rows)} records of {least} that were durable"
        return "shorter", ""


def _stream(manager: aof2.AofManager) -> aof2.Aof:
    # A stream that tier 2 has is not in the root yet, and is taken over.
    return manager.stream(STREAM)


def published(world: World) -> int:
    """So many records the bucket has; the segments say it in their keys."""
    ends = [
        key.split("/")[-1].split(".")[0].split("-")[1] for key in world.objects if "/seg/" in key
    ]
    return max(map(int, ends), default=0)


def _difference(found: list[Item], expected: list[Item]) -> str:
    pairs = zip(found, expected, strict=False)
    at = next(
        (n for n, (one, two) in enumerate(pairs) if one != two), min(len(found), len(expected))
    )
    return f"from {at} on; {len(found)} instead of {len(expected)}"


def ways_for(world: World, mutation: Mutation) -> tuple[str, ...]:
    """In which ways a mutation can be met: what a fresh root restores is in the bucket only."""
    return ("readonly", "write") if mutation.target in world.files else WAYS


def begin(setting: Setting) -> Cases:
    """Build the worlds, and find all mutations."""
    # In a child, since whoever forks must have had no manager.
    (built,) = run_forked(lambda _: _store_worlds(setting.work), [0])
    if built.problem:
        raise CannotRun(f"the worlds cannot be built: {built.problem}")
    worlds: list[World] = pickle.loads((setting.work / "worlds").read_bytes())
    every = Mutations(worlds)
    benches: dict[int, Bench] = {}

    def run(number: int) -> Tally:
        pid = os.getpid()
        if pid not in benches:
            benches[pid] = Bench(worlds, setting.work, f"bench-{pid}")
        tally = Tally(units=0)
        for n in range(number * TOGETHER, (number + 1) * TOGETHER):
            first = n < len(every.whole)
            mutation = every.at(every.whole[n] if first else drawn(setting.seed, n, len(every)))
            for way in ways_for(worlds[mutation.world], mutation):
                verdict, text = benches[pid].run(mutation, way)
                tally.units += 1
                tally.counts[text if verdict == "error" else verdict] += 1
                if verdict in ("SILENT", "UNTYPED"):
                    tally.violations.append(f"{mutation} {way}: {verdict}: {text}")
        return tally

    return Cases(run)


def _store_worlds(work: Path) -> None:
    (work / "worlds").write_bytes(pickle.dumps(build(work)))


ROW = Row(
    name="damage",
    tries="every bit, length, sector, file and object of a small root is damaged, lost or old",
    unit="mutations",
    full=500_000,
    minutes=60,
    begin=begin,
)
