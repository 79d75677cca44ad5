"""Random payload sizes, read at random cut points, from the tail and from each tier.

A case is one small root whose records are in one place: at the unsealed end, as a dead process or
a close left it; in sealed segments; in warm files; in tier 2. Ranges, single records, batches and
times are read from it at random, and compared with a plain list. An unsealed file is also cut at a
random byte: the outcome is an exact prefix with all that was durable and whole, or an error.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import aof2
from aof2._core.directory import Directory
from aof2._core.scan import scan
from aof2._core.timesource import ManualTime
from aof2.clock import Clock
from aof2.coordinator.commands import Evict
from aof2.coordinator.handlers import handle
from aof2.torture.row import Cases, Row, Setting, Tally

KIB = 1 << 10
PLACES = ("tail", "sealed", "warm", "cold")
READS = 240
"""Of one root."""
FILE_CUTS = 24
"""Of an unsealed file."""
ODD_SIZES = (0, 1, 7, 8, 9, 4095, 4096, 4097)
SIZE_MAX = 40 * KIB
BATCH_BYTES = 12 * KIB
BEGAN_NS = 1_700_000_000_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=128 * KIB),
    tier1=aof2.Tier1Config(frame_bytes=16 * KIB),
    flush=aof2.FlushConfig(interval_s=3600),
)


@dataclass(frozen=True)
class Wanted:
    """What a record must be."""

    payload: bytes
    ext_id: int
    timestamp_ns: int


class Model:
    """One root, and the plain list that it is compared with.

    Attributes:
        rows: The records.
        durable: How many of them were flushed.
    """

    def __init__(self, chance: random.Random, work: Path, place: str) -> None:
        self.rows: list[Wanted] = []
        self.durable = 0
        self._chance, self._work, self._place = chance, work, place
        self._time = ManualTime(BEGAN_NS)

    def make(self) -> Path:
        """Write the records, and bring them to their place; the root to read."""
        live = self._work / "live"
        with aof2.open(live, config=self.config(), clock=Clock(self._time)) as manager:
            log = manager.stream("a")
            tail = self._place == "tail"
            wanted = self._chance.randrange(1, 100 * KIB if tail else 400 * KIB)
            while sum(len(row.payload) + 40 for row in self.rows) < wanted:
                self._append(log)
                if tail and self._chance.random() < 0.1:
                    log.flush(timeout=20)
                    self.durable = len(self.rows)
            if tail and self._chance.random() < 0.7:
                # What a process leaves that dies now.
                shutil.copytree(live, self._work / "root")
                return self._work / "root"
            if tail:
                self.durable = len(self.rows)
                return live
            log.seal(timeout=20)
            manager.drain("remote" if self._place == "cold" else "local", timeout=60)
            self._drop(manager, log)
        self.durable = len(self.rows)
        return live

    def config(self) -> aof2.AofManagerConfig | None:
        """Of the root; only where it says so with a tier 2."""
        if self._place != "cold":
            return CONFIG
        return aof2.AofManagerConfig(
            segment=CONFIG.segment,
            tier1=CONFIG.tier1,
            flush=CONFIG.flush,
            tier2=aof2.Tier2Config(url=str(self._work / "tier2")),
        )

    def _append(self, log: aof2.Aof) -> None:
        chance = self._chance
        self._time.set_ns(self._time.now_ns() + 1000 * chance.randrange(3))
        count = chance.choice((1, 1, chance.randrange(1, 60)))
        payloads = [self._payload()]
        while len(payloads) < count and sum(map(len, payloads)) < BATCH_BYTES:
            payloads.append(self._payload())
        count = len(payloads)
        ext_ids = [chance.choice((0, 7, 2**64 - 1)) for _ in range(count)]
        if count == 1:
            log.append(payloads[0], ext_id=ext_ids[0], timeout=20)
        elif chance.random() < 0.5:
            log.append_many(payloads, ext_ids=ext_ids, timeout=20)
        else:
            ends = [sum(map(len, payloads[: n + 1])) for n in range(count)]
            packed = memoryview(bytearray(struct.pack(f"={count}i", *ends))).cast("i")
            log.append_packed(b"".join(payloads), packed, ext_ids=ext_ids, timeout=20)
        stamp = self._time.now_ns()
        self.rows += [Wanted(*one, stamp) for one in zip(payloads, ext_ids, strict=True)]

    def _payload(self) -> bytes:
        size = self._chance.choice(ODD_SIZES)
        if self._chance.random() < 0.8:
            size = min(int(self._chance.lognormvariate(5.3, 1.3)), SIZE_MAX)
        return self._chance.randbytes(size)

    def _drop(self, manager: aof2.AofManager, log: aof2.Aof) -> None:
        """Leave only the copies of the place."""
        higher = {"sealed": (), "warm": (aof2.Tier.HOT,), "cold": (aof2.Tier.HOT, aof2.Tier.WARM)}
        for info in log.segments():
            for tier in higher[self._place]:
                if info.sealed and tier in info.residency:
                    handle(Evict("a", info.segment_id, tier), manager._context)


# --- reading --------------------------------------------------------------------------------------


def is_same(found: list[aof2.Record], rows: list[Wanted], start: int, stop: int) -> None:
    """Every field of every record of a range."""
    told = [(r.offset, r.payload, r.ext_id, r.timestamp_ns) for r in found]
    wanted = [
        (n, row.payload, row.ext_id, row.timestamp_ns)
        for n, row in enumerate(rows[start:stop], start)
    ]
    assert told == wanted, f"{start} to {stop}: {len(told)} records, or other ones"


def read_range(log: aof2.Aof, rows: list[Wanted], chance: random.Random) -> None:
    """A range, record by record."""
    start, stop = sorted(chance.choices(range(len(rows) + 1), k=2))
    with log.reader(start, stop) as reader:
        is_same(list(reader), rows, start, stop)


def read_payloads(log: aof2.Aof, rows: list[Wanted], chance: random.Random) -> None:
    """The rest from a place on, as bytes, after a `seek`."""
    start = chance.randrange(len(rows) + 1)
    stop = min(len(rows), start + 200)
    with log.reader("latest", stop) if chance.random() < 0.5 else log.reader(0, stop) as reader:
        reader.seek(start)
        assert list(reader.payloads()) == [row.payload for row in rows[start:stop]]


def read_batches(log: aof2.Aof, rows: list[Wanted], chance: random.Random) -> None:
    """A range in batches of any size, mixed with single records."""
    start, stop = sorted(chance.choices(range(len(rows) + 1), k=2))
    held: list[bytes] = []
    with log.reader(start, stop) as reader:
        while len(held) < stop - start:
            if chance.random() < 0.3:
                record = reader.read()
                assert record is not None
                held.append(record.payload)
                continue
            batch = reader.read_batch(chance.choice((1, 100, 4096, 1 << 20)))
            assert batch is not None
            held += [bytes(batch.payload(n)) for n in range(len(batch))]
        assert reader.read() is None
    assert held == [row.payload for row in rows[start:stop]], f"batches from {start} to {stop}"


def read_one(log: aof2.Aof, rows: list[Wanted], chance: random.Random) -> None:
    """A single record."""
    offset = chance.randrange(len(rows))
    is_same([log.get(offset)], rows, offset, offset + 1)


def read_from_time(log: aof2.Aof, rows: list[Wanted], chance: random.Random) -> None:
    """From a time on, which may be between two records, before or behind all."""
    last = (rows[-1].timestamp_ns - BEGAN_NS) // 1000
    micros = BEGAN_NS // 1000 + chance.randrange(-2, last + 3)
    start = next((n for n, r in enumerate(rows) if r.timestamp_ns >= 1000 * micros), len(rows))
    stop = min(len(rows), start + 3)
    with log.reader(EPOCH + timedelta(microseconds=micros), stop) as reader:
        is_same(list(reader), rows, start, stop)


KINDS: tuple[Callable[[aof2.Aof, list[Wanted], random.Random], None], ...] = (
    read_range,
    read_payloads,
    read_batches,
    read_one,
    read_from_time,
)


# --- cutting --------------------------------------------------------------------------------------


def unsealed(root: Path) -> tuple[Path, int] | None:
    """The segment that was being written, and its first offset; None where there is none."""
    for path in sorted(root.glob("a-*/segments/[0-9]*.seg"), reverse=True):
        span = span_of(path)
        if span is not None:
            return path, span[0]
    return None


def span_of(path: Path) -> tuple[int, int] | None:
    """The offsets of the whole frames of an unsealed segment; None for a file that was not begun,
    or has its END."""
    directory = Directory(str(path.parent))
    try:
        found = scan(directory, path.name)
    finally:
        directory.close()
    if found is None or found.start is None or found.whole:
        return None
    return found.start.base_offset, found.end_offset


def cut_once(model: Model, root: Path, work: Path, chance: random.Random) -> str:
    """Cut the unsealed segment at a random byte; what came of it."""
    shutil.copytree(root, work)
    for ring in work.glob("a-*/segments/landing.ring"):
        ring.unlink()
    place = unsealed(work)
    if place is None:
        return "sealed in time"
    path, base_offset = place
    data = path.read_bytes()
    at = chance.randrange(8192, max(len(data.rstrip(b"\0")), 8193))
    path.write_bytes(data[:at] + bytes(len(data) - at))
    left = (span_of(path) or (0, base_offset))[1]
    try:
        with aof2.open(work, config=model.config()) as manager:
            found = list(manager.stream("a").reader().payloads())
    except aof2.CorruptionError:
        assert left < model.durable, f"cut at {at}: all {model.durable} durable records are whole"
        return "errors"
    assert found == [row.payload for row in model.rows[: len(found)]], f"cut at {at}: no prefix"
    assert len(found) == left, f"cut at {at}: {len(found)} records, {left} are whole"
    return "prefixes"


def check(model: Model, work: Path, chance: random.Random, tally: Tally) -> None:
    """All reads and cuts of one root."""
    root = model.make()
    if model._place == "tail":
        for n in range(FILE_CUTS):
            tally.counts[cut_once(model, root, work / f"cut-{n}", chance)] += 1
            shutil.rmtree(work / f"cut-{n}")
            tally.units += 1
    with aof2.open(root, config=model.config(), readonly=chance.random() < 0.5) as manager:
        log = manager.stream("a")
        assert log.next_offset == len(model.rows), f"{log.next_offset} of {len(model.rows)}"
        for _ in range(READS):
            kind = chance.choice(KINDS)
            kind(log, model.rows, chance)
            tally.counts[f"{model._place}, {kind.__name__}"] += 1
            tally.units += 1


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        chance, tally = random.Random((setting.seed << 32) + number), Tally(units=0)
        work, place = setting.work / f"cuts-{number}", PLACES[number % len(PLACES)]
        work.mkdir()
        try:
            check(Model(chance, work, place), work, chance, tally)
        except AssertionError as error:
            tally.violations.append(f"{place}: {error}")
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return tally

    return Cases(case)


ROW = Row(
    "random-cuts",
    "random payload sizes, read and cut at random places of the tail and of each tier",
    "cuts",
    200_000,
    3,
    _begin,
    batch=4,
)
