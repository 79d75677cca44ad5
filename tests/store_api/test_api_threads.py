"""Many threads on one stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from apihelp import MIB

import aof2


def run_all(work: Callable[[int], None], threads: int) -> None:
    """Run `work(0)`, `work(1)`… at once; the first error of any of them is raised."""
    errors: list[BaseException] = []
    gate = threading.Barrier(threads)

    def one(me: int) -> None:
        try:
            gate.wait(30)
            work(me)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=one, args=(me,)) for me in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


def check_order(log: aof2.Aof, threads: int, each: int, offsets: list[np.ndarray]) -> None:
    """Every offset was given once, is readable, and holds what its thread appended there."""
    total = threads * each
    assert np.array_equal(np.sort(np.concatenate(offsets)), np.arange(total))
    found = np.empty((total, 2), np.int64)
    at = 0
    for batch in log.reader().batches():
        payloads = batch.data.reshape(len(batch), -1)
        found[at : at + len(batch)] = np.ascontiguousarray(payloads[:, :16]).view(np.int64)
        at += len(batch)
    assert at == total
    for me in range(threads):
        mine = np.flatnonzero(found[:, 0] == me)
        assert np.array_equal(mine, offsets[me])
        assert np.array_equal(found[mine, 1], np.arange(each))


def test_four_threads_append_a_million_records(tmp_path):
    """Goal: 1,000,000 distinct offsets, all readable, each thread's own order kept.

    Method: four threads × 250,000 records of 128 bytes with the thread's number and a counter.
    """
    threads, each = 4, 250_000
    offsets = [np.empty(each, np.int64) for _ in range(threads)]
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")

        def work(me: int) -> None:
            append, mine = log.append, offsets[me]
            head, rest = me.to_bytes(8, "little"), bytes(112)
            for n in range(each):
                mine[n] = append(head + n.to_bytes(8, "little") + rest)

        run_all(work, threads)
        check_order(log, threads, each, offsets)
    with aof2.open(tmp_path / "root") as manager:
        check_order(manager.stream("a"), threads, each, offsets)


@pytest.mark.parametrize("way", ["ext_id", "many", "packed", "mixed"])
def test_every_way_of_appending_returns_its_own_offsets(tmp_path: Path, way: str) -> None:
    """Goal: what a call returns is where its records are, whatever other threads do meanwhile.

    Method: four threads, small segments so that rollovers (which call into Python) are frequent;
    each call's span is compared with what is read there.
    """
    threads, calls, per_call = 4, 4000, 3
    each = calls * (per_call if way != "ext_id" else 1)
    offsets = [np.empty(each, np.int64) for _ in range(threads)]
    segment = aof2.SegmentConfig(segment_bytes_max=MIB // 16)
    with aof2.open(tmp_path / "root", config=aof2.AofManagerConfig(segment=segment)) as manager:
        log = manager.stream("a")

        def work(me: int) -> None:
            at, n = 0, 0
            ends = np.arange(1, per_call + 1, dtype=np.int32) * 48
            while at < each:
                count = 1 if way == "ext_id" or (way == "mixed" and n % 2) else per_call
                count = min(count, each - at)
                payloads = [
                    me.to_bytes(8, "little") + (at + k).to_bytes(8, "little") + bytes(32)
                    for k in range(count)
                ]
                if count == 1:
                    offset = log.append(payloads[0], ext_id=me)
                    span = range(offset, offset + 1)
                elif way == "packed":
                    span = log.append_packed(b"".join(payloads), ends[:count])
                else:
                    span = log.append_many(payloads)
                assert len(span) == count
                offsets[me][at : at + count] = span
                at, n = at + count, n + 1

        run_all(work, threads)
        check_order(log, threads, each, offsets)


def test_readers_follow_while_threads_append(tmp_path):
    """Goal: a follower sees each record once, in order.

    Method: two writers, two followers, at once.
    """
    each = 20_000
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")

        def work(me: int) -> None:
            if me < 2:
                for n in range(each):
                    log.append(b"%d %d" % (me, n))
                return
            seen = [0, 0]
            for expected, record in enumerate(log.reader(follow=True, stop=2 * each)):
                assert record.offset == expected
                who, n = map(int, record.payload.split())
                assert n == seen[who]
                seen[who] += 1
            assert seen == [each, each]

        run_all(work, 4)
