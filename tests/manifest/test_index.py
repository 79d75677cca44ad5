"""The fold of the manifest: which record may follow which, and what the rows say then."""

from __future__ import annotations

from itertools import pairwise

import pytest
from lives import facts, life, lives

from aof2._core.manifest import RecordType as T
from aof2._core.manifest import encode
from aof2.errors import ManifestCorrupt
from aof2.manifest.index import ColdCopy, Index, SegmentRow, WarmCopy
from aof2.types import Tier

SEAL = {
    "durable_bytes": 900,
    "segment_crc64": 5,
    "ext_id": 0,
    "coordinator_watermark": 0,
    "flush_failure": False,
}


def take(index: Index, kind: T, segment_id: int, offset: int, **fields: object) -> None:
    index.apply(encode(kind, segment_id, offset, **fields))


def opened(index: Index, segment_id: int, base: int) -> None:
    take(index, T.SEGMENT_OPENED, segment_id, base, base_offset=base, epoch=1)


def sealed_index(*ends: int) -> Index:
    """Segments 1, 2, … sealed at the given end offsets."""
    index, base = Index(), 0
    for segment_id, end in enumerate(ends, 1):
        opened(index, segment_id, base)
        take(index, T.SEAL_SEGMENT, segment_id, end, **SEAL)
        base = end
    return index


def row_of(index: Index, count: int) -> SegmentRow:
    """The row of segment 1 after the first `count` steps of its life."""
    for kind, segment_id, offset, fields in life(1, 0, 10)[:count]:
        take(index, kind, segment_id, offset, **fields)
    return index.segments[1]


def test_a_row_follows_the_life_of_its_segment():
    """Goal: each step shows in the row. Method: one life, looked at after each decision."""
    row = row_of(sealed_index(10), 3)
    warm = WarmCopy(500, 96, 7919, 7920)
    assert (row.warm, row.cold, row.upload_key) == (warm, None, None)
    row = row_of(sealed_index(10), 6)
    key = "seg/001/0-10.seg.zst"
    assert row.cold == ColdCopy(key, 500, 7919, '"1eef"', 96)
    assert row.upload_key == key
    assert (row.hot_evicted, row.warm_evicted) == (False, False)
    row = row_of(sealed_index(10), 8)
    assert (row.hot_evicted, row.warm_evicted, row.warm) == (True, True, None)
    assert row.compressed == warm
    row = row_of(sealed_index(10), 13)
    assert (row.hot_evicted, row.warm) == (False, warm)
    assert row_of(sealed_index(10), 14).delete_queued
    row = row_of(sealed_index(10), 15)
    assert (row.cold, row.upload_key, row.delete_queued) == (None, None, False)


def test_segments_are_found_by_offset():
    """Goal: offsets lead to rows. Method: borders of sealed, active and trimmed segments."""
    index = sealed_index(10, 25)
    opened(index, 3, 25)
    found = {offset: index.find_by_offset(offset) for offset in (0, 9, 10, 24, 25, 10**9)}
    ids = {offset: row.segment_id for offset, row in found.items() if row is not None}
    assert ids == {0: 1, 9: 1, 10: 2, 24: 2, 25: 3, 10**9: 3}
    assert index.first_offset == 0
    take(index, T.TRIMMED, 0, 12, before_offset=12)
    assert index.first_offset == 12
    assert index.find_by_offset(11) is None
    assert index.find_by_offset(12) == index.segments[2]
    assert Index().find_by_offset(0) is None


def test_neighbours_are_found_by_id():
    """Goal: readers cross segment borders. Method: sealed, active and no segments."""
    index = sealed_index(10, 25)
    opened(index, 5, 25)
    assert [index.next_row(i) for i in (0, 1, 2, 4)] == [index.segments[i] for i in (1, 2, 5, 5)]
    assert index.next_row(5) is None
    assert index.last_sealed() == index.segments[2]
    assert index.last() == index.segments[5]
    assert Index().last() is Index().last_sealed() is Index().next_row(0) is None


def test_a_lost_opening_is_derived_from_the_segment_before():
    """Goal: an event that a crash took is no harm. Method: seal without opening."""
    index = sealed_index(10)
    take(index, T.SEAL_SEGMENT, 2, 30, **SEAL)
    assert index.segments[2].base_offset == 10
    opened(index, 3, 30)
    with pytest.raises(ManifestCorrupt, match="nor the one before it sealed"):
        take(index, T.SEAL_SEGMENT, 4, 50, **SEAL)


def test_a_cut_tail_moves_what_was_opened_behind_it():
    """Goal: a crash between opening s+1 and syncing s is no contradiction.

    Method: open 2 and 3, then seal 1 lower than 2 was opened at, then open 2 again.
    """
    index = Index()
    opened(index, 1, 0)
    opened(index, 2, 100)
    opened(index, 3, 200)
    take(index, T.SEAL_SEGMENT, 1, 90, **SEAL)
    assert index.segments[2].base_offset == 90
    opened(index, 2, 90)
    assert list(index.segments) == [1, 2]
    assert index.find_by_offset(250) == index.segments[2]


COMPRESSED = {"bytes": 500, "table_bytes": 96, "crc64": 7919, "raw_crc64": 7920}
DONE = {"key": "k", "size": 500, "crc64": 7919, "etag": "e"}


