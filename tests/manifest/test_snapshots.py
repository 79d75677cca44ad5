"""Snapshots: an open begins with the newest good one; nothing older goes before it was verified."""

from __future__ import annotations

import errno
import shutil

import pytest
from lives import SMALL, facts, lives, open_manifest

from aof2._core.manifest import RecordType as T
from aof2._core.posix import set_seam_hook
from aof2.errors import ManifestCorrupt
from aof2.manifest import snapshot
from aof2.manifest.chunks import chunk_name
from aof2.manifest.replay import Replay
from aof2.manifest.snapshot import head_name


@pytest.fixture
def seam():
    """Installs a hook for the test only."""
    yield set_seam_hook
    set_seam_hook(None)


def grow(manifest, count, seed):
    """Append lives, and write each snapshot that becomes due."""
    for kind, segment_id, offset, fields in lives(count, seed):
        manifest.append(kind, segment_id, offset, **fields)
        manifest.write_snapshot()


def copy(path, to):
    """The files as they are now, as a kill would leave them."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(path, to)


@pytest.fixture
def grown(tmp_path):
    """A manifest with two snapshots and chunks behind them, closed; and its facts."""
    manifest = open_manifest(tmp_path / "m", snapshot_chunks=2)
    grow(manifest, 60, 3)
    assert len(manifest.snapshots) == 2
    manifest.close()
    return tmp_path / "m", manifest.appended_count, facts(manifest.index)


def test_an_open_begins_with_the_newest_snapshot(grown):
    """Goal: what a snapshot covers is not replayed. Method: compare state and replayed records."""
    path, count, live = grown
    again = open_manifest(path, snapshot_chunks=2)
    assert facts(again.index) == live
    assert again.appended_count == again.durable_count == count
    assert again.replay.snapshot == again.snapshots[0].number
    assert 0 < again.replay.records < count / 2
    assert again.replay.chunks <= 3
    again.close()


def test_what_two_snapshots_cover_is_removed(grown):
    """Goal: the manifest does not grow with history. Method: look at the files."""
    path, _, _ = grown
    manifest = open_manifest(path, snapshot_chunks=2)
    newest, older = manifest.snapshots
    names = sorted(p.name for p in path.iterdir())
    assert [n for n in names if n.endswith(".snap")] == [
        head_name(older.number),
        head_name(newest.number),
    ]
    assert manifest.chunks()[0] == older.covers[0] + 1
    manifest.close()


def test_unpublished_chunks_stay(tmp_path):
    """Goal: tier 2 gets every chunk. Method: say that only the first two were published."""
    manifest = open_manifest(tmp_path, snapshot_chunks=2)
    manifest.published_chunk = 2
    grow(manifest, 60, 3)
    assert manifest.chunks()[0] == 3
    manifest.published_chunk = 4
    grow_more = list(lives(60, 3))
    for _ in range(200):
        manifest.append(T.CUSTOM_EVENT, 0, 0, text="x" * 300)
        manifest.write_snapshot()
    assert grow_more
    assert manifest.chunks()[0] == 5
    manifest.close()


@pytest.mark.parametrize("readonly", [True, False], ids=["readonly", "writer"])
def test_a_damaged_newest_snapshot_falls_back_to_the_older(grown, tmp_path, readonly):
    """Goal: damage is noticed and costs time, not state. Method: flip every 7th byte, cut, drop."""
    path, count, live = grown
    newest = sorted(path.glob("*.snap"))[-1].name
    data = (path / newest).read_bytes()
    harmed = [data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in range(0, len(data), 7)]
    harmed += [data[:n] for n in (0, 1, len(data) // 2, len(data) - 1)]
    for contents in harmed[:: max(1, len(harmed) // 150)]:
        work = copy(path, tmp_path / "work")
        (work / newest).write_bytes(contents)
        again = open_manifest(work, readonly=readonly, snapshot_chunks=2)
        assert facts(again.index) == live
        assert (again.appended_count, again.replay.corruptions) == (count, 1)
        again.close()
    work = copy(path, tmp_path / "work")
    (work / newest).unlink()
    again = open_manifest(work, readonly=readonly)
    assert (facts(again.index), again.replay.corruptions) == (live, 0)
    again.close()


def test_without_a_good_snapshot_what_it_covered_is_missed(grown):
    """Goal: nothing is made up. Method: damage both heads; the first chunks are gone."""
    path, _, _ = grown
    for head in path.glob("*.snap"):
        head.write_bytes(head.read_bytes()[:-1])
    for readonly in (True, False):
        with pytest.raises(ManifestCorrupt) as caught:
            open_manifest(path, readonly=readonly)
        assert caught.value.path is not None


def test_a_crash_at_any_step_of_a_snapshot_loses_nothing(tmp_path, seam):
    """Goal: snapshots are safe to interrupt. Method: copy the files before every system call.

    Each copy is opened, goes on, and is opened again.
    """
    manifest = open_manifest(tmp_path / "m", snapshot_chunks=2)
    steps = iter(lives(80, 5))
    while not (manifest.snapshot_due and manifest.snapshots):
        kind, segment_id, offset, fields = next(steps)
        if manifest.snapshot_due:
            manifest.write_snapshot()
        manifest.append(kind, segment_id, offset, **fields)
    manifest.flush()
    copies = []

    def keep(op, *rest):
        if op in ("pwrite", "fdatasync", "rename", "unlink", "fsync_dir", "open"):
            copies.append(copy(tmp_path / "m", tmp_path / f"c{len(copies)}"))
        return 0

    live = facts(manifest.index)
    seam(keep)
    manifest.write_snapshot()
    seam(None)
    manifest.close()
    assert len(copies) > 10
    for path in copies:
        for _ in range(2):
            again = open_manifest(path, snapshot_chunks=2)
            assert facts(again.index) == live
            again.append(T.CUSTOM_EVENT, 0, 0, text="on")
            again.write_snapshot()
            again.close()


@pytest.mark.parametrize("op", ["open", "pwrite", "fdatasync", "rename"])
def test_a_snapshot_that_cannot_be_written_stays_due(tmp_path, seam, op):
    """Goal: a full or failing disk costs a snapshot, nothing else. Method: fail each call."""
    manifest = open_manifest(tmp_path, snapshot_chunks=2)
    for kind, segment_id, offset, fields in lives(40, 5):
        manifest.append(kind, segment_id, offset, **fields)
    assert manifest.snapshot_due
    before = manifest.chunks()
    seam(lambda at, *rest: errno.ENOSPC if at == op else 0)
    with pytest.raises(OSError, match="No space"):
        manifest.write_snapshot()
    seam(None)
    assert manifest.snapshot_due
    assert manifest.chunks() == before
    manifest.write_snapshot()
    assert not manifest.snapshot_due
    assert len(manifest.snapshots) == 1
    manifest.close()
    again = open_manifest(tmp_path)
    assert facts(again.index) == facts(manifest.index)
    again.close()


def test_a_directory_whose_sync_failed_is_not_synced_with_success_later(tmp_path, seam):
    """Goal: no retry of a failed sync counts. Method: one sync of the directory fails for a
    snapshot; further ones would succeed; only reopening ends that, with every record there."""
    manifest = open_manifest(tmp_path, snapshot_chunks=2)
    for kind, segment_id, offset, fields in lives(40, 5):
        manifest.append(kind, segment_id, offset, **fields)
    seam(lambda at, *rest: errno.EIO if at == "fsync_dir" else 0)
    with pytest.raises(OSError, match="Input/output"):
        manifest.write_snapshot()
    seam(None)
    for _ in range(2):
        with pytest.raises(OSError, match="earlier sync"):
            manifest.write_snapshot()
    assert manifest.snapshot_due
    manifest.close()
    again = open_manifest(tmp_path)
    assert facts(again.index) == facts(manifest.index)
    again.close()


def test_a_reader_follows_when_its_chunks_have_gone(tmp_path):
    """Goal: a slow reader is not lost. Method: let several snapshots pass between two refreshes."""
    writer = open_manifest(tmp_path, snapshot_chunks=2)
    reader = open_manifest(tmp_path, readonly=True)
    for turn, (kind, segment_id, offset, fields) in enumerate(lives(150, 11)):
        writer.append(kind, segment_id, offset, **fields)
        writer.write_snapshot()
        if turn % 400 == 399:
            reader.refresh()
            assert facts(reader.index) == facts(writer.index)
    reader.refresh()
    assert facts(reader.index) == facts(writer.index)
    assert len(writer.snapshots) == 2
    writer.close()
    reader.close()


@pytest.mark.parametrize("step", ["load", "replay"])
def test_a_reader_that_opens_while_files_go_looks_again(tmp_path, monkeypatch, step):
    """Goal: no false alarm beside a live writer. Method: between two steps of an open the writer
    goes on for three snapshots, so that what the reader has listed is gone; then all is well."""
    writer = open_manifest(tmp_path, snapshot_chunks=1)
    grow(writer, 30, 3)
    owner, name = (Replay, "run") if step == "replay" else (snapshot, "load")
    original, left = getattr(owner, name), [1]

    def overtaken(*arguments):
        if left[0]:
            left[0] -= 1
            number = writer.snapshots[0].number
            while writer.snapshots[0].number < number + 3:
                writer.append(T.CUSTOM_EVENT, 0, 0, text="x" * 900)
                writer.write_snapshot()
        return original(*arguments)

    monkeypatch.setattr(owner, name, overtaken)
    reader = open_manifest(tmp_path, readonly=True)
    assert (facts(reader.index), reader.appended_count) == (
        facts(writer.index),
        writer.appended_count,
    )
    writer.close()
    reader.close()


def test_a_snapshot_under_another_number_is_not_believed(grown):
    """Goal: a copied file is no newer state. Method: the older head under a newer number."""
    path, count, live = grown
    older, newest = sorted(path.glob("*.snap"))
    shutil.copy(older, path / head_name(int(newest.name[:20]) + 1))
    again = open_manifest(path, readonly=True)
    assert (facts(again.index), again.appended_count) == (live, count)
    assert again.replay.corruptions == 1
    again.close()


def test_the_newest_chunk_cannot_vanish(grown, tmp_path):
    """Goal: a lost newest chunk is noticed. Method: drop it, alone and with the prepared one."""
    path, count, live = grown
    *_, active, spare = sorted(p.name for p in path.glob("*.mlog"))
    for gone in ([active], [active, spare]):
        work = copy(path, tmp_path / "work")
        for name in gone:
            (work / name).unlink()
        for readonly in (True, False):
            with pytest.raises(ManifestCorrupt, match="missing"):
                open_manifest(work, readonly=readonly)
    # The prepared chunk holds nothing.
    work = copy(path, tmp_path / "work")
    (work / spare).unlink()
    again = open_manifest(work, snapshot_chunks=2)
    assert (facts(again.index), again.appended_count) == (live, count)
    assert again.chunks()[-1] == int(spare[:20])
    again.close()


def test_a_full_disk_leaves_room_for_housekeeping(tmp_path, seam):
    """Goal: one chunk is always prepared. Method: no space until the prepared one is full too."""
    manifest = open_manifest(tmp_path)
    seam(lambda at, *rest: errno.ENOSPC if at == "fallocate" else 0)

    def fill():
        while manifest.appended_count < 1000:
            manifest.append(T.CUSTOM_EVENT, 0, 0, text="x" * 300)

    with pytest.raises(OSError, match="No space"):
        fill()
    appended = manifest.appended_count
    assert manifest.stalled is not None
    assert appended >= SMALL // 2 // 400  # More than what one chunk holds.
    assert manifest.chunks() == [1, 2]
    assert not manifest.reserve(1000)
    seam(None)
    assert manifest.reserve(1000)
    assert manifest.stalled is None
    manifest.append(T.CUSTOM_EVENT, 0, 0, text="on")
    manifest.close()
    again = open_manifest(tmp_path)
    assert again.appended_count == appended + 1
    assert chunk_name(1) in [p.name for p in tmp_path.iterdir()]
    again.close()
