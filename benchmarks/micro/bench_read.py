"""Reading: scans as records, bytes and columns, and single records, from each tier."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import aof2

N = 100_000
SIZE = 128
TIERS = ("hot", "warm", "cold")


def filled(path: Path, tier: str, frames: str, payloads: list[bytes]) -> aof2.AofManager:
    """A root whose stream `bench` has its records in one tier."""
    tight = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=1 << 20),
        tier0=aof2.Tier0Config(bytes_max=4 << 20),
        tier1=aof2.Tier1Config(bytes_max=(2 << 20) if tier == "cold" else (1 << 30)),
    )
    config = SMALL if tier == "hot" else tight
    manager = aof2.open(
        path / "root", tier2=str(path / "cold") if tier == "cold" else None, config=config
    )
    log = manager.stream("bench")
    for i in range(0, len(payloads), 1000):
        if frames == "batch":
            log.append_many(payloads[i : i + 1000])
        else:
            log.extend(payloads[i : i + 1000]) if frames == "extend" else [
                log.append(p) for p in payloads[i : i + 1000]
            ]
    manager.drain("remote" if tier == "cold" else "local")
    return manager


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    """Which tier the records are in."""
    return str(request.param)


@pytest.fixture(params=["record", "batch"])
def stream(
    request: pytest.FixtureRequest, tmp_path: Path, records: Any, tier: str
) -> Iterator[aof2.Aof]:
    """A filled stream, of RECORD or of BATCH frames."""
    with filled(tmp_path, tier, str(request.param), records(N, SIZE)) as manager:
        yield manager.stream("bench")


def bench_scan_records(benchmark: Any, stream: aof2.Aof, rate: Any) -> None:
    """Every record as an object."""

    def work() -> int:
        return sum(1 for _ in stream.reader())

    assert benchmark.pedantic(work, rounds=7, warmup_rounds=1) == N
    rate(N, N * SIZE)


def bench_scan_payloads(benchmark: Any, stream: aof2.Aof, rate: Any) -> None:
    """Every payload as bytes."""

    def work() -> int:
        return sum(1 for _ in stream.reader().payloads())

    assert benchmark.pedantic(work, rounds=7, warmup_rounds=1) == N
    rate(N, N * SIZE)


def bench_scan_columns(benchmark: Any, stream: aof2.Aof, rate: Any) -> None:
    """Batches as numpy arrays."""

    def work() -> int:
        return sum(batch.data.nbytes for batch in stream.reader().batches())

    assert benchmark.pedantic(work, rounds=15, warmup_rounds=1) == N * SIZE
    rate(N, N * SIZE)


def bench_get(benchmark: Any, stream: aof2.Aof, rate: Any, tier: str) -> None:
    """Records at random."""
    chance = random.Random(3)
    offsets = [chance.randrange(N) for _ in range(200 if tier == "cold" else 1000)]
    get = stream.get

    def work() -> None:
        for offset in offsets:
            get(offset)

    benchmark.pedantic(work, rounds=10, warmup_rounds=1)
    rate(len(offsets), len(offsets) * SIZE)
