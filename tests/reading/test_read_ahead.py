"""Scans of cold data ask for what comes next before they need it, within bounds."""

from __future__ import annotations

import asyncio
import threading

import pytest
from coldhelp import KIB, CountingStore, cold_config, cold_segments, cold_stream, noise

import aof2
from aof2.readahead import AHEAD_BYTES_MAX

RECORDS = noise(2, 3000, 1000)


async def _all(log: aof2.Aof, stop: int) -> list[bytes]:
    return [record.payload async for record in log.reader(stop=stop)]


FORMS = {
    "records": lambda log, stop: [record.payload for record in log.reader(stop=stop)],
    "payloads": lambda log, stop: list(log.reader(stop=stop).payloads()),
    "batches": lambda log, stop: [
        payload for batch in log.reader(stop=stop).batches() for payload in batch.to_pylist()
    ],
    "async": lambda log, stop: asyncio.run(_all(log, stop)),
}


@pytest.mark.parametrize("form", FORMS)
def test_requests_of_a_scan_overlap_and_none_is_made_twice(tmp_path, monkeypatch, form):
    """Goal: while one frame is decoded, later ones and the next segments' tables are on their way.

    Method: the store lets a read end only when three are under way at once, or nothing more can
    come; then the bytes of each object were asked for once.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        stop = cold_segments(log)[-1].end_offset
        together = threading.Event()

        def hold(key: str, start: int, end: int) -> None:
            # The first few reads of a scan come one by one: it is not known yet that it is one.
            if store._flying >= 3:
                together.set()
            if len(store.ranges) > 4:
                together.wait(5)

        store.before = hold
        assert FORMS[form](log, stop) == RECORDS[:stop]
        assert store.flying_most >= 3
        store.check_each_byte_once()
        keys = list(dict.fromkeys(key for key, _, _ in store.ranges))
        assert len(keys) == len(cold_segments(log))


def test_a_scan_asks_no_further_than_its_bound_and_its_end(tmp_path, monkeypatch):
    """Goal: bounded memory, and no request for what is not wanted.

    Method: count what was asked for beyond where the reader is, for one and for many scans.
    """
    config = cold_config(segment_bytes=1024 * KIB, frame_bytes=32 * KIB)
    with cold_stream(tmp_path, monkeypatch, noise(3, 9000, 1000), config) as (log, store):
        segments = cold_segments(log)
        stop = segments[2].base_offset + 300
        frames = log._instance.frames
        frames.bytes_max = 2048 * KIB
        for record in log.reader(stop=stop):
            asked = sum(end - start for _, start, end in store.ranges)
            assert asked <= (record.offset + 1) * 1100 + frames.bytes_max // 2 + 512 * KIB
        used = {segment.key for segment in segments[:3]}
        assert {key for key, _, _ in store.ranges} == used
        in_last = [end for key, _, end in store.ranges if key == segments[2].key]
        assert sorted(in_last)[-2] < 400 * KIB, "the last one read the tables"
        assert frames.bytes_max // 2 < AHEAD_BYTES_MAX


def test_random_reads_ask_for_nothing_but_their_frame(tmp_path, monkeypatch):
    """Goal: read-ahead is for scans. Method: jump about; one request for each jump."""
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        segment = cold_segments(log)[0]
        reader = log.reader(start=segment.base_offset)
        wanted = [segment.base_offset + n for n in (200, 20, 150, 80)]
        log.get(segment.base_offset)
        store.ranges.clear()
        for n in wanted:
            reader.seek(n)
            record = reader.read()
            assert record is not None
            assert record.payload == RECORDS[n]
        assert len(store.ranges) == len(wanted)


def test_what_was_read_ahead_in_vain_costs_the_reader_nothing(tmp_path, monkeypatch):
    """Goal: a request ahead that fails is made again when its bytes are needed.

    Method: every other request fails once; the scan comes to its end all the same, or says why.
    """
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, store):
        stop = cold_segments(log)[-1].end_offset
        failed = _fail_ahead(store)
        found, reader = [], log.reader(stop=stop)
        while True:
            try:
                record = reader.read()
            except aof2.FetchFailed:
                continue
            if record is None:
                break
            found.append(record.payload)
        assert found == RECORDS[:stop]
        assert failed


def _fail_ahead(store: CountingStore) -> list[tuple[str, int, int]]:
    failed: list[tuple[str, int, int]] = []

    def fail(key: str, start: int, end: int) -> None:
        if (key, start, end) not in failed and len(store.ranges) % 2:
            failed.append((key, start, end))
            raise aof2.FetchFailed("not this time", path=key)

    store.before = fail
    return failed


def test_a_reader_that_stops_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    """Goal: closing while requests are under way is safe; the manager's close waits for them."""
    with cold_stream(tmp_path, monkeypatch, RECORDS) as (log, _):
        for offset in range(0, 600, 60):
            with log.reader() as reader:
                for record in reader:
                    if record.offset == offset:
                        break
            assert record.payload == RECORDS[offset]
        assert len(log._instance.frames._scans) == 0
