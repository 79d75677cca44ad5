"""`close` while something waits or hangs: it returns in time, says so, closes nothing under it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blocked_states import APPENDS, NO_ROOM, RECORD, Held, cold_get, device_held
from slow_store import SlowStore, in_thread, our_threads
from waithelp import until

import aof2
from aof2.coordinator.commands import Command, Compress, Upload

ROOT = Path(__file__).resolve().parents[2]
LONG_S = 60.0


@pytest.fixture
def store(monkeypatch) -> Iterator[SlowStore]:
    made = SlowStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    yield made
    made.held.release()


def manager_of(handle: aof2.Aof) -> aof2.AofManager:
    from aof2.leftover import LIVE

    (found,) = [m for m in LIVE if handle in m._streams.values()]  # type: ignore[attr-defined]
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("state", "kind"), NO_ROOM, ids=[row[1].name for row in NO_ROOM])
@pytest.mark.parametrize(("operation", "arguments"), APPENDS, ids=[row[0] for row in APPENDS])
def test_blocked_appends_get_closed_while_the_close_still_waits_for_others(
    tmp_path, state, kind, operation, arguments
):
    """Goal: nobody who waits for room waits for the rest of a close. Method: a thread and a
    coroutine are blocked in each kind; a worker is held, so that the close goes on; they end."""
    with state(tmp_path / "root") as (log, held):
        manager, name = manager_of(log), operation.partition(".")[2]
        busy = Held()
        manager._coordinator._queue  # noqa: B018
        blocked, ends = in_thread(lambda: getattr(log, name)(*arguments, timeout=None))
        with pytest.raises(aof2.WouldBlock) as told:
            getattr(log, f"{name}_nowait")(*arguments)
        coroutine, late = in_thread(
            lambda: asyncio.run(getattr(log, f"{name}_async")(*arguments, timeout=None))
        )
        until(lambda: log._instance.signals.room.waiters >= 1)
        stop = manager._coordinator.stop

        def held_stop(until_s: float) -> list[Command]:
            busy.event.wait(20)
            return stop(until_s)

        manager._coordinator.stop = held_stop  # type: ignore[method-assign]
        closing, closed = in_thread(lambda: manager.close(timeout=LONG_S))
        for thread in (blocked, coroutine):
            thread.join(20)
            assert not thread.is_alive()
        assert closing.is_alive()
        assert told.value.wait(20)
        with pytest.raises(aof2.Closed):
            getattr(log, f"{name}_nowait")(*arguments)
        busy.release()
        held.release()
        closing.join(20)
        assert closed == [None]
    assert [type(end) for end in ends + late] == [aof2.Closed] * 2


def test_everybody_who_waits_hears_of_a_close_that_a_store_holds_up(tmp_path, store):
    """Goal: the same for waits of other kinds. Method: a request hangs; followers, a wait for
    tier 2, a drain, in threads and coroutines; they end while `close` waits on."""
    store.hangs = {"put"}
    manager = aof2.open(tmp_path / "root", tier2="memory://slow")
    log = manager.stream("a")
    log.append(RECORD)
    log.seal(timeout=20)
    assert store.reached.wait(20)
    waits: list[Callable[[], object]] = [
        lambda: list(log.reader(start="latest", follow=True)),
        lambda: log.wait(0, "remote", timeout=None),
        lambda: manager.drain("remote", timeout=None),
        lambda: asyncio.run(log.wait_async(0, "remote", timeout=None)),
        lambda: asyncio.run(manager.drain_async("remote", timeout=None)),
        lambda: asyncio.run(log.reader(start="latest", follow=True).read_async(timeout=None)),
    ]
    running = [in_thread(work) for work in waits]
    signals = log._instance.signals
    until(lambda: signals.tail.waiters == 2 and signals.work.waiters == 2)
    until(lambda: manager._context.announcer.work.waiters == 2)
    closing, closed = in_thread(lambda: manager.close(timeout=LONG_S))
    for thread, ends in running:
        thread.join(20)
        assert isinstance(ends[0], aof2.Closed)
    assert closing.is_alive()
    store.held.release()
    closing.join(20)
    assert closed == [None]
    assert not our_threads()


@pytest.mark.parametrize("hanging", ["upload", "read", "opening"])
def test_nothing_is_closed_under_a_request_that_hangs(tmp_path, store, caplog, hanging):
    """Goal: `close(timeout)` returns, the root stays locked and says why, then it is free. Method:
    an upload, a read, the opening of a stream hang; close, open again, release, open again."""
    caplog.set_level(logging.INFO, "aof2")
    manager = aof2.open(tmp_path / "root", tier2="memory://slow")
    log = manager.stream("a")
    log.append(RECORD)
    work, said = None, ""
    if hanging == "upload":
        store.hangs, said = {"put"}, "Upload"
        log.seal(timeout=20)
    elif hanging == "read":
        log.wait(0, "remote", timeout=20)
        store.hangs, said = {"get"}, "1 requests of readers"
        manager.close()
        for path in (tmp_path / "root").glob("*/*/0*.seg*"):
            path.unlink()
        manager = aof2.open(tmp_path / "root", tier2="memory://slow")
        log = manager.stream("a")
        work = in_thread(lambda: log.get(0, timeout=None))
    else:
        store.hangs, said = {"get", "head"}, "opening of a stream"
        work = in_thread(lambda: manager.stream("b", timeout=None))
    assert store.reached.wait(20)
    began = time.monotonic()
    manager.close(timeout=0.3)
    assert time.monotonic() - began < 15
    with pytest.raises(aof2.RootLocked, match=said) as told:
        aof2.open(tmp_path / "root")
    assert told.value.pid is not None
    assert said in caplog.text
    if hanging == "read":
        assert isinstance(work[1][0], aof2.Closed)
    store.hangs = set()
    store.held.release()
    until(lambda: not our_threads())
    assert "event" not in [r.event for r in caplog.records if r.levelno >= logging.ERROR]
    if work is not None:
        work[0].join(20)
        assert isinstance(work[1][0], aof2.Closed)
    with aof2.open(tmp_path / "root", tier2="memory://slow") as again:
        log = again.stream("a")
        assert log.recovery.clean
        assert list(log.reader().payloads()) == [RECORD]
        again.drain("remote", timeout=20)
        assert log.watermarks.remote == 1


def test_a_sync_that_hangs_does_not_hang_the_close(tmp_path):
    """Goal: a device is no store, and yet. Method: the sync hangs; close with a limit; what was
    appended is there, and flushed once the device answers."""
    with device_held(tmp_path / "root", "fdatasync") as (manager, log, held):
        log.append(RECORD)
        closing, closed = in_thread(lambda: manager.close(timeout=0.3))
        closing.join(20)
        assert closed == [None]
        with pytest.raises(aof2.RootLocked, match="flush of stream 'a'"):
            aof2.open(tmp_path / "root")
        held.release()
        until(lambda: not our_threads())
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").recovery.clean
        assert manager.stream("a").next_offset == 2


def test_a_second_close_returns_when_the_first_one_has_ended(tmp_path, store):
    """Goal: whoever called `close` finds the root free. Method: the first one is held; the second
    waits for it, one with a limit does not, one in a wake callback never does."""
    store.hangs = {"put"}
    manager = aof2.open(tmp_path / "root", tier2="memory://slow")
    log = manager.stream("a")
    log.append(RECORD)
    log.seal(timeout=20)
    assert store.reached.wait(20)
    called = threading.Event()
    log.add_wake_callback(aof2.WouldBlockKind.TAIL, lambda: (manager.close(), called.set()))
    first, _ = in_thread(lambda: manager.close(timeout=LONG_S))
    until(lambda: manager._closed)
    assert called.wait(20)
    second, _ = in_thread(manager.close)
    manager.close(timeout=0.01)
    assert first.is_alive()
    assert second.is_alive()
    store.held.release()
    for thread in (first, second):
        thread.join(20)
    with aof2.open(tmp_path / "root"):
        pass


def test_a_cancelled_close_goes_on(tmp_path, store):
    """Goal: cancelling loses no close. Method: `close_async` is held by a store and cancelled; the
    root is free once the store answers."""
    store.hangs = {"put"}

    async def program() -> None:
        manager = await aof2.open_async(tmp_path / "root", tier2="memory://slow")
        log = await manager.stream_async("a")
        await log.append_async(RECORD)
        await log.seal_async()
        assert await asyncio.to_thread(store.reached.wait, 20)
        closing = asyncio.ensure_future(manager.close_async(timeout=LONG_S))
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        store.held.release()

    asyncio.run(program())
    until(lambda: not our_threads())
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").next_offset == 1


def test_a_read_under_way_on_a_thread_of_ours_ends_before_the_files_are_closed(tmp_path):
    """Goal: no use of a closed directory. Method: the threads that fetch are busy while `close`
    begins; it waits for them."""
    with cold_get(tmp_path / "root") as (log, held):
        manager = manager_of(log)
        closing, closed = in_thread(manager.close)
        until(lambda: log._closed)
        assert closing.is_alive()
        held.release()
        closing.join(20)
        assert closed == [None]
    assert not our_threads()


@pytest.mark.parametrize("daemon", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_the_exit_of_a_program_that_forgot_to_close_hangs_on_nothing(tmp_path, daemon, strict):
    """Goal: no hang at exit. Method: a program that leaves two managers open, while a store hangs,
    a thread appends and reads are under way; warnings as errors or not."""
    program = f"""
