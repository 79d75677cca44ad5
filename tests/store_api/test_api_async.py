"""The coroutine of everything that waits, and the forms that never wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from apihelp import KIB, small

import aof2
from aof2._core import posix
from aof2.manager import FETCHES_MAX


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """While it is cleared, no sync of a segment begins."""
    event = threading.Event()
    event.set()

    def hook(op: str, *_: object) -> None:
        if op == "fdatasync":
            event.wait(30)

    posix.set_seam_hook(hook)
    yield event
    event.set()
    posix.set_seam_hook(None)


def test_every_coroutine_does_what_its_blocking_form_does(tmp_path):
    """Goal: the async forms are complete. Method: one program that uses only coroutines."""

    async def program() -> None:
        async with await aof2.open_async(tmp_path / "root") as manager:
            log = await manager.stream_async("a", ext_id=4)
            assert await log.append_async(b"0") == 0
            assert await log.append_async(b"1", ext_id=9, durable=True) == 1
            assert log.watermarks.local == 2
            assert await log.append_many_async([b"2", b"3"]) == range(2, 4)
            assert await log.append_many_async(iter([b"4"]), ext_ids=[7], durable=True) == range(
                4, 5
            )
            ends = np.array([1, 2], np.int32)
            assert await log.append_packed_async(b"56", ends, durable=True) == range(5, 7)
            assert await log.append_many_async([]) == range(7, 7)
            assert await log.extend_async(b"%d" % n for n in range(7, 10)) == range(7, 10)
            await log.flush_async()
            await log.wait_async()
            await log.wait_async(9, "local", timeout=5)
            assert log.watermarks.local == 10
            assert (await log.get_async(9)).payload == b"9"
            await log.seal_async()
            with log.reader() as reader:
                assert (await reader.read_async()).payload == b"0"  # type: ignore[union-attr]
                batch = await reader.read_batch_async()
                assert batch is not None
                await reader.seek_async(3)
                assert [r.payload async for r in reader] == [b"%d" % n for n in range(3, 10)]
                assert await reader.read_async() is None
                assert await reader.read_batch_async() is None
            await manager.drain_async()
            again = manager.stream("a").reader()
            assert [r.ext_id async for r in again] == [4, 9, 4, 4, 7, 4, 4, 4, 4, 4]
        with pytest.raises(aof2.Closed):
            await log.append_async(b"x")
        with pytest.raises(aof2.Closed):
            await manager.drain_async()
        await manager.close_async()

    asyncio.run(program())


def test_a_loop_of_appends_lets_other_tasks_run(tmp_path):
    """Goal: `append_async` yields about once a millisecond.

    Method: a ticker beside 20,000 appends.
    """

    async def program() -> tuple[int, float]:
        ticks, done, longest_s = 0, False, 0.0
        loop = asyncio.get_running_loop()

        async def ticker() -> None:
            nonlocal ticks, longest_s
            last = loop.time()
            while not done:
                await asyncio.sleep(0)
                ticks, longest_s, last = ticks + 1, max(longest_s, loop.time() - last), loop.time()

        async with await aof2.open_async(tmp_path / "root") as manager:
            log = manager.stream("a")
            beside = asyncio.create_task(ticker())
            for n in range(20_000):
                assert await log.append_async(b"x" * 100) == n
            done = True
            await beside
        return ticks, longest_s

    ticks, longest_s = asyncio.run(program())
    assert ticks >= 10
    assert longest_s < 0.5


def test_async_for_follows_a_producer(tmp_path):
    """Goal: `async for` is `tail -f`. Method: a producer and two followers in one event loop."""
    total = 3000

    async def program() -> None:
        async with await aof2.open_async(tmp_path / "root", config=small()) as manager:
            log = manager.stream("a")

            async def produce() -> None:
                for n in range(total):
                    await log.append_async(b"%d" % n * 10)
                    if n % 100 == 0:
                        await asyncio.sleep(0.001)

            async def follow() -> None:
                reader, n = log.reader(follow=True), 0
                async for record in reader:
                    assert (record.offset, record.payload) == (n, b"%d" % n * 10)
                    n += 1
                    if n == total:
                        reader.close()
                assert n == total

            await asyncio.wait_for(asyncio.gather(produce(), follow(), follow()), 60)

    asyncio.run(program())


def test_a_cancelled_follower_leaves_the_stream_usable(tmp_path):
    """Goal: cancelling a wait is harmless. Method: cancel at the tail, then read on with it."""

    async def program() -> None:
        async with await aof2.open_async(tmp_path / "root") as manager:
            log = manager.stream("a")
            reader = log.reader(follow=True)
            waiting = asyncio.create_task(reader.read_async(timeout=None))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await log.append_async(b"x")
            assert (await reader.read_async(timeout=5)).payload == b"x"  # type: ignore[union-attr]
            with pytest.raises(aof2.WaitTimeout):
                await reader.read_async(timeout=0.02)

    asyncio.run(program())


def test_at_the_tail_a_read_says_tail_and_its_wait_ends_with_the_next_append(tmp_path):
    """Goal: `WouldBlock(TAIL)`.

    Method: read at the end; wait in vain; append from another thread.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        reader = log.reader(follow=True)
        for call in (reader.read_nowait, reader.read_batch_nowait):
            with pytest.raises(aof2.WouldBlock) as caught:
                call()
            assert caught.value.kind is aof2.WouldBlockKind.TAIL
            assert caught.value.retry_after_s > 0
        assert caught.value.wait(0.02) is False
        later = threading.Timer(0.05, log.append, [b"x"])
        later.start()
        assert caught.value.wait(10) is True
        assert reader.read_nowait().payload == b"x"  # type: ignore[union-attr]
        later.join()
        later = threading.Timer(0.05, log.append, [b"y"])
        later.start()
        assert asyncio.run(caught.value.wait_async(10)) is True
        later.join()


