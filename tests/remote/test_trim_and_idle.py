"""Objects that go after their grace, streams that get a tier 2 late, and idle streams."""

from __future__ import annotations

import pytest
from remotehelp import WatchedStore, append, check_agree, fill, opened, payloads, settle

import aof2
from aof2._core.manifest import RecordType as T
from aof2.manifest.log import Manifest


def test_objects_go_after_publication_and_grace_across_restarts(tmp_path, monkeypatch):
    """Goal: local copies go at once, objects later. Method: trim, step the clock, restart before
    the grace is over, which then begins anew."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store, grace_s=60.0) as manager:
        log = manager.stream("s")
        records = fill(log, 4)
        settle(manager)
        log.trim(7)
        settle(manager)
        assert len(store.named("/seg/")) == 4
        assert [info.base_offset for info in log.segments()] == [6, 9]
        held = {*log._instance.hot.sizes, *log._instance.warm.sizes}
        assert held == {3, 4}
        settle(manager, 50.0)
        assert len(store.named("/seg/")) == 4
    with opened(monkeypatch, tmp_path / "r", store, grace_s=60.0) as manager:
        log = manager.stream("s")
        assert log.first_offset == 7
        for offset in (0, 6):
            with pytest.raises(aof2.OffsetOutOfRange):
                log.get(offset)
        assert payloads(log) == records[7:]
        settle(manager, 30.0)
        assert len(store.named("/seg/")) == 4
        settle(manager, 80.0)
        assert len(store.named("/seg/")) == 2
        check_agree(log, store)
        log.trim(3)
        assert log.first_offset == 7
        with pytest.raises(aof2.OffsetOutOfRange):
            log.trim(13)
    with opened(monkeypatch, tmp_path / "again", store) as manager:
        log = manager.stream("s")
        assert payloads(log) == records[7:]
        settle(manager, 10.0)
        assert len(store.named("/seg/")) == 2
        check_agree(log, store)


def test_what_is_trimmed_before_its_upload_stops_nothing(tmp_path, monkeypatch):
    """Goal: trimmed work ends. Method: trim sealed and unsealed records while uploads fail; the
    watermark goes on and a drain returns."""
    store = WatchedStore()

    def refuse(request: str, key: str) -> None:
        if request == "put" and "/seg/" in key:
            raise aof2.UploadFailed("planned failure", path=key)

    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        store.before = refuse
        fill(log, 2)
        settle(manager)
        append(log, b"unsealed")
        log.trim(7)
        log._instance.writer.end_segment()
        settle(manager)
        store.before = lambda request, key: None
        records = fill(log, 1)
        settle(manager, 100.0)
        assert log.watermarks.remote == 10
        manager.drain("remote", timeout=5)
        assert payloads(log) == records
        assert len(store.named("/seg/")) == 1
        check_agree(log, store)


def test_an_upload_that_a_trim_overtakes_leaves_no_object(tmp_path, monkeypatch):
    """Goal: no object without a row. Method: trim while the request is under way."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")

        def overtake(request: str, key: str) -> None:
            if request == "put" and "/seg/" in key:
                log.trim(3)

        store.before = overtake
        fill(log, 1)
        settle(manager, 50.0)
        assert store.named("/seg/") == []


@pytest.mark.parametrize("between", [False, True], ids=["once", "local again"])
def test_a_stream_that_lived_locally_is_restored_from_tier_2(tmp_path, monkeypatch, between):
    """Goal: tier 2 may come late, and go for a while. Method: many snapshots, so that the first
    chunks are gone; then tier 2; then, perhaps, without it and with it again; then a lost root."""
    store, root, records = WatchedStore(), tmp_path / "r", []
    for tier2 in [None, store, *([None, store] if between else [])]:
        with opened(monkeypatch, root, tier2, snapshot_chunks=1) as manager:
            log = manager.stream("s")
            for _ in range(30):
                records += fill(log, 1)
                log._instance.manifest.seal_chunk()
                settle(manager, rounds=2)
            if tier2 is None:
                continue
            settle(manager)
            assert log.watermarks.remote == len(records)
    with opened(monkeypatch, tmp_path / "again", store) as manager:
        log = manager.stream("s")
        assert log.recovery.takeover
        assert payloads(log) == records


def test_a_head_older_than_the_first_snapshot_is_enough(tmp_path, monkeypatch):
    """Goal: HEAD may trail. Method: a stream whose beginning is in snapshots only; every HEAD
    after the first is lost."""
    store, root, records = WatchedStore(), tmp_path / "r", []
    with opened(monkeypatch, root, None, snapshot_chunks=1) as manager:
        log = manager.stream("s")
        for _ in range(6):
            records += fill(log, 1)
            log._instance.manifest.seal_chunk()
            settle(manager, rounds=2)
    heads = []

    def only_first(request: str, key: str) -> None:
        if key.endswith("/HEAD") and request == "replace":
            heads.append(key)
            if len(heads) > 1:
                raise aof2.UploadFailed("planned failure", path=key)

    with opened(monkeypatch, root, store) as manager:
        log = manager.stream("s")
        store.before = only_first
        settle(manager)
        settle(manager)
        told = log.watermarks.remote
        assert told == len(records)
        store.before = lambda request, key: None
    with opened(monkeypatch, tmp_path / "again", store) as manager:
        assert payloads(manager.stream("s")) == records


