"""Snapshots as bytes: which pages are read and written, and what is no page of this snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from lives import facts

from aof2._core.checksum import crc64nvme
from aof2._core.manifest import RecordType as T
from aof2._core.manifest import encode
from aof2._core.snapshot import Capture, capture, read_head, written
from aof2.errors import ManifestCorrupt, VersionTooNew
from aof2.manifest.index import Index
from aof2.types import Tier

UUID, ROOT = bytes(range(16)), bytes(range(16, 32))
PAGE_ROWS = 4096
Pages = dict[tuple[int, int], bytes]


def grow(index: Index, first: int, last: int) -> None:
    """Segments of ten records each, at different points of their lives."""
    for number in range(first, last + 1):
        base, key = (number - 1) * 10, f"seg/{number % 256:02x}/{number:020d}.seg.zst"
        steps: list[tuple[T, int, dict[str, Any]]] = [
            (T.SEGMENT_OPENED, base, {"base_offset": base, "epoch": 1 + number // 5000}),
            (T.SEAL_SEGMENT, number * 10, seal(number)),
            (T.COMPRESSION_DONE, base, sizes(number)),
            (T.UPLOAD_STARTED, base, {"key": key}),
            (T.UPLOAD_DONE, base, {"key": key, "size": 500, "crc64": number, "etag": f'"{base}"'}),
            (T.LOCAL_EVICTED, base, {"tier": Tier.HOT, "bytes": 1, "copy_tier": Tier.COLD}),
            (T.HYDRATION_DONE, base, {"source_tier": Tier.COLD, "bytes": 1}),
            (T.FETCH_QUEUED, base, {}),
            (T.TIER2_DELETE_QUEUED, base, {"key": key, "reason": "r"}),
        ]
        # Nearly all are in tier 2; a few stopped anywhere behind their seal.
        far = 6 if number % 100 else 2 + number // 100 % 8
        for kind, offset, fields in steps[:far]:
            index.apply(encode(kind, number, offset, **fields))


def seal(number: int) -> dict[str, int]:
    return {
        "durable_bytes": number * 8,
        "segment_crc64": number * 3,
        "ext_id": number % 3,
        "coordinator_watermark": number,
        "flush_failure": number % 7 == 0,
    }


def sizes(number: int) -> dict[str, int]:
    return {"bytes": 500, "table_bytes": 96, "crc64": number, "raw_crc64": number + 1}


def take(index: Index, number: int) -> Capture:
    """A snapshot of an index as it is now."""
    return capture(
        index.fold,
        number=number,
        stream_uuid=UUID,
        root_id=ROOT,
        epoch=3,
        created_ns=1_700_000_000,
        covers=(4, 12288, index.applied, 77),
    )


def everything(index: Index) -> list[Any]:
    """All that an index says."""
    pending = (index.pending_compress, index.pending_upload, index.pending_delete)
    figures = (index.applied, index.trimmed, index.cold_end, index.first_offset)
    return [facts(index), pending, index.needs_fetch, figures, index.last_sealed()]


def loader(pages: Pages, loaded: list[int] | None = None) -> Callable[[int, int], bytes]:
    """Gives pages, and notes which."""

    def load(page_no: int, number: int) -> bytes:
        if loaded is not None:
            loaded.append(page_no)
        return pages[page_no, number]

    return load


def kept(made: Capture, number: int) -> Pages:
    return {(page_no, number): data for page_no, data in made.pages}


@pytest.fixture(scope="module")
def long_index():
    """10,000 segments: two full pages and a tail."""
    index = Index()
    grow(index, 1, 10_000)
    index.apply(encode(T.TRIMMED, 0, 0, before_offset=55))
    return index


@pytest.fixture(scope="module")
def snapshot(long_index):
    """Its first snapshot: the head, and the pages by place and number."""
    made = take(long_index, 1)
    return made.head, kept(made, 1)


def test_pages_are_loaded_when_they_are_asked_for_and_once(snapshot):
    """Goal: opening costs a head, not history. Method: count the loads of each look-up."""
    head, pages = snapshot
    loaded: list[int] = []
    index = Index.from_head(head, loader(pages, loaded), path="head")
    newest, first = index.segments[10_000], index.segments[2 * PAGE_ROWS + 1]
    assert index.last() == newest
    assert index.find_by_offset(newest.base_offset + 5) == newest
    assert index.next_row(first.segment_id - 1) == first
    grow(index, 10_001, 10_010)
    assert loaded == []
    assert index.segments[5000].base_offset == 49_990
    assert index.find_by_offset(50_001) == index.segments[5001]
    assert loaded == [1]
    assert index.segments[1].base_offset == 0
    assert loaded == [1, 0]
    assert len(facts(index)) == 10_010
    assert loaded == [1, 0]


def test_pages_without_pending_work_are_not_loaded_for_it():
    """Goal: pending work is found at open without history. Method: one pending in page 0 of two."""
    index, loaded = Index(), []
    for number in range(1, 2 * PAGE_ROWS + 10):
        index.apply(encode(T.SEAL_SEGMENT, number, number * 10, **seal(number)))
        if number != 7:
            index.apply(encode(T.COMPRESSION_DONE, number, 0, **sizes(number)))
    made = take(index, 1)
    again = Index.from_head(made.head, loader(kept(made, 1), loaded), path="head")
    assert (again.pending_delete, again.needs_fetch, loaded) == ([], [], [])
    assert (again.pending_compress, loaded) == ([7], [0])


def test_going_on_behind_a_snapshot_is_as_if_there_had_been_none(long_index, snapshot):
    """Goal: snapshots are invisible. Method: the same records on a restored and a plain index.

    They change rows of pages that are loaded, of pages that are not, and of the tail.
    """
    head, pages = snapshot
    restored, plain = Index.from_head(head, loader(pages), path="head"), Index()
    grow(plain, 1, 10_000)
    plain.apply(encode(T.TRIMMED, 0, 0, before_offset=55))
    for index in (restored, plain):
        for number in (2, 4096, 4097, 8193, 9_999):
            row = index.segments[number]
            index.apply(encode(T.HYDRATION_DONE, number, 0, source_tier=Tier.COLD, bytes=1))
            gone = {"key": row.upload_key, "reason": "r"}
            index.apply(encode(T.TIER2_DELETE_QUEUED, number, 0, **gone))
            index.apply(encode(T.TIER2_DELETED, number, 0, **gone))
        grow(index, 10_001, 3 * PAGE_ROWS + 50)
        index.apply(encode(T.TRIMMED, 0, 0, before_offset=60_000))
    assert everything(restored) == everything(plain)


def test_only_pages_that_changed_are_written_again(long_index, snapshot):
    """Goal: a snapshot costs what changed. Method: change a row of one page; look at the next."""
    head, pages = snapshot
    index = Index.from_head(head, loader(pages), path="head")
    assert take(index, 2).pages == ()
    index.apply(encode(T.HYDRATION_DONE, 5000, 0, source_tier=Tier.COLD, bytes=1))
    made = take(index, 2)
    assert [page_no for page_no, _ in made.pages] == [1]
    # Nobody said that it was written: it is due again.
    assert [page_no for page_no, _ in take(index, 3).pages] == [1]
    index.apply(encode(T.HYDRATION_DONE, 5001, 0, source_tier=Tier.COLD, bytes=1))
    written(index.fold, made)
    assert [page_no for page_no, _ in take(index, 3).pages] == [1]
    made = take(index, 3)
    written(index.fold, made)
    last = take(index, 4)
    assert last.pages == ()
    named = read_head(last.head, stream_uuid=UUID, path="head").pages
    assert [(page.page_no, page.number) for page in named] == [(0, 1), (1, 3)]
    again = Index.from_head(last.head, loader({**pages, **kept(made, 3)}), path="head")
    assert everything(again) == everything(index)


def test_a_full_page_that_lost_its_tail_is_written_anew():
    """Goal: a page never goes by an old file's name. Method: cut lost segments out of a page."""
    index = Index()
    grow(index, 1, PAGE_ROWS - 1)
    base = (PAGE_ROWS - 1) * 10
    for number in (PAGE_ROWS, PAGE_ROWS + 1):
        index.apply(encode(T.SEGMENT_OPENED, number, base, base_offset=base, epoch=1))
    made = take(index, 1)
    index = Index.from_head(made.head, loader(kept(made, 1)), path="head")
    # The newest two were lost with an unproven tail.
    number = PAGE_ROWS + 1
    index.apply(encode(T.SEGMENT_OPENED, PAGE_ROWS, base, base_offset=base, epoch=2))
    assert len(index.segments) == PAGE_ROWS
    index.apply(encode(T.SEAL_SEGMENT, PAGE_ROWS, base + 10, **seal(1)))
    index.apply(encode(T.SEAL_SEGMENT, number, base + 20, **seal(1)))
    made = take(index, 2)
    assert [page_no for page_no, _ in made.pages] == [0]
    again = Index.from_head(made.head, loader(kept(made, 2)), path="head")
    assert everything(again) == everything(index)


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A head with one page behind it and a few rows in it, and that page."""
    index = Index()
    for number in range(1, PAGE_ROWS + 1):
        index.apply(encode(T.SEAL_SEGMENT, number, number * 10, **seal(number)))
    grow(index, PAGE_ROWS + 1, PAGE_ROWS + 6)
    made = take(index, 1)
    return made.head, made.pages[0][1]


def with_crc(body: bytes) -> bytes:
    """A body under a good checksum, as an attacker would put it."""
    return body + crc64nvme(body).to_bytes(8, "little")


def test_nonsense_under_a_good_checksum_never_crashes(small):
    """Goal: hostile files are errors. Method: scribble over a head and a page, sum anew, read all.

    A page is only its first rows here; the head is one without pages, and all of it is tried.
    """
    head, page = small
    index = Index()
    grow(index, 1, 6)
    lone, refused = take(index, 1).head, 0
    for at in range(len(lone) - 8):
        for value in (0, 0xFF, lone[at] ^ 0x40):
            data = with_crc(lone[:at] + bytes([value]) + lone[at + 1 : -8])
            try:
                read_head(data, stream_uuid=UUID, path="head")
                everything(Index.from_head(data, loader({}), path="head"))
            except (ManifestCorrupt, VersionTooNew):
                refused += 1
            except KeyError:
                refused += 1  # A page is asked for, and there is none.
    assert refused > 500
    for at in range(300):
        data = with_crc(page[:at] + b"\xff" + page[at + 1 : -8])
        index = Index.from_head(head, loader({(0, 1): data}), path="head")
        with contextlib.suppress(ManifestCorrupt, VersionTooNew):
            assert [index.segments[n].segment_id for n in (1, 2, 3)] == [1, 2, 3]


def test_a_page_of_another_place_number_or_stream_is_refused(small):
    """Goal: pages are not mixed up. Method: give each look-up a page that is good, but another."""
    head, page = small
    grown = Index()
    for number in range(1, 2 * PAGE_ROWS + 1):
        grown.apply(encode(T.SEAL_SEGMENT, number, number * 10, **seal(number)))
    other = [data for _, data in take(grown, 1).pages][1]
    newer = take(grown, 2).pages[0][1]
    for data in (other, newer, page.replace(UUID, bytes(16), 1)):
        index = Index.from_head(head, loader({(0, 1): with_crc(data[:-8])}), path="head")
        with pytest.raises(ManifestCorrupt, match="another one's"):
            index.segments[1]
    with pytest.raises(ManifestCorrupt, match="another stream"):
        read_head(head, stream_uuid=bytes(16), path="head")
