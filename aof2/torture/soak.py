"""A soak: natural rollovers under small budgets and a slow tier 2 that fails, with kills between.

A case is one root for some seconds. A writer appends to three streams, waits for nothing but room,
looks at what it holds and at the disk, and is killed, or closes, after a moment; then all that it
was told is there, and it goes on. At the end tier 2 is well again: everything gets there, and every
record is read.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import aof2
from aof2._core.posix import lower_thread_priority
from aof2.clock import Clock
from aof2.objectstore.base import BytesLike, Contents, ObjectInfo
from aof2.objectstore.local import LocalStore
from aof2.torture.row import Cases, Row, Setting, Tally

KIB = 1 << 10
STREAMS = ("a", "b", "c")
CASE_S = 8.0
LIFE_S_MAX = 2.5
CHECKED = 2000
"""Records of each stream that are read after a kill; all of them at the end."""
THREADS_MAX = 24
DESCRIPTORS_MAX = 120
MAPPINGS_GROWN_MAX = 400
RESIDENT_GROWN_KIB_MAX = 64 * KIB
FAILURE_SHARE = 0.05
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=1024 * KIB),
    tier1=aof2.Tier1Config(bytes_max=2048 * KIB),
    tier2=aof2.Tier2Config(url="replaced"),
    flush=aof2.FlushConfig(interval_s=0.01),
    manifest=aof2.ManifestConfig(chunk_bytes=64 * KIB, publish_interval_s=0.05),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
)
OVER_BYTES_MAX = 3 * 8192 + 2 * 64 * KIB
"""What may be on disk above a budget for a moment: pointers, and two segments."""


class Flaky(LocalStore):
    """Objects in a directory; requests take a while, and some fail before or after they were
    done."""

    def __init__(self, path: Path, chance: random.Random, clock: Clock) -> None:
        super().__init__(path)
        self._chance, self._clock = chance, clock
        self.share = FAILURE_SHARE

    @contextmanager
    def _request(self) -> Iterator[None]:
        self._clock.sleep(self._chance.uniform(0, 0.004))
        draw = self._chance.random()
        if draw < self.share / 2:
            raise aof2.Tier2Unavailable("planned, before the request")
        yield
        if draw > 1 - self.share / 2:
            raise aof2.Tier2Unavailable("planned, after the request")

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        with self._request():
            return super().put(key, data, crc64=crc64)

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        with self._request():
            return super().replace(key, data, crc64=crc64)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        with self._request():
            return super().get_range(key, start, end)


@contextmanager
def opened(root: Path, store: LocalStore) -> Iterator[aof2.AofManager]:
    """The root with this store as its tier 2."""
    with mock.patch("aof2.opening.open_store", return_value=store):
        manager = aof2.open(root, config=CONFIG)
    with manager:
        yield manager


def payload(stream: str, offset: int) -> bytes:
    """The payload of an offset, of a length that depends on it."""
    return b"%s%d." % (stream.encode(), offset) * (1 + offset * 7919 % 150)


# --- the writer -----------------------------------------------------------------------------------


def held() -> tuple[int, int, int, int]:
    """Threads, descriptors, mappings and KiB of resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    words = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    mappings = Path("/proc/self/maps").read_bytes().count(b"\n")
    resident = int(words["VmRSS"].split()[0])
    return int(words["Threads"]), len(os.listdir("/proc/self/fd")), mappings, resident


def on_disk(root: Path, pattern: str) -> int:
    """Bytes of files that come and go while they are counted."""
    total = 0
    for path in root.glob(pattern):
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def look(root: Path, began: tuple[int, int, int, int]) -> str:
    """What has grown beyond its bound; empty when nothing has."""
    threads, descriptors, mappings, resident = held()
    hot, warm = on_disk(root, "*/segments/*"), on_disk(root, "*/warm/*")
    bounds = {
        "threads": (threads, THREADS_MAX),
        "descriptors": (descriptors, DESCRIPTORS_MAX),
        "mappings more": (mappings - began[2], MAPPINGS_GROWN_MAX),
        "KiB of memory more": (resident - began[3], RESIDENT_GROWN_KIB_MAX),
        "bytes in tier 0": (hot, CONFIG.tier0.bytes_max + OVER_BYTES_MAX),
        "bytes in tier 1": (warm, CONFIG.tier1.bytes_max + OVER_BYTES_MAX),
    }
    over = [f"{n} {what}, at most {most}" for what, (n, most) in bounds.items() if n > most]
    return "; ".join(over)


