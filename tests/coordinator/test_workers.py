"""Workers: retries, deaths, the breaker at work, what waits and what does not."""

from __future__ import annotations

import logging
import threading
from collections import Counter

import pytest
from coordinatorhelp import SteppedClock, our_threads, without_workers
from waithelp import until

import aof2
from aof2.coordinator.commands import Command, Compress, Prepare, Rollover, Upload
from aof2.coordinator.deaths import WITHIN_S
from aof2.objectstore import MemoryStore
from aof2.objectstore.breaker import FAILURES_MAX, BreakerState

KIB = 1 << 10


class Death(BaseException):
    """Ends a worker: no handler and no runtime may swallow it."""


def config(**more: object) -> aof2.AofManagerConfig:
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=1024 * KIB),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
        **more,  # type: ignore[arg-type]
    )


class AwayStore(MemoryStore):
    """A store that can be switched off and counts every request."""

    def __init__(self) -> None:
        super().__init__("away")
        self.away = False
        self.asked = 0

    def put(self, key, data, *, crc64):
        self.asked += 1
        if self.away:
            raise aof2.Tier2Unavailable("switched off")
        return super().put(key, data, crc64=crc64)

    def get_range(self, key, start, end):
        self.asked += 1
        if self.away:
            raise aof2.Tier2Unavailable("switched off")
        return super().get_range(key, start, end)


@pytest.fixture
def store(monkeypatch):
    made = AwayStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    return made


def test_poll_runs_what_can_run_and_says_how_much(tmp_path, monkeypatch):
    """Goal: a scheduler can drive all work without threads. Method: no workers, only `poll`."""
    with without_workers(monkeypatch, tmp_path, tier2="memory://poll", config=config()) as manager:
        assert not our_threads()
        log = manager.stream("s")
        with pytest.raises(aof2.WouldBlock) as refused:
            log.append_nowait(b"first")
        assert refused.value.kind is aof2.WouldBlockKind.ROLLOVER
        assert manager._coordinator.poll() == {"Prepare": 1}
        assert log.append_nowait(b"first") == 0
        with pytest.raises(aof2.WouldBlock) as refused:
            log.seal_nowait()
        assert refused.value.kind is aof2.WouldBlockKind.ROLLOVER
        done: Counter[str] = Counter()
        while log.watermarks.remote < 1:
            done.update(manager._coordinator.poll())
        assert done.pop("Publish") >= 1
        assert done == {"Rollover": 1, "Compress": 1, "Upload": 1}
        log.seal_nowait()
        assert manager._coordinator.poll() == {}


def test_a_worker_that_dies_is_replaced_and_its_command_runs_again(tmp_path, caplog):
    """Goal: three deaths change nothing. Method: the first three seals kill their worker."""
    left = [3]

    def kill(command: Command) -> None:
        if isinstance(command, Rollover) and left[0]:
            left[0] -= 1
            raise Death

    with aof2.open(tmp_path, config=config()) as manager:
        manager._coordinator.before = kill
        log = manager.stream("s")
        log.append(b"kept")
        log.seal(timeout=20)
        assert left == [0]
        assert len([n for n in our_threads() if "worker" in n]) == 4
        assert manager._context.meters.worker_deaths == 3
    events = [getattr(record, "event", None) for record in caplog.records]
    assert events.count("worker_died") == 3
    assert not our_threads()


