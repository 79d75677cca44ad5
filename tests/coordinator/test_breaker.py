"""The circuit breaker of tier 2: when it opens, what it holds back, and how it closes again."""

from __future__ import annotations

import pytest
from coordinatorhelp import SteppedClock

import aof2
from aof2.objectstore import MemoryStore
from aof2.objectstore.breaker import PAUSE_FACTOR_MAX, Breaker, BreakerState, is_transport
from aof2.objectstore.observed import ObservedStore

AWAY = aof2.Tier2Unavailable("planned")


class Answer(Exception):
    """An error of a client library that has the server's answer."""

    def __init__(self, status: int, code: str) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "transport"),
    [
        (AWAY, True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (caused(aof2.UploadFailed("x"), Answer(503, "SlowDown")), True),
        (caused(aof2.UploadFailed("x"), Answer(200, "SlowDown")), True),
        (caused(aof2.UploadFailed("x"), Answer(412, "PreconditionFailed")), False),
        (aof2.UploadFailed("x"), False),
        (aof2.Tier2Auth("x"), False),
        (OSError("local"), False),
    ],
)
def test_only_failures_of_the_way_to_the_store_count(error, transport):
    """Goal: a refusal is an answer. Method: ask about each kind of error."""
    assert is_transport(error) is transport


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through():
    """Goal: the state diagram. Method: walk through it with a clock that stands still."""
    clock = SteppedClock()
    breaker = Breaker(clock, 4.0, failures_max=3)
    for error in (AWAY, AWAY, None, AWAY, AWAY):
        breaker.record(error)
        assert breaker.state is BreakerState.CLOSED
    breaker.record(AWAY)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits()
    due_s = breaker.next_probe_s()
    assert due_s is not None
    assert 2.0 <= due_s - clock.monotonic_s() <= 4.0
    clock.step(4.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.admits()
    assert breaker.begin()
    assert not breaker.admits(), "one probe at a time"
    breaker.record(AWAY)
    assert breaker.state is BreakerState.OPEN
    clock.step(8.0)
    assert breaker.begin()
    breaker.end_probe()
    assert breaker.admits(), "a probe that asked nothing told nothing"
    breaker.record(None)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.openings == 1


def test_the_pause_doubles_up_to_a_limit_and_readers_do_not_prolong_it():
    """Goal: a long outage costs few requests, and ends. Method: fail probe after probe, with
    failures of readers between them."""
    clock = SteppedClock()
    breaker = Breaker(clock, 1.0, failures_max=1)
    breaker.record(AWAY)
    for factor in (1, 2, 4, 8, 16, 32, 60, 60):
        due_s = breaker.next_probe_s()
        assert due_s is not None
        breaker.record(AWAY)
        assert breaker.next_probe_s() == due_s
        assert factor / 2 <= due_s - clock.monotonic_s() <= min(factor, PAUSE_FACTOR_MAX)
        clock.step(due_s - clock.monotonic_s())
        assert breaker.begin()
        breaker.record(AWAY)


def test_any_request_that_comes_through_closes_it_and_all_are_counted():
    """Goal: a read shows that the store is back. Method: a store that fails, seen from outside."""
    told: list[BreakerState] = []
    breaker = Breaker(SteppedClock(), 1.0, failures_max=2)
    breaker.changed = lambda: told.append(breaker.state)
    inner = MemoryStore("breaker")
    store = ObservedStore(inner, breaker)
    away = [True]

    def head(key: str) -> None:
        if away[0]:
            raise AWAY

    inner.head = head  # type: ignore[method-assign,assignment]
    for _ in range(2):
        with pytest.raises(aof2.Tier2Unavailable):
            store.head("a")
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(aof2.FetchFailed):
        store.get_range("missing", 0, 1)
    assert breaker.state is BreakerState.CLOSED
    assert told == [BreakerState.OPEN, BreakerState.CLOSED]
    store.replace("a", b"four", crc64=aof2._core.checksum.crc64nvme(b"four"))
    assert store.get("a", 10) == b"four"
    assert [info.key for info in store.list()] == ["a"]
    assert store.requests == {"head": 2, "get_range": 1, "replace": 1, "get": 1, "list": 1}
    assert store.errors == {"head": 2}
    assert store.bytes == {"replace": 4, "get": 4}
