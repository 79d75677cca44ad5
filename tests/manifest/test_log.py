"""The manifest as a log: replay, rotation, reopening, failing disks, readers beside a writer."""

from __future__ import annotations

import errno
import shutil
import threading

import pytest
from lives import IDENTITY, OTHER, SMALL, append_all, facts, lives, open_manifest

from aof2._core.manifest import RecordType as T
from aof2._core.posix import set_seam_hook
from aof2.errors import Closed, ConfigError, DurabilityLost, ManifestCorrupt
from aof2.manifest.chunks import chunk_name


def note(manifest, text):
    return manifest.append(T.CUSTOM_EVENT, 0, 0, text=text)


def fill(manifest):
    """Append until a rotation, or what stops it."""
    for _ in range(100):
        note(manifest, "x" * 300)


@pytest.fixture
def seam():
    """Installs a hook for the test only."""
    yield set_seam_hook
    set_seam_hook(None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_replay_equals_the_live_index(tmp_path, seed, clean):
    """Goal: the log is the state. Method: random lives of 100 segments, then reopen."""
    manifest = open_manifest(tmp_path / "m")
    count = append_all(manifest, lives(100, seed))
    live = facts(manifest.index)
    assert (manifest.appended_count, len(live)) == (count, 100)
    path = tmp_path / "m"
    if clean:
        manifest.close()
    else:
        path = tmp_path / "copy"
        shutil.copytree(tmp_path / "m", path)
        manifest.close()
    again = open_manifest(path)
    assert facts(again.index) == live
    assert (again.replay.records, again.appended_count, again.durable_count) == (count,) * 3
    assert again.replay.truncated_bytes == 0
    again.close()


def test_chunks_rotate_by_size_and_all_but_the_last_are_sealed(tmp_path):
    """Goal: a chunk never grows. Method: fill more than five of the smallest size."""
    manifest = open_manifest(tmp_path)
    offsets = [note(manifest, f"{i:200d}") for i in range(200)]
    assert offsets == list(range(200))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) > 5
    assert names == [chunk_name(i) for i in range(1, len(names) + 1)]
    assert manifest.chunks() == list(range(1, len(names) + 1))
    # A sealed chunk ends with its footer; the active and the prepared one keep their allocation.
    assert {(tmp_path / name).stat().st_size for name in names[:-2]} == {12288 + 168}
    assert {(tmp_path / name).stat().st_size for name in names[-2:]} == {SMALL}
    assert manifest.durable_count < manifest.appended_count
    manifest.flush()
    assert manifest.durable_count == manifest.appended_count == 200
    manifest.close()
    assert open_manifest(tmp_path, readonly=True).replay.records == 200


def test_reopening_leaves_the_files_as_they_were(tmp_path):
    """Goal: idle restarts cost no disk. Method: 200 opens, one record in every fifth."""
    for turn in range(200):
        manifest = open_manifest(tmp_path)
        assert manifest.replay.records == (turn + 4) // 5
        if turn % 5 == 0:
            note(manifest, "x")
        manifest.close()
    assert len(list(tmp_path.iterdir())) <= 2
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 2 * SMALL


def test_an_idle_manifest_is_reopened_without_a_write(tmp_path, seam):
    """Goal: what a clean close proved is not proved again. Method: watch the writes of an open."""
    manifest = open_manifest(tmp_path)
    note(manifest, "x")
    manifest.close()
    calls = []
    seam(lambda op, *rest: calls.append(op) and None)
    open_manifest(tmp_path).close()
    assert not {"pwrite", "fdatasync", "rename", "unlink", "store"} & set(calls)


def test_an_unclean_end_is_written_again_and_synced_before_it_is_believed(tmp_path, seam):
    """Goal: the page cache's word is not taken. Method: reopen after a kill, watch the calls."""
    manifest = open_manifest(tmp_path / "m")
    note(manifest, "x")
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    manifest.close()
    calls = []
    seam(lambda op, *rest: calls.append(op) and None)
    again = open_manifest(tmp_path / "copy")
    assert calls.index("pwrite") < calls.index("fdatasync") < calls.index("mmap")
    assert again.durable_count == 1
    again.close()


