"""What only the directory store can get wrong: links, permissions, crashes, odd files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import FetchFailed, Tier2Unavailable, UploadFailed
from aof2.objectstore import LocalStore, ObjectNotFound

DATA = b"some bytes"
CRC64 = crc64nvme(DATA)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "made" / "objects")


@pytest.fixture
def root(store: LocalStore, tmp_path: Path) -> Path:
    return tmp_path / "made" / "objects"


def test_files_and_directories_are_for_their_owner_only(store: LocalStore, root: Path):
    """Goal: 0600 and 0700 for all that is made. Method: look at every mode after a put."""
    store.put("a/b/c", DATA, crc64=CRC64)
    assert (root / "a/b/c").read_bytes() == DATA
    for path in [root, *root.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize("link", ["a", "a/b", "a/b/c"])
def test_a_symbolic_link_is_refused_at_every_level(
    store: LocalStore, root: Path, tmp_path: Path, link: str
):
    """Goal: no planted link leads outside, for reading or writing. Method: one at each level."""
    outside = tmp_path / "outside"
    (outside / "a/b").mkdir(parents=True)
    (outside / "a/b/c").write_bytes(DATA)
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(outside / link)
    with pytest.raises(FetchFailed) as caught:
        store.get_range("a/b/c", 0, 1)
    assert not isinstance(caught.value, ObjectNotFound)
    for attempt in (b"changed", DATA):
        with pytest.raises((UploadFailed, FetchFailed)):
            store.put("a/b/c", attempt, crc64=crc64nvme(attempt))
    assert list(store.list()) == []
    assert (outside / "a/b/c").read_bytes() == DATA
    assert sorted(os.listdir(outside / "a/b")) == ["c"]


@pytest.mark.timeout(20)
def test_a_planted_fifo_is_an_error_and_no_hang(store: LocalStore, root: Path):
    """Goal: reading never waits for somebody. Method: a FIFO where an object would be."""
    os.mkfifo(root / "k")
    with pytest.raises(FetchFailed):
        store.get_range("k", 0, 1)
    with pytest.raises(FetchFailed):
        store.head("k")
    assert list(store.list()) == []


def test_an_unfinished_put_is_no_object_and_in_nobodys_way(store: LocalStore, root: Path):
    """Goal: a crash before the link leaves nothing visible. Method: leave its file, go on."""
    (root / "a").mkdir()
    (root / "a" / f".put-{os.getpid()}-0").write_bytes(b"half")
    assert list(store.list()) == []
    store.put("a/k", DATA, crc64=CRC64)
    assert [info.key for info in store.list()] == ["a/k"]


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_a_failed_put_leaves_no_file(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """Goal: a full or failing disk costs no space. Method: fail one step of the put."""

    def failing(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store.put("a/warm-up", DATA, crc64=CRC64)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing)
        with pytest.raises(UploadFailed, match="No space left"):
            store.put("a/k", DATA, crc64=CRC64)
    assert os.listdir(root / "a") == ["warm-up"]
    assert store.put("a/k", DATA, crc64=CRC64).size == len(DATA)


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_failed_replace_leaves_what_was_there(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """Goal: whole or not at all. Method: fail one step of the replacement."""

    def failing(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store.put("a/k", b"before", crc64=crc64nvme(b"before"))
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing)
        with pytest.raises(UploadFailed, match="No space left"):
            store.replace("a/k", DATA, crc64=CRC64)
    assert os.listdir(root / "a") == ["k"]
    assert store.get("a/k", 100) == b"before"


def test_replacing_a_planted_link_reaches_nothing_outside(
    store: LocalStore, root: Path, tmp_path: Path
):
    """Goal: no link is followed. Method: the object's name is a link to a file outside."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    (root / "k").symlink_to(outside)
    with pytest.raises(FetchFailed):
        store.get("k", 100)
    store.replace("k", DATA, crc64=CRC64)
    assert (outside.read_bytes(), store.get("k", 100)) == (b"untouched", DATA)


def test_foreign_files_are_not_listed(store: LocalStore, root: Path):
    """Goal: only what could be a key. Method: names that rule 1 forbids, beside one it allows."""
    for name in ("lost+found", ".hidden", "with space"):
        (root / name).write_bytes(b"")
    store.put("k", DATA, crc64=CRC64)
    assert [info.key for info in store.list()] == ["k"]


def test_a_directory_that_has_gone_is_unavailable_and_not_empty(store: LocalStore, root: Path):
    """Goal: an unmounted disk never looks like missing objects. Method: remove the directory."""
    root.rmdir()
    calls = [
        store.check,
        lambda: store.head("k"),
        lambda: store.get_range("k", 0, 1),
        lambda: store.delete("k"),
        lambda: list(store.list()),
        lambda: store.put("k", DATA, crc64=CRC64),
    ]
    for call in calls:
        with pytest.raises(Tier2Unavailable, match="objects"):
            call()


def test_a_path_that_cannot_be_a_directory_is_unavailable_at_once(tmp_path: Path):
    """Goal: one clear error from making it. Method: a file in the way; and no making asked for."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Tier2Unavailable, match=r"tier2\.url"):
        LocalStore(tmp_path / "file" / "below")
    with pytest.raises(Tier2Unavailable):
        LocalStore(tmp_path / "file").check()
    with pytest.raises(Tier2Unavailable):
        LocalStore(tmp_path / "missing", create=False).check()
    assert not (tmp_path / "missing").exists()


def test_a_key_below_an_object_is_a_failed_upload(store: LocalStore):
    """Goal: no key is another's directory, and saying so is no "not found". Method: try it."""
    store.put("a", DATA, crc64=CRC64)
    with pytest.raises(UploadFailed):
        store.put("a/b", DATA, crc64=CRC64)
    assert store.head("a/b") is None


def test_another_writer_that_is_faster_by_a_sync_wins(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """Goal: looking first and writing later would replace; linking does not.

    Method: while our bytes are synced, another process's store creates the object.
    """
    real = os.fsync

    def slow(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        LocalStore(root).put("k", b"theirs", crc64=crc64nvme(b"theirs"))
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(UploadFailed, match="other content"):
        store.put("k", DATA, crc64=CRC64)
    assert store.get_range("k", 0, 6) == b"theirs"
    assert os.listdir(root) == ["k"]
