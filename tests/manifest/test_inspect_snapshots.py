"""The inspector and the repair where snapshots have made most chunks unnecessary."""

from __future__ import annotations

import shutil

import pytest
from mending import COUNT, PRUNED, payload, place, read_all, written

import aof2

EVERYTHING = [payload(n) for n in range(COUNT + 1)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("pruned")
    chosen = aof2.AofManagerConfig(
        segment=PRUNED.segment,
        tier0=PRUNED.tier0,
        tier1=PRUNED.tier1,
        manifest=aof2.ManifestConfig(chunk_bytes=16 << 10, snapshot_chunks=2, log_only=False),
    )
    written(base / "root", base / "cold", chosen=chosen)
    return base


@pytest.fixture
def pruned(original, tmp_path):
    """`(root, tier 2)` of a stream whose oldest chunks are gone."""
    shutil.copytree(original / "root", tmp_path / "root")
    shutil.copytree(original / "cold", tmp_path / "cold")
    return tmp_path / "root", tmp_path / "cold"


def heads(root):
    return sorted(place(root, "manifest").glob("*.snap"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def findings(root, tier2, **options):
    with aof2.ManifestInspector(root, "orders", tier2=tier2) as inspector:
        return inspector.check(**options)


def test_a_pruned_manifest_has_no_findings(pruned):
    """Goal: no false alarm after pruning. Method: check with bucket and JSON copy; the records
    that are gone are not there, the others are."""
    root, tier2 = pruned
    assert findings(root, tier2, parity=True) == []
    with aof2.ManifestInspector(root, "orders") as inspector:
        newest, older = inspector.snapshots()
        chunks, records = inspector.chunks(), list(inspector.records())
    assert 1 < chunks[0].chunk_id <= older.covers_chunk + 1
    assert 0 < records[0].number <= older.records < newest.records
    assert (newest.problem, older.problem) == (None, None)


@pytest.mark.parametrize("which", [0, 1], ids=["older", "newest"])
def test_a_damaged_snapshot_is_found(pruned, which):
    """Goal: damage is told, and what the other one serves is not blamed. Method: cut one head."""
    root, tier2 = pruned
    harmed = heads(root)[which]
    cut(harmed)
    found = [f for f in findings(root, tier2) if f.place == str(harmed)]
    assert [f.severity for f in found] == ["error"]
    with aof2.ManifestInspector(root, "orders") as inspector:
        told = [s.problem is None for s in reversed(inspector.snapshots())]
    assert told == [which == 1, which == 0]
    assert read_all(root, tier2) == EVERYTHING


def test_a_gap_behind_the_snapshot_is_found(pruned):
    """Goal: chunks that no snapshot covers are missed. Method: drop the first of them."""
    root, tier2 = pruned
    with aof2.ManifestInspector(root, "orders") as inspector:
        first = inspector.snapshots()[-1].covers_chunk + 1
    for path in place(root, "manifest").glob("*.mlog"):
        if int(path.stem) <= first:
            path.unlink()
    assert any("are missing" in f.text for f in findings(root, tier2))


def test_a_repair_knows_what_only_a_snapshot_says(pruned):
    """Goal: all is found again. Method: only the snapshots are left of the manifest."""
    root, tier2 = pruned
    for path in place(root, "manifest").glob("*.mlog"):
        path.unlink()
    with pytest.raises(aof2.ManifestCorrupt):
        aof2.open(root, tier2=tier2, config=PRUNED)
    aof2.repair(root, "orders", tier2=tier2, config=PRUNED)
    assert read_all(root, tier2) == EVERYTHING
    assert [f for f in findings(root, tier2) if f.severity == "error"] == []
