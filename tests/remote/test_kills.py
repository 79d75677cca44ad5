"""A kill before any request, and requests that fail or whose replies are lost: what was confirmed
stays, and manifest and bucket agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from remotehelp import (
    WatchedStore,
    append,
    check_agree,
    fill,
    kill,
    opened,
    payloads,
    settle,
)

import aof2


def live(manager: aof2.AofManager, records: list[bytes], confirmed: list[int]) -> None:
    """The life that is killed: three segments, a trim, objects that go, two more segments."""
    log = manager.stream("s")
    records += fill(log, 3)
    settle(manager, 10.0, rounds=60)
    log.wait(level="remote", timeout=0)
    confirmed[0] = log.watermarks.remote
    assert confirmed[0] == log.next_offset
    log.trim(4)
    settle(manager, 10.0, rounds=60)
    records += fill(log, 2)
    settle(manager, 10.0, rounds=60)
    confirmed[0] = log.watermarks.remote


def check_survivor(
    monkeypatch,
    root: Path,
    store: WatchedStore,
    records: list[bytes],
    confirmed: int,
    *,
    orphans: bool = False,
) -> None:
    """Open what a kill left: nothing confirmed is missing, nothing differs, and it goes on."""
    with opened(monkeypatch, root, store, snapshot_chunks=2) as manager:
        log = manager.stream("s")
        first, following = log.first_offset, log.next_offset
        assert first in (0, 4)
        assert confirmed <= following
        held = payloads(log)
        assert held == records[first:following]
        assert append(log, b"after") == following
        log._instance.writer.end_segment()
        settle(manager)
        assert log.watermarks.remote == following + 1
        assert payloads(log) == [*held, b"after"]
        check_agree(log, store, orphans=orphans)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("survivor", ["root", "bucket"])
def test_a_kill_around_any_request_loses_nothing_confirmed(tmp_path, monkeypatch, moment, survivor):
    """Goal: a kill between any two steps ends the same. Method: copy root and bucket around every
    request of a life, then open each copy, or only the bucket's with an empty root."""
    store, records, confirmed = WatchedStore(), [], [0]
    kills: list[tuple[Path, WatchedStore, int]] = []

    def cut(request: str, key: str) -> None:
        if request in ("put", "replace", "delete"):
            told = confirmed[0]
            if manager._instances:
                told = max(told, manager._instances["s"].remote_offset)
            copy = tmp_path / f"kill-{len(kills)}"
            kills.append((kill(tmp_path / "r", copy), store.copy(), told))

    with opened(monkeypatch, tmp_path / "r", store, snapshot_chunks=2) as manager:
        setattr(store, moment, cut)
        live(manager, records, confirmed)
        setattr(store, moment, lambda request, key: None)
    assert len(kills) > 15
    for copy, bucket, told in kills:
        root = copy if survivor == "root" else tmp_path / f"empty-{copy.name}"
        orphans = survivor == "bucket"
        check_survivor(monkeypatch, root, bucket, records, told, orphans=orphans)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("times", [1, 3])
def test_requests_that_fail_and_then_work_end_the_same(tmp_path, monkeypatch, moment, times):
    """Goal: failures and lost replies leave manifest and bucket agreeing. Method: each write fails
    so many times before it has, or after it had, its effect; then a restart looks."""
    store, records, confirmed = WatchedStore(), [], [0]
    failures: dict[tuple[str, str], int] = {}

    def fail(request: str, key: str) -> None:
        if request not in ("put", "replace", "delete") or "/current/" in key:
            return
        failures[request, key] = failures.get((request, key), 0) + 1
        if failures[request, key] <= times:
            raise aof2.UploadFailed("planned failure", path=key)

    with opened(monkeypatch, tmp_path / "r", store, snapshot_chunks=2) as manager:
        setattr(store, moment, fail)
        live(manager, records, confirmed)
        assert confirmed[0] == len(records)
        check_agree(manager.stream("s"), store)
        setattr(store, moment, lambda request, key: None)
    assert max(failures.values()) > times
    check_survivor(monkeypatch, tmp_path / "r", store.copy(), records, len(records))
    check_survivor(monkeypatch, tmp_path / "empty", store, records, len(records))


def test_the_watermark_waits_for_the_chunk_and_the_look(tmp_path, monkeypatch):
    """Goal: `remote` is never ahead of tier 2. Method: look at it at each request of a
    publication; it moves only after the chunk, and after the question for a higher claim."""
    store, seen = WatchedStore(), []
    with opened(monkeypatch, tmp_path / "r", store) as manager:
        log = manager.stream("s")
        fill(log, 1)
        settle(manager)
        assert log.watermarks.remote == 3
        store.before = lambda request, key: seen.append((request, key, log.watermarks.remote))
        fill(log, 1)
        settle(manager)
        assert log.watermarks.remote == 6
        chunk = next(i for i, (_, key, _) in enumerate(seen) if key.endswith(".mlog"))
        look = next(i for i, (_, key, _) in enumerate(seen) if "/epoch/" in key and i > chunk)
        assert all(remote == 3 for _, _, remote in seen[: look + 1])
