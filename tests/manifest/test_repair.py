"""A damaged manifest: appends are refused, reading goes on, and a repair gives back every byte."""

from __future__ import annotations

import logging
import os
import shutil

import pytest
from mending import (
    COUNT,
    DAMAGE,
    SMALL,
    chunks,
    drop_all,
    flip_middle,
    payload,
    place,
    publish,
    trim,
    written,
)
from mending import read_all as read

import aof2
from aof2._core.posix import set_seam_hook
from aof2.errors import ManifestCorrupt, SegmentLost

EVERYTHING = [payload(n) for n in range(COUNT + 1)]


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A stream with a tier 2 and one without, to copy."""
    base = tmp_path_factory.mktemp("streams")
    written(base / "cold-root", base / "cold")
    written(base / "local-root", None)
    return base


@pytest.fixture(params=["tier 2", "local"])
def stream(request, streams, tmp_path):
    """`(root, tier 2)` of a fresh copy."""
    if request.param == "local":
        shutil.copytree(streams / "local-root", tmp_path / "root")
        return tmp_path / "root", None
    shutil.copytree(streams / "cold-root", tmp_path / "root")
    shutil.copytree(streams / "cold", tmp_path / "cold")
    return tmp_path / "root", tmp_path / "cold"


@pytest.fixture
def cold(streams, tmp_path):
    """`(root, tier 2)` of a fresh copy of the stream with a tier 2."""
    shutil.copytree(streams / "cold-root", tmp_path / "root")
    shutil.copytree(streams / "cold", tmp_path / "cold")
    return tmp_path / "root", tmp_path / "cold"


def goes_on(root, tier2, expected=EVERYTHING):
    """The stream is whole, writable, and its manifest is in order."""
    with aof2.open(root, tier2=tier2, config=SMALL) as manager:
        log = manager.stream("orders")
        assert [r.payload for r in log.reader("earliest", "latest")] == expected
        assert log.append(b"more") == len(expected)
        log.seal()
        manager.drain("local" if tier2 is None else "remote")
    assert read(root, tier2) == [*expected, b"more"]
    with aof2.ManifestInspector(root, "orders", tier2=tier2) as inspector:
        assert [f for f in inspector.check() if f.severity == "error"] == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_refuses_appends_but_not_reads(stream, damage, caplog):
    """Goal: nothing is lost sight of. Method: each damage; open for writing, then for reading."""
    root, tier2 = stream
    DAMAGE[damage](root)
    with pytest.raises(ManifestCorrupt) as caught:
        aof2.open(root, tier2=tier2, config=SMALL)
    assert "manifest" in caught.value.path
    assert "repair" in str(caught.value)
    with caplog.at_level(logging.ERROR):
        assert read(root, tier2) == EVERYTHING
    assert "manifest_corrupt" in [record.event for record in caplog.records]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_repair_gives_back_every_byte(stream, damage):
    """Goal: the copies are enough. Method: each damage; repair, read, append, seal, check."""
    root, tier2 = stream
    DAMAGE[damage](root)
    old = sorted(p.name for p in chunks(root)) if damage != "drop all" else None
    highest = max((int(p.stem) for p in chunks(root)), default=0)
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert (report.first_offset, report.notes) == (0, ())
    assert report.first_chunk > highest
    if old is not None:
        kept = place(root, "quarantine") / report.kept[0]
        assert [name for name in sorted(os.listdir(kept)) if name.endswith(".mlog")] == old
    goes_on(root, tier2)


def test_a_repair_of_a_good_manifest_changes_no_row(cold):
    """Goal: copies say what the log said. Method: compare the indexes before and after."""
    root, tier2 = cold
    rows = []
    for _ in range(2):
        with aof2.open(root, tier2=tier2, config=SMALL, readonly=True) as manager:
            rows.append(manager.stream("orders").segments())
        aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert rows[0] == rows[1]
    goes_on(root, tier2)


def test_only_objects_are_enough(cold):
    """Goal: the bucket carries the history. Method: lose manifest, sealed hot and warm files."""
    root, tier2 = cold
    with aof2.open(root, tier2=tier2, config=SMALL, readonly=True) as manager:
        sealed = {s.segment_id for s in manager.stream("orders").segments() if s.sealed}
    for path in [*place(root, "segments").glob("*.seg"), *place(root, "warm").glob("*.zst")]:
        if int(path.name.split(".")[0]) in sealed:
            path.unlink()
    drop_all(root)
    aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    goes_on(root, tier2)


def test_a_hot_copy_that_is_damaged_too_is_set_aside(cold):
    """Goal: damage does not win over a good copy. Method: flip a byte of a hot file as well."""
    root, tier2 = cold
    flip_middle(root)
    path = sorted(place(root, "segments").glob("*.seg"))[0]
    data = bytearray(path.read_bytes())
    data[9000] ^= 1
    path.write_bytes(data)
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert len(report.notes) == 1
    assert path.name in report.notes[0]
    assert any(name.startswith(path.name) for name in report.kept)
    goes_on(root, tier2)


def test_a_lost_footer_in_the_middle_is_made_again(tmp_path):
    """Goal: frames are facts as well. Method: clear the footer of a segment without other copy."""
    written(tmp_path, None)
    flip_middle(tmp_path)
    hot = sorted(place(tmp_path, "segments").glob("*.seg"))[-3]
    (place(tmp_path, "warm") / f"{hot.name}.zst").unlink()
    hot.write_bytes(hot.read_bytes()[:-168] + bytes(168))
    aof2.repair(tmp_path, "orders", config=SMALL)
    assert read(tmp_path, None) == EVERYTHING


def test_a_hole_is_refused_with_its_offsets(stream):
    """Goal: nothing is skipped silently. Method: remove all copies of one segment, or of the
    first."""
    root, tier2 = stream
    with aof2.open(root, tier2=tier2, config=SMALL, readonly=True) as manager:
        segments = manager.stream("orders").segments()
    flip_middle(root)
    gone = segments[len(segments) // 2]
    for path in [*place(root).glob("*/*.seg*"), *(tier2.rglob("*.seg.zst") if tier2 else ())]:
        number, key = f"{gone.segment_id:020d}", f"{gone.base_offset:020d}-{gone.end_offset:020d}"
        if path.name.startswith((number + ".seg", key)):
            path.unlink()
    before = sorted(p.name for p in place(root).rglob("*"))
    with pytest.raises(SegmentLost, match=f"offsets {gone.base_offset} to {gone.end_offset}"):
        aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert sorted(p.name for p in place(root).rglob("*")) == before
    # A reader gets what is there, and is told what is not.
    with aof2.open(root, tier2=tier2, config=SMALL, readonly=True) as manager:
        log = manager.stream("orders")
        for n in (0, gone.base_offset - 1, gone.end_offset, COUNT):
            assert log.get(n).payload == payload(n)
        with pytest.raises(SegmentLost):
            log.get(gone.base_offset)


def test_a_forgotten_tier_2_is_noticed(cold):
    """Goal: what only the bucket holds is not given up. Method: repair without naming it, with one
    segment only there."""
    root, tier2 = cold
    min(place(root, "warm").glob("*.zst")).unlink()
    flip_middle(root)
    with pytest.raises(SegmentLost):
        aof2.repair(root, "orders", config=SMALL)
    aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    goes_on(root, tier2)


def test_a_repair_needs_the_root_for_itself(cold):
    """Goal: no writer is pulled the rug from under. Method: repair beside one."""
    root, tier2 = cold
    with (
        aof2.open(root, tier2=tier2, config=SMALL),
        pytest.raises(aof2.RootLocked),
    ):
        aof2.repair(root, "orders", tier2=tier2)
    with pytest.raises(aof2.StreamNotFound):
        aof2.repair(root, "invoices", tier2=tier2)
    with pytest.raises(aof2.ConfigError):
        aof2.repair(root / "none", "orders")


def test_a_repair_takes_what_was_published_into_account(cold):
    """Goal: decisions survive the loss of the local manifest. Method: publish, lose it; a stranger
    among the objects."""
    root, tier2 = cold
    with aof2.ManifestInspector(root, "orders") as inspector:
        keys = inspector.keys()
    number = publish(root, tier2)
    drop_all(root)
    # Another object of the first segment, of a higher epoch, that no record names.
    path = tier2 / keys[0]
    shutil.copy(path, str(path).replace(".00000001-", ".00000009-"))
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert report.first_chunk > number
    assert report.notes == ()
    with aof2.ManifestInspector(root, "orders", tier2=tier2) as inspector:
        assert sorted(inspector.keys()) == sorted(keys)
        assert inspector.check() == []


@pytest.mark.parametrize("chain", ["readable", "damaged"])
def test_a_takeover_after_a_repair_is_noticed_however_little_it_published(cold, tmp_path, chain):
    """Goal: a repaired root and the one that took its stream over never both write.

    Method: repair; before the root opens again, take the stream over elsewhere, which publishes
    numbers below those of the repaired chain. With a published chain that can be read, and not.
    """
    root, tier2 = cold
    flip_middle(root)
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    with aof2.open(tmp_path / "other", tier2=tier2, config=SMALL) as manager:
        log = manager.stream("orders")
        taken = log.next_offset
        log.append(b"elsewhere")
        manager.drain("remote")
        log.append(b"elsewhere again")
    numbers = [int(path.name.split(".")[0]) for path in tier2.rglob("*.mlog")]
    assert max(numbers) < report.first_chunk
    if chain == "damaged":
        newest = max(tier2.rglob("*.mlog"), key=lambda path: path.name)
        newest.write_bytes(newest.read_bytes()[:-1])
    with aof2.open(root, tier2=tier2, config=SMALL) as manager:
        log = manager.stream("orders")
        with pytest.raises(aof2.Fenced):
            manager.drain("remote", timeout=20)
        assert log.watermarks.remote <= taken
    if chain == "readable":
        with aof2.open(tmp_path / "other", tier2=tier2, config=SMALL) as manager:
            manager.drain("remote")
            assert manager.stream("orders").get(taken).payload == b"elsewhere"


def test_a_trim_survives_a_repair(cold):
    """Goal: what was given up does not come back. Method: trim, damage another chunk, repair."""
    root, tier2 = cold
    trim(root, 100)
    flip_middle(root)
    assert aof2.repair(root, "orders", tier2=tier2, config=SMALL).first_offset == 100
    with aof2.open(root, tier2=tier2, config=SMALL) as manager:
        assert manager.stream("orders").first_offset == 100
    assert read(root, tier2) == EVERYTHING[100:]


def test_offsets_go_on_when_everything_sealed_was_trimmed_and_is_gone(cold):
    """Goal: no offset is given twice. Method: trim all sealed segments, delete them, repair."""
    root, tier2 = cold
    trim(root, COUNT)
    newest = max(place(root, "segments").glob("*.seg"))
    for path in [*place(root).glob("*/*.seg*"), *tier2.rglob("*.seg.zst")]:
        if path != newest:
            path.unlink()
    flip_middle(root)
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert (report.first_offset, report.sealed_offset) == (COUNT, COUNT)
    with aof2.open(root, tier2=tier2, config=SMALL) as manager:
        log = manager.stream("orders")
        assert (log.first_offset, log.append(b"more")) == (COUNT, COUNT + 1)
    assert read(root, tier2) == [EVERYTHING[COUNT], b"more"]


def test_a_damaged_published_chain_is_no_hindrance(cold):
    """Goal: what cannot be read is told. Method: damage chunk 1 in the bucket and here."""
    root, tier2 = cold
    number = publish(root, tier2)
    path = sorted(tier2.rglob("*.mlog"))[0]
    path.write_bytes(path.read_bytes()[:-1])
    flip_middle(root)
    report = aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert report.first_chunk > number
    assert len(report.notes) == 1
    goes_on(root, tier2)


def test_a_root_that_was_replaced_is_not_repaired(cold):
    """Goal: a stale root does not become the stream. Method: another root publishes last."""
    root, tier2 = cold
    publish(root, tier2, take=2)
    publish(root, tier2, root_id=b"another root id.", take=0)
    flip_middle(root)
    before = sorted(p.name for p in place(root).rglob("*"))
    with pytest.raises(aof2.Fenced):
        aof2.repair(root, "orders", tier2=tier2, config=SMALL)
    assert sorted(p.name for p in place(root).rglob("*")) == before


def killed_repair(root, tier2, step):
    """Repair in a child that dies right before its `step`th change of the stream's names."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(op, *rest):
            nonlocal seen
            if op in ("rename", "fsync_dir", "mkdir", "rmdir", "unlink"):
                seen += 1
                if seen == step:
                    os._exit(9)
            return 0

        set_seam_hook(hook)
        try:
            aof2.repair(root, "orders", tier2=tier2, config=SMALL)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.parametrize("then", ["open", "repair", "read"])
def test_a_repair_that_is_killed_at_any_step_is_finished_or_undone(tmp_path, then):
    """Goal: no step leaves a stream without its manifest. Method: kill before each change of names,
    then open, repair again, or read."""
    written(tmp_path / "small", tmp_path / "objects", count=60)
    expected, step = EVERYTHING[:61], 0
    while True:
        step += 1
        root, tier2 = tmp_path / f"root{step}", tmp_path / "cold"
        shutil.copytree(tmp_path / "small", root)
        shutil.copytree(tmp_path / "objects", tier2)
        if not killed_repair(root, tier2, step):
            break
        if then == "repair":
            aof2.repair(root, "orders", tier2=tier2, config=SMALL)
        if then == "read":
            assert read(root, tier2) == expected
        else:
            goes_on(root, tier2, expected)
        assert {p.name for p in place(root).iterdir()} >= {"segments", "warm", "quarantine"}
        if then != "read":
            names = {p.name for p in place(root).iterdir()}
            assert not names & {".repair", "manifest.new"}
        shutil.rmtree(root)
        shutil.rmtree(tier2)
    assert step > 8
