"""Two roots on one bucket: one owner, and the other changes nothing any more."""

from __future__ import annotations

import dataclasses

import pytest
from remotehelp import WatchedStore, append, fill, kill, opened, payloads, settle

import aof2
from aof2.coordinator.commands import Retain
from aof2.coordinator.handlers import handle

WRITES = ("put", "replace", "delete")


def test_a_replaced_writer_is_told_and_changes_nothing(tmp_path, monkeypatch):
    """Goal: promise 8. Method: a second root takes over; every call of the first that needs tier 2
    raises `Fenced`, and it makes no write from then on, though uploads and deletes wait."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "a", store) as first:
        old = first.stream("s")
        records = fill(old, 2)
        settle(first)
        confirmed = old.watermarks.remote
        assert confirmed == len(records)
        with opened(monkeypatch, tmp_path / "b", store) as second:
            new = second.stream("s")
            assert new.recovery.takeover
            assert payloads(new) == records
            fill(old, 1)
            settle(first)
            assert [r.code for r in first.health().reasons] == ["fenced"]
            for call in (
                lambda: append(old, b"x"),
                lambda: old.wait(level="remote", timeout=5),
                lambda: first.drain("remote", timeout=5),
            ):
                with pytest.raises(aof2.Fenced):
                    call()
            objects = store.named()
            calls = len(store.calls)
            old.trim(3)
            settle(first, 100.0)
            assert not [c for c in store.calls[calls:] if c[0] in WRITES]
            assert store.named() == objects
            records += fill(new, 2)
            settle(second)
            assert new.watermarks.remote == len(records)
            assert payloads(new) == records


def test_a_delete_that_finds_a_successor_stops_the_writer(tmp_path, monkeypatch):
    """Goal: a writer that only deletes is fenced as well. Method: a takeover while an object waits
    out its grace; the object stays."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "a", store, grace_s=60.0) as first:
        old = first.stream("s")
        fill(old, 2)
        settle(first)
        old.trim(3)
        settle(first)
        objects = store.named("/seg/")
        assert len(objects) == 2
        with opened(monkeypatch, tmp_path / "b", store) as second:
            second.stream("s")
            settle(first, 200.0)
            assert store.named("/seg/") == objects
            with pytest.raises(aof2.Fenced):
                append(old, b"x")


def test_a_stale_copy_of_a_root_claims_nothing(tmp_path, monkeypatch):
    """Goal: a restored backup harms nobody. Method: copy a root, let the original go on, open the
    copy and have it upload: `Fenced`, no write; the original is not disturbed."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "a", store) as first:
        log = first.stream("s")
        records = fill(log, 2)
        settle(first)
        kill(tmp_path / "a", tmp_path / "copy")
        records += fill(log, 2)
        settle(first)
        store.calls.clear()
        with opened(monkeypatch, tmp_path / "copy", store) as second:
            stale = second.stream("s")
            fill(stale, 1)
            settle(second)
            with pytest.raises(aof2.Fenced):
                stale.wait(level="remote", timeout=5)
        assert not [call for call in store.calls if call[0] in WRITES]
        records += fill(log, 1)
        settle(first)
        assert log.watermarks.remote == len(records)


def test_a_name_of_another_stream_is_refused_clearly(tmp_path, monkeypatch):
    """Goal: two streams never mix. Method: a root that made its stream while tier 2 was away finds
    the name taken."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "a", store) as first:
        fill(first.stream("s"), 1)
        settle(first)

    def away(request: str, key: str) -> None:
        raise aof2.Tier2Unavailable("planned failure", path=key)

    other = store.copy()
    with opened(monkeypatch, tmp_path / "b", other) as second:
        second.stream("first")
        other.before = away
        log = second.stream("s")
        other.before = lambda request, key: None
        fill(log, 1)
        settle(second)
        with pytest.raises(aof2.Fenced, match="another stream of the name 's'"):
            log.wait(level="remote", timeout=5)


def test_a_stream_made_while_tier_2_is_away_is_published_later(tmp_path, monkeypatch):
    """Goal: a root at work takes records without tier 2; a first stream asks. Method: both."""
    store = WatchedStore()

    def away(request: str, key: str) -> None:
        raise aof2.Tier2Unavailable("planned failure", path=key)

    with opened(monkeypatch, tmp_path / "r", store) as manager:
        store.before = away
        with pytest.raises(aof2.Tier2Unavailable):
            manager.stream("one")
        assert manager.streams() == []
        store.before = lambda request, key: None
        manager.stream("one")
        store.before = away
        log = manager.stream("two")
        records = fill(log, 2)
        settle(manager)
        store.before = lambda request, key: None
        settle(manager, 300.0)
        assert log.watermarks.remote == len(records)
    with opened(monkeypatch, tmp_path / "again", store) as manager:
        assert payloads(manager.stream("two")) == records


def test_a_replaced_writer_gives_nothing_up_by_itself(tmp_path, monkeypatch):
    """Goal: files of a writer that was replaced stay, whatever it may keep. Method: a second root
    takes over; the first, once it knows, gets a limit that all it has is beyond."""
    store = WatchedStore()
    with opened(monkeypatch, tmp_path / "a", store) as first:
        old = first.stream("s")
        records = fill(old, 3)
        settle(first)
        with opened(monkeypatch, tmp_path / "b", store) as second:
            fill(second.stream("s"), 1)
            records += fill(old, 1)
            settle(first)
            assert old._instance.remote.is_fenced
            context = first._context
            limit = aof2.RetentionConfig(bytes_max=1)
            context.config = dataclasses.replace(context.config, retention=limit)
            before = dict(old._instance.warm.sizes), dict(old._instance.hot.sizes)
            handle(Retain("s", 3), context)
            settle(first, 100.0)
            assert old.first_offset == 0
            assert before == (dict(old._instance.warm.sizes), dict(old._instance.hot.sizes))
            assert payloads(old) == records
