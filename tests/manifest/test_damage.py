"""Damage to manifest chunks: detected, or an unfinished last write; never a changed state."""

from __future__ import annotations

import random
import shutil

import pytest
from lives import OTHER, SMALL, append_all, facts, lives, open_manifest

from aof2._core.manifest import RecordType as T
from aof2._core.manifest import encode
from aof2.errors import FormatError, ManifestCorrupt
from aof2.manifest.chunks import chunk_name
from aof2.manifest.index import Index

FIRST, FRAMES_AT = chunk_name(1), 8192
STEPS = [
    (T.SEGMENT_OPENED, 1, 0, {"base_offset": 0, "epoch": 1}),
    (
        T.SEAL_SEGMENT,
        1,
        10,
        {
            "durable_bytes": 9000,
            "segment_crc64": 5,
            "ext_id": 0,
            "coordinator_watermark": 1,
            "flush_failure": False,
        },
    ),
    (T.UPLOAD_STARTED, 1, 0, {"key": "seg/00/0-10"}),
]
USED = FRAMES_AT + 3 * 32 + 40 + 64 + 40
PLACES = [
    *range(80),  # the static header's fields
    *range(80, 2040, 97),
    *range(2040, 2136),  # its checksum and the start block's fields
    *range(2136, 4088, 97),
    *range(4088, 4136),  # the start block's checksum, the slots
    *range(4600, 4648),
    *range(FRAMES_AT, USED + 8),
    *range(USED + 8, SMALL, 211),
]


def prefixes(steps):
    """The facts after 0, 1, 2, … records."""
    index, found = Index(), [[]]
    for kind, segment_id, offset, fields in steps:
        index.apply(encode(kind, segment_id, offset, **fields))
        found.append(facts(index))
    return found


def outcome(path, readonly):
    """Records that an open finds, -1 when it raises; and the facts."""
    try:
        manifest = open_manifest(path, readonly=readonly)
    except (ManifestCorrupt, FormatError):
        return -1, None
    manifest.close()
    return manifest.replay.records, facts(manifest.index)


def written(path, how):
    """A chunk of three records that was closed, killed, or killed behind a flush of two."""
    manifest = open_manifest(path)
    append_all(manifest, STEPS[:2])
    if how == "flushed":
        manifest.flush()
    append_all(manifest, STEPS[2:])
    if how == "closed":
        manifest.close()
    data = (path / FIRST).read_bytes()
    manifest.close()
    return data


@pytest.mark.parametrize("readonly", [True, False], ids=["readonly", "writer"])
@pytest.mark.parametrize(("how", "least"), [("closed", 3), ("flushed", 2), ("killed", 0)])
def test_a_flipped_byte_is_detected_or_in_the_torn_tail(tmp_path, how, least, readonly):
    """Goal: no damage changes the state silently, and what was durable is never cut off.

    Method: flip bytes one at a time, every byte of the used region, and open.
    """
    data = written(tmp_path / "m", how)
    expected = prefixes(STEPS)
    work = tmp_path / "work"
    work.mkdir()
    detected = 0
    for place in PLACES:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        for old in work.iterdir():
            old.unlink()
        (work / FIRST).write_bytes(damaged)
        records, found = outcome(work, readonly)
        detected += records < 0
        assert records < 0 or (records >= least and found == expected[records]), place
        if FRAMES_AT <= place < USED:
            assert records != 3, place
    # Where no flush ever happened, a damaged start block is part of an unfinished write.
    assert detected > (100 if how == "killed" else 200)


@pytest.mark.parametrize("how", ["truncated", "zeroed", "scribbled"])
def test_a_cut_at_any_byte_leaves_a_prefix(tmp_path, how):
    """Goal: a torn write is cut off, nothing more. Method: random cuts of an unflushed chunk.

    The manifest then goes on, and a second open finds the cut state and what came after.
    """
    steps = list(lives(100, 7))
    manifest = open_manifest(tmp_path / "m", chunk_bytes=1 << 20)
    append_all(manifest, steps)
    data = (tmp_path / "m" / FIRST).read_bytes()
    manifest.close()
    expected, chance = prefixes(steps), random.Random(3)
    end = len(data.rstrip(b"\0"))
    seen = set()
    for turn in range(60):
        cut = chance.randrange(FRAMES_AT, end + 100)
        rest = {"truncated": b"", "zeroed": bytes(len(data) - cut)}.get(how)
        if rest is None:
            rest = chance.randbytes(min(3000, len(data) - cut)).ljust(len(data) - cut, b"\0")
        path = tmp_path / f"w{turn}"
        path.mkdir()
        (path / FIRST).write_bytes(data[:cut] + rest)
        kept = []
        again = open_manifest(
            path, quarantine=lambda name, cut, into=kept: into.append((name, cut))
        )
        count = again.replay.records
        seen.add(count)
        assert facts(again.index) == expected[count]
        assert again.replay.truncated_bytes == sum(len(contents) for _, contents in kept)
        assert again.append(T.CUSTOM_EVENT, 0, 0, text="on") == count
        again.close()
        assert outcome(path, True) == (count + 1, expected[count])
        shutil.rmtree(path)
    assert len(seen) > 40


