"""Background work: sealing, compressing, and the work of a manager that has nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import aof2


@pytest.mark.parametrize("mib", [1, 4])
def bench_seal(benchmark: Any, tmp_path: Path, records: Any, rate: Any, mib: int) -> None:
    """From `seal` to the acknowledgement."""
    payloads = records(900 * mib, 1024)
    with aof2.open(tmp_path / "root", config=SMALL) as manager:
        log = manager.stream("bench")

        def setup() -> None:
            log.append_many(payloads[:1000])
            for payload in payloads[1000:]:
                log.append(payload)
            log.flush()

        benchmark.pedantic(log.seal, setup=setup, rounds=10, warmup_rounds=1)
    rate(len(payloads), len(payloads) * 1024)


@pytest.mark.parametrize("level", [1, 3])
def bench_compress(benchmark: Any, tmp_path: Path, records: Any, rate: Any, level: int) -> None:
    """Building a warm file and verifying it, in the core."""
    from aof2._core import compressed
    from aof2._core.directory import Directory

    payloads = records(3000, 1024)
    with aof2.open(tmp_path / "root", config=SMALL) as manager:
        log = manager.stream("bench")
        for payload in payloads:
            log.append(payload)
        log.seal()
        largest = max(log.segments(), key=lambda info: info.bytes if info.sealed else 0)
    [name] = tmp_path.glob(f"root/bench-*/segments/{largest.segment_id:020d}.seg")
    source = Directory(str(name.parent))
    target = Directory(str(tmp_path))

    def work() -> None:
        compressed.build(source, name.name, target, "x.seg.zst", level=level, frame_bytes=256 << 10)

    benchmark.pedantic(
        work,
        setup=lambda: target.unlink("x.seg.zst", missing_ok=True),
        rounds=10,
        warmup_rounds=1,
    )
    rate(0, largest.bytes)
    source.close()
    target.close()
