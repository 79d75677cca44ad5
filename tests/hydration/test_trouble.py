"""Hydration and fetches while other things happen: crowds, slow and broken stores, pressure,
closing, other writers."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hydrationhelp import (
    KIB,
    HeldStore,
    check_all,
    config,
    fill,
    flip,
    hydrate,
    info,
    make_cold,
    payload,
    root,
    settle,
    tiers,
    warm_file,
)
from waithelp import until

import aof2
from aof2 import Tier
from aof2.coordinator.commands import Evict, Fetch, Upload
from aof2.coordinator.handlers import handle


def names(log: aof2.Aof) -> list[str]:
    """Temporary names in the directories of the local tiers."""
    stream = log._instance
    found = [*stream.hot.directory.names(), *stream.warm.directory.names()]
    return [name for name in found if name.startswith(".tmp-")]


def test_a_crowd_that_wants_one_cold_segment_costs_one_download(tmp_path):
    """Goal: one hydration, however many ask. Method: 64 threads and 64 coroutines ask while tier 2
    is held; count its requests."""
    store, done = HeldStore(), []
    with root(tmp_path, store) as manager:
        log = fill(manager)
        make_cold(manager, log)
        store.gate.clear()

        def ask() -> None:
            hydrate(log, 1)
            done.append(Tier.HOT in tiers(log, 1))

        async def ask_all() -> None:
            waits = [log._instance.hydration.hydrate(1) for _ in range(64)]
            await asyncio.gather(*(wait.suspend(None) for wait in waits))

        threads = [threading.Thread(target=ask) for _ in range(64)]
        threads.append(threading.Thread(target=asyncio.run, args=(ask_all(),)))
        for thread in threads:
            thread.start()
        until(lambda: log._instance.signals.hydration.waiters == 128)
        store.gate.set()
        for thread in threads:
            thread.join()
        assert done == [True] * 64
        assert len(store.ranges) == 1
        assert manager.metrics().hydration.count == 1


def test_a_full_queue_of_uploads_is_not_in_the_way(tmp_path):
    """Goal: reads never wait for uploads. Method: every worker that may uploads into a store that
    does not answer; a segment comes back from its warm file meanwhile."""
    store = HeldStore()
    with root(tmp_path, store, config(workers=4)) as manager:
        log = fill(manager)
        store.put_gate.clear()
        for n in range(1500, 2500):
            log.append(payload(n))
        until(lambda: sum(type(c) is Upload for c in manager._coordinator._queue.running) == 2)
        hydrate(log, 1)
        assert Tier.HOT in tiers(log, 1)
        store.put_gate.set()


def test_a_read_that_takes_too_long_ends_in_a_timeout_and_goes_on_into_the_cache(tmp_path):
    """Goal: `HydrationTimeout` after `hydration_timeout_s`, whatever time the call has, and the
    next try finds the bytes. Method: hold tier 2 during each of the forms."""
    store = HeldStore()
    with root(tmp_path, store, config(hydration_timeout_s=0.05)) as manager:
        log = fill(manager)
        make_cold(manager, log)
        store.gate.clear()
        with pytest.raises(aof2.HydrationTimeout):
            log.get(0)
        with pytest.raises(aof2.HydrationTimeout):
            log.get(0, timeout=None)
        with pytest.raises(aof2.HydrationTimeout):
            asyncio.run(log.get_async(0))
        with pytest.raises(aof2.HydrationTimeout):
            next(iter(log.reader()))
        with pytest.raises(aof2.WaitTimeout):
            log.get(0, timeout=0.01)
        with pytest.raises(aof2.WouldBlock) as blocked:
            log.get_nowait(0)
        assert blocked.value.kind is aof2.WouldBlockKind.HYDRATION
        store.gate.set()
        assert blocked.value.wait(20)
        asked = len(store.ranges)
        assert log.get_nowait(0).payload == payload(0)
        assert len(store.ranges) == asked


@pytest.mark.parametrize("lie", ["flipped", "shorter", "longer", "empty"])
def test_an_object_that_is_not_what_was_stored_does_not_come_back(tmp_path, lie):
    """Goal: no byte of a damaged or hostile object is believed. Method: falsify the answers, then
    tell the truth again."""
    store = HeldStore()
    answers = {
        "flipped": lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:],
        "shorter": lambda data: data[:-1],
        "longer": lambda data: data + b"\0",
        "empty": lambda data: b"",
    }
    with root(tmp_path, store) as manager:
        log = fill(manager)
        make_cold(manager, log)
        used = manager.bytes_used
        truth, store.answer = store.answer, answers[lie]
        with pytest.raises(aof2.CorruptionError):
            hydrate(log, 1)
        assert tiers(log, 1) == {Tier.COLD}
        # Others may have gone for it; what was claimed for it is given back.
        assert all(now <= before for now, before in zip(manager.bytes_used, used, strict=True))
        assert names(log) == []
        assert manager.metrics().hydration_failures == 1
        store.answer = truth
        hydrate(log, 1)
        check_all(log)


def refuse(data: bytes) -> bytes:
    raise aof2.Tier2Unavailable("tier 2 is down")


def test_a_warm_file_that_is_missing_while_tier_2_is_down_comes_when_it_is_back(tmp_path):
    """Goal: a fetch is tried until it succeeds. Method: open without tier 2, then let it come."""
    store = HeldStore()
    with root(tmp_path, store) as manager:
        fill(manager)
    warm_file(tmp_path, 1).unlink()
    truth, store.answer = store.answer, refuse
    with root(tmp_path, store) as manager:
        log = manager.stream("a")
        until(lambda: manager.metrics().command_failures.get("Fetch", 0) >= 2)
        assert manager.metrics().fetches_pending == 1
        assert info(log, 1).state is aof2.SegmentState.NEEDS_RECOVERY
        with pytest.raises(aof2.Tier2Unavailable):
            log.get(0)
        assert log.get(1400).payload == payload(1400)
        store.answer = truth
        until(lambda: Tier.WARM in tiers(log, 1))
        # The file is there a moment before its record is flushed.
        until(lambda: manager.metrics().fetches_pending == 0)
        check_all(log)


def test_a_damaged_object_is_fetched_once_and_given_up(tmp_path, caplog):
    """Goal: what can never succeed is not asked for again and again. Method: damage the warm file
    and its object; the good file waits in quarantine for somebody."""
    store = HeldStore()
    ran = []
    with root(tmp_path, store) as manager:
        log = fill(manager)
        flip(warm_file(tmp_path, 1), 100)
        store.answer = lambda data: b"\0" * len(data)
        manager._coordinator.before = ran.append
        with pytest.raises(aof2.ObjectCorrupt):
            hydrate(log, 1)
        settle(manager)
        assert [type(c) for c in ran].count(Fetch) == 1
        assert manager.metrics().fetches_pending == 0
        assert info(log, 1).state is aof2.SegmentState.NEEDS_RECOVERY
        assert names(log) == []
    assert "fetch_failed" in {getattr(r, "event", "") for r in caplog.records}


def test_eviction_and_reads_race_with_hydration(tmp_path):
    """Goal: no order of the three loses a byte or a claim. Method: threads that bring back, drop
    and read the same segments; then the budget's sum is that of the files."""
    with root(tmp_path, HeldStore()) as manager:
        log = fill(manager, 600)
        make_cold(manager, log)
        ends, failures = threading.Event(), []

        def again(work) -> threading.Thread:
            rnd = random.Random(len(threads))

            def run() -> None:
                try:
                    while not ends.is_set():
                        work(rnd.randrange(1, 6))
                except BaseException as error:
                    failures.append(error)

            return threading.Thread(target=run)

        def drop(segment: int) -> None:
            handle(Evict("a", segment, Tier.HOT), manager._context)

        def read(segment: int) -> None:
            n = info(log, segment).base_offset
            assert log.get(n).payload == payload(n)

        threads: list[threading.Thread] = []
        for work in (lambda s: hydrate(log, s), drop, read, read):
            threads.append(again(work))
        for thread in threads:
            thread.start()
        until(lambda: failures or manager.metrics().hydration.count > 60, 60)
        ends.set()
        for thread in threads:
            thread.join()
        assert failures == []
        settle(manager)
        stream = log._instance
        held = sum(stream.hot.sizes.values()) + stream.hot.ring_bytes
        assert manager.bytes_used[0] == held
        check_all(log)


