"""Segments that are compressed straight into an upload: tier 1 or the disk has no room."""

from __future__ import annotations

import dataclasses
import errno
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobhelp import KIB, MIB, FaultyStore, check_equal, random_payloads, small_config

import aof2
from aof2 import Tier
from aof2._core import compressed
from aof2._core.compressed_cut import SealedSource
from aof2._core.compressed_pack import measure, pieces
from aof2._core.directory import Directory
from aof2.coordinator.commands import Compress, CompressToTier2, Evict, Relinquish
from aof2.coordinator.planner import plan
from aof2.coordinator.view import Holding, StreamView, View
from aof2.objectstore import LocalStore
from aof2.tiers.passing import PassingSegment
from aof2.tiers.warm import WarmTier

SEED = 60
CONFIG = small_config(
    aof2.Tier2Config(url="memory://faulty"),
    256 * KIB,
    1024 * KIB,
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.02),
)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    made = FaultyStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    return made


def no_room(*_: object, **__: object) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    raise aof2.CompressionFailed(f"compression failed: {full}") from full


def records_of_types(root: Path, segment: int) -> list[str]:
    with aof2.ManifestInspector(root, "s") as inspector:
        return [record.type for record in inspector.records(segment)]


# --- the bytes ------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_a_warm_file(tmp_path):
    """Goal: one form, whichever way it is made. Method: segments of many small and of huge records;
    built, measured, and made in pieces; pieces are small."""
    config = small_config(None, MIB, 64 * MIB)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        log.extend(random_payloads(SEED, 150))
        log.append(random.Random(1).randbytes(900_000))
        log.seal(timeout=20)
        manager.drain(timeout=20)
        hot = Directory(next(tmp_path.glob("r/s-*/segments")))
        for info in log.segments():
            name = f"{info.segment_id:020d}.seg"
            built = compressed.build(hot, name, hot, "warm", frame_bytes=64 * KIB)
            sealed = SealedSource(hot, name, frame_bytes=64 * KIB, group_bytes=64 * KIB)
            made = list(pieces(sealed))
            assert measure(sealed) == built
            assert b"".join(made) == Path(hot.join("warm")).read_bytes()
            assert max(map(len, made)) < 160 * KIB


def test_memory_stays_within_a_few_frames(tmp_path):
    """Goal: a segment of any size goes through. Method: 32 MiB of noise into a directory; the most
    that Python holds at a time is a small part."""
    config = small_config(None, 40 * MIB, 256 * MIB)
    cold = LocalStore(tmp_path / "cold")
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        noise = random.Random(2).randbytes(MIB)
        for _ in range(32):
            log.append(noise)
        log.seal(timeout=60)
        manager.drain(timeout=60)
        instance = log._instance
        last = log.segments()[-1]
        assert last.bytes > 20 * MIB
        tracemalloc.start()
        try:
            source = instance.warm.passing(last.segment_id, instance.hot, lambda: False)
            cold.put("k", source, crc64=source.info.crc64)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert source.nbytes > 20 * MIB
        assert most < 6 * MIB


# --- the planner ----------------------------------------------------------------------------------


def planned(*streams: StreamView, **more: object) -> list[object]:
    view = View(streams, 90, 100, 80, 95, 100, tier2=True, **more)  # type: ignore[arg-type]
    return [c for c in plan(view) if isinstance(c, Compress | CompressToTier2 | Evict)]


def test_only_what_tier_1_has_no_room_for_goes_straight():
    """Goal: a warm copy where one is possible. Method: each condition, with and without."""
    ours = StreamView("a", compress=((1, 10, 10), (2, 4, 10)), ours=True)
    theirs = StreamView("a", compress=((1, 10, 10),))
    straight = CompressToTier2("a", 1)
    assert planned(ours) == [straight, CompressToTier2("a", 2)]
    assert planned(theirs) == []
    assert planned(ours, evict1=(("b", 9, 50),)) == [Evict("b", 9, Tier.WARM)]
    assert planned(StreamView("a", compress=((2, 4, 10),), ours=True)) == [Compress("a", 2)]
    assert planned(ours, tier1_passing=5) == [], "somebody gives some back soon"
    assert planned(ours, uploading=True) == [], "uploads make room in tier 1"
    assert planned(ours, disk_full=True) == [straight, CompressToTier2("a", 2)]
    assert planned(theirs, disk_full=True) == []


