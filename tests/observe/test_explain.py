"""`explain_block` says what an append would meet."""

from __future__ import annotations

import dataclasses
import random
import threading

import pytest
from waithelp import until

import aof2
from aof2.coordinator.commands import Command, Compress, Prepare, Rollover, Upload

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


@pytest.mark.parametrize("held", [Prepare, Rollover, Compress, Upload])
def test_beside_the_writer_it_tells_what_files_and_budgets_tell(tmp_path, held):
    """Goal: an operator's view is the writer's. Method: hold one kind of work until appends wait;
    a readonly manager has to find the same kind, and about since when."""
    gate, config = threading.Event(), dataclasses.replace(CONFIG, tier2=None)
    where = {"config": config, "tier2": str(tmp_path / "cold")}
    with aof2.open(tmp_path / "r", **where) as manager:
        log = manager.stream("s")
        log.append(b"first")
        manager.drain("remote", timeout=20)
        manager._coordinator.before = lambda c: isinstance(c, held) and gate.wait(20)
        noise = random.Random(1)
        with pytest.raises(aof2.WaitTimeout) as late:
            log.extend((noise.randbytes(20_000) for _ in range(2000)), timeout=0.5)
        here = after = None
        # What is not held may go on for a moment.
        while here is None or here.facts != after.facts:
            here = log.explain_block(20_000)
            with aof2.open(tmp_path / "r", readonly=True, **where) as beside:
                found = beside.stream("s").explain_block(20_000)
            after = log.explain_block(20_000)
        assert here.live
        assert not found.live
        assert found.kind is here.kind is late.value.kind
        assert found.freed_by == here.freed_by
        assert found.facts == here.facts
        assert here.since_s >= 0.5
        assert found.since_s >= here.since_s - 0.1
        assert f"{held.__name__}(" in here.text
        assert "is under way for" in here.text
        gate.set()


def test_since_when_is_since_appends_found_no_room(tmp_path):
    """Goal: not the age of some other work. Method: an upload is slow for a while, during which
    appends are free; then the next segment is not made, and the age begins there."""
    gate, hold = threading.Event(), threading.Event()

    def before(command: Command) -> None:
        if isinstance(command, Upload) or (isinstance(command, Prepare) and hold.is_set()):
            gate.wait(20)

    with aof2.open(tmp_path, config=CONFIG) as manager:
        log = manager.stream("s")
        manager._coordinator.before = before
        log.append(bytes(20_000), timeout=20)
        log.seal(timeout=20)
        until(lambda: manager.metrics().queue_age_s["background"] > 0.5)
        hold.set()
        with pytest.raises(aof2.WaitTimeout):
            log.extend((bytes(20_000) for _ in range(100)), timeout=0.1)
        found = log.explain_block(20_000)
        assert found.kind is aof2.WouldBlockKind.ROLLOVER
        assert 0.1 <= found.since_s < manager.metrics().queue_age_s["background"] - 0.4
        assert "Prepare(" in found.text
        gate.set()


def test_a_stream_without_records_is_explained_too(tmp_path):
    """Goal: the first question about a fresh stream. Method: ask beside the writer, and in it."""
    with aof2.open(tmp_path, config=CONFIG) as manager:
        manager.stream("s")
        with aof2.open(tmp_path, config=CONFIG, readonly=True) as beside:
            found = beside.stream("s").explain_block()
        assert found.kind is manager.stream("s").explain_block().kind
        assert found.kind is aof2.WouldBlockKind.ROLLOVER
        assert found.since_s is None
