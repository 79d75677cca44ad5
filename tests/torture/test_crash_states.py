"""Crash states: the model is the disk; some states of every workload; what a power cut takes."""

from __future__ import annotations

import random
import shutil

import pytest

import aof2
from aof2._core import seamlog
from aof2.torture.crash_states import STATES, Episode
from aof2.torture.disk import PAGE, Disk, FileModel
from aof2.torture.life import Life
from aof2.torture.states import KILL, STYLES, crash
from aof2.torture.workloads import WORKLOADS

SEED = 20260723
BY_NAME = {workload.name: workload for workload in WORKLOADS}


@pytest.mark.parametrize("name", ["rollovers", "publications", "a larger ring", "trims"])
def test_every_store_and_call_passes_the_seam(tmp_path, name):
    """Goal: what is cut is what happened. Method: log a life, apply the log to an empty disk, and
    compare it with the directory, every byte of every file, the landing ring's too."""
    root = tmp_path / "root"
    root.mkdir()
    life = Life(BY_NAME[name], SEED, root, {})
    disk = Disk.load(root)
    seamlog.start()
    try:
        life.run(BY_NAME[name].words)
    finally:
        steps = seamlog.stop()
    for number, logged in enumerate(steps):
        disk.apply(number, logged)
    state = crash(disk, KILL, 0, random.Random(SEED))
    files = [p for p in root.rglob("*") if p.is_file() and p.name != "LOCK"]
    assert {p.relative_to(root).as_posix(): p.read_bytes() for p in files} == state.files
    assert any(path.endswith("landing.ring") for path in state.files)
    life.leave()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_a_crash_at_any_step_leaves_an_exact_prefix_with_all_that_was_promised(tmp_path, workload):
    """Goal: promises 1 to 4, and 9. Method: a few states of each workload, seeded."""
    tally = Episode(workload, SEED, tmp_path / "work").run(8)
    assert tally.violations == []
    assert tally.units >= 8


def test_the_workloads_are_of_different_names_and_they_take_every_kind_of_step():
    """Goal: no durable step is left out. Method: count the words of all of them."""
    words = {word.partition("*")[0] for each in WORKLOADS for word in each.words.split()}
    assert len(WORKLOADS) == len(BY_NAME) == 51
    assert words == {name[3:] for name in dir(Life) if name.startswith("do_")}


def test_a_page_is_safe_only_once_a_sync_covered_it():
    """Goal: the model forgets nothing and grants nothing. Method: writes, syncs, one that fails."""
    file = FileModel()
    file.write(1, 0, b"a" * PAGE)
    assert (file.size, file.safe_size, file.safe) == (PAGE, 0, {})
    file.sync()
    assert file.safe == {0: b"a" * PAGE}
    file.write(2, 8, b"b")
    file.fail_sync()
    file.sync()
    assert file.safe == {0: b"a" * PAGE}
    file.write(3, 8, b"b")
    file.sync()
    assert file.safe[0][8:9] == b"b"


def test_names_are_lost_in_order_and_renames_as_a_whole():
    """Goal: only legal states. Method: every style over a rename that no sync covered."""
    disk = Disk(1)
    disk.add_directory(1, "d", 2)
    for step, logged in enumerate(
        [
            ("created", 0, 5, 2, 0, 0, b".tmp-x", b""),
            ("pwrite", 0, 5, 0, 0, 4, b"", b"data"),
            ("rename", 0, 2, 2, 0, 6, b"x", b".tmp-x"),
        ]
    ):
        disk.apply(step, logged)
    seen = set()
    for style in STYLES:
        for seed in range(40):
            state = crash(disk, style, seed % 4, random.Random(seed))
            seen.add(tuple(sorted(state.files.items())))
    names = {tuple(name for name, _ in files) for files in seen}
    assert names == {(), ("d/.tmp-x",), ("d/x",)}
    assert {data for files in seen for _, data in files} == {b"", b"data", bytes(4)}


def lose_start(root, name):
    """Take the start block of a segment away, as a power cut does that came before any flush."""
    path = next(root.glob(f"*/segments/*{name}.seg"))
    data = bytearray(path.read_bytes())
    data[2048:4096] = bytes(2048)
    path.write_bytes(data)


@pytest.mark.parametrize("words", ["batch flush", "batch flush batch flush"])
def test_a_lost_start_block_is_damage_only_where_a_flush_is_known_of(tmp_path, words):
    """Goal: the evidence rule holds for start blocks. Method: a killed root whose start block is
    gone: with one flush, which nothing in the file tells of, and with two."""
    workload = BY_NAME["batches and flushes"]
    root = tmp_path / "root"
    root.mkdir()
    life = Life(workload, SEED, root, {})
    life.run(words)
    copy = shutil.copytree(root, tmp_path / "copy")
    life.leave()
    next(copy.glob("*/segments/landing.ring")).unlink()
    lose_start(copy, 1)
    if words.count("flush") > 1:
        with pytest.raises(aof2.SegmentCorrupt, match="start block"):
            aof2.open(copy, config=workload.config("nothing"))
        return
    with aof2.open(copy, config=workload.config("nothing")) as manager:
        recovery = manager.stream("a").recovery
        assert (recovery.clean, recovery.records, len(recovery.quarantine)) == (False, 0, 1)
        assert recovery.truncated_bytes > 0


def test_a_chunk_that_was_cut_and_not_synced_is_safe_before_the_next_begins(tmp_path):
    """Goal: a kill between a sealed chunk's cut and its last sync, then a power cut. Method: the
    life in which the full campaign met it."""
    workload = BY_NAME["trims and deletions"]
    assert Episode(workload, 1_000_411, tmp_path / "work").run(STATES).violations == []
