"""Natural rollovers by the thousand: budgets bind, nothing grows, everything is readable."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import NamedTuple

from jobhelp import KIB, MIB, DiskWatch, check_equal, small_config

import aof2
from aof2.tiers.holding import OPEN_SEGMENTS_MAX

ROLLOVERS = 2_000
STREAMS = 3
PAYLOADS = [bytes([65 + n % 26]) * (n * 37 % 900) for n in range(1000)]
ROUND = PAYLOADS[:20] + PAYLOADS


class Counts(NamedTuple):
    """What this process holds at the moment."""

    threads: int
    descriptors: int
    mappings: int


def counts() -> Counts:
    maps = Path("/proc/self/maps").read_bytes().count(b"\n")
    return Counts(threading.active_count(), len(os.listdir("/proc/self/fd")), maps)


def one_round(logs: list[aof2.Aof]) -> None:
    """About seven segments for every stream, in a batch and single records."""
    for log in logs:
        log.append_many(ROUND[:20])
        for payload in PAYLOADS:
            log.append(payload)


def check_all(logs: list[aof2.Aof], rounds: int) -> None:
    for log in logs:
        assert log.next_offset == rounds * len(ROUND)
        expected = itertools.chain.from_iterable(itertools.repeat(ROUND, rounds))
        check_equal(log.reader().payloads(), expected)


def test_thousands_of_rollovers_leave_nothing_behind(tmp_path):
    """Goal: days of rollovers in seconds. Method: 2,000 of them over 3 streams and 1 MiB budgets;
    count what grows, watch the disk, read everything, also after reopening."""
    tier2 = aof2.Tier2Config(url=str(tmp_path / "cold"))
    config = small_config(
        tier2, 64 * KIB, MIB, manifest=aof2.ManifestConfig(chunk_bytes=16 * KIB)
    )
    root, rounds = tmp_path / "r", 0
    with DiskWatch(root) as disk:
        with aof2.open(root, config=config) as manager:
            logs = [manager.stream(f"s{n}") for n in range(STREAMS)]
            early = None
            while (rolled := sum(len(log.segments()) for log in logs)) < ROLLOVERS:
                one_round(logs)
                rounds += 1
                hot, warm = manager.bytes_used
                assert hot <= MIB + 2 * 64 * KIB
                assert warm <= MIB
                if early is None and rolled > ROLLOVERS // 10:
                    early = counts()
            late = counts()
            assert early is not None
            assert late.threads <= early.threads
            assert late.descriptors <= early.descriptors + 8, "a few are open at any moment"
            assert late.mappings <= early.mappings + 32, "a few are open at any moment"
            manager.drain("remote", timeout=120)
            check_all(logs, rounds)
            # Reading keeps the last few segments of each stream open, and no more than that.
            kept = STREAMS * OPEN_SEGMENTS_MAX
            assert counts().descriptors <= early.descriptors + 8 + kept
            assert counts().mappings <= early.mappings + 32 + kept
        with aof2.open(root, config=config) as manager:
            logs = [manager.stream(f"s{n}") for n in range(STREAMS)]
            assert all(log.recovery.clean for log in logs)
            one_round(logs)
            check_all(logs, rounds + 1)
            segments = sum(len(log.segments()) for log in logs)
    disk.check(config, segments)
