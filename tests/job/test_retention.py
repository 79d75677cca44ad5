"""A stream that keeps only so much: natural rollovers, full budgets, tier 2, restarts."""

from __future__ import annotations

import sys
import threading

import pytest
from waithelp import until

import aof2

KIB = 1024
SEGMENT = 64 * KIB
KEPT = 512 * KIB


def config(bytes_max: int | None = KEPT) -> aof2.AofManagerConfig:
    """Budgets of some segments; objects go at once."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=SEGMENT),
        tier0=aof2.Tier0Config(bytes_max=8 * SEGMENT),
        tier1=aof2.Tier1Config(bytes_max=24 * SEGMENT),
        retention=aof2.RetentionConfig(bytes_max=bytes_max, delete_grace_s=0),
    )


def noise(n: int) -> bytes:
    """A payload that does not compress, and says which one it is."""
    return b"%08d" % n + aof2._core.posix.random_bytes(1000)


def append(log: aof2.Aof, count: int) -> None:
    """Append so many records."""
    for n in range(count):
        log.append(noise(n))


def kept_bytes(log: aof2.Aof) -> int:
    """Bytes of the sealed segments that are there."""
    return sum(info.bytes for info in log.segments() if info.sealed)


def test_appends_go_on_for_ever_without_a_tier_2(tmp_path):
    """Goal: a log that keeps the newest bytes never fills its tiers. Method: append many times what
    both tiers hold, through some hundred natural rollovers; then look at what is left, and again
    after a restart. Without the limit the same appends end in `StorageFull`."""
    with aof2.open(tmp_path / "r", config=config()) as manager:
        log = manager.stream("s")
        append(log, 20_000)
        manager.drain("local")
        first = log.first_offset
        assert 20_000 - 3 * KEPT // 1000 < first <= 20_000 - KEPT // (2 * 1000)
        assert first == next(log.reader()).offset
        assert kept_bytes(log) <= KEPT
        assert [r.offset for r in log.reader()] == list(range(first, 20_000))
        with pytest.raises(aof2.OffsetOutOfRange):
            log.get(first - 1)
    with aof2.open(tmp_path / "r", config=config()) as manager:
        log = manager.stream("s")
        assert log.first_offset == first
        assert log.get(first).payload[:8] == b"%08d" % first
    with aof2.open(tmp_path / "full", config=config(None)) as manager:
        log = manager.stream("s")
        with pytest.raises(aof2.StorageFull):
            append(log, 20_000)


def test_objects_of_what_is_given_up_go(tmp_path):
    """Goal: tier 2 does not grow either. Method: append with a tier 2, drain, count the objects; a
    user's own trim in between counts as well."""
    cold = tmp_path / "cold"
    with aof2.open(tmp_path / "r", tier2=cold, config=config()) as manager:
        log = manager.stream("s")
        append(log, 3000)
        manager.drain("remote")
        log.trim(log.next_offset - 100)
        append(log, 3000)
        manager.drain("remote")
        assert kept_bytes(log) <= KEPT
        sealed = {info.key for info in log.segments() if info.sealed}
        until(lambda: len(list(cold.rglob("*.seg.zst"))) == len(sealed))


@pytest.mark.parametrize("bytes_max", [0, -1])
def test_a_limit_that_keeps_nothing_is_refused(bytes_max):
    """Goal: a mistake is told of before anything is lost. Method: make the configuration."""
    with pytest.raises(aof2.ConfigError, match=r"retention\.bytes_max"):
        aof2.RetentionConfig(bytes_max=bytes_max)


def test_a_smaller_limit_after_a_restart_holds_at_once(tmp_path):
    """Goal: old segments count. Method: fill without a limit, open with one, append nothing."""
    with aof2.open(tmp_path / "r", config=config(None)) as manager:
        log = manager.stream("s")
        append(log, 1200)
        manager.drain("local")
        before = kept_bytes(log)
    with aof2.open(tmp_path / "r", config=config(2 * SEGMENT)) as manager:
        log = manager.stream("s")
        manager.drain("local")
        assert before > 3 * kept_bytes(log)
        assert kept_bytes(log) <= 2 * SEGMENT


def test_looks_of_many_threads_count_each_segment_once(tmp_path):
    """Goal: nothing is given up that the limit keeps, whoever looks. Method: the planner and
    appends that wait look at the same time; here eight threads look at a stream that grows, with
    switches at every chance, and the bytes that are counted are those that are there."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with aof2.open(tmp_path / "r", config=config(None)) as manager:
            log = manager.stream("s")
            retention, done = log._instance.retention, threading.Event()

            def look() -> None:
                while not done.is_set():
                    assert retention.due(1 << 40) == 0

            threads = [threading.Thread(target=look) for _ in range(8)]
            for thread in threads:
                thread.start()
            append(log, 1200)
            manager.drain("local")
            done.set()
            for thread in threads:
                thread.join()
            retention.due(1 << 40)
            assert retention._kept == sum(info.bytes for info in log.segments() if info.sealed)
    finally:
        sys.setswitchinterval(interval)
