"""What a power cut leaves of the last segment, and damage that no power cut explains."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest
from crashhelp import KIB, check, config, copy_of, fill, frames, payload, reopen, segments

import aof2

SEED = 20260722


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """A root as it is while its process lives: two rollovers, a durable part, a tail that is not.

    Returns:
        The root, the next offset when it was made durable last, and the next offset.
    """
    base = tmp_path_factory.mktemp("torn")
    with aof2.open(base / "live", config=config(interval_s=3600)) as manager:
        log = manager.stream("a")
        fill(log, 1200, seed=1)
        log.flush()
        manager.drain()
        durable = log.next_offset
        # No rollover from here: all of the tail is in the active segment.
        active = log.segments()[-1].segment_id
        while log.segments()[-1].bytes < 50 * KIB and log.next_offset < durable + 100:
            log.append(payload(log.next_offset))
        assert log.segments()[-1].segment_id == active
        following = log.next_offset
        assert log.watermarks.local == durable < following
        copy_of(base / "live", base / "cut")
    with aof2.open(copy_of(base / "cut", base / "whole_source"), config=config()) as manager:
        assert check(manager.stream("a")) == following
    return base / "cut", durable, following


def test_the_ring_of_a_dead_process_completes_the_segment(tmp_path, written):
    """Goal: what only the ring has survives the process. Method: reopen the live root's copy."""
    root, _, following = written
    count, report = reopen(copy_of(root, tmp_path / "root"), following)
    assert count == following
    assert not report.clean
    assert report.truncated_bytes == 0


def test_without_the_ring_exactly_what_was_durable_is_there(tmp_path, written):
    """Goal: promise 2: a power cut takes back only what was not durable. Method: drop the ring."""
    root, durable, following = written
    root = copy_of(root, tmp_path / "root")
    for path in root.glob("*/segments/landing.ring"):
        path.unlink()
    count, report = reopen(root, durable)
    assert durable <= count <= following
    assert not report.clean


def slots(path: Path) -> list[int]:
    """The durable positions that a segment's two confirmation slots state."""
    page = path.read_bytes()[4096:8192]
    return [struct.unpack_from("<QQ", page, at)[1] for at in (0, 512)]


def in_full(base: Path, *, confirmed: bool) -> tuple[Path, Path, int]:
    """A root without ring whose active segment file has all its frames, as after a write-out.

    Returns:
        The root, the active segment, and the position in it up to which the first flush went.
    """
    pace = {"interval_s": 0.002, "confirm_interval_s": 0.002} if confirmed else {"interval_s": 3600}
    with aof2.open(base / "live", config=config(**pace)) as manager:
        log = manager.stream("a")
        fill(log, 700, seed=4)
        log.seal()
        manager.drain()
        fill(log, 800, seed=4)
        log.flush()
        durable = log.segments()[-1].bytes
        # No rollover from here on: the last flush covers frames of the active segment only.
        fill(log, 900, seed=5)
        log.flush()
        until, end = time.monotonic() + 20, log.segments()[-1].bytes
        while confirmed and end not in slots(segments(base / "live")[-1]):
            assert time.monotonic() < until, "no slot was written"
            time.sleep(0.001)
        root = copy_of(base / "live", base / "root")
    for path in root.glob("*/segments/landing.ring"):
        path.unlink()
    return root, segments(root)[-1], durable


