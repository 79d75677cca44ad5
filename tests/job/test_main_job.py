"""The main job: records go in, roll over, move through all tiers by themselves, and come back
equal."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from jobhelp import (
    BUDGET_BYTES,
    MANIFEST_BYTES,
    MIB,
    SEGMENT_BYTES,
    DiskWatch,
    check_equal,
    feed,
    loghub_lines,
    random_payloads,
    small_config,
)

import aof2

SEED = 20


def run_job(root, tier2: aof2.Tier2Config, records: list[bytes]) -> None:
    config = small_config(tier2)
    with DiskWatch(root) as disk:
        with aof2.open(root, config=config) as manager:
            log = manager.stream("logs")
            feed(log, records, SEED)
            log.flush()
            held = {tier for info in log.segments() for tier in info.residency}
            assert held == set(aof2.Tier), "the run should end with segments in every tier"
            check_equal((record.payload for record in log.reader()), records)
            manager.drain("remote", timeout=300)
            assert log.watermarks == aof2.Watermarks(*(3 * [len(records)]))
            assert all(aof2.Tier.COLD in info.residency for info in log.segments())
        with aof2.open(root, config=config) as manager:
            log = manager.stream("logs")
            assert log.recovery.clean
            # Far more than fits the local budgets, so most of it comes from tier 2.
            cold_only = [i for i in log.segments() if i.residency == {aof2.Tier.COLD}]
            assert len(cold_only) > len(log.segments()) // 2
            check_equal(log.reader().payloads(), records)
            for offset in range(0, len(records), max(1, len(records) // 50)):
                assert log.get(offset).payload == records[offset]
    assert disk.peak <= 2 * BUDGET_BYTES + 2 * SEGMENT_BYTES + MANIFEST_BYTES


def test_real_logs_and_random_sizes_come_back_from_s3(tmp_path, tier2_s3):
    """Goal: the main job on real input, with nobody helping. Method: see `run_job`; 64 MiB of
    lines."""
    lines = loghub_lines()
    total = sum(map(len, lines))
    lines *= -(-64 * MIB // total)
    run_job(tmp_path / "r", aof2.Tier2Config(**tier2_s3), lines)


def test_random_sizes_come_back_from_s3(tmp_path, tier2_s3):
    """Goal: sizes from nothing to 100,000 bytes. Method: 20,000 seeded payloads through
    `run_job`."""
    print(f"seed {SEED}")
    run_job(tmp_path / "r", aof2.Tier2Config(**tier2_s3), random_payloads(SEED, 20_000))


@pytest.mark.long
def test_many_random_sizes_come_back_from_a_directory(tmp_path):
    """Goal: the same for 200,000 payloads. Method: in ten parts, so that they fit in memory."""
    for part in range(10):
        tier2 = aof2.Tier2Config(url=str(tmp_path / f"cold{part}"))
        run_job(tmp_path / f"r{part}", tier2, random_payloads(SEED + part, 20_000))


def test_the_job_runs_with_a_directory_as_tier_2(tmp_path):
    """Goal: the main job needs no server. Method: 3,000 random payloads, about 25 MB."""
    tier2 = aof2.Tier2Config(url=str(tmp_path / "cold"))
    run_job(tmp_path / "r", tier2, random_payloads(SEED + 1, 3_000))


def test_thousands_of_rollovers_leave_nothing_behind(tmp_path):
    """Goal: hours of ingest in seconds. Method: 2,000 natural rollovers over 3 streams; count
    what grows."""
    config = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=MIB),
        tier1=aof2.Tier1Config(bytes_max=MIB),
        tier2=aof2.Tier2Config(url=str(tmp_path / "cold")),
        segment=aof2.SegmentConfig(segment_bytes_max=65536),
        manifest=aof2.ManifestConfig(chunk_bytes=16384),
    )
    payloads = [bytes([65 + n % 26]) * (n * 37 % 900) for n in range(1000)]

    def counts() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_bytes().count(b"\n")
        return threading.active_count(), len(os.listdir("/proc/self/fd")), maps

    with aof2.open(tmp_path / "r", config=config) as manager:
        logs = [manager.stream(f"s{n}") for n in range(3)]
        early = None
        while sum(len(log.segments()) for log in logs) < 2000:
            for log in logs:
                for _ in range(4):
                    log.append_many(payloads[:20])
                    for payload in payloads:
                        log.append(payload)
            hot, warm = manager.bytes_used
            assert hot <= MIB + 2 * 65536
            assert warm <= MIB + 2 * 65536
            early = early or counts()
        late = counts()
        assert late[0] <= early[0] + 1
        assert late[1] <= early[1] + 20
        assert late[2] <= early[2] + 60
        manager.drain("remote", timeout=120)
        expected = payloads[:20] + payloads
        for log in logs:
            for n, payload in enumerate(log.reader().payloads()):
                assert payload == expected[n % len(expected)]
            assert n + 1 == log.next_offset