def write(root: Path, store: Flaky, pipe: int, life_s: float) -> None:
    """Append, flush, look; tell the observer `stream offset`, or what is wrong."""
    clock, began = Clock(), held()
    until_s = clock.monotonic_s() + life_s
    # The first stream of a fresh root needs tier 2, and is refused without it.
    store.share = FAILURE_SHARE if any(root.glob("*/stream.json")) else 0.0
    with opened(root, store) as manager:
        logs = [manager.stream(name) for name in STREAMS]
        store.share = FAILURE_SHARE
        turn = 0
        while clock.monotonic_s() < until_s:
            turn += 1
            for log in logs:
                for _ in range(40):
                    log.append(payload(log.name, log.next_offset), timeout=60)
                os.write(pipe, b"%s %d\n" % (log.name.encode(), log.next_offset))
            wrong = look(root, began) if turn % 10 == 0 else ""
            if wrong:
                os.write(pipe, b"! %s\n" % wrong.encode())


def one_life(root: Path, store: Flaky, chance: random.Random, tally: Tally) -> dict[str, int]:
    """Fork a writer, and kill it after a while, or have it close; what it was told of each stream.
    """
    reading, writing = os.pipe()
    life_s, killed = chance.uniform(0.2, LIFE_S_MAX), chance.random() < 0.7
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            lower_thread_priority()
            write(root, store, writing, 60.0 if killed else life_s)
        except BaseException as error:
            os.write(writing, b"! %s\n" % repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    told, clock, lines = dict.fromkeys(STREAMS, 0), Clock(), b""
    until_s = clock.monotonic_s() + life_s
    with open(reading, "rb", buffering=0) as pipe:
        while data := pipe.read(1 << 16):
            lines += data
            if killed and clock.monotonic_s() > until_s:
                os.kill(pid, signal.SIGKILL)
                killed = False
                tally.counts["kills"] += 1
    os.waitpid(pid, 0)
    for line in lines.split(b"\n")[:-1]:
        name, _, said = line.decode().partition(" ")
        if name == "!":
            tally.violations.append(said)
        else:
            told[name] = int(said)
    return told


# --- the check ------------------------------------------------------------------------------------


def check(root: Path, store: LocalStore, told: dict[str, int], *, whole: bool) -> int:
    """Everything that was told is there, and right; the records in all streams together."""
    total = 0
    with opened(root, store) as manager:
        for name in STREAMS:
            log = manager.stream(name)
            end = log.next_offset
            assert end >= told[name], f"{name} has {end} of {told[name]} records"
            start = 0 if whole else max(0, end - CHECKED)
            read = start
            for read, data in enumerate(log.reader(start).payloads(), start):
                assert data == payload(name, read), f"{name}: record {read} is {data[:40]!r}"
            assert end == 0 or read == end - 1, f"{name}: {read + 1} of {end} can be read"
            total += end
        if whole:
            manager.drain("remote", timeout=60)
            assert all(manager.stream(n).watermarks.remote == told[n] for n in STREAMS if n in told)
    return total


def run(home: Path, chance: random.Random, tally: Tally) -> None:
    """One root, life after life."""
    clock, told = Clock(), dict.fromkeys(STREAMS, 0)
    home.mkdir()
    root, store = home / "root", Flaky(home / "tier2", chance, clock)
    began_s = clock.monotonic_s()
    while clock.monotonic_s() < began_s + CASE_S and not tally.violations:
        heard = one_life(root, store, chance, tally)
        told = {name: max(told[name], heard[name]) for name in STREAMS}
        store.share = 0.0
        check(root, store, told, whole=False)
        store.share = FAILURE_SHARE
        tally.counts["lives"] += 1
    store.share = 0.0
    with opened(root, store) as manager:
        ends = {name: manager.stream(name).next_offset for name in STREAMS}
        tally.counts["rollovers"] += sum(len(manager.stream(n).segments()) for n in STREAMS)
    tally.counts["records"] += check(root, store, ends, whole=True)
    tally.units = round(clock.monotonic_s() - began_s)


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        tally, home = Tally(units=0), setting.work / f"soak-{number}"
        try:
            run(home, random.Random((setting.seed << 32) + number), tally)
        except AssertionError as error:
            tally.violations.append(str(error))
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return tally

    return Cases(case)


ROW = Row(
    "soak",
    "natural rollovers under small budgets, with kills and a tier 2 that fails",
    "seconds",
    600,
    5,
    _begin,
    batch=1,
)