def test_before_a_sync_durability_says_flush_and_its_wait_ends_with_it(tmp_path, gate):
    """Goal: `WouldBlock(FLUSH)` from flush and wait.

    Method: hold back the device, then let it go.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        offset = log.append(b"x")
        gate.clear()
        for call in (log.flush_nowait, log.wait_nowait, lambda: log.wait_nowait(offset)):
            with pytest.raises(aof2.WouldBlock) as caught:
                call()
            assert caught.value.kind is aof2.WouldBlockKind.FLUSH
        threading.Timer(0.05, gate.set).start()
        assert caught.value.wait(10) is True
        log.flush_nowait()
        log.wait_nowait(offset)


def test_a_full_ring_says_flush_and_nothing_was_accepted(tmp_path):
    """Goal: back-pressure before the record is accepted.

    Method: writes to the files are held back.
    """
    event = threading.Event()

    def hook(op: str, *_: object) -> None:
        if op in ("pwrite", "fdatasync") and threading.current_thread() is not main:
            event.wait(30)

    main = threading.current_thread()
    config = aof2.AofManagerConfig(flush=aof2.FlushConfig(ring_bytes=64 * KIB))
    with aof2.open(tmp_path / "root", config=config) as manager:
        log = manager.stream("a")
        log.append(b"first", durable=True)
        posix.set_seam_hook(hook)
        try:
            accepted = 1
            with pytest.raises(aof2.WouldBlock) as caught:  # noqa: PT012
                for _ in range(1000):
                    log.append_nowait(bytes(1000))
                    accepted += 1
            assert caught.value.kind is aof2.WouldBlockKind.FLUSH
            assert log.next_offset == accepted < 100
            with pytest.raises(aof2.WaitTimeout) as late:
                log.append(bytes(1000), timeout=0.05)
            assert late.value.kind is aof2.WouldBlockKind.FLUSH
            assert log.next_offset == accepted
            threading.Timer(0.05, event.set).start()
            assert caught.value.wait(10) is True
            assert log.append(bytes(1000), timeout=10) == accepted
        finally:
            event.set()
            posix.set_seam_hook(None)


def test_an_unacknowledged_seal_says_rollover(tmp_path, gate):
    """Goal: `WouldBlock(ROLLOVER)` until the seal is durable. Method: hold back the device."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.seal_nowait()
        log.append(b"x")
        gate.clear()
        with pytest.raises(aof2.WouldBlock) as caught:
            log.seal_nowait()
        assert caught.value.kind is aof2.WouldBlockKind.ROLLOVER
        assert caught.value.wait(0.02) is False
        gate.set()
        assert caught.value.wait(10) is True
        log.seal_nowait()
        assert [s.sealed for s in log.segments()] == [True]


def test_before_the_upload_remote_says_remote(tmp_path):
    """Goal: `WouldBlock(REMOTE)`, whose wait ends once the object is there. Method: a directory."""
    with aof2.open(tmp_path / "root", tier2=tmp_path / "cold") as manager:
        log = manager.stream("a")
        offset = log.append(b"x")
        with pytest.raises(aof2.WouldBlock) as caught:
            log.wait_nowait(offset, "remote")
        assert caught.value.kind is aof2.WouldBlockKind.REMOTE
        assert caught.value.wait(30) is True
        log.wait_nowait(offset, "remote")
        assert log.watermarks.remote == 1
        asyncio.run(log.wait_async(None, "remote", timeout=5))
    with aof2.open(tmp_path / "other") as manager:
        with pytest.raises(aof2.ConfigError, match="tier 2"):
            manager.stream("a").wait(level="remote")
        with pytest.raises(aof2.ConfigError, match="tier 2"):
            manager.drain("remote")