import sys, threading, aof2
from aof2.objectstore import MemoryStore
import aof2.opening
gate = threading.Event()
class Hanging(MemoryStore):
    def put(self, key, data, *, crc64):
        if "/seg/" in key:
            gate.wait(120)
        return super().put(key, data, crc64=crc64)
aof2.opening.open_store = lambda url, **options: Hanging("h")
config = aof2.AofManagerConfig(coordinator=aof2.CoordinatorConfig(shutdown_timeout_s=0.3))
one = aof2.open(sys.argv[1] + "/one", tier2="memory://h", config=config)
two = aof2.open(sys.argv[1] + "/two")
log = one.stream("a")
log.append(b"x")
log.seal()
two.stream("b").append(b"y")
one._pool().submit(gate.wait, 120)
def work():
    for n in range(10**9 if {daemon} else 1000):
        try:
            two.stream("b").append(b"y")
        except aof2.Closed:
            return
threading.Thread(target=work, daemon={daemon}).start()
"""
    flags = ["-W", "error" if strict else "always"]
    done = subprocess.run(
        [sys.executable, *flags, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stderr.count("was not closed before the interpreter's exit") >= 1 + (not strict)
    assert strict or any(what in done.stderr for what in ("to upload", "to compress"))
    for name, stream in (("one", "a"), ("two", "b")):
        with aof2.open(tmp_path / name) as manager:
            assert manager.stream(stream).recovery.clean
            assert manager.stream(stream).next_offset >= 1


def test_commands_of_other_streams_do_not_hold_up_a_writer(tmp_path):
    """Goal: a hung compression of one stream costs the other no flush. Method: hold it; close with
    a limit; the other stream was closed cleanly."""
    held = Held()
    manager = aof2.open(tmp_path / "root")
    one, two = manager.stream("one"), manager.stream("two")
    one.append(RECORD)
    manager._coordinator.before = lambda c: held() if isinstance(c, (Compress, Upload)) else None
    one.seal(timeout=20)
    two.append(RECORD)
    manager.close(timeout=0.2)
    assert not list((tmp_path / "root").glob("*/segments/landing.ring"))
    held.release()
    until(lambda: not our_threads())
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("one").recovery.clean
        assert manager.stream("two").recovery.clean


def test_an_open_waits_for_tier_2_no_longer_than_it_was_told(tmp_path, store):
    """Goal: `timeout` of `open` and `stream` bounds what they wait for. Method: a store that never
    answers: a fresh root is not opened, one with history is; a new stream comes when it answers."""
    store.hangs = {"check"}
    for form in (
        lambda: aof2.open(tmp_path / "root", tier2="memory://slow", timeout=0.05),
        lambda: asyncio.run(
            aof2.open_async(tmp_path / "root", tier2="memory://slow", timeout=0.05)
        ),
    ):
        with pytest.raises(aof2.WaitTimeout, match="has not answered in time") as late:
            form()
        assert late.value.kind is aof2.WouldBlockKind.REMOTE
        assert not (tmp_path / "root").exists()
    with aof2.open(tmp_path / "root") as manager:
        manager.stream("a").append(RECORD)
    with aof2.open(tmp_path / "root", tier2="memory://slow", timeout=0.05) as manager:
        assert manager.stream("a").append(RECORD) == 1
        store.hangs = {"get"}
        for ask in (
            lambda: manager.stream("b", timeout=0.05),
            lambda: asyncio.run(manager.stream_async("b", timeout=0.05)),
        ):
            with pytest.raises(aof2.WaitTimeout, match="being recovered"):
                ask()
        with pytest.raises(aof2.WouldBlock) as told:
            manager.stream_nowait("b")
        assert told.value.kind is aof2.WouldBlockKind.HYDRATION
        store.held.release()
        assert told.value.wait(20)
        assert manager.stream_nowait("b").append(RECORD) == 0
    assert not our_threads()
