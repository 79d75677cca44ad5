"""The core's fold beside the plain one of `oracle`: the same rows, the same refusals."""

from __future__ import annotations

import random

import pytest
from lives import life, lives
from oracle import Oracle, Refused, state_of

from aof2._core.manifest import RecordType as T
from aof2._core.manifest import encode
from aof2._core.snapshot import capture, written
from aof2.errors import ManifestCorrupt
from aof2.manifest.index import Index
from aof2.types import Tier

UUID = bytes(range(16))


class Snapshots:
    """Snapshots of an index in memory, one after another, as the files would be."""

    def __init__(self):
        self.number = 0
        self.pages = {}
        self.loads = 0

    def take(self, index):
        """The index again, from a snapshot of it; its pages are loaded when needed."""
        self.number += 1
        made = capture(
            index.fold, number=self.number, stream_uuid=UUID, root_id=UUID, epoch=1,
            created_ns=0, covers=(1, 8192, index.applied, 0),
        )  # fmt: skip
        self.pages |= {(page, self.number): data for page, data in made.pages}
        written(index.fold, made)
        return Index.from_head(made.head, self.load, path="head")

    def load(self, page_no, number):
        self.loads += 1
        return self.pages[page_no, number]


def same_step(index, oracle, step):
    """Give both one record; True when both took it."""
    payload = encode(*step[:3], **step[3])
    try:
        oracle.apply(*step)
    except Refused:
        with pytest.raises(ManifestCorrupt):
            index.check(payload)
        with pytest.raises(ManifestCorrupt):
            index.apply(payload)
        return False
    index.check(payload)
    index.apply(payload)
    return True


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_lives_fold_as_the_rules_say(seed):
    """Goal: the core's fold is the documented one. Method: 1,000 segments, compared as they go.

    At random points the index is exchanged for one from a snapshot of it.
    """
    index, oracle, chance, snapshots = Index(), Oracle(), random.Random(seed), Snapshots()
    for turn, step in enumerate(lives(1000, seed)):
        assert same_step(index, oracle, step)
        if chance.random() < 0.005:
            index = snapshots.take(index)
        if turn % 997 == 0:
            assert state_of(index) == oracle.state()
    assert state_of(index) == oracle.state()
    assert len(index.segments) == 1000
    assert snapshots.number > 10


def any_step(chance, oracle):
    """A record about one of the last rows, often a possible one."""
    top = oracle.rows[-1]["segment_id"] if oracle.rows else 0
    segment_id = max(1, top + chance.randrange(-7, 3))
    row = next((r for r in oracle.rows if r["segment_id"] == segment_id), None)
    borders = [0, 5]
    for at in oracle.rows[-8:]:
        borders += [at["base_offset"], at["end_offset"] or at["base_offset"] + 10]
    place = chance.choice(borders) + chance.choice((0, 0, 0, 0, 10, 1, -1))
    place = max(0, place)
    kind = chance.choice([T.SEGMENT_OPENED, T.SEAL_SEGMENT, *T])
    if kind is T.SEGMENT_OPENED:
        epoch = chance.randrange(1, 4) + oracle.applied // 1000
        return kind, segment_id, place, {"base_offset": place, "epoch": epoch}
    if kind is T.SEAL_SEGMENT:
        if row and row["sealed"] and chance.random() < 0.5:
            place = row["end_offset"]
        fields = {"durable_bytes": 1, "segment_crc64": chance.randrange(2), "ext_id": 0}
        fields |= {"coordinator_watermark": 0, "flush_failure": chance.random() < 0.1}
        return kind, segment_id, place, fields
    if kind is T.TRIMMED:
        place = place if chance.random() < 0.1 else 0
        return kind, 0, place, {"before_offset": place}
    if kind is T.SNAPSHOT_MARKER:
        return kind, 0, 0, {"snapshot_number": 1, "covers": 1}
    if kind is T.CUSTOM_EVENT:
        return kind, 0, 0, {"text": "x"}
    tiers = [Tier.HOT, Tier.WARM, Tier.COLD]
    steps = [s for s in life(segment_id, 0, 10) if s[0] is kind]
    fields = dict(chance.choice(steps)[3])
    for name, values in (
        ("tier", tiers), ("copy_tier", tiers), ("key", ["a", "a", "a", "b", ""]),
        ("crc64", [1, 1, 1, 2]), ("size", [500, 500, 500, 4]), ("bytes", [500, 500, 500, 3]),
        ("etag", ["", "e", "ee"]), ("table_bytes", [1, 2]),
    ):  # fmt: skip
        if name in fields:
            fields[name] = chance.choice(values)
    return kind, segment_id, 0, fields


def walk(seed, steps):
    """Random records to both; says how many were taken and how many refused."""
    index, oracle, chance, snapshots = Index(), Oracle(), random.Random(seed), Snapshots()
    taken = refused = 0
    for _ in range(steps):
        step = any_step(chance, oracle)
        before = None if chance.random() < 0.9 else state_of(index)
        if same_step(index, oracle, step):
            taken += 1
        else:
            refused += 1
            assert before is None or state_of(index) == before, step
        if chance.random() < 0.1:
            assert state_of(index) == oracle.state(), step
        if chance.random() < 0.01:
            index = snapshots.take(index)
    assert state_of(index) == oracle.state()
    return taken, refused


