"""Warm and cold reads: one request however many want it, and nobody suffers from another's."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from coldhelp import KIB, cold_config, cold_segments, cold_stream, noise

import aof2
from aof2.errors import FetchFailed

RECORDS = noise(1, 2000, 1000)


def in_run(log: aof2.Aof) -> list[int]:
    """Offsets of some records that lie close together in the first cold segment."""
    first = cold_segments(log)[0].base_offset + 100
    return [first, first + 1, first + 2]


def test_one_request_opens_and_one_more_reads_however_many_ask(tmp_path, monkeypatch):
    """Goal: 64 threads and 64 coroutines that ask for one cold segment cost two requests.

    Method: hold the store until all of them wait; count the requests that reach it.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        gate, offsets = threading.Event(), in_run(log)
        store.before = lambda *_: gate.wait(30)

        async def program() -> list[bytes]:
            wanted = [log.get_async(offsets[n % 3], timeout=30) for n in range(64)]
            asyncio.get_running_loop().call_later(0.2, gate.set)
            return [record.payload for record in await asyncio.gather(*wanted)]

        with ThreadPoolExecutor(65) as pool:
            threads = [pool.submit(log.get, offsets[n % 3], timeout=30) for n in range(64)]
            coroutines = pool.submit(asyncio.run, program())
            found = [future.result().payload for future in threads]
            assert found == [RECORDS[offsets[n % 3]] for n in range(64)] == coroutines.result()
        assert len(store.ranges) == 2
        store.check_each_byte_once()
        _, first, last = store.ranges[1]
        assert last - first < 20 * KIB


def test_readers_share_what_one_of_them_fetched(tmp_path, monkeypatch):
    """Goal: no byte of an object comes twice while the cache has room, whichever way it is read."""
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        end = cold_segments(log)[-1].end_offset

        async def program() -> list[bytes]:
            return [record.payload async for record in log.reader(stop=end)]

        with ThreadPoolExecutor(9) as pool:
            readers = [
                pool.submit(lambda: [r.payload for r in log.reader(stop=end)]) for _ in range(4)
            ]
            readers += [pool.submit(list, log.reader(stop=end).payloads()) for _ in range(4)]
            readers.append(pool.submit(asyncio.run, program()))
            for future in readers:
                assert future.result() == RECORDS[:end]
        store.check_each_byte_once()
        asked = len(store.ranges)
        assert [log.get(n).payload for n in range(0, end, 7)] == RECORDS[0:end:7]
        assert len(store.ranges) == asked


def test_frames_of_one_segment_are_fetched_side_by_side(tmp_path, monkeypatch):
    """Goal: who wants another frame of a segment does not wait for the first one.

    Method: a barrier in the store, which only reads at the same time can pass.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        segment = cold_segments(log)[0]
        log.get(segment.base_offset)
        barrier = threading.Barrier(3, timeout=20)
        store.before = lambda *_: barrier.wait()
        wanted = [segment.base_offset + n for n in (60, 120, 180)]
        with ThreadPoolExecutor(3) as pool:
            found = [record.payload for record in pool.map(log.get, wanted)]
        assert found == [RECORDS[n] for n in wanted]


@pytest.mark.parametrize("form", ["thread", "coroutine"])
def test_a_failed_request_is_its_callers_alone(tmp_path, monkeypatch, form):
    """Goal: who joined a request that failed gets one of his own; nothing remembers the failure.

    Method: the first request fails once others wait for it too.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        offset, joined = in_run(log)[0], threading.Event()

        def fail_once(key: str, start: int, end: int) -> None:
            store.before = lambda *_: None
            assert joined.wait(20)
            raise FetchFailed("the first one fails", path=key)

        store.before = fail_once

        async def program() -> object:
            return await log.get_async(offset)

        def ask() -> object:
            try:
                return log.get(offset) if form == "thread" else asyncio.run(program())
            except FetchFailed as error:
                return error

        with ThreadPoolExecutor(8) as pool:
            first = pool.submit(ask)
            while not store.ranges:
                pass
            others = [pool.submit(ask) for _ in range(7)]
            while log._instance.signals.hydration.waiters < 8:
                pass
            joined.set()
            # Unless the others were quicker to succeed than it was to look.
            end = first.result()
            assert isinstance(end, FetchFailed) or end.payload == RECORDS[offset]
            assert [other.result().payload for other in others] == [RECORDS[offset]] * 7
        # The one that failed, one that opens, one for the frame.
        assert len(store.ranges) == 3
        assert log.get(offset).payload == RECORDS[offset]