def test_a_cut_of_what_a_flush_covered_is_corruption(tmp_path):
    """Goal: durable records are not mistaken for a torn tail. Method: cut a closed chunk."""
    data = written(tmp_path / "m", "closed")
    work = tmp_path / "w"
    work.mkdir()
    for cut in range(USED):
        (work / FIRST).write_bytes(data[:cut])
        with pytest.raises(ManifestCorrupt):
            open_manifest(work)
        if cut >= FRAMES_AT:
            (work / FIRST).write_bytes(data[:cut].ljust(SMALL, b"\0"))
            # Where the cut takes only zeros, nothing is lost.
            if data[cut:].rstrip(b"\0"):
                with pytest.raises(ManifestCorrupt):
                    open_manifest(work)


@pytest.fixture
def rotated(tmp_path):
    """A closed manifest of several chunks, and its state."""
    manifest = open_manifest(tmp_path / "m")
    append_all(manifest, lives(40, 1))
    chunks = manifest.chunks()
    assert len(chunks) >= 4
    manifest.close()
    return tmp_path / "m", manifest.appended_count, facts(manifest.index)


def test_every_byte_of_a_sealed_chunk_is_covered(rotated):
    """Goal: a sealed chunk changes in no byte. Method: flip bytes of the first and last sealed."""
    path, count, live = rotated
    for name in (FIRST, chunk_name(len(list(path.iterdir())) - 2)):
        data = (path / name).read_bytes()
        for place in [*range(0, len(data), 61), *range(len(data) - 168, len(data))]:
            damaged = bytearray(data)
            damaged[place] ^= 0x10
            (path / name).write_bytes(damaged)
            assert outcome(path, False) == (-1, None), place
        (path / name).write_bytes(data)
    assert outcome(path, False) == (count, live)


def prepared(chunk):
    """The bytes of a chunk as they were before it began."""
    data = chunk.read_bytes()
    return data[:2048].ljust(len(data), b"\0")


@pytest.mark.parametrize("cut", [1, 167, 168, 169, 4000, 4264, 12000])
def test_a_cut_sealed_chunk_is_corruption_even_as_the_last(rotated, cut):
    """Goal: a sealed chunk has no torn tail. Method: drop the last chunk, cut the one before."""
    path, _, _ = rotated
    *_, last, active, _ = sorted(p.name for p in path.iterdir())
    (path / active).write_bytes(prepared(path / active))
    data = (path / last).read_bytes()
    (path / last).write_bytes(data[:-cut])
    assert outcome(path, True)[0] == -1
    assert outcome(path, False)[0] == -1


@pytest.mark.parametrize("harm", ["drop first", "drop middle", "swap", "duplicate", "foreign"])
def test_chunks_out_of_place_are_corruption(rotated, harm, tmp_path):
    """Goal: the chain has no gap. Method: drop, swap, copy and replace whole chunks."""
    path, _, _ = rotated
    one, two, three = (path / chunk_name(i) for i in (1, 2, 3))
    if harm == "drop first":
        one.unlink()
    elif harm == "drop middle":
        two.unlink()
    elif harm == "swap":
        one.rename(path / "aside")
        two.rename(one)
        (path / "aside").rename(two)
    elif harm == "duplicate":
        shutil.copy(two, three)
    else:
        stranger = open_manifest(tmp_path / "other", identity=OTHER)
        stranger.append(T.CUSTOM_EVENT, 0, 0, text="x")
        stranger.close()
        shutil.copy(tmp_path / "other" / FIRST, two)
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    for readonly in (True, False):
        with pytest.raises(ManifestCorrupt) as caught:
            open_manifest(path, readonly=readonly)
        assert caught.value.path is not None
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before


def test_a_chunk_without_its_seal_is_corruption_when_a_later_one_was_started(rotated, tmp_path):
    """Goal: only the newest chunk may be unfinished. Method: put back the bytes before its seal."""
    path, _, _ = rotated
    data = (path / FIRST).read_bytes()
    (path / FIRST).write_bytes(data[:-168].ljust(SMALL, b"\0"))
    assert outcome(path, False)[0] == -1
    assert outcome(path, True)[0] == -1


def test_a_seal_that_was_cut_is_finished(rotated):
    """Goal: a crash inside a seal loses nothing. Method: a last chunk without footer."""
    path, _, _ = rotated
    *_, last, active, _ = sorted(p.name for p in path.iterdir())
    (path / active).write_bytes(prepared(path / active))
    count, live = outcome(path, True)
    data = (path / last).read_bytes()
    end = len(data[:-168].rstrip(b"\0"))
    for kept in (data, data[:-168], data[:end]):
        (path / last).write_bytes(kept.ljust(SMALL, b"\0"))
        assert outcome(path, True) == (count, live)
        assert outcome(path, False) == (count, live)
        assert outcome(path, False) == (count, live)


def test_a_prepared_chunk_that_never_started_counts_as_absent(rotated):
    """Goal: a crash in a rotation is no damage. Method: a chunk of zeros behind the last."""
    path, count, _ = rotated
    names = sorted(p.name for p in path.iterdir())
    last = path / names[-2]
    data = last.read_bytes()
    # Static header and start block alone, and with a torn first frame.
    for torn in (b"", b"\x40\0\0\0garbage"):
        last.write_bytes((data[:4096].ljust(FRAMES_AT, b"\0") + torn).ljust(SMALL, b"\0"))
        first, _ = outcome(path, True)
        assert 0 < first < count
        assert outcome(path, False)[0] == first
        assert outcome(path, False)[0] == first
        assert sorted(p.name for p in path.iterdir()) == names
