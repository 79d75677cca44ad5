"""The crc64-nvme kernel called from Python, beside that of awscrt, by size.

Asked: faster below 64 KiB, at least 0.95 of its pace from there on. The two take turns, and a
figure is the median of several rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

from awscrt import checksums

from aof2._core import checksum

SIZES = (64, 128, 1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20)
LARGE = 64 << 10
LARGE_RATIO_MIN = 0.95
ROUND_S = 0.02


def seconds(call: Callable[[bytes], int], data: bytes, calls: int) -> float:
    """Seconds of one call, of so many in a row."""
    began = time.perf_counter()
    for _ in range(calls):
        call(data)
    return (time.perf_counter() - began) / calls


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench checksums", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; kernel {checksum.implementation()}\n"
    )
    print("| Bytes | ours, ns | awscrt, ns | ours, GB/s | by awscrt's pace | asked | |")
    print("|--:|--:|--:|--:|--:|--:|---|")
    met = True
    for size in SIZES:
        data = os.urandom(size)
        if checksum.crc64nvme(data) != checksums.crc64nvme(data):
            raise SystemExit(f"the two differ at {size} bytes")
        calls = max(1, round(ROUND_S / max(seconds(checksums.crc64nvme, data, 3), 1e-7)))
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(seconds(checksum.crc64nvme, data, calls))
            theirs.append(seconds(checksums.crc64nvme, data, calls))
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        bound = LARGE_RATIO_MIN if size >= LARGE else 1.0
        met &= ratio >= bound
        took, other = statistics.median(ours) * 1e9, statistics.median(theirs) * 1e9
        print(
            f"| {size:,} | {took:,.0f} | {other:,.0f} | {size / took:.1f} | {ratio:.2f} "
            f"| {bound:.2f} | {'' if ratio >= bound else 'missed'} |"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
