"""Opening: many segments, after a clean close and after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import aof2

CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
    tier0=aof2.Tier0Config(bytes_max=16 << 20),
)


@pytest.mark.parametrize("segments", [10, 1000])
def bench_open(benchmark: Any, tmp_path: Path, records: Any, segments: int) -> None:
    """From `open` to a stream that can be appended to, after a clean close."""
    payload = records(1, 30_000)[0]
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("bench")
        for _ in range(segments):
            log.append(payload)
            log.append(payload)
        manager.drain("local")
        assert sum(1 for _ in log.segments()) >= segments
    opened = []

    def work() -> None:
        opened.append(aof2.open(tmp_path / "root", config=CONFIG))
        opened[-1].stream("bench")

    def setup() -> None:
        while opened:
            opened.pop().close()

    benchmark.pedantic(work, setup=setup, rounds=10, warmup_rounds=1)
    setup()


def bench_recover(benchmark: Any, tmp_path: Path, records: Any, rate: Any) -> None:
    """The same after a kill, with 32 MiB in the segment that was being written."""
    payloads = records(30_000, 1024)
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("bench")
        for payload in payloads:
            log.append(payload)
        log.flush()
        # What a kill would leave: the files as they are now.
        shutil.copytree(tmp_path / "root", tmp_path / "killed")
    opened = []

    def work() -> None:
        opened.append(aof2.open(tmp_path / "again"))
        assert opened[-1].stream("bench").next_offset == len(payloads)

    def setup() -> None:
        while opened:
            opened.pop().close()
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(tmp_path / "killed", tmp_path / "again")

    benchmark.pedantic(work, setup=setup, rounds=7, warmup_rounds=1)
    setup()
    rate(len(payloads), len(payloads) * 1024)
