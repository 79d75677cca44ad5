"""Segments come back to the hot tier: who asks, what for, and within which room."""

from __future__ import annotations

import pytest
from hydrationhelp import (
    KIB,
    HeldStore,
    check_all,
    config,
    fill,
    flip,
    hot_file,
    hydrate,
    info,
    make_cold,
    payload,
    quarantined,
    root,
    settle,
    tiers,
    warm_file,
)
from waithelp import until

import aof2
from aof2 import Tier
from aof2.coordinator.commands import Command, Hydrate


def hydrated(manager: aof2.AofManager) -> int:
    return manager.metrics().hydration.count


@pytest.mark.parametrize("from_tier", [Tier.WARM, Tier.COLD])
def test_second_get_from_a_segment_brings_it_back(tmp_path, from_tier):
    """Goal: what is read again and again is hot again, byte for byte, and stays so after an open.
    Method: two reads at different offsets; compare with a copy of the file as it was sealed."""
    store = HeldStore()
    with root(tmp_path, store) as manager:
        log = fill(manager)
        if from_tier is Tier.COLD:
            make_cold(manager, log)
        assert min(tiers(log, 1)) is from_tier
        log.get(0)
        settle(manager)
        assert min(tiers(log, 1)) is from_tier
        log.get(5)
        until(lambda: Tier.HOT in tiers(log, 1))
        settle(manager)
        assert hydrated(manager) == 1
        assert hot_file(tmp_path, 1).stat().st_size == info(log, 1).bytes
        check_all(log)
        assert manager.bytes_used[0] <= manager.config.tier0.bytes_max
    with root(tmp_path, store) as manager:
        log = manager.stream("a")
        assert Tier.HOT in tiers(log, 1)
        check_all(log)


def test_scans_bring_nothing_back(tmp_path):
    """Goal: reading a whole history does not drive out what is hot. Method: three scans."""
    with root(tmp_path, HeldStore()) as manager:
        log = fill(manager)
        before = [tiers(log, i.segment_id) for i in log.segments()]
        for start in (0, 100, 200):
            for record in log.reader(start=start):
                assert record.payload
        settle(manager)
        assert hydrated(manager) == 0
        assert [tiers(log, i.segment_id) for i in log.segments()] == before


def test_hot_copy_evicts_only_what_was_used_less_recently(tmp_path):
    """Goal: nothing hotter goes for a segment that comes back. Method: between the two reads of
    segment 1 every hot copy is used; then it does not come back by itself, but does when asked."""
    with root(tmp_path, HeldStore(), config(hot_bytes=512 * KIB)) as manager:
        log = fill(manager)
        hot = [i for i in log.segments() if i.sealed and Tier.HOT in i.residency]
        assert hot
        log.get(0)
        for one in hot:
            log._instance.touch(one.segment_id)
        log.get(1)
        settle(manager)
        until(lambda: not log._instance.hydration.asked)
        assert Tier.HOT not in tiers(log, 1)
        assert manager.metrics().hydration_failures == 1
        hydrate(log, 1)
        assert Tier.HOT in tiers(log, 1)
        assert manager.bytes_used[0] <= 512 * KIB


def test_refused_for_want_of_room_says_so_and_appends_go_on(tmp_path):
    """Goal: no room is an error for who asks, and no append waits for it. Method: the smallest
    tier 0 there can be."""
    with root(tmp_path, HeldStore(), config(hot_bytes=256 * KIB)) as manager:
        log = fill(manager, 500)
        # A segment that is written to, its spare and the landing ring are there now.
        writer = log._instance.writer
        while writer.active is None or writer.spare_id is None:
            log.append(payload(log.next_offset))
            settle(manager)
        with pytest.raises(aof2.HydrationFailed, match=r"tier0\.bytes_max"):
            hydrate(log, 1)
        fill(manager, 1000)
        check_all(log)


def test_hydrated_copy_goes_again_under_pressure(tmp_path):
    """Goal: a copy that came back is a copy like others. Method: come back, then append a lot."""
    with root(tmp_path, HeldStore()) as manager:
        log = fill(manager)
        hydrate(log, 1)
        fill(manager, 3000)
        assert Tier.HOT not in tiers(log, 1)
        assert not hot_file(tmp_path, 1).exists()
        check_all(log)


