"""A manifest without room: appends say so before a record is taken, and go on by themselves."""

from __future__ import annotations

import errno
import time

import pytest
from jobhelp import KIB, MIB, small_config

import aof2
from aof2._core import posix
from aof2.manifest.chunks import ChunkFiles

RECORD = b"x" * 8000


def test_a_manifest_that_finds_no_room_blocks_appends_and_loses_nothing(tmp_path, monkeypatch):
    """Goal: no segment begins whose seal could not be recorded. Method: the disk has no room
    for another chunk; append until that says `WouldBlock`(DISK_FULL); then there is room again."""
    config = small_config(
        None,
        64 * KIB,
        2 * MIB,
        manifest=aof2.ManifestConfig(chunk_bytes=16 * KIB, snapshot_chunks=1000),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.02),
    )
    prepare = ChunkFiles.prepare

    def refuse(self: ChunkFiles, chunk_id: int) -> None:
        path = self.directory.join(f"{chunk_id:020d}.mlog")
        raise OSError(errno.ENOSPC, "No space left on device", path)

    taken = 0
    with aof2.open(tmp_path, config=config) as manager:
        log = manager.stream("s")
        log.append(RECORD)
        taken += 1
        monkeypatch.setattr(ChunkFiles, "prepare", refuse)
        until = time.monotonic() + 30
        kinds = set()
        while aof2.WouldBlockKind.DISK_FULL not in kinds and time.monotonic() < until:
            try:
                log.append_nowait(RECORD)
                taken += 1
            except aof2.WouldBlock as blocked:
                if manager._instances["s"].manifest.stalled is not None:
                    kinds.add(blocked.kind)
                blocked.wait(0.05)
        assert aof2.WouldBlockKind.DISK_FULL in kinds
        monkeypatch.setattr(ChunkFiles, "prepare", prepare)
        for _ in range(200):
            log.append(RECORD, timeout=30)
            taken += 1
        assert manager._instances["s"].manifest.stalled is None
    with aof2.open(tmp_path, config=config) as manager:
        assert sum(1 for _ in manager.stream("s").reader()) == taken
        with pytest.raises(aof2.OffsetOutOfRange):
            manager.stream("s").get(taken)


def test_a_manifest_whose_sync_failed_stops_appends(tmp_path):
    """Goal: no wait for what can never be recorded. Method: the directory's sync fails once, when
    a chunk is prepared, and would succeed later; append until that says `DurabilityLost`; reopen
    and read."""
    config = small_config(
        None,
        64 * KIB,
        2 * MIB,
        manifest=aof2.ManifestConfig(chunk_bytes=16 * KIB),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.02),
    )

    manager = aof2.open(tmp_path, config=config)
    log = manager.stream("s")
    directory = manager._instances["s"].manifest._files.directory
    failures = [errno.EIO]

    def refuse(op: str, fd: int, *_: object) -> int:
        return failures.pop() if failures and (op, fd) == ("fsync_dir", directory.fd) else 0

    def append_on() -> None:
        while log.next_offset < 100_000:
            log.append(RECORD, timeout=30)

    posix.set_seam_hook(refuse)
    try:
        with pytest.raises(aof2.DurabilityLost):
            append_on()
    finally:
        posix.set_seam_hook(None)
    taken = log.next_offset
    assert not failures
    with pytest.raises(aof2.DurabilityLost):
        manager.close()
    with aof2.open(tmp_path, config=config) as manager:
        assert sum(1 for _ in manager.stream("s").reader()) == taken
