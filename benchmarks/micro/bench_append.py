"""Appending: sizes, one or many or packed, sync or async, how durable."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import numpy as np
import pytest

import aof2

N = 1000
SIZES = (0, 128, 1024, 16384)
LARGE = 262_144


@pytest.mark.parametrize("size", [*SIZES, LARGE])
def bench_append(benchmark: Any, log: aof2.Aof, records: Any, rate: Any, size: int) -> None:
    """Calls alone, for sizes up to a frame that is copied without the GIL."""
    n = N if size < LARGE else 20
    payloads, append = records(n, size), log.append

    def work() -> None:
        for payload in payloads:
            append(payload)

    benchmark.pedantic(work, setup=log.flush, rounds=30, warmup_rounds=3)
    rate(n, n * size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["list", "tuple", "iterator"])
def bench_append_many(
    benchmark: Any, log: aof2.Aof, records: Any, rate: Any, size: int, kind: str
) -> None:
    """A thousand records in one call (or as many as a batch takes)."""
    n = min(N, 2_000_000 // max(size, 1))
    payloads = records(n, size)
    given = {"list": payloads, "tuple": tuple(payloads)}.get(kind)
    append_many = log.append_many
    benchmark.pedantic(
        lambda: append_many(iter(payloads) if given is None else given),
        setup=log.flush,
        rounds=100,
        warmup_rounds=3,
    )
    rate(n, n * size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [np.int32, np.int64])
def bench_append_packed(
    benchmark: Any, log: aof2.Aof, records: Any, rate: Any, size: int, width: Any
) -> None:
    """A thousand records that lie in one buffer."""
    n = min(N, 2_000_000 // max(size, 1))
    payloads = records(n, size)
    data, ends = b"".join(payloads), np.cumsum([len(p) for p in payloads]).astype(width)
    append_packed = log.append_packed
    benchmark.pedantic(
        lambda: append_packed(data, ends), setup=log.flush, rounds=100, warmup_rounds=3
    )
    rate(n, n * size)


@pytest.mark.parametrize("size", [128, 16384])
def bench_append_durable(benchmark: Any, log: aof2.Aof, records: Any, rate: Any, size: int) -> None:
    """One record, on the disk before the call returns."""
    payload = records(1, size)[0]
    benchmark.pedantic(lambda: log.append(payload, durable=True), rounds=300, warmup_rounds=5)
    rate(1, size)


def bench_append_group(benchmark: Any, log: aof2.Aof, records: Any, rate: Any) -> None:
    """A thousand records and a flush."""
    payloads = records(N, 128)

    def work() -> None:
        log.append_many(payloads)
        log.flush()

    benchmark.pedantic(work, rounds=100, warmup_rounds=3)
    rate(N, N * 128)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("tasks", [1, 100])
def bench_append_async(
    benchmark: Any, log: aof2.Aof, records: Any, rate: Any, tasks: int, durable: bool
) -> None:
    """The coroutine form, alone and from many tasks."""
    n = N if not durable else max(tasks, 20)
    payload = records(1, 128)[0]

    async def task(count: int) -> None:
        for _ in range(count):
            await log.append_async(payload, durable=durable)

    async def work() -> None:
        await asyncio.gather(*(task(n // tasks) for _ in range(tasks)))

    with asyncio.Runner() if hasattr(asyncio, "Runner") else _Loop() as runner:
        benchmark.pedantic(lambda: runner.run(work()), rounds=30, warmup_rounds=2)
    rate(n, n * 128)


class _Loop:
    """`asyncio.Runner` for Python 3.10."""

    def __enter__(self) -> _Loop:
        self._loop = asyncio.new_event_loop()
        return self

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def __exit__(self, *_: object) -> None:
        self._loop.close()


def bench_append_mixed(benchmark: Any, log: aof2.Aof, rate: Any) -> None:
    """Sizes as real streams have them: log-normal, median 200 bytes."""
    from records import MIXED, record_pool

    payloads = list(itertools.islice(record_pool(MIXED).records, 10 * N))
    append = log.append

    def work() -> None:
        for payload in payloads:
            append(payload)

    benchmark.pedantic(work, setup=log.flush, rounds=20, warmup_rounds=2)
    rate(len(payloads), sum(map(len, payloads)))
