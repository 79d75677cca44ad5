"""The main job: records go in, roll over, move through all tiers by themselves, and come back
equal."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from jobhelp import (
    MIB,
    DiskWatch,
    check_by_segment,
    check_equal,
    feed,
    loghub_lines,
    random_payloads,
    small_config,
)

import aof2

SEED = 20


ALL = set(aof2.Tier)
AT_LEAST = ALL - {aof2.Tier.WARM}
"""A warm copy that outlives the hot one depends on the pace of eviction, so it is not asked for."""


def run_job(
    root: Path,
    tier2: aof2.Tier2Config,
    make: Callable[[], Iterable[bytes]],
    nearest: set[aof2.Tier] = AT_LEAST,
) -> None:
    """Append what `make` yields, with nobody helping; read it from every tier, before and after
    reopening. For some segments, each of `nearest` must be the nearest tier."""
    print(f"seed {SEED}")
    config = small_config(tier2)
    every = 997
    with DiskWatch(root) as disk:
        with aof2.open(root, config=config) as manager:
            log = manager.stream("logs")
            count = feed(log, make(), SEED)
            log.flush()
            assert (log.watermarks.appended, log.watermarks.local) == (count, count)
            tiers = check_by_segment(log, make())
            assert nearest <= set(tiers)
            assert {tier for info in log.segments() for tier in info.residency} == ALL
            check_equal((record.payload for record in log.reader()), make())
            manager.drain("remote", timeout=300)
            assert log.watermarks == aof2.Watermarks(count, count, count)
            assert all(aof2.Tier.COLD in info.residency for info in log.segments() if info.sealed)
            assert all(info.sealed for info in log.segments())
            segments = len(log.segments())
        with aof2.open(root, config=config) as manager:
            log = manager.stream("logs")
            assert log.recovery.clean
            assert log.recovery.records == count
            # Far more than fits the local budgets, so that most of it comes from tier 2.
            tiers = Counter(min(info.residency) for info in log.segments())
            assert tiers[aof2.Tier.COLD] > segments // 2
            assert nearest <= set(tiers)
            check_equal(log.reader().payloads(), make())
            for offset, record in enumerate(make()):
                if offset % every == 0:
                    assert log.get(offset).payload == record
    disk.check(config, segments)


def test_real_logs_come_back_from_s3(tmp_path, tier2_s3):
    """Goal: the main job on real input. Method: the lines of twelve log files, repeated to
    64 MiB, through a real S3 server."""
    lines = loghub_lines()
    assert any(line.endswith(b"\r") for line in lines), "some have lines that end in CRLF"
    times = -(-64 * MIB // sum(map(len, lines)))
    run_job(
        tmp_path / "r",
        aof2.Tier2Config(**tier2_s3),
        lambda: itertools.chain.from_iterable(itertools.repeat(lines, times)),
    )


def test_random_sizes_come_back_from_s3(tmp_path, tier2_s3):
    """Goal: sizes from nothing to 100,000 bytes. Method: 20,000 seeded payloads through a real S3
    server."""
    tier2 = aof2.Tier2Config(**tier2_s3)
    run_job(tmp_path / "r", tier2, lambda: random_payloads(SEED, 20_000))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_random_sizes_come_back_from_s3(tmp_path, tier2_s3):
    """Goal: the same for 200,000 payloads, 1.7 GB. Method: as above."""
    tier2 = aof2.Tier2Config(**tier2_s3)
    run_job(tmp_path / "r", tier2, lambda: random_payloads(SEED + 2, 200_000))


def test_the_job_runs_with_a_directory_as_tier_2(tmp_path):
    """Goal: the main job needs no server. Method: 3,000 payloads of random sizes, about 25 MB of
    hex digits, which shrink to a half."""
    tier2 = aof2.Tier2Config(url=str(tmp_path / "cold"))
    run_job(
        tmp_path / "r",
        tier2,
        lambda: (p.hex()[: len(p)].encode() for p in random_payloads(SEED + 1, 3_000)),
    )
