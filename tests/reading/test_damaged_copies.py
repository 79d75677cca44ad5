"""Damage of local copies: another copy's bytes or a typed error; `skip` loses no more than that."""

from __future__ import annotations

import asyncio
import random

import pytest
from coldhelp import cold_segments, cold_stream, noise
from damagehelp import FRAMES_AT, Damaged, damaged

import aof2


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small segment; tests leave its files as they were."""
    with damaged(tmp_path_factory.mktemp("damage") / "root", count=24) as made:
        yield made


def lost_at(made: Damaged, start: int, end: int) -> tuple[int, int] | None:
    """The records that damage of these bytes of the hot file costs, END and what is not a frame
    cost none."""
    hit = [frame for frame in made.frames if frame.start < end and start < frame.end]
    return (hit[0].first, hit[-1].next) if hit else None


def places(size: int, step: int) -> list[int]:
    return list(range(0, size, step))


def check(made: Damaged, lost: tuple[int, int] | None) -> None:
    if lost is None:
        made.check_whole()
    else:
        made.check_lost(*lost)


def test_every_byte_of_a_hot_segment_may_flip(small):
    """Goal: with another copy nothing is lost, without one exactly the frame that was hit.

    Method: one bit of every byte of the frames, and of every 23rd elsewhere; then again without the
    warm file.
    """
    rng, size = random.Random(1), small.hot.stat().st_size
    first, last = small.frames[0].start, small.frames[-1].end + 40
    spots = list(range(first, last)) + [at for at in places(size, 23) if not first <= at < last]
    for at in spots[::7]:
        with small.flipped(small.hot, at, rng.randrange(8)):
            small.check_whole()
    with small.without(small.warm):
        for at in spots:
            with small.flipped(small.hot, at, rng.randrange(8)):
                check(small, lost_at(small, at, at + 1))


def test_every_length_of_a_hot_segment_is_told_from_a_whole_one(small):
    """Goal: a file that ends early gives what it has, and says what is missing."""
    size, count = small.hot.stat().st_size, small.count
    ends = [frame.end for frame in small.frames]
    sizes = sorted({0, 1, 4095, FRAMES_AT, size - 1, *ends, *(end - 1 for end in ends)})
    for cut in sizes:
        with small.cut(small.hot, cut):
            small.check_whole()
        with small.without(small.warm), small.cut(small.hot, cut):
            whole = [frame.next for frame in small.frames if frame.end <= cut]
            first = max(whole, default=0)
            check(small, None if first == count else (first, count))


def test_every_sector_of_a_hot_segment_may_be_zero(small):
    """Goal: as for flips. Method: 512 bytes of zeros, wherever that changes something."""
    data = small.hot.read_bytes()
    for at in places(len(data), 512):
        if not any(data[at : at + 512]):
            continue
        with small.patched(small.hot, at, bytes(512)):
            small.check_whole()
        with small.without(small.warm), small.patched(small.hot, at, bytes(512)):
            check(small, lost_at(small, at, at + 512))


def test_two_damages_are_two_gaps(small):
    """Goal: what lies between two damaged frames is read; neighbours are one gap."""
    a, b, c = small.frames[3], small.frames[9], small.frames[10]
    with (
        small.without(small.warm),
        small.flipped(small.hot, a.start + 33, 1),
        small.flipped(small.hot, b.start + 33, 1),
        small.flipped(small.hot, c.start + 25, 1),
    ):
        reader = small.log.reader(stop=small.count, on_corruption="skip")
        found = {record.offset: record.payload for record in reader}
        gaps = [(gap.first, gap.next) for gap in reader.gaps]
        assert gaps == [(a.first, a.next), (b.first, c.next)]
        left = set(range(small.count)) - {n for gap in gaps for n in range(*gap)}
        assert found == {n: small.payloads[n] for n in left}


def test_records_around_a_damaged_one_are_there(small):
    """Goal: `get` and a seek reach every record that is whole, however close to the damage."""
    for frame in (small.frames[0], small.frames[7], small.frames[-1]):
        with small.without(small.warm), small.flipped(small.hot, frame.start + 40, 3):
            for n in range(small.count):
                if not frame.first <= n < frame.next:
                    assert small.log.get(n).payload == small.payloads[n]
                    continue
                with pytest.raises(aof2.CorruptionError) as caught:
                    small.log.get(n)
                assert caught.value.offset == n
                assert caught.value.path == str(small.hot)
            reader = small.log.reader(start=frame.next)
            assert [r.payload for r in reader] == small.payloads[frame.next :]


def test_every_byte_of_a_warm_file_may_flip(small):
    """Goal: a damaged zstd frame costs exactly the records in it, the tables cost the segment, and
    with another copy nothing is lost.

    Method: one bit of every third byte, without the hot file; of every 50th with it.
    """
    rng, size, runs = random.Random(2), small.warm.stat().st_size, small.run_frames()
    assert len(runs) >= 2
    for at in range(0, size, 50):
        with small.flipped(small.warm, at, rng.randrange(8)):
            small.check_whole()
    with small.without(small.hot):
        for at in range(0, size, 3):
            hit = [run for run in runs if run[0] <= at < run[1]]
            with small.flipped(small.warm, at, rng.randrange(8)):
                if hit and hit[0][2] < hit[0][3]:
                    small.check_lost(*hit[0][2:])
                elif hit or not tables_are_bad(small):
                    small.check_whole()
                else:
                    small.check_lost(0, small.count)


def tables_are_bad(small: Damaged) -> bool:
    """Whether the tables do not check; not all of their bytes matter to a reader."""
    try:
        small.log.get(0)
    except aof2.AofError:
        return True
    return False


def test_a_warm_file_of_every_length(small):
    """Goal: without its tables a warm file is of no use; the hot copy is."""
    size = small.warm.stat().st_size
    for cut in range(0, size, 97):
        with small.cut(small.warm, cut):
            small.check_whole()
            with small.without(small.hot):
                small.check_lost(0, small.count)


def test_each_copy_has_what_the_other_has_not(small):
    """Goal: two damaged copies give every record that one of them has.

    Method: a frame of the hot file and another run of the warm file; then the same run.
    """
    runs = small.run_frames()
    far = next(run for run in reversed(runs) if run[2] < run[3])
    near = small.frames[0]
    assert near.next <= far[2]
    with small.flipped(small.warm, far[0] + 20, 1):
        with small.flipped(small.hot, near.start + 34, 2):
            small.check_whole()
        inside = next(frame for frame in small.frames if frame.first >= far[2])
        with small.flipped(small.hot, inside.start + 34, 2):
            small.check_lost(inside.first, inside.next)


def test_a_segment_without_any_copy_is_one_gap(small):
    """Goal: a lost segment is skipped as a whole; `raise` says that it is lost."""
    with small.without(small.hot), small.without(small.warm):
        assert isinstance(small.check_lost(0, small.count), aof2.SegmentLost)
        tail = [r.payload for r in small.log.reader(on_corruption="skip")]
        assert tail == small.payloads[small.count :]


def test_the_wrong_word_is_refused(small):
    with pytest.raises(ValueError, match="raise"):
        small.log.reader(on_corruption="ignore")


def test_a_file_that_has_gone_is_made_again(tmp_path):
    """Goal: a lost hot file costs no read, is counted once, and a writer's manager has it replaced.

    Method: unlink it under an open manager, read everything, look at the counters.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        for n in range(50):
            log.append(b"%d" % n)
        log.seal()
        manager.drain()
        (hot,) = (tmp_path / "root").glob("*/segments/*1.seg")
        hot.unlink()
        log._instance.drop_open(1)
        for _ in range(2):
            assert list(log.reader().payloads()) == [b"%d" % n for n in range(50)]
        assert manager.metrics().reads_healed == {"hot": 1}
        assert manager.metrics().corruption == {"IO": 1}
        manager.drain()
        assert list(log.reader().payloads()) == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize("form", ["blocking", "async"])