def test_an_idle_stream_asks_and_plans_nothing(tmp_path, monkeypatch):
    """Goal: idle means no request and no CPU. Method: a settled stream for an hour of a stepped
    clock; and one whose publication fails is not due again before its pause is over."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        fill(log, 2)
        settle(manager)
        calls = len(store.calls)
        settle(manager, 3600.0, rounds=100)
        assert len(store.calls) == calls
        now_s = manager._clock.monotonic_s()
        assert manager._coordinator._wait_s(now_s) is None

        def refuse(request: str, key: str) -> None:
            if key.endswith(".mlog"):
                raise aof2.UploadFailed("planned failure", path=key)

        monkeypatch.setattr(manager._clock, "jitter", lambda seconds: 500.0)
        store.before = refuse
        fill(log, 1)
        settle(manager, 10.0)
        now_s = manager._clock.monotonic_s()
        wait_s = manager._coordinator._wait_s(now_s)
        assert wait_s is not None
        assert wait_s > 100


def test_publications_are_bounded_and_a_drain_does_not_wait(tmp_path, monkeypatch):
    """Goal: `publish_interval_s`. Method: ten segments within one interval are one publication,
    told by its look for a higher claim; a drain publishes at once."""
    store = WatchedStore()

    def looks() -> int:
        return sum(key.endswith("/epoch/00000000000000000002") for _, key in store.calls)

    with opened(monkeypatch, tmp_path / "r", store, interval_s=100.0) as manager:
        log = manager.stream("s")
        fill(log, 1)
        settle(manager, 0.0)
        before = looks()
        for _ in range(10):
            fill(log, 1)
            settle(manager, 1.0)
        assert looks() == before
        assert log.watermarks.remote == 0
        settle(manager, 100.0)
        assert looks() == before + 1
        assert log.watermarks.remote == 33
        fill(log, 1)
        with pytest.raises(aof2.WouldBlock):
            manager.drain_nowait("remote")
        manager._coordinator.poll()
        manager.drain_nowait("remote")
        assert log.watermarks.remote == 36


def test_what_is_uploaded_during_a_publication_counts_with_the_next(tmp_path, monkeypatch):
    """Goal: the remote watermark says no more than published chunks do. Method: a second segment
    is recorded as uploaded while the chunk that names the first one is on its way."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        instance = manager.stream("s")._instance
        publication, manifest = instance.remote.publication, instance.manifest
        add_segment(manifest, 1)

        def meanwhile(request: str, key: str) -> None:
            if request == "put" and key.endswith(".mlog") and len(manifest.index.segments) == 1:
                add_segment(manifest, 2)

        store.before = meanwhile
        publication.publish()
        assert (publication.remote_offset, manifest.index.cold_end) == (3, 6)
        publication.publish()
        assert publication.remote_offset == 6


def test_restoring_many_segments_takes_few_requests(tmp_path, monkeypatch):
    """Goal: requests do not grow with the history. Method: 10,000 segments as records, published;
    then a restore is counted."""
    store, root = WatchedStore(), tmp_path / "r"
    with opened(monkeypatch, root, store) as manager:
        manifest = manager.stream("s")._instance.manifest
        for segment_id in range(1, 10_001):
            add_segment(manifest, segment_id)
            if manifest.snapshot_due:
                manifest.write_snapshot()
        manifest.seal_chunk()
        manifest._snapshots.capture(manifest.index, manifest._end)
        manifest.write_snapshot()
        settle(manager)
    store.calls.clear()
    with opened(monkeypatch, tmp_path / "again", store) as manager:
        log = manager.stream("s")
        assert log.next_offset == log.watermarks.remote == 30_000
    counts = store.counts()
    reads = [call for call in store.calls if call[0] in ("get", "head", "list")]
    pages = [key for _, key in reads if key.endswith(".page")]
    # The listing of the name, HEAD, the claim, the snapshot, the end of the chain, the look.
    assert len(reads) - len(pages) <= 8
    assert len(pages) == 2
    assert counts["list"] == 1
    assert counts["put"] + counts["replace"] <= 3


def add_segment(manifest: Manifest, segment_id: int) -> None:
    """The records of a segment that is in tier 2 only."""
    base, end = (segment_id - 1) * 3, segment_id * 3
    key = f"s/seg/00/{base:020d}"
    manifest.append(T.SEGMENT_OPENED, segment_id, base, base_offset=base, epoch=1)
    seal = {"durable_bytes": 65536, "segment_crc64": segment_id, "ext_id": 0}
    seal |= {"coordinator_watermark": 0, "flush_failure": 0}
    manifest.append(T.SEAL_SEGMENT, segment_id, end, **seal)
    sizes = {"bytes": 9000, "table_bytes": 200, "crc64": segment_id, "raw_crc64": segment_id}
    manifest.append(T.COMPRESSION_DONE, segment_id, base, **sizes)
    manifest.append(T.UPLOAD_STARTED, segment_id, base, key=key)
    uploaded = {"key": key, "size": 9000, "crc64": segment_id, "etag": "0"}
    manifest.append(T.UPLOAD_DONE, segment_id, base, **uploaded)
