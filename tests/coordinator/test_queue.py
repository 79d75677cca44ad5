"""The queue: no duplicates, bounds, lanes, priorities, pauses."""

from __future__ import annotations

from collections import Counter

import pytest

from aof2 import Tier
from aof2.coordinator.commands import Compress, Evict, Lane, Prepare, Rollover, Upload
from aof2.coordinator.queue import CommandQueue
from aof2.coordinator.runtime import seats

BROKEN = OSError("planned")


def taken(queue: CommandQueue, **how: object) -> list[str]:
    """Names of what can be taken now, in order."""
    names = []
    while (command := queue.take(1.0, **how)) is not None:  # type: ignore[arg-type]
        names.append(type(command).__name__)
    return names


def test_the_most_urgent_comes_first_and_equals_in_the_order_they_came():
    """Goal: an append never waits behind an upload. Method: put all kinds, the last one first."""
    queue = CommandQueue()
    for command in (
        Upload("s", 1),
        Compress("s", 2),
        Evict("s", 3, Tier.HOT),
        Rollover("s", 4),
        Prepare("s", 1, 4096),
        Upload("s", 0),
    ):
        assert queue.put(command, 0.0)
    assert taken(queue) == ["Prepare", "Rollover", "Evict", "Compress", "Upload", "Upload"]
    assert len(queue.running) == 6


def test_the_same_work_is_in_the_queue_once_whatever_becomes_of_it():
    """Goal: no work twice at a time. Method: put it again while it waits, runs and pauses."""
    queue, command = CommandQueue(), Rollover("s", 1)
    assert queue.put(command, 0.0)
    assert not queue.put(command, 0.0)
    assert queue.take(0.0) == command
    assert not queue.put(Rollover("s", 2), 0.0), "one seal at a time for one stream"
    assert queue.put(Rollover("t", 2), 0.0)
    queue.pause(command, 0.0, 5.0, BROKEN)
    assert not queue.put(command, 0.0)
    queue.hasten()
    assert queue.take(0.0, frozenset((Lane.URGENT,))) is not None
    assert len(queue) == 2
    queue.done(command)
    assert queue.put(command, 0.0)


def test_too_many_of_one_type_leave_room_for_the_others():
    """Goal: an outage that piles up uploads stops no seal. Method: fill the bound with uploads."""
    queue = CommandQueue(commands_max=3)
    assert [queue.put(Upload("s", n), 0.0) for n in range(5)] == [True, True, True, False, False]
    assert queue.put(Compress("s", 9), 0.0)
    assert queue.put(Rollover("s", 9), 0.0)
    first = queue.take(0.0, (Lane.BACKGROUND,))
    assert first == Compress("s", 9)
    queue.done(queue.take(0.0, (Lane.BACKGROUND,)) or first)
    assert queue.put(Upload("s", 4), 0.0)


def test_a_failed_command_waits_for_its_time_and_keeps_its_count():
    """Goal: pauses are kept, nothing is dropped. Method: fail twice, look before and after."""
    queue, command = CommandQueue(), Compress("s", 1)
    queue.put(command, 0.0)
    for failures in (1, 2):
        assert queue.take(10.0 * failures) == command
        assert queue.pause(command, 10.0 * failures, 5.0, BROKEN).failures == failures
        assert queue.next_pause_s() == 10.0 * failures + 5
        assert queue.take(10.0 * failures + 4.9) is None
    entry = queue.entries()[0]
    assert (entry.failing_since_s, entry.error) == (10.0, BROKEN)
    assert not entry.is_overdue(10.0 + command.deadline_s, attempts_max=2)
    assert entry.is_overdue(10.1 + command.deadline_s, attempts_max=2)
    assert entry.is_overdue(11.0, attempts_max=1)


def test_what_writes_to_tier_2_can_be_left_out():
    """Goal: an open breaker holds uploads back and nothing else. Method: take without tier 2."""
    queue = CommandQueue()
    for command in (Upload("s", 1), Compress("s", 2), Prepare("s", 1, 4096)):
        queue.put(command, 0.0)
    assert taken(queue, tier2=False) == ["Prepare", "Compress"]
    assert queue.waits_for_tier2()
    assert taken(queue) == ["Upload"]


@pytest.mark.parametrize("workers", range(1, 9))
def test_every_lane_has_a_worker_and_long_work_never_takes_them_all(workers):
    """Goal: appends and readers never wait for background work. Method: look at the seats."""
    chosen = seats(workers)
    assert len(chosen) == workers
    for lane in Lane:
        assert any(lane in seat.lanes for seat in chosen)
    if workers > 1:
        assert any(Lane.READ in s.lanes and Lane.BACKGROUND not in s.lanes for s in chosen)
    if workers > 2:
        assert chosen[0].lanes == frozenset((Lane.URGENT,))


@pytest.mark.parametrize("workers", range(1, 6))
def test_neither_uploads_nor_compressions_starve(workers):
    """Goal: tier 2 gets its share however much there is to compress, and the other way round.
    Method: all seats in turns take from a queue that always has more of both; both are taken
    equally often but for the turns of the seats that may do neither."""
    queue, took = CommandQueue(), Counter[str]()
    places = [seat for seat in seats(workers) if Lane.BACKGROUND in seat.lanes]
    for n in range(400):
        queue.put(Compress("s", n), 0.0)
        queue.put(Upload("s", n), 0.0)
        seat = places[n % len(places)]
        seat.command = queue.take(1.0, seat.lanes, tier2_first=seat.tier2_first)
        took[type(seat.command).__name__] += 1
        queue.done(seat.command)
        seat.turn()
    assert took["Upload"] == 400 // max(2, len(places))


def test_urgent_work_comes_first_for_those_who_prefer_uploads():
    """Goal: the preference is one of background work only. Method: take with it."""
    queue = CommandQueue()
    for command in (Upload("s", 1), Compress("s", 2), Prepare("s", 1, 4096)):
        queue.put(command, 0.0)
    assert taken(queue, tier2_first=True) == ["Prepare", "Upload", "Compress"]
