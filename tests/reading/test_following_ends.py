"""Readers at the end of a stream: what they wait for is really to come, or they say so."""

from __future__ import annotations

import asyncio
import threading

import pytest

import aof2


def test_a_follower_gets_the_first_record_of_a_stream_without_an_active_segment(tmp_path):
    """Goal: where the next segment does not exist yet, a follower waits for it.

    Method: seal everything, reopen, follow from the end in all three forms, then append.
    """

    async def first(log: aof2.Aof) -> bytes:
        reader = log.reader(start="latest", follow=True)
        waiting = asyncio.ensure_future(reader.read_async(timeout=10))
        await asyncio.sleep(0.01)
        await log.append_async(b"new")
        record = await waiting
        assert record is not None
        return record.payload

    with aof2.open(tmp_path / "root") as manager:
        manager.stream("a").append(b"old")
        manager.stream("a").seal()
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        reader = log.reader(start="latest", follow=True)
        with pytest.raises(aof2.WouldBlock) as caught:
            reader.read_nowait()
        assert caught.value.kind is aof2.WouldBlockKind.TAIL
        assert asyncio.run(first(log)) == b"new"
        record = reader.read(timeout=10)
        assert record is not None
        assert record.payload == b"new"


def test_closing_the_manager_ends_every_follower(tmp_path):
    """Goal: no thread waits for ever for a stream that was closed. Method: follow, close, join."""
    manager = aof2.open(tmp_path / "root")
    log = manager.stream("a")
    log.append(b"one")
    ends: list[BaseException] = []
    started = threading.Event()

    def follow() -> None:
        try:
            for _ in log.reader(follow=True):
                started.set()
        except aof2.Closed as error:
            ends.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    assert started.wait(10)
    manager.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ends) == 1