@pytest.mark.parametrize("kind", ["zeroed", "garbage", "one sector lost"])
def test_a_torn_last_write_is_cut_kept_aside_and_reported(tmp_path, kind):
    """Goal: promise 4: an exact prefix; the cut bytes are in quarantine and in the report.

    Method: tear the bytes that the very last flush wrote, at 12 seeded places.
    """
    chance = random.Random(f"{SEED} {kind}")
    source, active, durable = in_full(tmp_path, confirmed=False)
    every = frames(active)
    last = [(at, size) for at, size in every if at >= durable]
    assert len(last) > 20
    for turn in range(12):
        root = copy_of(source, tmp_path / str(turn))
        path = segments(root)[-1]
        data = bytearray(path.read_bytes())
        at, size = chance.choice(last)
        where = at + chance.randrange(size)
        if kind == "zeroed":
            data[where:] = bytes(len(data) - where)
        elif kind == "garbage":
            data[where : where + 600] = chance.randbytes(min(600, len(data) - where))
        else:
            where = max(durable, where // 512 * 512)
            data[where : where + 512 - where % 512] = bytes(512 - where % 512)
        path.write_bytes(data)
        valid = [(a, s) for a, s in every if data[a : a + s] == active.read_bytes()[a : a + s]]
        first_bad = next((a for a, s in every if (a, s) not in valid), None)
        with aof2.open(root, config=config()) as manager:
            log = manager.stream("a")
            count, report = check(log, 800), log.recovery
        assert not report.clean
        quarantine = next(root.glob("*/quarantine"))
        kept = b"".join((quarantine / name).read_bytes() for name in report.quarantine)
        assert len(kept) == report.truncated_bytes
        if first_bad is None:
            assert count == 900
            assert kept == b""
        else:
            end = len(bytes(data).rstrip(b"\0"))
            assert kept == bytes(data[first_bad:end])
            assert 800 <= count < 900
        again, _ = reopen(root, count)
        assert again == count


def damage(path: Path, within: list[tuple[int, int]], chance: random.Random) -> tuple[int, bytes]:
    """Change bits in one frame of a file; where that frame is, and the file as it is now."""
    data = bytearray(path.read_bytes())
    at, size = chance.choice(within)
    if chance.random() < 0.5:
        data[at + chance.randrange(size)] ^= 1 << chance.randrange(8)
    else:
        where = at + chance.randrange(size) & ~7
        data[where : where + 8] = bytes(b ^ 0xFF for b in data[where : where + 8])
    path.write_bytes(data)
    return at, bytes(data)


def refuses(root: Path, path: Path, at: int, data: bytes) -> None:
    """Opening is refused, names the place, and changes nothing; the second time too."""
    for _ in range(2):
        with pytest.raises(aof2.CorruptionError) as caught:
            aof2.open(root, config=config()).close()
        assert isinstance(caught.value, (aof2.RecordCorrupt, aof2.SegmentCorrupt))
        assert (caught.value.path, caught.value.position) == (str(path), at)
        assert path.read_bytes() == data


def test_damage_below_what_a_slot_confirms_is_an_error_and_nothing_is_shortened(tmp_path):
    """Goal: promise 5. Method: hurt frames that the confirmation slot covers; the file stays."""
    chance = random.Random(SEED)
    source, active, _ = in_full(tmp_path, confirmed=True)
    every = frames(active)
    for turn in range(12):
        root = copy_of(source, tmp_path / str(turn))
        path = segments(root)[-1]
        at, data = damage(path, every, chance)
        refuses(root, path, at, data)


def test_damage_below_what_later_frames_show_is_an_error(tmp_path):
    """Goal: promise 5 without a slot. Method: hurt frames that later frames claim to be durable."""
    chance = random.Random(SEED)
    source, active, durable = in_full(tmp_path, confirmed=False)
    before = [(at, size) for at, size in frames(active) if at < durable]
    root = copy_of(source, tmp_path / "root2")
    path = segments(root)[-1]
    at, data = damage(path, before, chance)
    refuses(root, path, at, data)


def test_a_file_shorter_than_its_header_says_is_an_error(tmp_path):
    """Goal: a truncation is no torn write: files are preallocated. Method: cut it at seeded
    places."""
    chance = random.Random(SEED)
    source, active, durable = in_full(tmp_path, confirmed=False)
    for turn in range(12):
        root = copy_of(source, tmp_path / str(turn))
        path = segments(root)[-1]
        data = path.read_bytes()[: chance.randrange(durable, len(active.read_bytes()))]
        path.write_bytes(data)
        with pytest.raises(aof2.SegmentCorrupt, match="bytes") as caught:
            aof2.open(root, config=config()).close()
        assert caught.value.path == str(path)
        assert path.read_bytes() == data


def test_a_closed_segment_that_lost_its_end_is_an_error(tmp_path):
    """Goal: after a clean close everything is known to be durable. Method: cut the file
    anywhere."""
    chance = random.Random(SEED)
    with aof2.open(tmp_path / "source", config=config()) as manager:
        fill(manager.stream("a"), 300)
    every = frames(segments(tmp_path / "source")[-1])
    for turn in range(12):
        root = copy_of(tmp_path / "source", tmp_path / str(turn))
        path = segments(root)[-1]
        data = path.read_bytes()
        at, size = chance.choice(every)
        cut = at + chance.randrange(size)
        damaged = data[:cut] if turn % 2 else data[:cut] + bytes(len(data) - cut)
        if damaged == data:
            continue
        path.write_bytes(damaged)
        with pytest.raises(aof2.CorruptionError) as caught:
            aof2.open(root, config=config()).close()
        assert path.read_bytes() == damaged
        assert caught.value.path == str(path)


def test_a_sealed_segment_in_the_middle_that_is_gone_is_an_error(tmp_path):
    """Goal: nothing is missing in the middle unnoticed. Method: delete each copy of a segment."""
    with aof2.open(tmp_path / "root", config=config()) as manager:
        fill(manager.stream("a"), 2000)
        manager.drain()
    victim = segments(tmp_path / "root")[2]
    for path in tmp_path.glob(f"root/*/*/{victim.stem}*"):
        path.unlink()
    with aof2.open(tmp_path / "root", config=config()) as manager:
        log = manager.stream("a")
        infos = log.segments()
        lost = next(i for i in infos if f"{i.segment_id:020d}" == victim.stem)
        assert lost.residency == frozenset()
        seen = []
        with pytest.raises(aof2.CorruptionError):  # noqa: PT012
            for record in log.reader():
                seen.append(record.offset)
        assert seen == list(range(lost.base_offset))
        assert log.get(lost.end_offset).payload == payload(lost.end_offset)


def test_a_torn_first_frame_is_kept_aside_with_its_file(tmp_path):
    """Goal: what a started segment lost is in quarantine and in the report, never just gone.

    Method: a copy without ring of a live root whose newest segment has only torn bytes.
    """
    with aof2.open(tmp_path / "live", config=config(interval_s=3600)) as manager:
        log = manager.stream("a")
        fill(log, 50, seed=4)
        log.seal()
        fill(log, 51, seed=4)
        root = copy_of(tmp_path / "live", tmp_path / "root")
    for path in root.glob("*/segments/landing.ring"):
        path.unlink()
    newest = sorted(root.glob("*/segments/*.seg"))[1]
    with newest.open("r+b") as file:
        file.seek(8192)
        file.write(b"torn" * 100)
    with aof2.open(root) as manager:
        log = manager.stream("a")
        assert (log.next_offset, log.recovery.clean) == (50, False)
        assert log.recovery.truncated_bytes == 400
        assert len(log.recovery.quarantine) == 1
        assert log.append(b"goes on") == 50
