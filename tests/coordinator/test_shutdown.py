"""`close()` during every kind of work, and after every kind of failure: it returns, nothing is
lost."""

from __future__ import annotations

import errno
import threading
import time

import pytest
from coordinatorhelp import our_threads
from waithelp import until

import aof2
from aof2.coordinator.commands import Publish
from aof2.objectstore import MemoryStore
from aof2.torture.schedules import STEPS, Death, check_residency, hooked

KIB = 1 << 10
NAMES = [(f"{cls.__name__}.{name}", name) for cls, name in STEPS]
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=384 * KIB),
    tier1=aof2.Tier1Config(bytes_max=256 * KIB),
    tier2=aof2.Tier2Config(url="memory://shutdown"),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
    wait_timeout_s=20,
)
RECORDS = [b"%d." % n * 4000 for n in range(60)]


@pytest.fixture
def store(monkeypatch):
    made = MemoryStore("shutdown")
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    return made


def need(name: str, step: str) -> None:
    """See to it that a step is reached: without a full disk every segment gets a warm file."""
    if name == "pieces" and step == "build":
        raise OSError(errno.ENOSPC, "planned want of room")


def feed(log: aof2.Aof, taken: list[bytes]) -> None:
    """Append until everything is in, or until the manager closes or gives up."""
    for record in RECORDS:
        try:
            log.append(record)
        except (aof2.Closed, aof2.CoordinatorDied):
            return
        taken.append(record)


def test_a_forgotten_close_names_everything_that_is_pending(tmp_path, store):
    """Goal: the warning at the interpreter's exit tells what is left. Method: nothing of each kind
    is done; the names of all of them are there, and none where all is done."""
    gate = threading.Event()
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("s")
        for n in range(4):
            log.append(b"%d" % n * 40_000)
            log.seal(timeout=20)
        manager.drain("remote", timeout=20)
        assert manager._pending() == []
        manager._coordinator.before = lambda c: isinstance(c, Publish) and gate.wait(20)
        log.append(b"published later")
        log.seal(timeout=20)
        until(lambda: manager.metrics().segments["cold"] == 5)
        log.append(b"x")
        manager._coordinator.before = lambda command: gate.wait(20)
        log.trim(1, timeout=20)
        log._instance.hydration.hydrate(2)
        assert log._instance.hydration.needs_recovery(3, aof2.Tier.HOT, OSError())
        log._instance.hydration.is_replaced(4, aof2.Tier.WARM, fetch=True)
        log._writer().end_segment(nowait=True)
        assert {text.split(" ", 2)[2] for text in manager._pending()} >= {
            "segments to seal",
            "publication",
            "objects to delete",
            "to bring back to the hot tier",
            "damaged copies to set aside",
            "warm copies to fetch",
        }
        gate.set()


def check_reopened(root, store: MemoryStore, taken: list[bytes]) -> None:
    """Every record that was accepted, no thread left, and an index that agrees with the files."""
    assert not our_threads()
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("s")
        found = list(log.reader().payloads())
        # The last append may have been accepted just before it was told that all is closed.
        assert found[: len(taken)] == taken
        assert found == RECORDS[: len(found)]
        manager.drain("remote", timeout=20)
        assert list(log.reader().payloads()) == found
        assert log.watermarks.remote == len(found)
        check_residency(root, log, {info.key for info in store.list()})
    assert not our_threads()


@pytest.mark.parametrize(("place", "name"), NAMES)
@pytest.mark.parametrize("at", [0, 1])
def test_close_while_a_durable_step_is_under_way(tmp_path, store, place, name, at):
    """Goal: what runs is finished, what waits is left to the next open. Method: hold one step,
    before or after it was made, close meanwhile, then let it go on."""
    held, gate, count = threading.Event(), threading.Event(), [0]

    def hold(step: str) -> None:
        need(name, step)
        worker = threading.current_thread().name.startswith("aof2-worker")
        if step == name and worker:
            count[0] += 1
            if count[0] == 3 + at:
                held.set()
                assert gate.wait(20)

    taken: list[bytes] = []
    with hooked(hold):
        manager = aof2.open(tmp_path / "r", config=CONFIG)
        log = manager.stream("s")
        appending = threading.Thread(target=feed, args=(log, taken))
        appending.start()
        assert held.wait(20), f"{place} was never reached"
        closing = threading.Thread(target=manager.close)
        closing.start()
        until(lambda: manager._coordinator.stopping)
        gate.set()
        closing.join(20)
        appending.join(20)
        assert not closing.is_alive()
        assert not appending.is_alive()
    manager.close()
    check_reopened(tmp_path / "r", store, taken)


@pytest.mark.parametrize(("place", "name"), NAMES)
@pytest.mark.parametrize("error", [OSError("planned"), Death("planned")], ids=["failure", "death"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_fault_at_a_durable_step_loses_nothing(tmp_path, store, place, name, error, at):
    """Goal: every handler can be cut at every step. Method: one fault, before or after the step
    was made; the same process goes on by itself, and so does the next one."""
    count = [0]

    def fail(step: str) -> None:
        need(name, step)
        worker = threading.current_thread().name.startswith("aof2-worker")
        if step == name and worker:
            count[0] += 1
            if count[0] == 3 + at:
                raise error

    taken: list[bytes] = []
    with hooked(fail):
        manager = aof2.open(tmp_path / "r", config=CONFIG)
        feed(manager.stream("s"), taken)
        assert taken == RECORDS
        manager.drain("remote", timeout=20)
        assert count[0] > 3 + at, f"{place} was never reached"
        assert manager._context.meters.worker_deaths == isinstance(error, Death)
        manager.close()
    check_reopened(tmp_path / "r", store, taken)


def test_close_does_not_wait_longer_than_it_was_told(tmp_path, store):
    """Goal: a store that hangs does not keep a process. Method: hold an upload; close with a short
    limit; the upload is found again by the next open."""
    held, gate = threading.Event(), threading.Event()

    def hold(step: str) -> None:
        if step == "put":
            held.set()
            gate.wait(60)

    with hooked(hold):
        manager = aof2.open(tmp_path / "r", config=CONFIG)
        log = manager.stream("s")
        log.append(RECORDS[0])
        log.seal(timeout=20)
        assert held.wait(20)
        began = time.monotonic()
        manager.close(timeout=0.2)
        took_s = time.monotonic() - began
        gate.set()
        until(lambda: not our_threads())
    assert took_s < 15, "it waited for the upload"
    check_reopened(tmp_path / "r", store, RECORDS[:1])


def test_close_again_and_from_many_threads_is_harmless(tmp_path, store):
    """Goal: idempotent. Method: eight threads close at once, then once more."""
    manager = aof2.open(tmp_path / "r", config=CONFIG)
    taken: list[bytes] = []
    feed(manager.stream("s"), taken)
    threads = [threading.Thread(target=manager.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    manager.close()
    check_reopened(tmp_path / "r", store, taken)
