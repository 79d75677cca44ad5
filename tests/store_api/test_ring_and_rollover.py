"""A rollover must not run over bytes of the landing ring that are not written out yet."""

from __future__ import annotations

import threading

import pytest

import aof2
from aof2._core import posix

KIB = 1 << 10
RING_BYTES = 64 * KIB
FIRST = 3 * [bytes(range(250)) * 80] + [b"y" * 3000]
"""With their headers and the END, they end in the ring's last page: the next segment would begin on
their first frame."""


def test_a_rollover_waits_for_room_in_the_ring(tmp_path):
    """Goal: no record is damaged by the next segment's beginning. Method: hold the write-out, fill
    the ring up to its last page, end the segment, and append: that is refused until there is
    room. Then everything is there, in memory and in the file."""
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=256 * KIB),
        tier0=aof2.Tier0Config(bytes_max=4096 * KIB),
        flush=aof2.FlushConfig(ring_bytes=RING_BYTES, interval_s=3600),
    )
    gate, held = threading.Event(), threading.Event()

    def hold(op, fd, name, position, data, n):
        if op == "pwrite" and n >= 16000:
            held.set()
            gate.wait(20)
        return 0

    with aof2.open(tmp_path, config=config) as manager:
        log = manager.stream("s")
        log.append(b"")
        instance = manager._instances["s"]
        instance.spare_needed = 1
        manager._coordinator.kick()
        while instance.writer.spare_bytes == 0:
            threading.Event().wait(0.001)
        previous = posix.set_seam_hook(hold)
        try:
            for payload in FIRST:
                log.append_nowait(payload)
            assert held.wait(20)
            with pytest.raises(aof2.WouldBlock):
                log.seal_nowait()
            with pytest.raises(aof2.WouldBlock) as refused:
                log.append_nowait(b"next")
            assert refused.value.kind is aof2.WouldBlockKind.FLUSH
        finally:
            gate.set()
            posix.set_seam_hook(previous)
        log.append(b"next", timeout=20)
        log.seal(timeout=20)
        assert list(log.reader().payloads()) == [b"", *FIRST, b"next"]
