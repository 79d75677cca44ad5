"""The inspector: the life of a segment in order, damage found and told, nothing changed."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
from lives import append_all, lives, open_manifest
from mending import DAMAGE, place, publish, written
from mending import SMALL as CONFIG

import aof2
from aof2._core.chunk import ChunkWriter
from aof2._core.chunk_read import ChunkReader
from aof2._core.manifest import RecordType, encode
from aof2._core.timesource import TimeSource
from aof2.clock import Clock
from aof2.errors import StreamNotFound
from aof2.manifest.chunks import chunk_name
from aof2.root import Root


@pytest.fixture
def empty(tmp_path):
    """A root with an empty stream `orders`, and its directory."""
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        manager.stream("orders")
    return tmp_path / "root"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("inspected")
    written(base / "root", base / "cold")
    return base


@pytest.fixture
def stream(original, tmp_path):
    """`(root, tier 2)` of a stream with copies in all tiers."""
    shutil.copytree(original / "root", tmp_path / "root")
    shutil.copytree(original / "cold", tmp_path / "cold")
    return tmp_path / "root", tmp_path / "cold"


def findings(root, tier2, **options):
    with aof2.ManifestInspector(root, "orders", tier2=tier2) as inspector:
        return inspector.check(**options)


def errors(root, tier2):
    return [finding for finding in findings(root, tier2) if finding.severity == "error"]


def test_the_lives_of_a_thousand_segments_are_decoded_in_order(empty):
    """Goal: what happened to a segment can be read. Method: random interleavings of 1,000 lives,
    written past the stream's writer; compare each segment's records with the steps."""
    held = Root(str(empty), Clock(), readonly=True)
    directory, identity = held.open_stream("orders")
    manifest = open_manifest(place(empty, "manifest"), identity=identity, chunk_bytes=1 << 20)
    told: dict[int, list] = {}
    for kind, segment_id, offset, fields in lives(1000, 11):
        manifest.append(kind, segment_id, offset, **fields)
        told.setdefault(segment_id, []).append((RecordType(kind).name, offset, fields))
    manifest.close()
    directory.close()
    held.close()
    found: dict[int, list] = {}
    with aof2.ManifestInspector(empty, "orders") as inspector:
        places = []
        for record in inspector.records():
            found.setdefault(record.segment_id, []).append(record)
            places.append((record.chunk_id, record.position, record.number))
            assert record.timestamp_ns == 1_700_000_000_000_000_000
            assert record.problem is None
        assert places == sorted(places)
        assert [number for *_, number in places] == list(range(len(places)))
        one = list(inspector.records(segment=500))
        assert one == found[500]
        keys = inspector.keys()
    assert len(told) == 1000
    assert {
        segment_id: [(r.type, r.offset, {k: r.fields[k] for k in r.fields}) for r in records]
        for segment_id, records in found.items()
        if segment_id
    } == {
        segment_id: [(name, offset, _defaults(name, fields)) for name, offset, fields in steps]
        for segment_id, steps in told.items()
    }
    uploaded = {f["key"] for steps in told.values() for _, _, f in steps if "key" in f}
    assert set(keys) == uploaded
    assert len(keys) == len(uploaded)


def _defaults(name, fields):
    """Fields as the codec gives them back: an optional key is there, empty."""
    return {"key": "", **fields} if name == "UPLOAD_FAILED" else fields


def test_a_good_stream_has_no_findings(stream):
    """Goal: no false alarm. Method: a closed stream with copies in all tiers."""
    root, tier2 = stream
    assert findings(root, tier2) == []
    with aof2.ManifestInspector(root, "orders") as inspector:
        found = inspector.chunks()
        assert len(found) > 3
        assert {chunk.state for chunk in found[:-2]} == {"sealed"}
        assert all(chunk.crc_good and chunk.problem is None for chunk in found)
        assert next(chunk.previous[0] for chunk in found if chunk.previous) == 0
        begun = [chunk for chunk in found if chunk.records]
        for before, after in itertools.pairwise(begun):
            assert after.previous == before.end
            assert after.first_record == before.first_record + before.records


def test_the_inspector_changes_nothing_and_works_beside_a_writer(stream):
    """Goal: safe on a live stream. Method: append, seal and upload while looking, again and
    again; then compare the files of a closed stream before and after."""
    root, tier2 = stream
    with aof2.open(root, tier2=tier2, config=CONFIG) as manager:
        log = manager.stream("orders")
        for n in range(40):
            log.append(b"%d" % n * 500)
            log.seal()
            assert [f for f in findings(root, tier2) if f.severity == "error"] == []
    before = {p: p.read_bytes() for p in place(root).rglob("*") if p.is_file()}
    findings(root, tier2)
    assert {p: p.read_bytes() for p in place(root).rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "drop all"])
def test_damage_to_chunks_is_found(stream, damage):
    """Goal: every damage is told, with its chunk. Method: each way; the rest is still read."""
    root, tier2 = stream
    with aof2.ManifestInspector(root, "orders") as inspector:
        whole = len(list(inspector.records()))
    DAMAGE[damage](root)
    found = errors(root, tier2)
    assert found
    assert all(f.chunk_id in (1, 2, 3) or f.segment_id for f in found)
    assert any(".mlog" in f.place for f in found)
    with aof2.ManifestInspector(root, "orders") as inspector:
        assert 0 < len(list(inspector.records())) <= whole


def warm_missing(root):
    next(iter(sorted(place(root, "warm").glob("*.zst")))).unlink()


def warm_cut(root):
    path = next(iter(sorted(place(root, "warm").glob("*.zst"))))
    path.write_bytes(path.read_bytes()[:-1])


def hot_cut(root):
    path = next(iter(sorted(place(root, "segments").glob("*.seg"))))
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "severity", "text"),
    [(warm_missing, "warning", "missing"), (warm_cut, "error", "bytes"), (hot_cut, "error", "by")],
)
def test_missing_and_changed_files_are_found(stream, harm, severity, text):
    """Goal: the records and the directory agree. Method: remove or cut a file."""
    root, tier2 = stream
    harm(root)
    (found,) = findings(root, tier2)
    assert found.severity == severity
    assert text in found.text
    assert found.segment_id is not None


def test_a_missing_copy_that_was_the_only_one_is_an_error(tmp_path):
    """Goal: lost data is told as such. Method: remove both local copies, without a tier 2."""
    written(tmp_path, None, count=60)
    for path in place(tmp_path).glob("*/00000000000000000002.seg*"):
        path.unlink()
    assert [f.segment_id for f in errors(tmp_path, None)] == [2]


def test_objects_that_are_missing_or_differ_are_found(stream):
    """Goal: the bucket is believed by asking. Method: remove one object, change another."""
    root, tier2 = stream
    first, second = sorted(tier2.rglob("*.seg.zst"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    found = {f.place: f.text for f in errors(root, tier2)}
    assert len(found) == 2
    assert "missing in the bucket" in found[str(first.relative_to(tier2))]
    assert "bytes with crc64" in found[str(second.relative_to(tier2))]
    assert errors(root, None) == []


def test_published_chunks_are_compared_with_those_here(stream):
    """Goal: the bucket holds the same manifest. Method: publish, check, change a published one."""
    root, tier2 = stream
    assert publish(root, tier2) > 2
    assert findings(root, tier2) == []
    path = sorted(tier2.rglob("*.mlog"))[1]
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = findings(root, tier2)
    assert (found.chunk_id, found.place) == (2, str(path.relative_to(tier2)))


def test_a_record_that_cannot_follow_is_found_at_its_place(empty):
    """Goal: a contradiction is told once. Method: write some past the index."""
    held = Root(str(empty), Clock(), readonly=True)
    directory, identity = held.open_stream("orders")
    manifest = open_manifest(place(empty, "manifest"), identity=identity)
    append_all(manifest, lives(3, 1))
    count = manifest.appended_count
    manifest.close()
    records = directory.subdir("manifest")
    reader = ChunkReader(records, chunk_name(1), stream_uuid=identity.uuid, chunk_id=1)
    reader.read()
    reader.state()
    writer = ChunkWriter(records, chunk_name(1), TimeSource(), reader=reader)
    for _ in range(3):
        writer.append(encode(RecordType.UPLOAD_STARTED, 99, 0, key="k"))
    writer.close()
    found = [f for f in errors(empty, None) if "UPLOAD_STARTED" in f.text]
    assert len(found) == 1
    assert found[0].chunk_id == 1
    with aof2.ManifestInspector(empty, "orders") as inspector:
        last = list(inspector.records())[count:]
    assert [r.segment_id for r in last] == [99, 99, 99]
    assert found[0].place.endswith(f":{last[0].position}")


def test_parity_tells_a_copy_that_differs_from_one_that_is_only_old(tmp_path):
    """Goal: the copy is compared with the log as it was then. Method: write a copy, go on without,
    compare; then change the copy."""
    root = tmp_path / "root"
    kept = aof2.AofManagerConfig(manifest=aof2.ManifestConfig(log_only=False))
    for config in (kept, aof2.AofManagerConfig()):
        with aof2.open(root, config=config) as manager:
            log = manager.stream("orders")
            log.append(b"x")
            log.seal()
            manager.drain("local")
    assert findings(root, None, parity=True) == []
    path = place(root, "manifest/index.json")
    mirror = json.loads(path.read_text())
    mirror["segments"][0]["raw_bytes"] += 1
    path.write_text(json.dumps(mirror))
    (found,) = findings(root, None, parity=True)
    assert "raw_bytes" in found.text
    path.unlink()
    assert "no JSON copy" in findings(root, None, parity=True)[0].text


def test_wrong_use_is_refused(tmp_path, empty):
    """Goal: slips show at once. Method: unknown root and stream."""
    with pytest.raises(StreamNotFound):
        aof2.ManifestInspector(tmp_path / "none", "orders")
    with pytest.raises(StreamNotFound):
        aof2.ManifestInspector(empty, "invoices")