@pytest.mark.parametrize("from_tier", [Tier.WARM, Tier.COLD])
def test_close_while_a_segment_is_on_its_way(tmp_path, from_tier):
    """Goal: `close` returns, whoever waits is told, the next open finds order. Method: hold the
    hydration at its beginning or in its request, close, let go."""
    store, told = HeldStore(), []
    with root(tmp_path, store) as manager:
        log = fill(manager)
        if from_tier is Tier.COLD:
            make_cold(manager, log)
            store.gate.clear()
        else:
            manager._coordinator.before = lambda command: store.gate.wait(30)
            store.gate.clear()

        def ask() -> None:
            try:
                hydrate(log, 1)
                told.append("hot")
            except aof2.Closed:
                told.append("closed")

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: log._instance.signals.hydration.waiters)
        until(lambda: manager._coordinator._queue.running)
        closing = threading.Thread(target=manager.close)
        closing.start()
        until(lambda: manager._coordinator.stopping)
        store.gate.set()
        closing.join(20)
        asking.join(20)
        assert not closing.is_alive()
        # It may have been done by the time that the workers ended.
        assert told in (["hot"], ["closed"])
    with root(tmp_path, store) as manager:
        log = manager.stream("a")
        assert names(log) == []
        check_all(log)
        hydrate(log, 2)