def test_a_record_in_another_tier_says_hydration_and_comes_with_its_wait(tmp_path):
    """Goal: `WouldBlock(HYDRATION)` from `_nowait` reads below the hot tier.

    Method: a hot tier of four segments and 20 segments of records; read the first without waiting.
    """
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=256 * KIB),
    )
    with aof2.open(tmp_path / "root", config=config) as manager:
        log = manager.stream("a")
        for n in range(1000):
            log.append(b"%04d" % n * 250)
        manager.drain()
        assert aof2.Tier.HOT not in log.segments()[0].residency
        # Every thread that fetches is held, so that the bytes are on their way for sure.
        held = threading.Event()
        reader, got = log.reader(), []
        for _ in range(FETCHES_MAX):
            manager._pool().submit(held.wait)
        with pytest.raises(aof2.WouldBlock) as caught:
            log.get_nowait(0)
        assert caught.value.kind is aof2.WouldBlockKind.HYDRATION
        with pytest.raises(aof2.WouldBlock) as reading:
            reader.read_nowait()
        assert reading.value.kind is aof2.WouldBlockKind.HYDRATION
        held.set()
        assert caught.value.wait(10) is True
        assert log.get_nowait(0).payload == b"0000" * 250
        while True:
            try:
                record = reader.read_nowait()
            except aof2.WouldBlock as not_yet:
                assert not_yet.kind is aof2.WouldBlockKind.HYDRATION  # noqa: PT017
                assert not_yet.wait(10) is True  # noqa: PT017
                continue
            if record is None:
                break
            got.append(record.payload)
        assert got == [b"%04d" % n * 250 for n in range(1000)]

        async def program() -> None:
            assert (await log.get_async(3)).payload == b"0003" * 250
            assert [r.payload async for r in log.reader()] == got

        asyncio.run(program())


def test_no_wait_is_longer_than_it_was_asked_to_be(tmp_path, gate):
    """Goal: an accepted record whose time runs out is `NotYetDurable`; waiting on succeeds.

    Method: the device hangs; one thread waits inside the sync, the others have short times.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        gate.clear()
        leader = threading.Thread(target=log.append, args=(b"1",), kwargs={"durable": True})
        leader.start()
        while log.next_offset < 2:
            pass
        with pytest.raises(aof2.NotYetDurable) as caught:
            log.append(b"2", durable=True, timeout=0.05)
        assert (caught.value.offset, caught.value.level) == (2, "local")
        assert log.next_offset == 3
        with pytest.raises(aof2.NotYetDurable):
            log.wait(2, timeout=0.01)
        with pytest.raises(aof2.NotYetDurable):
            log.flush(timeout=0)
        with pytest.raises(aof2.NotYetDurable):
            log.append_many([b"3", b"4"], durable=True, timeout=0.01)
        gate.set()
        log.wait(2, timeout=10)
        log.wait(timeout=10)
        leader.join()
        assert log.watermarks.local == log.next_offset == 5
        assert list(log.reader().payloads()) == [b"0", b"1", b"2", b"3", b"4"]


def test_the_one_who_syncs_for_all_keeps_its_time_limit_too(tmp_path, gate):
    """Goal: a hanging device holds nobody beyond the timeout. Method: nobody else syncs yet."""
    config = aof2.AofManagerConfig(flush=aof2.FlushConfig(interval_s=3600))
    with aof2.open(tmp_path / "root", config=config) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        gate.clear()
        release = threading.Timer(2, gate.set)
        release.start()
        with pytest.raises(aof2.NotYetDurable):
            log.append(b"1", durable=True, timeout=0.05)
        assert not gate.is_set()
        release.cancel()
        gate.set()
        log.wait(1, timeout=10)


def test_where_there_is_no_such_record_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """Goal: waiting for the future is an error.

    Method: offsets at and beyond the end, wrong levels.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.wait()
        log.flush()
        log.append(b"x")
        for offset in (1, 2, -1):
            with pytest.raises(aof2.OffsetOutOfRange):
                log.wait(offset)
        with pytest.raises(ValueError, match="level"):
            log.wait(0, "cloud")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="level"):
            manager.drain("cloud")  # type: ignore[arg-type]