@pytest.mark.parametrize("seed", range(6))
def test_random_records_are_taken_or_refused_by_both(seed):
    """Goal: also impossible records are judged as the rules say; a refusal changes nothing.

    Method: records about the last rows with values by chance, the state compared every tenth.
    """
    taken, refused = walk(seed, 1500)
    assert taken > 300
    assert refused > 300


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 200))
def test_random_records_are_taken_or_refused_by_both_for_long(seed):
    """Goal and Method: as above, a hundred times."""
    walk(seed, 3000)


def many_lives(index, oracle, count):
    """`count` sealed segments, some further on in their lives; to both."""
    for i in range(1, count + 1):
        rest = life(i, 10 * i, 10 * i + 10)[: i % 16 if i % 5 == 0 else 0]
        seal = {"durable_bytes": 9, "segment_crc64": i, "ext_id": 0}
        seal |= {"coordinator_watermark": i, "flush_failure": i % 7 == 0}
        steps = [
            (T.SEGMENT_OPENED, i, 10 * i, {"base_offset": 10 * i, "epoch": 1}),
            (T.SEAL_SEGMENT, i, 10 * i + 10, seal),
            *rest,
        ]
        # The oracle looks at all of its rows each time: it gets each segment for itself.
        one = Oracle()
        one.applied = oracle.applied
        for step in steps:
            index.apply(encode(*step[:3], **step[3]))
            one.apply(*step)
        oracle.rows += one.rows
        oracle.applied = one.applied


def test_pages_are_loaded_on_demand_and_changed():
    """Goal: an index of more than two pages is the same from a snapshot, whatever is loaded.

    Method: 10,000 rows; look-ups around the borders of pages, records to rows of pages that are not
    loaded, snapshots of that, and a takeover that cuts back over a border.
    """
    index, oracle, snapshots = Index(), Oracle(), Snapshots()
    many_lives(index, oracle, 10_000)
    expected = oracle.state()
    assert state_of(index) == expected
    copy = snapshots.take(index)
    assert (copy.pending_delete, snapshots.loads) == (expected["pending_delete"], 2)
    for at in (4095, 4096, 4097, 8191, 8192, 8193, 1, 10_000):
        copy, snapshots.loads = snapshots.take(copy), 0
        assert copy.segments[at]._asdict() == oracle.rows[at - 1]
        assert copy.find_by_offset(10 * at + 9)._asdict() == oracle.rows[at - 1]
        assert copy.next_row(at - 1).segment_id == at
        assert snapshots.loads <= 2
    assert len(snapshots.pages) == 2
    assert state_of(copy) == expected
    # Rows on both sides of both borders get into tier 2; then all before them is given up.
    for at in (4096, 4097, 8192, 8193):
        copy = snapshots.take(copy)
        for step in life(at, 10 * at, 10 * at + 10)[:6]:
            assert same_step(copy, oracle, step)
    copy = snapshots.take(copy)
    assert same_step(copy, oracle, (T.TRIMMED, 0, 0, {"before_offset": 40_960}))
    assert copy.cold_end == oracle.cold_end == 40_980
    assert state_of(copy) == oracle.state()
    assert len(snapshots.pages) == 5
    for segment_id, base in ((10_001, 81_930), (10_002, 40_980)):
        copy = snapshots.take(copy)
        refused = (T.SEGMENT_OPENED, segment_id, 40_970, {"base_offset": 40_970, "epoch": 9})
        assert not same_step(copy, oracle, refused)
        assert not same_step(
            copy, oracle, (T.SEGMENT_OPENED, segment_id, base, {"base_offset": base, "epoch": 1})
        )
        assert same_step(
            copy,
            oracle,
            (T.SEGMENT_OPENED, segment_id, base, {"base_offset": base, "epoch": segment_id}),
        )
        assert state_of(copy) == oracle.state()
        assert state_of(snapshots.take(copy)) == oracle.state()
    assert len(copy.segments) == 4098


@pytest.mark.parametrize("fails", ["first", "second"])
def test_a_page_that_cannot_be_read_changes_nothing(fails):
    """Goal: a failing disk leaves the index as it was. Method: fail one load of a page.

    The record makes the contiguous prefix in tier 2 go over the border of a page.
    """
    index, oracle, snapshots = Index(), Oracle(), Snapshots()
    many_lives(index, oracle, 8200)
    copy = snapshots.take(index)
    copy = Index.from_head(copy_head(copy, snapshots), failing(snapshots, fails), path="head")
    step = encode(T.TRIMMED, 0, 0, before_offset=60_000)
    with pytest.raises(OSError, match="page"):
        copy.apply(step)
    assert (copy.applied, copy.trimmed, copy.cold_end) == (index.applied, 0, index.cold_end)
    copy.apply(step)
    index.apply(step)
    assert state_of(copy) == state_of(index)


def copy_head(index, snapshots):
    made = capture(
        index.fold, number=snapshots.number + 1, stream_uuid=UUID, root_id=UUID, epoch=1,
        created_ns=0, covers=(1, 8192, index.applied, 0),
    )  # fmt: skip
    assert not made.pages
    return made.head


def failing(snapshots, fails):
    """A loader that fails once: for page 0, or for page 1."""
    left = [0 if fails == "first" else 1]

    def load(page_no, number):
        if page_no in left:
            left.clear()
            raise OSError(5, "page")
        return snapshots.load(page_no, number)

    return load