def test_one_command_however_many_ask(tmp_path):
    """Goal: a segment on its way is asked for once. Method: hold the command, read often."""
    ran: list[Command] = []
    with root(tmp_path, HeldStore()) as manager:
        log = fill(manager)
        manager._coordinator.before = ran.append
        for _ in range(50):
            for n in range(30):
                log.get(n)
        until(lambda: Tier.HOT in tiers(log, 1))
        settle(manager)
        assert [type(c) for c in ran].count(Hydrate) == 1


def test_damaged_warm_file_is_set_aside_and_fetched_before_the_segment_comes_back(tmp_path, caplog):
    """Goal: a bad local copy is replaced by tier 2's; the bad file is kept. Method: damage it."""
    with root(tmp_path, HeldStore()) as manager:
        log = fill(manager)
        good = warm_file(tmp_path, 1).read_bytes()
        flip(warm_file(tmp_path, 1), 100)
        hydrate(log, 1)
        settle(manager)
        assert tiers(log, 1) == {Tier.HOT, Tier.WARM, Tier.COLD}
        assert warm_file(tmp_path, 1).read_bytes() == good
        assert [name.rsplit(".", 1)[0] for name in quarantined(tmp_path)] == [
            warm_file(tmp_path, 1).name
        ]
        assert manager.metrics().corruption == {"OBJECT_CORRUPT": 1}
        assert manager.metrics().commands_done["Fetch"] == 1
        check_all(log)
    assert "copy_set_aside" in {getattr(r, "event", "") for r in caplog.records}


def test_damaged_warm_file_without_another_copy_is_an_honest_error(tmp_path):
    """Goal: nothing is thrown away that is the only copy. Method: no tier 2."""
    with root(tmp_path) as manager:
        log = fill(manager)
        flip(warm_file(tmp_path, 1), 100)
        with pytest.raises(aof2.ObjectCorrupt):
            hydrate(log, 1)
        assert warm_file(tmp_path, 1).exists()
        assert quarantined(tmp_path) == []
        hydrate(log, 2)


@pytest.mark.parametrize("missing", ["gone", "short"])
def test_missing_warm_file_is_fetched_at_open(tmp_path, missing):
    """Goal: a lost warm file comes back from tier 2, and reads of it succeed meanwhile. Method:
    hold tier 2 after the open, look at the state, let go."""
    store = HeldStore()
    with root(tmp_path, store) as manager:
        log = fill(manager)
        assert tiers(log, 1) == {Tier.WARM, Tier.COLD}
    path = warm_file(tmp_path, 1)
    good = path.read_bytes()
    if missing == "gone":
        path.unlink()
    else:
        path.write_bytes(good[:-1])
    store.gate.clear()
    with root(tmp_path, store) as manager:
        log = manager.stream("a")
        assert info(log, 1).state is aof2.SegmentState.NEEDS_RECOVERY
        with pytest.raises(aof2.WouldBlock) as blocked:
            log.get_nowait(0)
        assert blocked.value.kind is aof2.WouldBlockKind.HYDRATION
        store.gate.set()
        check_all(log)
        until(lambda: Tier.WARM in tiers(log, 1))
        assert path.read_bytes() == good
        assert info(log, 1).state is aof2.SegmentState.UPLOADED
    with root(tmp_path, store) as manager:
        assert manager.metrics().commands_done.get("Fetch", 0) == 0
        check_all(manager.stream("a"))


def test_missing_warm_file_without_tier_2_is_lost_and_the_rest_is_readable(tmp_path):
    """Goal: one lost segment takes no other with it. Method: no tier 2, remove a warm file."""
    with root(tmp_path) as manager:
        log = fill(manager)
    warm_file(tmp_path, 2).unlink()
    with root(tmp_path) as manager:
        log = manager.stream("a")
        lost = info(log, 2)
        with pytest.raises(aof2.SegmentLost):
            log.get(lost.base_offset)
        assert log.get(0).payload
        assert log.get(lost.end_offset).payload
