"""Readers: where they start and stop, how they follow, and records as columns."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from apihelp import KIB, small

import aof2

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[aof2.AofManager, aof2.Aof, list[bytes]]]:
    """A stream over several segments: single records and batches of all sizes, some with
    ext_ids."""
    chance = random.Random(7)
    with aof2.open(tmp_path / "root", config=small()) as manager:
        log, wanted = manager.stream("a", ext_id=3), []
        while len(wanted) < 3000:
            payloads = [chance.randbytes(chance.randrange(300)) for _ in range(chance.randrange(9))]
            if chance.random() < 0.5:
                ids = None if chance.random() < 0.5 else [n + 100 for n in range(len(payloads))]
                log.append_many(payloads, ext_ids=ids)
            else:
                for payload in payloads:
                    log.append(payload, ext_id=chance.choice([None, 5]))
            wanted += payloads
        yield manager, log, wanted


def offsets(log: aof2.Aof, *args: object, **kwargs: object) -> list[int]:
    return [record.offset for record in log.reader(*args, **kwargs)]  # type: ignore[arg-type]


def test_places_are_half_open_and_mean_what_they_say(filled):
    """Goal: offsets, negative ones, names. Method: compare with slices of the input."""
    _, log, wanted = filled
    n = len(wanted)
    every = list(range(n))
    assert offsets(log) == every
    assert offsets(log, "latest") == []
    assert offsets(log, n) == []
    assert offsets(log, -1) == [n - 1]
    assert offsets(log, -10, -3) == every[-10:-3]
    assert offsets(log, 10, 10) == []
    assert offsets(log, 10, 5) == []
    assert offsets(log, -10 * n) == every
    assert offsets(log, 5, 10 * n) == every[5:]
    assert offsets(log, 0, "latest") == every
    assert offsets(log, 7, "earliest") == []
    assert offsets(log, stop=100) == every[:100]
    for place in (n + 1, 10**15):
        with pytest.raises(aof2.OffsetOutOfRange) as caught:
            log.reader(place)
        assert (caught.value.first, caught.value.next) == (0, n)
    for place in (1.5, "newest", b"1", None, True):
        with pytest.raises(TypeError):
            log.reader(place)


def test_a_place_in_time_is_the_first_record_at_or_after_it(tmp_path):
    """Goal: datetimes find their record. Method: records with pauses, over a rollover; every
    border."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        for n in range(12):
            log.append(b"%d" % n)
            time.sleep(0.002)
            if n == 5:
                log.seal()
        records = list(log.reader())
        for record in records:
            # A datetime has microseconds, so go to the one before the record's nanoseconds.
            when = datetime.fromtimestamp(record.timestamp_ns // 1000 / 1e6, timezone.utc)
            assert log.reader(when).read().offset == record.offset  # type: ignore[union-attr]
            later = when + timedelta(milliseconds=1)
            after = log.reader(later).read()
            assert (after.offset if after else 12) == record.offset + 1
            assert offsets(log, stop=when) == list(range(record.offset))
        hour = timedelta(hours=1)
        assert offsets(log, when + hour) == []
        assert offsets(log, when - hour, when + hour) == list(range(12))
        east = when.astimezone(timezone(timedelta(hours=9)))
        assert offsets(log, east) == [11]
        reader = log.reader("latest")
        reader.seek(when)
        assert reader.read().offset == 11  # type: ignore[union-attr]
        for call in (log.reader, reader.seek, reader.seek_nowait):
            with pytest.raises(TypeError, match="time zone"):
                call(datetime(2020, 1, 1))


def test_a_reader_ends_where_the_stream_was_when_it_was_made(tmp_path):
    """Goal: without follow there is an end. Method: append while iterating; a new reader sees
    it."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.extend(b"%d" % n for n in range(10))
        seen = []
        for record in log.reader():
            seen.append(record.offset)
            log.append(b"more")
        assert seen == list(range(10))
        assert offsets(log) == list(range(20))


def test_until_local_stops_at_what_is_durable(tmp_path):
    """Goal: consumers that must not see what a power cut takes back. Method: a long flush
    interval."""
    config = aof2.AofManagerConfig(flush=aof2.FlushConfig(interval_s=3600))
    with aof2.open(tmp_path / "root", tier2=tmp_path / "cold", config=config) as manager:
        log = manager.stream("a")
        log.append_many([b"0", b"1"], durable=True)
        log.append(b"2")
        assert offsets(log, until="local") == [0, 1]
        assert offsets(log, until="appended") == [0, 1, 2]
        assert offsets(log, until="remote") == []
        follower = log.reader(follow=True, until="local")
        assert [follower.read().offset for _ in range(2)] == [0, 1]  # type: ignore[union-attr]
        with pytest.raises(aof2.WaitTimeout):
            follower.read(timeout=0.02)
        log.flush()
        assert follower.read(timeout=5).offset == 2  # type: ignore[union-attr]
        remote = log.reader(follow=True, until="remote")
        log.wait(2, "remote", timeout=30)
        assert [remote.read(timeout=5).offset for _ in range(3)] == [0, 1, 2]
        log.append(b"3", durable=True)
        with pytest.raises(aof2.WouldBlock):
            remote.read_nowait()
        with pytest.raises(ValueError, match="until"):
            log.reader(until="cloud")


@pytest.mark.parametrize("how", ["iterate", "read", "batch"])
def test_closing_from_another_thread_ends_a_follower(tmp_path, how):
    """Goal: no thread is stuck in a reader. Method: close while it waits at the tail."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(b"x")
        reader, got = log.reader(follow=True), []

        def work() -> None:
            if how == "iterate":
                got.extend(record.payload for record in reader)
            elif how == "read":
                got.append(reader.read(timeout=None).payload)  # type: ignore[union-attr]
                assert reader.read(timeout=None) is None
            else:
                got.extend(p for batch in reader.batches() for p in batch.to_pylist())

        thread = threading.Thread(target=work)
        thread.start()
        while not got and how != "batch":
            time.sleep(0.001)
        time.sleep(0.02)
        reader.close()
        reader.close()
        thread.join(10)
        assert not thread.is_alive()
        assert got == [b"x"]
        for call in (reader.read, reader.read_nowait, reader.read_batch, lambda: reader.seek(0)):
            with pytest.raises(aof2.Closed):
                call()


def test_seek_goes_anywhere_and_back(filled):
    """Goal: one reader for random access. Method: 300 seeded seeks, one record or batch each."""
    _, log, wanted = filled
    chance = random.Random(11)
    with log.reader() as reader:
        for _ in range(300):
            at = chance.randrange(len(wanted))
            reader.seek(at)
            assert reader.offset == at
            if chance.random() < 0.5:
                record = reader.read()
                assert (record.offset, record.payload) == (at, wanted[at])
            else:
                batch = reader.read_batch(chance.choice([1, 100, 10_000]))
                assert batch.first_offset == at
                assert batch.to_pylist() == wanted[at : at + len(batch)]
        reader.seek("latest")
        assert reader.read() is None
        reader.seek("earliest")
        assert next(reader).payload == wanted[0]
        with pytest.raises(aof2.OffsetOutOfRange):
            reader.seek(len(wanted) + 1)
        assert next(reader).payload == wanted[1]
        assert log.get(17).payload == wanted[17]
        for offset in (len(wanted), -1, 2**63):
            with pytest.raises(aof2.OffsetOutOfRange):
                log.get(offset)
            with pytest.raises(aof2.OffsetOutOfRange):
                log.get_nowait(offset)


@pytest.mark.parametrize("bytes_max", [1, 700, 1 << 20])
@pytest.mark.parametrize("sealed", [False, True])
def test_columns_equal_records(filled, bytes_max, sealed):
    """Goal: batches are the same data. Method: every column of every batch against the records."""
    manager, log, wanted = filled
    if sealed:
        log.seal()
        manager.drain()
    records = list(log.reader())
    assert [record.payload for record in records] == wanted
    at = 0
    for batch in log.reader().batches(bytes_max):
        part = records[at : at + len(batch)]
        assert len(batch) > 0
        assert batch.first_offset == at
        assert batch.to_pylist() == [r.payload for r in part]
        assert [batch.payload(i) for i in range(len(batch))] == [r.payload for r in part]
        assert batch.payload(-1) == part[-1].payload
        assert batch.timestamps_ns.tolist() == [r.timestamp_ns for r in part]
        assert batch.ext_ids.tolist() == [r.ext_id for r in part]
        assert batch.ends.tolist() == np.cumsum([len(r.payload) for r in part]).tolist()
        assert bytes(batch.data) == b"".join(r.payload for r in part)
        assert (batch.data.dtype, batch.ends.dtype) == (np.uint8, np.int32)
        assert (batch.timestamps_ns.dtype, batch.ext_ids.dtype) == (np.int64, np.uint64)
        arrow = batch.to_arrow()
        arrow.validate(full=True)
        assert arrow.to_pylist() == [r.payload for r in part]
        for i in (len(batch), -len(batch) - 1):
            with pytest.raises(IndexError):
                batch.payload(i)
        at += len(batch)
    assert at == len(wanted)


def test_a_range_may_begin_and_end_in_the_middle_of_a_batch(tmp_path):
    """Goal: batches that were appended as one are cut where asked. Method: every sub-range of
    one."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        payloads = [b"x" * n for n in (3, 0, 9, 1, 0, 7)]
        log.append(b"before")
        log.append_many(payloads, ext_ids=range(6))
        log.append(b"after")
        every = [b"before", *payloads, b"after"]
        for start in range(9):
            for stop in range(start, 9):
                assert [r.payload for r in log.reader(start, stop)] == every[start:stop]
                assert list(log.reader(start, stop).payloads()) == every[start:stop]
                got = [i for b in log.reader(start, stop).batches() for i in b.ext_ids.tolist()]
                assert got == [0, 0, 1, 2, 3, 4, 5, 0][start:stop]


def test_arrays_of_a_batch_outlive_everything(tmp_path):
    """Goal: zero-copy is safe. Method: keep arrays of written-out batches; evict, close,
    collect."""
    root = tmp_path / "root"
    config = small(4 * KIB * 16)
    rows = [[b"%03d-%02d" % (n, k) * 20 for k in range(20)] for n in range(200)]
    with aof2.open(root, config=config) as manager:
        log = manager.stream("a")
        for row in rows:
            log.append_many(row)
        log.flush()
        kept = []
        for batch in log.reader().batches():
            kept.append((batch.first_offset, batch.data, batch.ends, batch.to_arrow()))
            with batch:
                pass
            with pytest.raises(aof2.Closed):
                batch.data  # noqa: B018
        assert not kept[0][1].flags.writeable
    for path in root.glob("*/*/*.seg*"):
        path.unlink()
    gc.collect()
    everything = [payload for row in rows for payload in row]
    for first, data, ends, arrow in kept:
        wanted = everything[first : first + len(ends)]
        assert bytes(data) == b"".join(wanted)
        assert arrow.to_pylist() == wanted
    assert sum(len(ends) for _, _, ends, _ in kept) == len(everything)


def test_a_reader_is_an_iterator_and_says_where_it_is(filled):
    """Goal: it works in for, next, with. Method: mix the forms; `offset` is the next record's."""
    _, log, wanted = filled
    with log.reader() as reader:
        assert iter(reader) is reader
        assert reader.offset == 0
        assert next(reader).offset == 0
        assert reader.offset == 1
        assert "offset=1" in repr(reader)
        batch = reader.read_batch(1)
        assert reader.offset == 1 + len(batch)
        rest = [record.payload for record in reader]
        assert rest == wanted[1 + len(batch) :]
        assert reader.read() is None
        assert reader.read_batch() is None
        with pytest.raises(StopIteration):
            next(reader)