@pytest.mark.parametrize("failing", ["fdatasync", "check"])
def test_a_failed_sync_poisons_for_good(tmp_path, seam, failing):
    """Goal: a failed flush is never retried. Method: fail one sync, or the check behind it."""
    manifest = open_manifest(tmp_path)
    note(manifest, "a")
    manifest.flush()
    note(manifest, "b")

    def fail(op, fd, name, position, data, n):
        if failing == "check":
            return errno.EIO if op == "pwrite" and n == 0 else 0
        return errno.EIO if op == "fdatasync" else 0

    seam(fail)
    with pytest.raises(DurabilityLost):
        manifest.flush()
    seam(None)
    for call in (manifest.flush, lambda: note(manifest, "c"), manifest.flush):
        with pytest.raises(DurabilityLost):
            call()
    assert manifest.durable_count == 1
    manifest.close()
    again = open_manifest(tmp_path)
    assert again.replay.records == 2
    note(again, "c")
    again.close()


@pytest.mark.parametrize("op", ["fallocate", "open", "mmap", "madvise", "rename"])
def test_a_full_disk_stops_a_rotation_with_nothing_changed(tmp_path, seam, op):
    """Goal: want of space is an ordinary error. Method: fail each step before the old is sealed."""
    manifest = open_manifest(tmp_path)
    seam(lambda at, *rest: errno.ENOSPC if at == op else 0)
    with pytest.raises(OSError, match="No space") as caught:
        fill(manifest)
    assert not isinstance(caught.value, DurabilityLost)
    count = manifest.appended_count
    assert manifest.index.applied == count > 0
    seam(None)
    manifest.flush()
    assert note(manifest, "x" * 300) == count
    manifest.close()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".tmp-")]
    assert open_manifest(tmp_path, readonly=True).replay.records == count + 1


@pytest.mark.parametrize("op", ["fsync_dir", "fdatasync", "ftruncate"])
def test_a_rotation_that_cannot_sync_poisons(tmp_path, seam, op):
    """Goal: a lost name or seal is not built upon. Method: fail the syncs of a rotation."""
    manifest = open_manifest(tmp_path)
    while manifest.appended_count < 11:
        note(manifest, "x" * 300)
    seen = []

    def fail(at, *rest):
        seen.append(at)
        # The first fdatasync is that of the fresh file, which nothing depends on.
        return errno.EIO if at == op and (op != "fdatasync" or seen.count(at) > 1) else 0

    seam(fail)
    with pytest.raises(OSError):  # noqa: PT011 - of either kind; the rest of the test tells.
        fill(manifest)
    seam(None)
    count = manifest.appended_count
    with pytest.raises(DurabilityLost):
        note(manifest, "y" * 300)
    with pytest.raises(DurabilityLost):
        manifest.flush()
    manifest.close()
    again = open_manifest(tmp_path)
    assert again.replay.records == count
    note(again, "z")
    again.close()


def test_an_impossible_record_is_refused_before_it_is_written(tmp_path):
    """Goal: the log never holds a contradiction. Method: append one, then reopen."""
    manifest = open_manifest(tmp_path)
    with pytest.raises(ManifestCorrupt, match="not known"):
        manifest.append(T.UPLOAD_STARTED, 4, 0, key="k")
    assert manifest.appended_count == 0
    note(manifest, "x")
    manifest.close()
    assert open_manifest(tmp_path, readonly=True).replay.records == 1


class Credulous:
    """An index that takes everything."""

    applied = 1

    def check(self, payload):
        pass

    apply = check