@pytest.mark.parametrize(
    ("steps", "kind", "segment_id", "offset", "fields"),
    [
        pytest.param(0, T.SEAL_SEGMENT, 1, 11, SEAL, id="sealed twice"),
        pytest.param(0, T.SEAL_SEGMENT, 2, 20, {**SEAL, "ext_id": 3}, id="other values"),
        pytest.param(0, T.SEAL_SEGMENT, 3, 20, SEAL, id="seal of an empty segment"),
        pytest.param(0, T.SEGMENT_OPENED, 3, 25, {"base_offset": 25, "epoch": 1}, id="hole"),
        pytest.param(0, T.SEGMENT_OPENED, 2, 10, {"base_offset": 10, "epoch": 1}, id="reopened"),
        pytest.param(0, T.COMPRESSION_DONE, 3, 20, COMPRESSED, id="compressed while active"),
        pytest.param(0, T.COMPRESSION_DONE, 9, 0, COMPRESSED, id="unknown segment"),
        pytest.param(3, T.UPLOAD_DONE, 1, 0, DONE, id="upload not started"),
        pytest.param(0, T.UPLOAD_STARTED, 1, 0, {"key": ""}, id="empty key"),
        pytest.param(6, T.UPLOAD_STARTED, 1, 0, {"key": "k"}, id="uploaded as another"),
        pytest.param(
            0,
            T.LOCAL_EVICTED,
            1,
            0,
            {"tier": Tier.HOT, "bytes": 1, "copy_tier": Tier.WARM},
            id="only copy",
        ),
        pytest.param(
            3,
            T.LOCAL_EVICTED,
            1,
            0,
            {"tier": Tier.WARM, "bytes": 1, "copy_tier": Tier.HOT},
            id="hot does not justify",
        ),
        pytest.param(
            6,
            T.LOCAL_EVICTED,
            1,
            0,
            {"tier": Tier.COLD, "bytes": 1, "copy_tier": Tier.COLD},
            id="cold is no local tier",
        ),
        pytest.param(3, T.FETCH_DONE, 1, 0, {}, id="fetched from nowhere"),
        pytest.param(6, T.TIER2_DELETE_QUEUED, 1, 0, {"key": "k", "reason": ""}, id="other key"),
        pytest.param(
            6,
            T.TIER2_DELETED,
            1,
            0,
            {"key": "seg/001/0-10.seg.zst", "reason": ""},
            id="deleted without a queue",
        ),
    ],
)
def test_impossible_records_are_refused_and_change_nothing(steps, kind, segment_id, offset, fields):
    """Goal: a contradiction is corruption, not a shrug. Method: one such record each."""
    index = sealed_index(10, 20)
    opened(index, 3, 20)
    row_of(index, steps)
    before, applied = facts(index), index.applied
    with pytest.raises(ManifestCorrupt):
        take(index, kind, segment_id, offset, **fields)
    assert (facts(index), index.applied) == (before, applied)


def test_running_a_step_again_changes_nothing():
    """Goal: commands may run twice. Method: repeat the decisions that allow it."""
    index = sealed_index(10)
    take(index, T.SEAL_SEGMENT, 1, 10, **SEAL)
    row_of(index, 8)
    before = facts(index)
    for at in (4 - 1, 6 - 1):
        kind, segment_id, offset, fields = life(1, 0, 10)[at]
        take(index, kind, segment_id, offset, **fields)
    assert facts(index) == before


@pytest.mark.parametrize("seed", range(5))
def test_random_lives_fold_in_any_interleaving(seed):
    """Goal: order between segments does not matter. Method: lives interleaved by chance."""
    index, applied = Index(), 0
    for kind, segment_id, offset, fields in lives(100, seed):
        index.apply(encode(kind, segment_id, offset, **fields))
        applied += 1
    assert index.applied == applied
    assert [row.segment_id for row in index.rows()] == list(range(1, 101))
    assert all(before.end_offset == after.base_offset for before, after in pairwise(index.rows()))


def test_what_was_trimmed_needs_no_work_but_its_deletion():
    """Goal: opening does not look at what was given up. Method: trim over pending segments."""
    index = Index()
    for number in (1, 2, 3):
        take(index, T.SEAL_SEGMENT, number, number * 10, **SEAL)
        take(index, T.FETCH_QUEUED, number, 0)
    take(index, T.COMPRESSION_DONE, 1, 0, **COMPRESSED)
    take(index, T.UPLOAD_STARTED, 1, 0, key="k")
    take(index, T.TIER2_DELETE_QUEUED, 1, 0, key="k", reason="trimmed")
    assert (index.pending_compress, index.pending_upload) == ([2, 3], [1])
    take(index, T.TRIMMED, 0, 0, before_offset=25)
    assert (index.pending_compress, index.pending_upload) == ([3], [])
    assert (index.pending_delete, index.needs_fetch, index.cold_end) == ([1], [3], 20)


def test_an_object_that_is_gone_is_not_to_be_fetched():
    """Goal: no work waits for ever. Method: queue a fetch, then delete the object."""
    index = sealed_index(10)
    row_of(index, 14)
    take(index, T.FETCH_QUEUED, 1, 0)
    assert index.needs_fetch == [1]
    take(index, T.TIER2_DELETED, 1, 0, **life(1, 0, 10)[14][3])
    assert (index.needs_fetch, index.segments[1].needs_fetch) == ([], False)


def test_no_segment_has_the_number_of_the_whole_stream():
    """Goal: number 0 means the stream. Method: open and seal it."""
    index = Index()
    for kind, offset, fields in (
        (T.SEGMENT_OPENED, 0, {"base_offset": 0, "epoch": 1}),
        (T.SEAL_SEGMENT, 10, SEAL),
    ):
        with pytest.raises(ManifestCorrupt, match="this number"):
            take(index, kind, 0, offset, **fields)
    assert (index.applied, len(index.segments)) == (0, 0)