def test_a_replaced_writer_brings_nothing_back(tmp_path):
    """Goal: a fenced root's files stay as they are; reads go on. Method: another takes over."""
    store = HeldStore()
    with root(tmp_path / "one", store) as manager:
        log = fill(manager)
        with root(tmp_path / "two", store) as other:
            other.stream("a").append(b"mine")
            other.drain("remote")
        log.append(payload(log.next_offset))
        with pytest.raises(aof2.Fenced):
            manager.drain("remote")
        with pytest.raises(aof2.Fenced):
            hydrate(log, 1)
        assert Tier.HOT not in tiers(log, 1)
        assert log.get(3).payload == payload(3)


def test_a_trimmed_segment_is_no_more_on_its_way(tmp_path):
    """Goal: what was given up does not come back. Method: trim while it is held."""
    store = HeldStore()
    with root(tmp_path, store) as manager:
        log = fill(manager)
        make_cold(manager, log)
        store.gate.clear()
        wait = log._instance.hydration.hydrate(1)
        until(lambda: store.ranges)
        log.trim(info(log, 3).base_offset)
        store.gate.set()
        wait.block(None)
        settle(manager)
        assert 1 not in log._instance.hot.sizes
        check_all(log)


@pytest.mark.parametrize(
    "segments", [150, pytest.param(3000, marks=pytest.mark.long)], ids=["few", "thousands"]
)
def test_rollovers_with_random_reads_of_old_data(tmp_path, segments):
    """Goal: hydration never overruns a budget nor stops appends. Method: natural rollovers, random
    reads of all that was appended, nobody else helps."""
    rnd = random.Random(7)
    made = config(hot_bytes=768 * KIB, warm_bytes=512 * KIB)
    with root(tmp_path, HeldStore(), made) as manager:
        log, n = manager.stream("a"), 0
        while len(log.segments()) < segments:
            log.append_many([payload(k) for k in range(n, n + 20)])
            n += 20
            for _ in range(4):
                # Few segments are read often, most of them never.
                at = rnd.randrange(n) if rnd.random() < 0.5 else rnd.randrange(min(n, 300))
                assert log.get(at).payload == payload(at)
            used = manager.bytes_used
            assert used[0] <= made.tier0.bytes_max
            assert used[1] <= made.tier1.bytes_max
        manager.drain("remote")
        assert log._instance.last_error is None
        check_all(log)
