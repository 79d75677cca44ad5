"""What the microbenchmarks share: roots, records, and rates beside the times."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aof2

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

SMALL = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=4 << 20),
    tier0=aof2.Tier0Config(bytes_max=64 << 20),
)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[aof2.AofManager]:
    """A root without a tier 2, everything at its defaults."""
    with aof2.open(tmp_path / "root") as opened:
        yield opened


@pytest.fixture
def log(manager: aof2.AofManager) -> aof2.Aof:
    """A fresh stream that was appended to once, so that its ring and segment are there."""
    stream = manager.stream("bench")
    stream.append(b"first")
    return stream


@pytest.fixture
def records() -> Callable[[int, int], list[bytes]]:
    """`records(n, size)`: so many records of that size, as compressible as logs are."""
    from records import log_lines

    def make(n: int, size: int) -> list[bytes]:
        lines = b"".join(itertools.islice(log_lines(7), 1 + max(n * size, size) // 200))
        return [lines[i * size : (i + 1) * size] for i in range(n)]

    return make


@pytest.fixture
def rate(benchmark: Any) -> Callable[[int, int], None]:
    """`rate(records, bytes)`: what one round did; shown as records/s and MB/s of the median."""

    def note(count: int, n: int) -> None:
        median = benchmark.stats.stats.median if benchmark.stats else 0
        if median:
            benchmark.extra_info["records_per_s"] = round(count / median)
            benchmark.extra_info["mb_per_s"] = round(n / median / 1e6, 1)

    return note
