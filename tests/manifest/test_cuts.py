"""A manifest that is cut anywhere, or whose system calls fail: what was appended is there again."""

from __future__ import annotations

import errno
import gc
import os
import random

import pytest
from lives import lives, open_manifest
from test_every_byte import FRAMES_AT, all_of

from aof2._core.posix import set_seam_hook
from aof2.errors import AofError, ManifestCorrupt

OPTIONS = {"snapshot_chunks": 2}


@pytest.fixture(autouse=True)
def seam():
    """No hook outlives a test."""
    yield
    set_seam_hook(None)


def watch(manifest, said):
    """Note what the index says after each record, those of snapshots included."""
    append = manifest.append
    said[manifest.index.applied] = all_of(manifest.index)

    def noted(*args, **fields):
        offset = append(*args, **fields)
        said[manifest.index.applied] = all_of(manifest.index)
        return offset

    manifest.append = noted


def run(path, said, count, seed):
    """A manifest that is opened, filled, flushed now and then, rotates, and takes snapshots."""
    manifest = open_manifest(path, **OPTIONS)
    watch(manifest, said)
    try:
        for n, (kind, segment_id, offset, fields) in enumerate(lives(count, seed)):
            manifest.append(kind, segment_id, offset, **fields)
            if n % 37 == 0:
                manifest.flush()
                manifest.write_snapshot()
    finally:
        try:
            manifest.close()
        finally:
            del manifest.append
            said["appended"] = manifest.appended_count


def put(path, files):
    for old in path.iterdir():
        old.unlink()
    for name, data in files.items():
        (path / name).write_bytes(data)


def newest_started(files):
    names = sorted(n for n in files if n.endswith(".mlog") and not n.startswith("."))
    started = [n for n in names if any(files[n][FRAMES_AT : FRAMES_AT + 4])]
    return started[-1] if started else None


def check_cuts(tmp_path, cuts, seed):
    """Copy the files before every system call; open `cuts` of the copies, most of them cut."""
    path, work, said, copies = tmp_path / "m", tmp_path / "w", {}, []
    work.mkdir()
    open_manifest(path, **OPTIONS).close()
    chance = random.Random(seed)

    def keep(op, *rest):
        files = {p.name: p.read_bytes() for p in path.iterdir()}
        copies.append((files, max(said, default=0)))
        return 0

    set_seam_hook(keep)
    run(path, said, 60, seed)
    set_seam_hook(None)
    said.pop("appended")
    refused = shorter = 0
    for turn in range(cuts):
        files, applied = copies[chance.randrange(len(copies))]
        files = dict(files)
        name = newest_started(files)
        if name is not None and turn % 10:
            data = files[name]
            cut = chance.randrange(FRAMES_AT, len(data.rstrip(b"\0")) + 9)
            files[name] = data[:cut].ljust(len(data) if turn % 2 else 0, b"\0")
        put(work, files)
        try:
            again = open_manifest(work, readonly=turn % 4 != 0, **OPTIONS)
        except ManifestCorrupt:
            assert turn % 10, "nothing was cut"
            refused += 1
            continue
        assert all_of(again.index) == said[again.index.applied]
        # A record whose last store was just made is in the file, and not in the index yet.
        assert again.index.applied in (applied, applied + 1) or turn % 10
        shorter += again.index.applied < applied
        again.close()
    return refused, shorter


def test_replay_after_a_random_cut_is_what_the_index_said(tmp_path):
    """Goal: a cut leaves what the live index was at that record. Method: 1,000 cuts.

    Cuts are at any byte of the newest chunk, of files as they were before each system call, so also
    inside rotations, seals and snapshots.
    """
    refused, shorter = check_cuts(tmp_path, 1000, 3)
    assert shorter > 100
    assert refused < 900


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_replay_after_ten_thousand_cuts(tmp_path, seed):
    """Goal and Method: as above, in ten runs."""
    check_cuts(tmp_path, 1000, seed + 10)


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def count_calls(path):
    calls, said = [], {}
    set_seam_hook(lambda op, *rest: calls.append(op) or 0)
    run(path, said, 40, 5)
    set_seam_hook(None)
    return calls


def reopened(path, said):
    """Whether a reopen finds what was appended; where nothing was, it may find no manifest."""
    appended = said.pop("appended", 0)
    try:
        again = open_manifest(path, **OPTIONS)
    except ManifestCorrupt:
        return appended == 0
    again.close()
    return again.index.applied == appended and said[appended] in (None, all_of(again.index))


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    "step", [23, pytest.param(1, marks=pytest.mark.long)], ids=["some", "every call"]
)
def test_a_system_call_that_fails_once_loses_nothing(tmp_path, error, step):
    """Goal: a fault is an error that says so; what was appended is there after a reopen.

    Method: fail the n-th call of open, appends, rotations, snapshots and close.
    """
    calls = count_calls(tmp_path / "all")
    assert len(calls) > 200
    before = descriptors()
    raised = 0
    for n in range(error % step, len(calls), step):
        path, said, left = tmp_path / f"n{n}", {0: None}, [n]

        def fail(op, *rest, left=left):
            left[0] -= 1
            return error if left[0] == -1 else 0

        set_seam_hook(fail)
        try:
            run(path, said, 40, 5)
        except (OSError, AofError):
            raised += 1
        finally:
            set_seam_hook(None)
        assert reopened(path, said), (n, calls[n])
    assert raised > 5
    assert descriptors() == before
