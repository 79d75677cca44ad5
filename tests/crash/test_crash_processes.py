"""Several processes at one root: one writes, the others read."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from crashhelp import check, config, fill, payload, python

import aof2

HOLDER = """
import sys
import aof2
with aof2.open(sys.argv[1]) as manager:
    manager.stream("a").append(b"held")
    print("ready", flush=True)
    sys.stdin.read()
"""

FOLLOWER = """
import sys
import aof2
from crashhelp import config, payload
with aof2.open(sys.argv[1], readonly=True, config=config()) as manager:
    log = manager.stream("a")
    print("ready", log.next_offset, flush=True)
    total, how = int(sys.argv[2]), sys.argv[3]
    n = 0
    if how == "records":
        for record in log.reader(follow=True, stop=total):
            assert (record.offset, record.payload) == (n, payload(n)), (record, n)
            n += 1
    else:
        for batch in log.reader(follow=True, stop=total).batches(20000):
            assert batch.first_offset == n
            assert batch.to_pylist() == [payload(k) for k in range(n, n + len(batch))]
            n += len(batch)
    print("saw", n, flush=True)
"""


def test_a_second_writer_learns_who_has_the_root(tmp_path):
    """Goal: promise 8 on one host. Method: another process holds it; within one process too."""
    root = tmp_path / "root"
    child = python("-c", HOLDER, str(root), stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"ready\n"
    for _ in range(2):
        with pytest.raises(aof2.RootLocked, match=str(child.pid)) as caught:
            aof2.open(root)
        assert caught.value.pid == child.pid
        assert caught.value.host == os.uname().nodename
    with aof2.open(root, readonly=True) as beside:
        assert beside.stream("a").get(0).payload == b"held"
        for call in (
            lambda: beside.stream("a").append(b"x"),
            lambda: beside.stream("a").append_many([b"x"]),
            lambda: beside.stream("a").flush(),
            lambda: beside.stream("a").seal(),
        ):
            with pytest.raises(aof2.Closed, match="readonly"):
                call()
    child.communicate(timeout=30)
    with aof2.open(root) as manager:
        with pytest.raises(aof2.RootLocked) as again:
            aof2.open(root)
        assert again.value.pid == os.getpid()
        assert check_held(manager)


def check_held(manager: aof2.AofManager) -> bool:
    return list(manager.stream("a").reader().payloads()) == [b"held"]


@pytest.mark.parametrize("how", ["records", "batches"])
def test_a_readonly_process_follows_the_writer_live(tmp_path, how):
    """Goal: `tail -f` from another process. Method: a follower from the start, one in the middle.

    The writer rolls over, seals and compresses meanwhile; then it closes, and each has seen all.
    """
    total = 12_000
    with aof2.open(tmp_path / "root", config=config()) as manager:
        log = manager.stream("a")
        children = []
        for part in range(2):
            fill(log, 1 + part * total // 2, seed=part)
            child = python("-c", FOLLOWER, str(tmp_path / "root"), str(total), how)
            assert child.stdout is not None
            assert child.stdout.readline().startswith(b"ready")
            children.append(child)
        while log.next_offset < total:
            fill(log, min(total, log.next_offset + 500), seed=log.next_offset)
            time.sleep(0.002)
        assert len(log.segments()) > 8
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert out == b"saw %d\n" % total
        assert child.returncode == 0


def facts(root: Path) -> dict[str, tuple[int, int, int]]:
    """Size, inode and time of change of everything in a root, and the bytes' own sum."""
    found = {}
    for path in sorted(root.rglob("*")):
        stat = path.stat()
        found[str(path)] = (stat.st_size, stat.st_ino, stat.st_mtime_ns)
    return found


@pytest.mark.parametrize("state", ["closed", "crashed"])
def test_reading_changes_no_file(tmp_path, state):
    """Goal: readonly means it. Method: compare every file around an open, with and without
    recovery."""
    root = tmp_path / "root"
    with aof2.open(root, config=config()) as manager:
        log = manager.stream("a")
        fill(log, 2000)
        manager.drain()
        fill(log, 2050)
        log.flush()
        if state == "crashed":
            from crashhelp import copy_of

            root = copy_of(root, tmp_path / "crashed")
    contents = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    before = facts(root)
    with aof2.open(root, readonly=True, config=config()) as manager:
        log = manager.stream("a")
        assert list(log.reader().payloads()) == [payload(n) for n in range(2050)]
        assert [log.get(n).payload for n in (0, 1000, 2049)] == [
            payload(n) for n in (0, 1000, 2049)
        ]
        assert len(log.segments()) > 1
        assert manager.streams() == ["a"]
    assert facts(root) == before
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == contents
    with aof2.open(root, config=config()) as manager:
        assert check(manager.stream("a")) == 2050
