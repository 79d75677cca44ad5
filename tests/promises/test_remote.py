"""Promises 3 and 8 between hosts: a lost root comes back, a replaced writer is fenced."""

from __future__ import annotations

import shutil

import pytest

import aof2

RECORDS = [b"%d" % n * 20 for n in range(500)]


def test_a_lost_root_comes_back_with_all_that_was_remote(tmp_path):
    """Goal: promise 3. Method: drain, append more, lose the root, reopen with the same tier 2."""
    root, tier2 = tmp_path / "root", tmp_path / "tier2"
    with aof2.open(root, tier2=tier2) as manager:
        log = manager.stream("a")
        log.append_many(RECORDS)
        log.wait(len(RECORDS) - 1, "remote")
        log.append(b"only local")
    shutil.rmtree(root)
    with aof2.open(root, tier2=tier2) as manager:
        log = manager.stream("a")
        assert log.recovery.takeover
        assert list(log.reader().payloads()) == RECORDS
        assert log.append(b"again") == len(RECORDS)
        manager.drain("remote")
        assert log.watermarks.remote == len(RECORDS) + 1


def test_a_replaced_writer_is_told_and_adds_nothing(tmp_path):
    """Goal: promise 8. Method: a second root takes the stream over while the first is open."""
    tier2 = tmp_path / "tier2"
    with aof2.open(tmp_path / "old", tier2=tier2) as old:
        before = old.stream("a")
        before.append_many(RECORDS)
        old.drain("remote")
        before.append(b"never remote")
        with aof2.open(tmp_path / "new", tier2=tier2) as new:
            log = new.stream("a")
            log.append(b"of the new writer")
            new.drain("remote")
            with pytest.raises(aof2.Fenced):
                before.wait(len(RECORDS), "remote")
            with pytest.raises(aof2.Fenced):
                before.append(b"too late")
            assert before.get(len(RECORDS)).payload == b"never remote"
            assert list(log.reader().payloads()) == [*RECORDS, b"of the new writer"]
    shutil.rmtree(tmp_path / "new")
    with aof2.open(tmp_path / "new", tier2=tier2) as new:
        payloads = list(new.stream("a").reader().payloads())
        assert payloads == [*RECORDS, b"of the new writer"]
