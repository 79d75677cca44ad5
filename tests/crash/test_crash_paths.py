"""Paths: links and odd files are refused, files are their owner's alone, no network file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashhelp import check, config, fill

import aof2
from aof2._core import directory as core

PLACES = {
    "lock": "LOCK",
    "identity": "a-*/stream.json",
    "sealed segment": "a-*/segments/00000000000000000001.seg",
    "newest segment": "a-*/segments/0*.seg",
    "pointer": "a-*/segments/current.sealed",
    "warm file": "a-*/warm/*.seg.zst",
    "chunk": "a-*/manifest/*.mlog",
    "segments": "a-*/segments",
    "manifest": "a-*/manifest",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with sealed segments and warm files."""
    with aof2.open(tmp_path / "root", config=config()) as manager:
        log = manager.stream("a")
        fill(log, 5000)
        manager.drain()
        log.flush()
    return tmp_path / "root"


def newest(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[-1]


def read_all(root: Path, *, readonly: bool) -> int:
    with aof2.open(root, config=config(), readonly=readonly) as manager:
        return len(list(manager.stream("a").reader()))


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_link_in_the_place_of_a_file_is_never_followed(root, tmp_path, place, readonly):
    """Goal: promise 10: nothing outside of the root is read or written. Method: move a file or a
    directory out, put a link to it in its place; open and read. What lies outside stays as it was,
    and either the answer names the place, or all records come from elsewhere."""
    path = newest(root, PLACES[place])
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside, target_is_directory=outside.is_dir())
    before = tree(outside)
    try:
        assert read_all(root, readonly=readonly) == 5000
    except (aof2.AofError, OSError) as error:
        assert str(root) in str(error)  # noqa: PT017
    assert tree(outside) == before


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"segments", "manifest"}))
def test_what_is_no_regular_file_is_refused_without_waiting(root, place):
    """Goal: no hang at a pipe. Method: a fifo in the place of each kind of file."""
    path = newest(root, PLACES[place])
    path.unlink()
    os.mkfifo(path)
    try:
        assert read_all(root, readonly=False) == 5000
    except (aof2.AofError, OSError) as error:
        assert str(root) in str(error)  # noqa: PT017


def tree(path: Path) -> dict[str, bytes]:
    """Contents below a path, or of it."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file): file.read_bytes() for file in files}


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Whatever is made gets the mode that it asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_files_are_their_owners_alone_whatever_the_umask(tmp_path):
    """Goal: 0600 and 0700. Method: no umask; look at everything while open, and after the close."""
    root = tmp_path / "root"

    def modes() -> dict[str, int]:
        return {
            path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in [root, *root.rglob("*")]
            if path.exists() and stat.S_IMODE(path.stat().st_mode) != (
                0o700 if path.is_dir() else 0o600
            )
        }  # fmt: skip

    with aof2.open(root, config=config(), tier2=tmp_path / "cold") as manager:
        log = manager.stream("a")
        fill(log, 3000)
        manager.drain("remote")
        log.append(b"into a ring")
        assert {path.name for path in root.rglob("*")} >= {"landing.ring", "LOCK", "warm"}
        assert modes() == {}
    assert modes() == {}


def test_a_writer_refuses_a_network_file_system(root, monkeypatch):
    """Goal: no writer where locks and syncs cannot be relied on; readers may. Method: the file
    system of the test counts as one."""

    class AllOfThem(dict[int, str]):
        def get(self, key: int, default: object = None) -> str:  # type: ignore[override]
            return "nfs"

    monkeypatch.setattr(core, "_NETWORK_FILE_SYSTEMS", AllOfThem())
    with pytest.raises(aof2.ConfigError, match="network file system \\(nfs\\)"):
        aof2.open(root)
    assert read_all(root, readonly=True) == 5000
    monkeypatch.undo()
    with aof2.open(root, config=config()) as manager:
        assert check(manager.stream("a")) == 5000
