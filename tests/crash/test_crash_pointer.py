"""`current.sealed` is a hint: whatever happens to it, the records are the same."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from crashhelp import check, config, copy_of, fill

import aof2
from aof2.tiers.hot import HotTier


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """A root that was closed, the same as a crash leaves it, and an older pointer of it."""
    base = tmp_path_factory.mktemp("pointer")
    with aof2.open(base / "closed", config=config()) as manager:
        log = manager.stream("a")
        fill(log, 500)
        log.seal()
        (path,) = (base / "closed").glob("*/segments/current.sealed")
        stale = path.read_bytes()
        fill(log, 3000)
        manager.drain()
        fill(log, 3050)
        log.flush()
        copy_of(base / "closed", base / "crashed")
    return base / "closed", base / "crashed", stale


def damaged(good: bytes, stale: bytes) -> dict[str, bytes | None]:
    """Every state the pointer may be found in; None: it is missing."""
    states: dict[str, bytes | None] = {
        "nominal": good,
        "missing": None,
        "stale": stale,
        "empty": b"",
    }
    states["zeroed"] = bytes(len(good))
    states["too long"] = good + b"\0"
    states["another stream's"] = good[:16] + bytes(16) + good[32:]
    for at in range(0, len(good), 8):
        flipped = bytearray(good)
        flipped[at] ^= 0x10
        states[f"byte {at} changed"] = bytes(flipped)
    for size in (1, 8, 50, len(good) - 1):
        states[f"cut to {size}"] = good[:size]
    return states


@pytest.mark.parametrize("how", ["closed", "crashed"])
def test_the_pointer_is_never_required(tmp_path, roots, how):
    """Goal: nominal, missing, stale, damaged: the same records each time.

    Method: each state of the pointer in a copy of a root; opened for reading, then for writing,
    which
    also repairs it.
    """
    closed, crashed, stale = roots
    source = closed if how == "closed" else crashed
    (name,) = [p.relative_to(source) for p in source.glob("*/segments/current.sealed")]
    good = (source / name).read_bytes()
    assert len(good) == 96
    assert stale != good
    for number, (state, data) in enumerate(damaged(good, stale).items()):
        root = copy_of(source, tmp_path / str(number))
        if data is None:
            (root / name).unlink()
        else:
            (root / name).write_bytes(data)
        with aof2.open(root, config=config(), readonly=True) as manager:
            payloads = list(manager.stream("a").reader().payloads())
            assert len(payloads) == 3050, state
        with aof2.open(root, config=config()) as manager:
            log = manager.stream("a")
            assert check(log) == 3050, state
            assert log.recovery.truncated_bytes == 0
            assert log.recovery.quarantine == ()
        again = (root / name).read_bytes()
        assert len(again) == 96
        if how == "closed":
            assert again == good, state


def closed_root(path: Path) -> Path:
    """A root that was closed with records in a segment that is not sealed; that segment's file."""
    with aof2.open(path, config=config()) as manager:
        fill(manager.stream("a"), 40)
    (segment,) = path.glob("*/segments/*.seg")
    return segment


@pytest.mark.parametrize("readonly", [False, True])
def test_a_close_is_a_witness_for_the_segment_that_is_not_sealed(tmp_path, readonly):
    """Goal: a stream whose only file went missing is not an empty one. Method: remove it after a
    clean close; once the pointer went as well, nothing speaks of it any more."""
    segment = closed_root(tmp_path / "root")
    segment.unlink()

    def read_all() -> list[aof2.Record]:
        with aof2.open(tmp_path / "root", config=config(), readonly=readonly) as manager:
            return list(manager.stream("a").reader())

    with pytest.raises(aof2.SegmentLost, match=r"up to offset 40 .*only up to 0") as raised:
        read_all()
    assert raised.value.offset == 0
    (segment.parent / "current.sealed").unlink()
    assert read_all() == []


def test_an_older_version_of_the_segment_is_noticed(tmp_path):
    """Goal: a file that a backup brought back has fewer records, and that is an error. Method: the
    version of the first close, after the second one."""
    segment = closed_root(tmp_path / "root")
    older = segment.read_bytes()
    with aof2.open(tmp_path / "root", config=config()) as manager:
        fill(manager.stream("a"), 70)
    segment.write_bytes(older)
    with pytest.raises(aof2.SegmentLost, match=r"up to offset 70 .*only up to 40"):
        aof2.open(tmp_path / "root", config=config())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_close_that_cannot_be_noted(tmp_path, monkeypatch, caplog, error):
    """Goal: a full disk keeps no stream from being closed, and what else fails is told. Method:
    replacing the pointer fails; every record is there afterwards."""

    def fails(tier: HotTier, end_offset: int) -> None:
        raise OSError(error, "planned")

    monkeypatch.setattr(HotTier, "note_close", fails)
    if error == errno.ENOSPC:
        closed_root(tmp_path / "root")
        assert [r.event for r in caplog.records if hasattr(r, "event")] == ["close_not_noted"]
    else:
        with pytest.raises(OSError, match="planned"):
            closed_root(tmp_path / "root")
    monkeypatch.undo()
    with aof2.open(tmp_path / "root", config=config()) as manager:
        assert manager.stream("a").next_offset == 40