def test_a_request_goes_on_for_the_others_when_its_caller_gives_up(tmp_path, monkeypatch):
    """Goal: time-outs and cancellations take nothing from anybody.

    Method: the first ones give up while the store is held; what they asked for is then there.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        gate, offset = threading.Event(), in_run(log)[0]
        store.before = lambda *_: gate.wait(30)
        with pytest.raises(aof2.WaitTimeout):
            log.get(offset, timeout=0.02)

        async def program() -> None:
            cancelled = [asyncio.create_task(log.get_async(offset)) for _ in range(5)]
            staying = asyncio.create_task(log.get_async(offset))
            await asyncio.sleep(0.02)
            for task in cancelled:
                task.cancel()
            gate.set()
            ends = await asyncio.gather(*cancelled, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            assert (await staying).payload == RECORDS[offset]

        asyncio.run(program())
        assert len(store.ranges) == 2


def test_without_waiting_it_is_asked_once_and_there_after_the_wait(tmp_path, monkeypatch):
    """Goal: `WouldBlock(HYDRATION)` asks once; its wait ends when the same call succeeds.

    Method: get and read with the store held; again after the wait; an error comes once.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        gate, arrived, offset = threading.Event(), threading.Event(), in_run(log)[0]
        reader = log.reader(start=offset)

        def hold(*_: object) -> None:
            arrived.set()
            gate.wait(30)

        store.before = hold
        for _ in range(5):
            for call in (lambda: log.get_nowait(offset), reader.read_nowait):
                with pytest.raises(aof2.WouldBlock) as caught:
                    call()
                assert caught.value.kind is aof2.WouldBlockKind.HYDRATION
                assert caught.value.wait(0) is False
        # The thread that fetches may not have come to the store yet.
        assert arrived.wait(20)
        assert len(store.ranges) == 1
        gate.set()
        assert caught.value.wait(20) is True
        assert len(store.ranges) == 2
        assert log.get_nowait(offset).payload == RECORDS[offset]
        record = reader.read_nowait()
        assert record is not None
        assert record.payload == RECORDS[offset]

        other = cold_segments(log)[1].base_offset

        def fail(key: str, start: int, end: int) -> None:
            raise FetchFailed("no", path=key)

        store.before = fail
        with pytest.raises(aof2.WouldBlock) as caught:
            log.get_nowait(other)
        assert caught.value.wait(20) is True
        with pytest.raises(FetchFailed):
            log.get_nowait(other)
        store.before = lambda *_: None
        with pytest.raises(aof2.WouldBlock) as caught:
            log.get_nowait(other)
        assert caught.value.wait(20) is True
        assert log.get_nowait(other).payload == RECORDS[other]


def test_the_cache_is_bounded_over_all_streams(tmp_path, monkeypatch):
    """Goal: what is kept stays within its bytes however much is read.

    Method: a bound of four frames; look after each record; everything still reads right.
    """
    config = cold_config(frame_bytes=16 * KIB)
    with cold_stream(tmp_path, monkeypatch, RECORDS, config) as (log, _store):
        frames = log._instance.frames
        frames.bytes_max = 64 * KIB
        end = cold_segments(log)[-1].end_offset
        for record in log.reader(stop=end):
            assert record.payload == RECORDS[record.offset]
            assert frames.bytes <= frames.bytes_max
        for offset in range(0, end, 31):
            assert log.get(offset).payload == RECORDS[offset]
            assert frames.bytes <= frames.bytes_max
        assert frames.bytes > 0
        frames.bytes_max = 1
        assert log.get(0).payload == RECORDS[0]


@pytest.mark.parametrize("below", ["warm", "cold"])
def test_records_longer_than_frames_and_runs_come_back_whole(tmp_path, monkeypatch, below):
    """Goal: a record that spans many zstd frames is read right, by every form.

    Method: records of 10 bytes to 20 MiB, in a segment that is compressed in frames of 4 KiB.
    """
    sizes = [10, 5000, 20_000_000, 10, 70_000, 4096, 18_000_000, 1]
    records = [record for n, size in enumerate(sizes) for record in noise(n, 1, size)]
    config = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=256 << 20),
        tier1=aof2.Tier1Config(frame_bytes=4 * KIB),
        segment=aof2.SegmentConfig(segment_bytes_max=32 << 20, record_bytes_max=24 << 20),
    )
    with cold_stream(tmp_path, monkeypatch, records, config) as (log, _store):
        tiers = [log._instance.hot] if below == "warm" else [log._instance.hot, log._instance.warm]
        for info in log.segments():
            for tier in tiers:
                tier.evict(info.segment_id)
            log._instance.forget(info.segment_id)
        assert [record.payload for record in log.reader()] == records
        assert [log.get(n).payload for n in reversed(range(len(records)))] == records[::-1]

        async def program() -> list[bytes]:
            return [record.payload async for record in log.reader()]

        log._instance.frames.bytes_max = 1 << 20
        assert asyncio.run(program()) == records
