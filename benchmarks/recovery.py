"""How fast the unsealed end of a stream is read at open, from the page cache.

A process dies (it is forked, appends, and ends without a close); its root is copied aside. Timed
are the scan of the active segment alone, as recovery runs it (every frame's checksum, and the look
behind the last one), and the whole open for writing: the scan, what has to be written again and
synced, the seal. Asked of the scan: 3 GB/s.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aof2
from aof2._core.directory import Directory
from aof2._core.scan import scan

MIB = 1 << 20
BOUND_GBS = 3.0
SEGMENT_BYTES = 256 * MIB
CONFIG = aof2.AofManagerConfig(segment=aof2.SegmentConfig(segment_bytes_max=SEGMENT_BYTES))
SIZES = {"128 B": 128, "1 KiB": 1 << 10, "4 KiB": 4 << 10, "64 KiB": 64 << 10, "mixed": 0}


def write_and_die(root: Path, size: int, filled_bytes: int) -> None:
    """Append so many bytes of records, in a child that ends without a close."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the writer ended with {status}"
        return
    manager = aof2.open(root, config=CONFIG)
    # The first segment is small by design; this makes the next one as large as they get.
    log = manager.stream("a")
    log._instance.size_steps = 20
    chance, noise = random.Random(7), os.urandom(1 << 20)
    done = 0
    while done < filled_bytes:
        n = size or min(int(chance.lognormvariate(5.3, 1.0)) + 1, 1 << 16)
        log.append(noise[:n], timeout=None)
        done += n + 40
    log.flush(timeout=None)
    os._exit(0)


def active(root: Path) -> Path:
    """The segment that was being written: behind it are only files that were not begun."""
    for path in sorted(root.glob("a-*/segments/*.seg"), reverse=True):
        directory = Directory(str(path.parent))
        found = scan(directory, path.name)
        directory.close()
        if found is not None:
            return path
    raise FileNotFoundError("the writer left no segment")


def scan_gbs(path: Path, rounds: int) -> tuple[float, int]:
    """`(GB/s of frames, bytes of frames)`, the median of some rounds behind one that warms up."""
    directory = Directory(str(path.parent))
    rates, used = [], 0
    for _ in range(rounds + 1):
        began = time.perf_counter()
        found = scan(directory, path.name, look_ahead=True)
        took_s = time.perf_counter() - began
        assert found is not None
        used = found.end_position - 8192
        rates.append(used / took_s / 1e9)
    directory.close()
    return statistics.median(rates[1:]), used


def open_s(root: Path) -> float:
    """Seconds of an open for writing, recovery and seal included."""
    began = time.perf_counter()
    with aof2.open(root, config=CONFIG):
        return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each scan")
    parser.add_argument("--mib", type=int, default=192, help="of records in the segment")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()},")
    print(f"Python {platform.python_version()}; a segment of {SEGMENT_BYTES // MIB} MiB\n")
    print("| Records | Frames, MB | Scan, GB/s | Open for writing, s |")
    print("|---|--:|--:|--:|")
    worst = float("inf")
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            root = Path(folder) / "root"
            write_and_die(root, size, options.mib * MIB)
            rate, used = scan_gbs(active(root), options.rounds)
            shutil.copytree(root, Path(folder) / "copy")
            took_s = open_s(Path(folder) / "copy")
        print(f"| {name} | {used / 1e6:.0f} | {rate:.2f} | {took_s:.2f} |", flush=True)
        worst = min(worst, rate)
    print(f"\nslowest scan {worst:.2f} GB/s, asked at least {BOUND_GBS}")
    return 0 if worst >= BOUND_GBS else 1


if __name__ == "__main__":
    sys.exit(main())
