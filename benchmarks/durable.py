"""Times durable appends beside the device: one thread, many threads, many coroutines.

The device's own pace is that of a pwrite of the same bytes and an fdatasync, in a file with the
same blocks. Every round measures all of it in turns, so that drift of the device falls on all.
Prints each figure with its bound; exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aof2

FRAME_EXTRA_BYTES = 32
FILE_BYTES = 64 << 20
TURN = 10
LATENCY_RATIO_MAX, THREADS_RATIO_MIN, COROUTINES_RATIO_MIN = 1.2, 6.0, 20.0


@dataclass
class Figures:
    """What was measured, over all rounds."""

    raw_us: list[float] = field(default_factory=list)
    ours_us: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    coroutines: list[float] = field(default_factory=list)


def timed_us(work: Callable[[], object], times: int) -> list[float]:
    """Microseconds of each of so many calls."""
    took = []
    for _ in range(times):
        began = time.perf_counter_ns()
        work()
        took.append((time.perf_counter_ns() - began) / 1e3)
    return took


class Raw:
    """A file that is allocated as a segment is, written piece by piece, each synced."""

    def __init__(self, path: Path, piece_bytes: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(self._fd, 0, FILE_BYTES)
        os.fsync(self._fd)
        self._piece = bytes(piece_bytes)
        self._position = 8192

    def write(self) -> None:
        """One piece more, and a sync."""
        os.pwrite(self._fd, self._piece, self._position)
        os.fdatasync(self._fd)
        self._position += len(self._piece)
        if self._position + len(self._piece) > FILE_BYTES:
            self._position = 8192

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def one_thread(
    log: aof2.Aof, raw: Raw, payload: bytes, appends: int, out: Figures, processor: int | None
) -> float:
    """A few of ours, a few of the device's, in turns; appends per second of ours.

    `processor`: where this thread is held while it waits for ours.
    """
    ours_us: list[float] = []
    raw_us: list[float] = []
    for _ in range(appends // TURN):
        raw_us += timed_us(raw.write, TURN)
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, allowed if processor is None else {processor})
        ours_us += timed_us(lambda: log.append(payload, durable=True), TURN)
        os.sched_setaffinity(0, allowed)
    out.raw_us += raw_us
    out.ours_us += ours_us
    out.ratios.append(statistics.median(ours_us) / statistics.median(raw_us))
    return len(ours_us) / sum(ours_us) * 1e6


def many_threads(log: aof2.Aof, payload: bytes, threads: int, appends: int) -> float:
    """Durable appends per second of so many threads."""
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        for _ in range(appends):
            log.append(payload, durable=True)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in running:
        thread.join()
    return threads * appends / (time.perf_counter() - began)


def many_coroutines(log: aof2.Aof, payload: bytes, coroutines: int, appends: int) -> float:
    """Durable appends per second of so many coroutines of one loop."""

    async def work() -> None:
        for _ in range(appends):
            await log.append_async(payload, durable=True)

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(coroutines)))
        return coroutines * appends / (time.perf_counter() - began)

    return asyncio.run(all_of_them())


def measure(
    base: str,
    payload: bytes,
    rounds: int,
    appends: int,
    *,
    strict: bool,
    processor: int | None,
) -> Figures:
    """All of it, round by round."""
    out = Figures()
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=FILE_BYTES),
        flush=aof2.FlushConfig(strict=strict),
    )
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        raw = Raw(Path(folder) / "raw", FRAME_EXTRA_BYTES + len(payload) + 7 & ~7)
        with aof2.open(Path(folder) / "root", config=config) as manager:
            log = manager.stream("bench")
            timed_us(lambda: log.append(payload, durable=True), 2 * TURN)
            for _ in range(rounds):
                single = one_thread(log, raw, payload, appends, out, processor)
                out.threads.append(many_threads(log, payload, 16, appends // 2) / single)
                out.coroutines.append(many_coroutines(log, payload, 1000, 20) / single)
        raw.close()
    return out


def say(label: str, values: list[float], bound: str, met: bool) -> bool:
    """A line of the table: median, and the range over the rounds."""
    low, high = min(values), max(values)
    print(
        f"| {label} | {statistics.median(values):.2f} | {low:.2f} to {high:.2f} | {bound} "
        f"| {'met' if met else 'MISSED'} |"
    )
    return met


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=None, help="where; default: the temporary directory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--appends", type=int, default=400, help="by one thread, each round")
    parser.add_argument("--bytes", type=int, default=100, help="of a record")
    parser.add_argument("--strict", action="store_true", help="flush.strict; bounds do not hold")
    parser.add_argument("--processor", type=int, help="hold the one thread there while it waits")
    chosen = parser.parse_args()
    base = chosen.dir or tempfile.gettempdir()
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}, {base}; records of {chosen.bytes} bytes, "
        f"{chosen.rounds} rounds; load {os.getloadavg()[0]:.1f} at the beginning"
    )
    out = measure(
        base,
        bytes(chosen.bytes),
        chosen.rounds,
        chosen.appends,
        strict=chosen.strict,
        processor=chosen.processor,
    )
    print(
        f"one thread, microseconds: raw p50 {statistics.median(out.raw_us):.0f}, "
        f"append(durable=True) p50 {statistics.median(out.ours_us):.0f}, "
        f"p99 {statistics.quantiles(out.raw_us, n=100)[98]:.0f} and "
        f"{statistics.quantiles(out.ours_us, n=100)[98]:.0f}"
    )
    print("| | median | rounds | bound | |\n|---|---|---|---|---|")
    ratio = statistics.median(out.ratios)
    threads, coroutines = statistics.median(out.threads), statistics.median(out.coroutines)
    met = [
        say("one thread, p50 in units of the device's", out.ratios, "at most 1.2",
            ratio <= LATENCY_RATIO_MAX),
        say("16 threads, in units of one thread's rate", out.threads, "at least 6",
            threads >= THREADS_RATIO_MIN),
        say("1,000 coroutines, in the same", out.coroutines, "at least 20",
            coroutines >= COROUTINES_RATIO_MIN),
    ]  # fmt: skip
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0 if all(met) or chosen.strict else 1


if __name__ == "__main__":
    sys.exit(main())