def test_a_contradiction_in_the_log_names_chunk_and_position(tmp_path):
    """Goal: whoever repairs finds the place. Method: write one past the index."""
    manifest = open_manifest(tmp_path)
    note(manifest, "x")
    manifest.index = Credulous()
    manifest.append(T.UPLOAD_STARTED, 4, 0, key="k")
    manifest.close()
    with pytest.raises(ManifestCorrupt, match="not known") as caught:
        open_manifest(tmp_path)
    assert caught.value.path == str(tmp_path / chunk_name(1))
    assert caught.value.position == 8192 + 32 + 32
    assert caught.value.segment == 4


def test_a_reader_follows_a_writer_through_rotations(tmp_path):
    """Goal: `readonly` sees what another appends. Method: refresh after every few records."""
    empty = open_manifest(tmp_path, readonly=True)
    files = [p.name for p in tmp_path.iterdir()]
    assert (empty.replay.records, empty.refresh(), files) == (0, 0, [chunk_name(1)])
    writer = open_manifest(tmp_path)
    seen = 0
    for turn, (kind, segment_id, offset, fields) in enumerate(lives(40, 9)):
        writer.append(kind, segment_id, offset, **fields)
        if turn % 7 == 0:
            seen += empty.refresh()
            assert seen == turn + 1 == empty.appended_count
            assert facts(empty.index) == facts(writer.index)
    assert len(writer.chunks()) > 2
    late = open_manifest(tmp_path, readonly=True)
    assert facts(late.index) == facts(writer.index)
    writer.close()
    empty.refresh()
    assert facts(empty.index) == facts(writer.index)
    with pytest.raises(Closed):
        note(empty, "x")
    with pytest.raises(Closed):
        empty.flush()
    empty.close()
    late.close()


def test_a_reader_beside_a_busy_writer_never_sees_damage(tmp_path):
    """Goal: no false alarm. Method: one thread appends and flushes, this one refreshes."""
    writer = open_manifest(tmp_path)
    reader = open_manifest(tmp_path, readonly=True)

    def work():
        for i in range(3000):
            note(writer, "x" * (i % 300))
            if i % 50 == 0:
                writer.flush()

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        reader.refresh()
        open_manifest(tmp_path, readonly=True).close()
    thread.join()
    reader.refresh()
    assert reader.appended_count == 3000
    writer.close()
    reader.close()


def test_threads_share_the_log_and_its_flushes(tmp_path):
    """Goal: appends and flushes from several threads. Method: four threads, then count."""
    manifest = open_manifest(tmp_path)
    offsets = []

    def work(name):
        for i in range(150):
            offset = note(manifest, f"{name} {i}")
            offsets.append(offset)
            manifest.flush()
            assert manifest.durable_count > offset

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets) == list(range(600))
    manifest.close()
    assert open_manifest(tmp_path, readonly=True).replay.records == 600


def test_another_epoch_begins_its_own_chunk(tmp_path):
    """Goal: a chunk has one writer epoch. Method: reopen with a higher one."""
    manifest = open_manifest(tmp_path)
    note(manifest, "x")
    manifest.close()
    raised = type(IDENTITY)(**{**vars(IDENTITY), "epoch": 2})
    again = open_manifest(tmp_path, identity=raised)
    note(again, "y")
    again.close()
    assert again.chunks() == [1, 2, 3]  # One of each epoch, and the prepared one.
    assert open_manifest(tmp_path, readonly=True).replay.records == 2


def test_wrong_use_is_refused(tmp_path):
    """Goal: slips show at once. Method: bad size, foreign stream, calls after close."""
    for size in (8192, 2 << 20, 16385):
        with pytest.raises(ConfigError):
            open_manifest(tmp_path, chunk_bytes=size)
    manifest = open_manifest(tmp_path)
    note(manifest, "x")
    with pytest.raises(Closed):
        manifest.refresh()
    manifest.close()
    manifest.close()
    for call in (manifest.flush, lambda: note(manifest, "y")):
        with pytest.raises(Closed):
            call()
    with pytest.raises(ManifestCorrupt, match="another stream"):
        open_manifest(tmp_path, identity=OTHER)
