"""Whoever waits for room in tier 0 is woken by what makes some, and does not look in between."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

import aof2
from aof2.config import KIB, MIB
from aof2.writer import JUDGEMENT_HELD_S, WriterHost

CONFIG = aof2.AofManagerConfig(
    tier0=aof2.Tier0Config(bytes_max=4 * MIB), segment=aof2.SegmentConfig(segment_bytes_max=MIB)
)


@pytest.fixture
def looks(monkeypatch):
    """How often somebody asked why there is no room."""
    count, judge = [0], WriterHost._judge

    def counting(self: WriterHost, wanted: int) -> aof2.WouldBlockKind:
        count[0] += 1
        return judge(self, wanted)

    monkeypatch.setattr(WriterHost, "_judge", counting)
    return count


@pytest.fixture
def held(tmp_path):
    """A manager, a stream of it, and a guard that holds all of tier 0."""
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        budget = manager._context.tier0
        guard = budget.claim(budget.room)
        assert guard is not None
        with guard:
            yield manager, log, guard


def refused(log: aof2.Aof) -> aof2.WouldBlock:
    with pytest.raises(aof2.WouldBlock) as caught:
        log.append_nowait(b"x")
    assert caught.value.kind is aof2.WouldBlockKind.ADMISSION
    return caught.value


def settle(looks: list[int]) -> int:
    """Wait until nobody has looked for a while; how often they had."""
    seen = -1
    while seen != looks[0]:
        seen = looks[0]
        time.sleep(0.15)
    return seen


def test_threads_coroutines_and_callbacks_sleep_until_a_guard_is_dropped(held, looks):
    """Goal: notifiers, not polling. Method: a thread that appends, one that waits on a refusal, a
    coroutine of each kind, and a callback; for half a second nobody looks; then the guard goes."""
    _, log, guard = held
    blocked, called, ended = refused(log), threading.Event(), []
    log.add_wake_callback(aof2.WouldBlockKind.ADMISSION, called.set)

    async def both() -> list[object]:
        return list(await asyncio.gather(blocked.wait_async(30), log.append_async(b"c")))

    works = (
        lambda: log.append(b"t", timeout=30),
        lambda: blocked.wait(30),
        lambda: asyncio.run(both()),
    )
    threads = [threading.Thread(target=lambda w=work: ended.append(w())) for work in works]
    for thread in threads:
        thread.start()
    before = settle(looks)
    time.sleep(0.5)
    assert looks[0] == before, "somebody looked though nothing had changed"
    assert not ended
    called.clear()
    guard.drop()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 3
    assert called.wait(30)
    assert log.next_offset == 2


def test_appends_hear_that_nothing_will_ever_make_room(tmp_path):
    """Goal: `StorageFull` comes by news as well. Method: two streams fill both tiers, each waiting
    without an end; both are told."""
    small = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=128 * KIB),
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    )
    with aof2.open(tmp_path / "r", config=small) as manager:
        logs = [manager.stream(f"s{n}") for n in range(2)]
        told: list[BaseException] = []

        def fill(log: aof2.Aof) -> None:
            try:
                for n in range(1000):
                    log.append(random.Random(n).randbytes(9000), timeout=None)
            except aof2.StorageFull as error:
                told.append(error)

        threads = [threading.Thread(target=fill, args=(log,)) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(told) == 2


def test_what_an_append_gave_up_on_goes_to_the_next_that_waits(tmp_path):
    """Goal: room that was made ready for one stream and never used is not lost to the others.
    Method: one append is given a ring's room and never comes back; what is left is too little for
    another stream, which waits without an end; it is given that room once the grant has run out."""
    tight = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=512 * KIB),
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    )
    with aof2.open(tmp_path / "r", config=tight) as manager:
        first, second = manager.stream("a"), manager.stream("b")
        budget = manager._context.tier0
        guard = budget.charge(budget.room)
        with pytest.raises(aof2.StorageFull):
            first.append_nowait(b"y")
        # Room for one ring and one segment, and not for two rings.
        guard.resize(budget.bytes_max - 180 * KIB)
        until = time.monotonic() + 20
        while first._instance.hot.ring_bytes == 0:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert second.append(b"x", timeout=20) == 0
        assert first._instance.hot.ring_bytes == 0
        guard.drop()
        assert first.append(b"y", timeout=20) == 0


def test_a_caller_that_tries_again_in_a_loop_does_not_have_all_looked_at_each_time(held, looks):
    """Goal: refusals leave the workers their time. Method: refuse 500 appends, count the looks; one
    is due every two milliseconds at most as long as the budgets stand still."""
    _, log, guard = held
    refused(log)
    before, began_s = settle(looks), time.monotonic()
    for _ in range(500):
        refused(log)
    assert looks[0] - before <= 2 + (time.monotonic() - began_s) / JUDGEMENT_HELD_S
    guard.drop()
    assert log.append(b"x", timeout=20) == 0
