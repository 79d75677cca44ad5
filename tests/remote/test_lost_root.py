"""Losing the local root: tier 2 gives back all up to the remote watermark, and no more."""

from __future__ import annotations

import shutil

import pytest
from remotehelp import (
    WatchedStore,
    append,
    check_agree,
    end_segment,
    fill,
    opened,
    payloads,
    settle,
)

import aof2
from aof2._core.manifest import RecordType


@pytest.mark.parametrize("head", ["kept", "lost"])
def test_a_lost_root_comes_back_again_and_again(tmp_path, monkeypatch, head):
    """Goal: promise 3. Method: three times, append, wait, remove the root, open an empty one."""
    store, records = WatchedStore(), []
    for generation in range(4):
        root = tmp_path / "r"
        with opened(monkeypatch, root, store, snapshot_chunks=2) as manager:
            log = manager.stream("s")
            report = log.recovery
            assert report.takeover == (generation > 0)
            assert (log.first_offset, log.next_offset) == (0, len(records))
            assert log.watermarks.remote == len(records)
            assert payloads(log) == records
            records += fill(log, 4)
            settle(manager)
            log.wait(level="remote", timeout=0)
            assert payloads(log) == records
            check_agree(log, store)
        shutil.rmtree(root)
        if head == "lost":
            store.delete(next(key for key in store.named() if key.endswith("/HEAD")))


def test_a_lost_head_costs_a_list(tmp_path, monkeypatch):
    """Goal: HEAD is a hint. Method: count the listings of two restores, with and without it."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        fill(manager.stream("s"), 2)
        settle(manager)
    lists = []
    for name in ("with", "without"):
        copy = store.copy()
        if name == "without":
            copy.delete(next(key for key in copy.named() if key.endswith("/HEAD")))
        copy.calls.clear()
        with opened(monkeypatch, tmp_path / name, copy) as manager:
            assert len(payloads(manager.stream("s"))) == 6
            lists.append(copy.counts()["list"])
    assert lists == [1, 2]


@pytest.mark.parametrize("missing", [1, 3, 4])
def test_the_history_ends_at_the_contiguous_prefix(tmp_path, monkeypatch, caplog, missing):
    """Goal: an exact prefix. Method: the upload of one segment fails while later ones succeed and
    are published; the root is lost; what comes back ends before the missing one, and goes on."""
    store, seen = WatchedStore(), []

    def refuse(request: str, key: str) -> None:
        if request == "put" and f"/{3 * (missing - 1):020d}-" in key:
            seen.append(key)
            raise aof2.UploadFailed("planned failure", path=key)

    store.before = refuse
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        records = []
        monkeypatch.setattr(manager._clock, "jitter", lambda seconds: 0.3)
        for _ in range(5):
            records += fill(log, 1)
            settle(manager)
        settled = log.watermarks.remote
        assert settled == 3 * (missing - 1)
        assert len(store.named("/seg/")) == 4
        assert seen
        # What is cold beyond the gap is told to tier 2 as well.
        manager._instances["s"].remote.asked = True
        settle(manager)
        assert log.watermarks.remote == settled
    store.before = lambda request, key: None
    root = tmp_path / "again"
    for n in range(2):
        with opened(monkeypatch, root, store) as manager:
            log = manager.stream("s")
            if n == 0:
                assert log.recovery.takeover
                assert any(r.event == "takeover_lost" for r in caplog.records if "event" in vars(r))
            kept = records[:settled]
            assert payloads(log) == kept
            assert log.next_offset == log.watermarks.remote == settled
    with opened(monkeypatch, root, store) as manager:
        log = manager.stream("s")
        kept += fill(log, 3)
        settle(manager)
        assert log.watermarks.remote == len(kept)
        assert payloads(log) == kept
    with opened(monkeypatch, tmp_path / "third", store) as manager:
        assert payloads(manager.stream("s")) == kept


def test_what_was_trimmed_beyond_tier_2_is_no_offset_again(tmp_path, monkeypatch):
    """Goal: no record is taken in below what was trimmed. Method: trim inside a segment that is
    not in tier 2, publish that, lose the root; the next record is the first that is kept."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        fill(log, 2)
        settle(manager)
        for n in range(5):
            append(log, b"late %d" % n)
        log.trim(10)
        manager._instances["s"].remote.asked = True
        settle(manager)
    for name in ("again", "again", "third"):
        with opened(monkeypatch, tmp_path / name, store) as manager:
            log = manager.stream("s")
            assert log.first_offset == 10
            with pytest.raises(aof2.OffsetOutOfRange):
                log.get(9)
            n = log.next_offset
            assert append(log, b"new") == n >= 10
            assert bytes(log.get(n).payload) == b"new"
            end_segment(log)
            settle(manager)
            assert log.watermarks.remote == n + 1


def test_a_publication_between_opened_and_sealed_is_taken_over(tmp_path, monkeypatch):
    """Goal: every cut of the manifest restores. Method: the published part ends right behind a
    `SegmentOpened`, with a sealed segment before it that is not in tier 2."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        records = fill(log, 2)
        settle(manager)

        def refuse(request: str, key: str) -> None:
            if request == "put" and "/seg/" in key:
                raise aof2.UploadFailed("planned failure", path=key)

        store.before = refuse
        monkeypatch.setattr(manager._clock, "jitter", lambda seconds: 100.0)
        fill(log, 1)
        manifest = manager._instances["s"].manifest
        last = manifest.index.last().segment_id
        manifest.append(RecordType.SEGMENT_OPENED, last + 1, 9, base_offset=9, epoch=1)
        manager._instances["s"].remote.publication.publish()
    store.before = lambda request, key: None
    for name in ("again", "third"):
        with opened(monkeypatch, tmp_path / name, store) as manager:
            log = manager.stream("s")
            assert payloads(log) == records
            records += fill(log, 2)
            settle(manager)
            assert log.watermarks.remote == len(records)
            assert payloads(log) == records


def test_a_real_server_gives_a_lost_root_back(tmp_path, tier2_s3):
    """Goal: the same over S3. Method: append, wait, remove the root, open again, twice."""
    records: list[bytes] = []
    for _ in range(3):
        with aof2.open(tmp_path / "r", tier2=aof2.Tier2Config(**tier2_s3)) as manager:
            log = manager.stream("s")
            assert payloads(log) == records
            new = [bytes([n]) * (n * 40) for n in range(200)]
            log.append_many(new)
            records += new
            log.wait(level="remote", timeout=30)
            assert log.watermarks.remote == len(records)
        shutil.rmtree(tmp_path / "r")
