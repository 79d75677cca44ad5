"""`explain_block` says what an append would meet."""

from __future__ import annotations

import threading

import pytest

import aof2
from aof2.coordinator.commands import Compress, Prepare, Upload

KIB = 1 << 10
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=512 * KIB),
    tier1=aof2.Tier1Config(bytes_max=256 * KIB),
    tier2=aof2.Tier2Config(url="memory://explain"),
)


@pytest.mark.parametrize("held", [None, Prepare, Compress, Upload], ids=lambda h: str(h))
def test_it_says_what_the_next_append_is_told(tmp_path, held):
    """Goal: the explanation and the error agree. Method: hold one kind of work until an append is
    refused, and compare; without holding any, nothing is in the way."""
    gate = threading.Event()
    with aof2.open(tmp_path, config=CONFIG) as manager:
        log = manager.stream("s")
        log.append(b"first")
        assert log.explain_block().kind is None
        if held is not None:
            manager._coordinator.before = lambda c: isinstance(c, held) and gate.wait(20)
            refused = None
            for _ in range(2000):
                try:
                    log.append(bytes(20_000), timeout=0.2)
                except aof2.WaitTimeout as error:
                    refused = error.kind
                    break
            found = log.explain_block(20_000)
            assert found.kind is refused is not None
            assert found.live
            assert found.freed_by
            assert found.since_s is not None
            assert found.since_s > 0
            gate.set()
        log.append(b"last", timeout=20)
        manager.drain("local", timeout=20)


def test_beside_the_writer_it_tells_what_files_and_budgets_tell(tmp_path):
    """Goal: an operator's view. Method: a readonly manager with a full tier 0 and held uploads."""
    gate = threading.Event()
    with aof2.open(tmp_path, config=CONFIG) as manager:
        log = manager.stream("s")
        manager._coordinator.before = lambda c: isinstance(c, Compress) and gate.wait(20)
        with pytest.raises(aof2.WaitTimeout):
            log.extend((bytes(20_000) for _ in range(2000)), timeout=0.3)
        with aof2.open(tmp_path, config=CONFIG, readonly=True) as beside:
            found = beside.stream("s").explain_block(20_000)
        assert not found.live
        assert found.kind is aof2.WouldBlockKind.ADMISSION
        assert found.since_s is None
        assert found.facts["segments_to_compress"] > 0
        assert found.facts["tier0_bytes_used"] > 400 * KIB
        gate.set()
