"""Rollover by age: a segment with records is sealed in time, one without never."""

from __future__ import annotations

import pytest
from coordinatorhelp import without_workers
from waithelp import until

import aof2
from aof2.config import SEGMENT_AGE_S


def config(age_s: float | None, tier2: str | None = None) -> aof2.AofManagerConfig:
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_age_s_max=age_s),
        tier2=None if tier2 is None else aof2.Tier2Config(url=tier2),
    )


@pytest.mark.parametrize(
    ("age_s", "tier2", "wanted"),
    [
        (None, None, None),
        (None, "memory://age", SEGMENT_AGE_S),
        (float("inf"), "memory://age", None),
        (7.0, None, 7.0),
    ],
)
def test_the_age_depends_on_a_tier_2_unless_it_is_given(age_s, tier2, wanted):
    """Goal: records reach tier 2 without being asked. Method: each combination."""
    assert config(age_s, tier2).segment_age_s == wanted


def test_an_old_segment_is_sealed_by_itself_and_appends_go_on(tmp_path):
    """Goal: nobody helps. Method: short ages, a few records, with pauses until each is sealed."""
    with aof2.open(tmp_path, tier2="memory://aged", config=config(0.05)) as manager:
        log = manager.stream("s")
        for n in range(4):
            log.append(b"%d" % n)
            until(lambda: log.segments()[-1].sealed)
        until(lambda: log.watermarks.remote == 4)
        assert [info.end_offset for info in log.segments()] == [1, 2, 3, 4]


def test_a_stream_without_new_records_is_left_alone(tmp_path, monkeypatch):
    """Goal: an empty segment is never sealed, no timer runs for it. Method: look at the plan and
    the next time after everything is sealed."""
    with without_workers(monkeypatch, tmp_path, config=config(0.001)) as manager:
        log, coordinator = manager.stream("s"), manager._coordinator
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        coordinator.poll()
        log.append_nowait(b"x")
        until(lambda: (coordinator.kick(), coordinator.poll(), log.segments()[-1].sealed)[2])
        for _ in range(3):
            coordinator.kick()
            assert coordinator.poll() == {}
        assert manager._context.next_due_s(manager._clock.monotonic_s()) is None
        assert len(log.segments()) == 1


def test_the_next_append_after_the_seal_waits_for_nothing(tmp_path, monkeypatch):
    """Goal: a slow stream is not slower for its seals. Method: let it reach its age; once it is
    sealed, a record is taken at once."""
    with without_workers(monkeypatch, tmp_path, config=config(0.001)) as manager:
        log, coordinator = manager.stream("s"), manager._coordinator
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        coordinator.poll()
        for n in range(3):
            log.append_nowait(b"x")
            until(lambda: (coordinator.kick(), coordinator.poll(), log.segments()[-1].sealed)[2])
            assert len(log.segments()) == n + 1


def test_the_age_counts_from_the_first_record_across_a_restart(tmp_path, monkeypatch):
    """Goal: restarts do not keep records from tier 2 for ever. Method: close and reopen with an
    active segment that is old enough by then."""
    with aof2.open(tmp_path, config=config(3600.0)) as manager:
        manager.stream("s").append(b"x")
    with aof2.open(tmp_path, config=config(0.01)) as manager:
        log = manager.stream("s")
        until(lambda: log.segments()[-1].sealed)


def test_the_next_due_time_bounds_the_wait(tmp_path, monkeypatch):
    """Goal: a timer, no polling. Method: ask the workers how long they would sleep."""
    with without_workers(monkeypatch, tmp_path, config=config(600.0)) as manager:
        log, coordinator = manager.stream("s"), manager._coordinator
        assert coordinator._wait_s(manager._clock.monotonic_s()) is None
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        coordinator.poll()
        log.append_nowait(b"x")
        coordinator.poll()
        wait_s = coordinator._wait_s(manager._clock.monotonic_s())
        assert wait_s is not None
        assert 590 < wait_s <= 600
