"""Tier 0 is shared: rings and active segments of idle streams make room for those that need it."""

from __future__ import annotations

import random
import threading

import pytest

import aof2
from aof2._core.ring import RING_NAME
from aof2.config import KIB, MIB


def config(tier0: int, segment: int, tier2: str | None = None) -> aof2.AofManagerConfig:
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=tier0),
        tier1=aof2.Tier1Config(bytes_max=4 * tier0),
        tier2=None if tier2 is None else aof2.Tier2Config(url=tier2),
        segment=aof2.SegmentConfig(segment_bytes_max=segment),
    )


class UsageWatch:
    """Samples what is claimed of tier 0, on a thread of its own, and keeps the most."""

    def __init__(self, manager: aof2.AofManager) -> None:
        self.most = 0
        self._budget = manager._context.tier0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self.most = max(self.most, self._budget.used)

    def __enter__(self) -> UsageWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_seven_streams_share_four_mebibytes(tmp_path):
    """Goal: landing rings leave room for segments. Method: seven streams with 1 MiB segments take
    more than tier 0 holds, in turn; nobody is told that it is full, usage stays in the budget."""
    with aof2.open(tmp_path / "r", config=config(4 * MIB, MIB)) as manager:
        logs = [manager.stream(f"s{n}") for n in range(7)]
        with UsageWatch(manager) as usage:
            for turn in range(60):
                for log in logs:
                    log.append_many([b"%d" % turn * 500] * 20, timeout=20)
        assert 0 < usage.most <= 4 * MIB
        for log in logs:
            assert [len(r.payload) for r in log.reader()] == [
                500 * len(str(turn)) for turn in range(60) for _ in range(20)
            ]


def test_two_hundred_streams_take_turns(tmp_path):
    """Goal: many idle streams cost little. Method: 200 streams under 16 MiB, of which each would
    take 132 KiB for its ring and its segment, get two records each, in turn; then some get one more
    after the root was reopened."""
    small = config(16 * MIB, 64 * KIB)
    with aof2.open(tmp_path / "r", config=small) as manager:
        logs = [manager.stream(f"s{n}") for n in range(200)]
        with UsageWatch(manager) as usage:
            for turn in range(2):
                for log in logs:
                    log.append(b"%d" % turn, timeout=20)
        assert 0 < usage.most <= 16 * MIB
        rings = list((tmp_path / "r").glob(f"*/segments/{RING_NAME}"))
        assert 0 < len(rings) < 200
    with aof2.open(tmp_path / "r", config=small) as manager:
        for n in range(0, 200, 5):
            log = manager.stream(f"s{n}")
            log.append(b"2", timeout=20)
            assert [r.payload for r in log.reader()] == [b"0", b"1", b"2"]
        assert manager._context.tier0.used <= 16 * MIB


def test_a_stream_goes_on_where_it_was_after_its_ring_was_given_back(tmp_path):
    """Goal: giving the ring back loses nothing and shows nothing false. Method: records before and
    after, read by a reader that is held open, by a second process's view, and after reopening."""
    with aof2.open(tmp_path / "r", config=config(4 * MIB, MIB)) as manager:
        log = manager.stream("s")
        writer = manager._instances["s"].writer
        reader, expected = log.reader(follow=True), []
        for turn in range(20):
            log.append(b"%d" % turn)
            expected.append(b"%d" % turn)
            assert reader.read(timeout=10).payload == expected[-1]
            if turn % 3 == 0:
                assert writer.drop_ring()
                assert not list((tmp_path / "r").glob(f"s-*/segments/{RING_NAME}"))
                assert manager._instances["s"].hot.ring_bytes == 0
                with aof2.open(tmp_path / "r", readonly=True) as other:
                    assert [r.payload for r in other.stream("s").reader()] == expected
            if turn % 5 == 0:
                log.seal()
        log.flush(timeout=1)
        assert [r.payload for r in log.reader()] == expected
        assert log.get(7).payload == b"7"
    with aof2.open(tmp_path / "r", config=config(4 * MIB, MIB)) as manager:
        assert manager.stream("s").recovery.clean
        assert [r.payload for r in manager.stream("s").reader()] == expected


def test_an_end_can_be_put_without_a_ring(tmp_path):
    """Goal: an idle stream can be sealed without making a ring. Method: drop the ring, seal,
    append."""
    with aof2.open(tmp_path / "r", config=config(4 * MIB, MIB)) as manager:
        log = manager.stream("s")
        log.append(b"a")
        writer = manager._instances["s"].writer
        assert writer.drop_ring()
        log.seal(timeout=10)
        assert writer.ring_bytes == 0
        assert log.append(b"b", durable=True) == 1
        assert [info.sealed for info in log.segments()] == [True, False]
        assert [r.payload for r in log.reader()] == [b"a", b"b"]


def test_dropping_a_guard_wakes_the_append_that_waits_for_it(tmp_path):
    """Goal: WouldBlock(ADMISSION) tells the truth. Method: a guard takes all of tier 0; the append
    is refused at once; a thread waits on the refusal, and returns when the guard is dropped."""
    with aof2.open(tmp_path / "r", config=config(4 * MIB, MIB)) as manager:
        log = manager.stream("s")
        budget = manager._context.tier0
        with budget.claim(budget.room):
            with pytest.raises(aof2.WouldBlock) as refused:
                log.append_nowait(b"x")
            assert refused.value.kind is aof2.WouldBlockKind.ADMISSION
            assert not refused.value.wait(0.05)
            woken: list[bool] = []
            thread = threading.Thread(target=lambda: woken.append(refused.value.wait(20)))
            thread.start()
        thread.join(30)
        assert woken == [True]
        assert log.append(b"x", timeout=20) == 0


def test_drain_says_when_both_tiers_are_full(tmp_path):
    """Goal: no waiting for what cannot be. Method: fill both tiers without a tier 2; `drain` raises
    `StorageFull`, and does not wait for its limit."""
    small = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=128 * KIB),
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    )
    rnd = random.Random(5)
    with aof2.open(tmp_path / "r", config=small) as manager:
        log = manager.stream("s")
        records = (log.append(rnd.randbytes(9000), timeout=30) for _ in range(1000))
        with pytest.raises(aof2.StorageFull):
            sum(records)
        with pytest.raises(aof2.StorageFull, match=r"tier1\.bytes_max"):
            manager.drain("local", timeout=None)
        with pytest.raises(aof2.StorageFull):
            log.append_nowait(rnd.randbytes(9000))