def test_a_damaged_object_that_is_the_only_copy(tmp_path, monkeypatch, form):
    """Goal: an error that comes to its end, and a gap of what one zstd frame has.

    Method: the store answers with a flipped bit in one frame of the first segment, every time.
    """
    records = noise(5, 2000, 1000)

    async def of(reader: aof2.AofReader) -> list[int]:
        return [record.offset async for record in reader]

    def everything(reader: aof2.AofReader) -> list[int]:
        return asyncio.run(of(reader)) if form == "async" else [r.offset for r in reader]

    with cold_stream(tmp_path, monkeypatch, records) as (log, store):
        info = cold_segments(log)[0]
        content, crc64 = store._objects[info.key]
        store._objects[info.key] = (content[:40_000] + b"?" + content[40_001:], crc64)
        for _ in range(2):
            reader = log.reader(stop=info.end_offset)
            with pytest.raises(aof2.ObjectCorrupt) as caught:
                everything(reader)
            assert (caught.value.path, caught.value.offset) == (info.key, reader.offset)
        reader = log.reader(stop=info.end_offset, on_corruption="skip")
        found = everything(reader)
        (gap,) = reader.gaps
        assert gap.first == caught.value.offset
        assert 0 < gap.next - gap.first <= 17
        lost = range(gap.first, gap.next)
        assert found == [n for n in range(info.end_offset) if n not in lost]