def test_nobody_is_sealed_early_while_uploads_make_room():
    """Goal: a slow tier 2 does not make segments small. Method: an append waits while tier 1 waits
    for uploads; without uploads, and with room to be had, the idle stream is sealed."""
    waiting = StreamView("a", spare_frame_bytes=1, spare_bytes=30, blocked_since_s=1.0)
    busy = StreamView("b", compress=((1, 10, 60),), ours=True, holding=Holding(1, 0, 20, 20, 5))
    view = View((waiting, busy), 95, 100, 80, 95, 100, tier2=True, uploading=True)
    assert [c for c in plan(view) if isinstance(c, Relinquish)] == []
    soon = dataclasses.replace(view, uploading=False, evict1=(("c", 1, 10),))
    assert [c for c in plan(soon) if isinstance(c, Relinquish)] == []
    idle = StreamView("b", holding=Holding(1, 0, 20, 20, 5))
    stuck = dataclasses.replace(view, uploading=False, streams=(waiting, idle), tier1_used=0)
    assert [c for c in plan(stuck) if isinstance(c, Relinquish)] == [Relinquish("b")]


def test_a_full_disk_lets_copies_go_though_the_budgets_have_room():
    """Goal: what tier 2 has makes room on the disk. Method: an append waits for a segment."""
    waiting = StreamView("a", spare_frame_bytes=1, spare_bytes=30, blocked_since_s=1.0)
    view = View((waiting,), 10, 100, 80, 10, 100, (("b", 1, 8),), (("b", 2, 5),), disk_full=True)
    evictions = [c for c in plan(view) if isinstance(c, Evict)]
    assert evictions == [Evict("b", 2, Tier.WARM), Evict("b", 1, Tier.HOT)]


# --- the job --------------------------------------------------------------------------------------


def test_a_job_goes_on_while_no_warm_file_can_be_made(tmp_path, any_store, monkeypatch):
    """Goal: a full disk is no end where there is a tier 2. Method: no warm file can be written; six
    times tier 0 is appended, read back cold, and read again after reopening."""
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: any_store)
    monkeypatch.setattr(WarmTier, "build", no_room)
    monkeypatch.setattr(any_store, "close", lambda: None)
    records = list(random_payloads(SEED + 1, 330))
    root = tmp_path / "r"
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("s")
        for record in records:
            log.append(record, timeout=60)
        manager.drain("remote", timeout=60)
        assert log.watermarks.remote == len(records)
        check_equal(log.reader().payloads(), records)
        assert manager.metrics().commands_done["CompressToTier2"] >= 10
        assert not any(Tier.WARM in info.residency for info in log.segments())
        assert list(root.glob("*/warm/*.zst")) == []
    kinds = records_of_types(root, 1)
    assert [k for k in kinds if "UPLOAD" in k or k == "COMPRESSION_DONE"] == [
        "COMPRESSION_DONE",
        "UPLOAD_STARTED",
        "UPLOAD_DONE",
    ]
    with aof2.ManifestInspector(root, "s") as inspector:
        assert inspector.check() == []
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("s")
        assert log.recovery.clean
        check_equal(log.reader().payloads(), records)


def test_tier_1_that_cannot_shrink_is_passed_by(tmp_path, store):
    """Goal: nothing waits for a tier 1 that is taken for good. Method: somebody else holds all of
    its budget; twenty segments are appended and read back."""
    records = list(random_payloads(SEED + 2, 200))
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        held = manager._context.tier1.charge(CONFIG.tier1.bytes_max)
        log = manager.stream("s")
        for record in records:
            log.append(record, timeout=30)
        manager.drain("remote", timeout=30)
        check_equal(log.reader().payloads(), records)
        assert manager.metrics().commands_done["CompressToTier2"] >= 4
        held.drop()