def test_too_many_deaths_end_every_wait_with_coordinator_died(tmp_path):
    """Goal: never a hang. Method: every command kills its worker; a blocked append, a blocked seal,
    later calls and `close` all hear of it; the records are there after reopening."""

    def kill(command: Command) -> None:
        raise Death

    outcomes: list[BaseException] = []

    def attempt(work) -> None:
        try:
            work()
        except BaseException as error:
            outcomes.append(error)

    manager = aof2.open(tmp_path, config=config())
    log = manager.stream("s")
    log.append(b"kept")
    manager._coordinator.before = kill
    works = [
        lambda: log.seal(timeout=None),
        lambda: manager.drain("local", timeout=None),
        lambda: [log.append(bytes(30000), timeout=None) for _ in range(99)],
    ]
    threads = [threading.Thread(target=attempt, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [type(error) for error in outcomes] == [aof2.CoordinatorDied] * 3
    assert isinstance(outcomes[0].__cause__, Death)
    with pytest.raises(aof2.CoordinatorDied):
        log.append_nowait(bytes(30000))
    with pytest.raises(aof2.CoordinatorDied):
        log.seal_nowait()
    assert log.get(0).payload == b"kept"
    with pytest.raises(aof2.CoordinatorDied):
        manager.close()
    manager.close()
    assert not our_threads()
    with aof2.open(tmp_path, config=config()) as manager:
        log = manager.stream("s")
        assert log.get(0).payload == b"kept"
        log.seal(timeout=20)


def test_deaths_far_apart_are_forgiven(tmp_path, monkeypatch):
    """Goal: 3 in 60 s, not 3 in a life. Method: ten deaths with a minute between them."""
    clock = SteppedClock()
    with without_workers(monkeypatch, tmp_path, config=config(), clock=clock) as manager:
        log = manager.stream("s")
        for _ in range(10):
            with pytest.raises(aof2.WouldBlock):
                log.append_nowait(b"x")
            manager._coordinator.before = lambda command: (_ for _ in ()).throw(Death())
            manager._coordinator.step()
            manager._coordinator.before = lambda command: None
            clock.step(WITHIN_S / 2)
        assert manager._coordinator.died is None
        assert manager._coordinator.poll() == {"Prepare": 1}
        log.append_nowait(b"x")


def test_a_command_that_keeps_failing_is_an_error_and_goes_on(tmp_path, monkeypatch, caplog):
    """Goal: nothing is dropped, and the log says more than a warning after the deadline. Method:
    fail a seal for longer than its deadline with a clock that stands still; then let it pass."""
    clock = SteppedClock()
    with without_workers(monkeypatch, tmp_path, config=config(), clock=clock) as manager:
        log = manager.stream("s")
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        manager._coordinator.poll()
        log.append_nowait(b"x")
        with pytest.raises(aof2.WouldBlock):
            log.seal_nowait()
        manager._coordinator.before = lambda command: (_ for _ in ()).throw(OSError("planned"))
        for _ in range(3):
            assert manager._coordinator.poll() == {"Rollover": 1}
            clock.step(Rollover.deadline_s / 2 + 1)
        with pytest.raises(aof2.RolloverFailed, match="planned"):
            log.seal_nowait()
        manager._coordinator.before = lambda command: None
        assert manager._coordinator.poll()["Rollover"] == 1
        log.seal_nowait()
        meter = manager._context.meters.command("Rollover")
        assert (meter.done, meter.failures) == (1, 3)
    told = [(r.levelno, r.event) for r in caplog.records if getattr(r, "command", 0) == "Rollover"]
    warning, error = (logging.WARNING, "command_failed"), (logging.ERROR, "command_overdue")
    assert told[:3] == [warning, warning, error]
    assert {r.name for r in caplog.records if getattr(r, "command", 0) == "Rollover"} == {
        "aof2.tier0"
    }


def test_while_the_breaker_is_open_no_request_is_made(tmp_path, store, monkeypatch):
    """Goal: an outage costs a few requests. Method: fail until it opens; then poll for a while in
    stopped time: nothing is asked. A probe fails, a later one succeeds, and all is uploaded."""
    clock = SteppedClock()
    tier2 = aof2.Tier2Config(url="memory://away")
    chosen = config(tier2=tier2)
    with without_workers(monkeypatch, tmp_path, config=chosen, clock=clock) as manager:
        log, coordinator = manager.stream("s"), manager._coordinator
        breaker = manager._context.breaker

        def seal_one() -> None:
            with pytest.raises(aof2.WouldBlock):
                log.append_nowait(b"x")
            while not coordinator.poll().get("Prepare"):
                pass
            log.append_nowait(b"x")
            with pytest.raises(aof2.WouldBlock):
                log.seal_nowait()
            coordinator.poll()

        seal_one()
        clock.step(5.0)
        coordinator.poll()
        assert log.watermarks.remote == 1, "the stream is claimed, and its first segment published"
        store.away, store.asked = True, 0
        for _ in range(8):
            seal_one()
        assert breaker.state is BreakerState.OPEN
        assert store.asked == FAILURES_MAX
        coordinator.kick()
        assert coordinator.poll() == {}
        clock.step(1.0)
        assert breaker.state is BreakerState.HALF_OPEN
        assert coordinator.poll() == {"Upload": 1}
        assert store.asked == FAILURES_MAX + 1
        store.away = False
        clock.step(1.0)
        assert coordinator.poll()["Upload"] == 8
        clock.step(5.0)
        coordinator.poll()
        assert log.watermarks.remote == 9


def test_a_read_closes_the_breaker_and_uploads_go_on_at_once(tmp_path, store):
    """Goal: nobody waits out a pause when the store is known to be back. Method: an outage with
    long pauses, then one read of a cold record."""
    chosen = config(tier2=aof2.Tier2Config(url="memory://away"))
    with aof2.open(tmp_path, config=chosen) as manager:
        log = manager.stream("s")
        for _ in range(40):
            log.append(bytes(20000))
        manager.drain("remote", timeout=20)
        manager._context.breaker._pause_s = 3600.0
        assert aof2.Tier.HOT not in log.segments()[0].residency
        store.away = True
        for _ in range(FAILURES_MAX + 1):
            log.append(b"x")
            log.seal(timeout=20)
        until(lambda: manager._context.breaker.state is BreakerState.OPEN)
        cold = log.segments()[0]
        store.away = False
        manager._store.get_range(cold.key, 0, 8)
        until(lambda: log.watermarks.remote == log.next_offset)


def test_idle_workers_sleep(tmp_path, store):
    """Goal: idle means no CPU and no requests. Method: settle, then count looks at the plan."""
    chosen = config(tier2=aof2.Tier2Config(url="memory://away"))
    with aof2.open(tmp_path, config=chosen) as manager:
        log = manager.stream("s")
        log.append(b"x")
        manager.drain("remote", timeout=20)
        # The last command woke every worker for one more look.
        until(lambda: len(manager._coordinator._wake._waiters) == 4)
        woken: list[object] = []
        plan = manager._coordinator._plan
        manager._coordinator._plan = lambda now_s: (woken.append(now_s), plan(now_s))
        asked = store.asked
        threading.Event().wait(0.3)
        assert woken == []
        assert store.asked == asked


def test_no_other_work_waits_for_compressions_and_uploads(tmp_path, store):
    """Goal: appends roll over and seals are acknowledged whatever the background does. Method: hold
    every compression; append and seal through many segments."""
    gate = threading.Event()

    def hold(command: Command) -> None:
        if isinstance(command, (Compress, Upload)):
            gate.wait(20)

    with aof2.open(tmp_path, config=config()) as manager:
        manager._coordinator.before = hold
        log = manager.stream("s")
        for n in range(6):
            log.append(b"%d" % n)
            log.seal(timeout=20)
        running = {type(e.command) for e in manager._coordinator.entries() if e.started_s}
        assert running == {Compress}
        assert Prepare not in running
        gate.set()
        manager.drain("local", timeout=20)