@pytest.mark.parametrize("same_level", [True, False], ids=["same level", "another level"])
@pytest.mark.parametrize("stored", [False, True], ids=["before the request", "after it"])
def test_a_restart_goes_on_where_it_was(tmp_path, store, monkeypatch, stored, same_level):
    """Goal: one object for a segment, whatever a restart finds. Method: the request fails before or
    after the object is there; then the disk has room again, with the same `tier1.level` or not."""
    records = list(random_payloads(SEED + 3, 40))
    planned = aof2.UploadFailed("planned failure")

    def fail(thing: object) -> None:
        raise planned

    with monkeypatch.context() as patch:
        patch.setattr(WarmTier, "build", no_room)
        store.after, store.before = (fail, store.before) if stored else (store.after, fail)
        with aof2.open(tmp_path / "r", config=CONFIG) as manager:
            log = manager.stream("s")
            log.extend(records)
            with pytest.raises(aof2.WaitTimeout, match=r"planned failure|No space"):
                manager.drain("remote", timeout=0.5)
            assert log.watermarks.remote == 0
    tried, made = set(store.puts), store.segments()
    assert tried
    assert bool(made) == stored
    store.before, store.after = lambda key: None, lambda info: info
    config = (
        CONFIG
        if same_level
        else dataclasses.replace(CONFIG, tier1=dataclasses.replace(CONFIG.tier1, level=7))
    )
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        manager.drain("remote", timeout=30)
        check_equal(log.reader().payloads(), records)
        keys = {str(info.key) for info in log.segments()}
        if same_level:
            assert set(store.segments()) == keys >= tried
        else:
            assert keys <= set(store.segments())
            assert not keys & tried, "another content never comes under a key that was used"


def test_what_changes_between_the_two_passes_is_not_stored(tmp_path, store, monkeypatch):
    """Goal: the object is what was measured and proven. Method: the bytes that are sent differ by
    one bit, three times; then they do not."""
    make, left = PassingSegment.pieces, [3]

    def spoilt(self: PassingSegment) -> Iterator[bytes]:
        for piece in make(self):
            if left[0]:
                left[0] -= 1
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            yield piece

    monkeypatch.setattr(WarmTier, "build", no_room)
    monkeypatch.setattr(PassingSegment, "pieces", spoilt)
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.extend(records := list(random_payloads(SEED + 4, 30)))
        manager.drain("remote", timeout=30)
        assert left == [0]
        assert sum(manager.metrics().command_failures.values()) >= 1
        check_equal(log.reader().payloads(), records)
        assert len(store.segments()) == len(log.segments())


def test_a_segment_that_is_evicted_meanwhile_is_sent_to_its_end(tmp_path, store, monkeypatch):
    """Goal: an upload does not depend on a name. Method: as a request begins, the hot copy goes, as
    it may once a warm one was made beside; the first request is the only one, and its bytes count
    as leased until then."""
    monkeypatch.setattr(WarmTier, "build", no_room)
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")

        def evict(key: str) -> None:
            hot, base = log._instance.hot, int(key.rpartition("/")[2].partition("-")[0])
            [segment] = [i.segment_id for i in log.segments() if i.base_offset == base]
            file_bytes = hot.sizes[segment]
            hot.evict(segment)
            assert hot.leased_bytes >= file_bytes

        store.before = evict
        log.extend(records := list(random_payloads(SEED + 6, 60)))
        log.seal(timeout=10)
        manager.drain("remote", timeout=30)
        assert len(store.puts) == len(log.segments()) > 1
        assert log._instance.hot.leased_bytes == 0
        check_equal(log.reader().payloads(), records)


def test_a_damaged_segment_is_not_sent(tmp_path, store, monkeypatch):
    """Goal: no cold copy of damage. Method: flip a byte of a sealed segment while the store is
    down; then nothing of it is stored, and the failure names the file."""
    monkeypatch.setattr(WarmTier, "build", no_room)

    def away(key: str) -> None:
        raise aof2.Tier2Unavailable("tier 2 is down")

    store.before = away
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.extend(random_payloads(SEED + 5, 10))
        log.seal(timeout=10)
        path = next(tmp_path.glob("r/s-*/segments/00000000000000000001.seg"))
        with path.open("r+b") as file:
            file.seek(20_000)
            byte = file.read(1)[0]
            file.seek(20_000)
            file.write(bytes([byte ^ 1]))
        store.before = lambda key: None
        with pytest.raises(aof2.WaitTimeout):
            manager.drain("remote", timeout=1)
        failures = list(log._instance.failures.values())
        assert any(isinstance(f, aof2.SegmentCorrupt) and f.path == str(path) for f in failures)
        assert log.segments()[0].key is None
