"""Threads, coroutines of several loops and callbacks that wait together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blocked_states import RECORD, cold_get, no_segment, ring_full, seal_held, sync_held

import aof2

ROOT = Path(__file__).resolve().parents[2]
SEED = 7


def test_many_coroutines_of_a_loop_cost_one_callback(tmp_path, monkeypatch):
    """Goal: waking is cheap. Method: 1,000 coroutines wait for one sync; count what other threads
    schedule on their loop while the sync ends."""

    async def program() -> int:
        with sync_held(tmp_path / "root") as (log, held):
            loop, calls = asyncio.get_running_loop(), []
            waiting = [asyncio.ensure_future(log.flush_async()) for _ in range(1000)]
            await asyncio.sleep(0.05)
            assert log._instance.signals.durable.waiters == 1000
            schedule = loop.call_soon_threadsafe
            monkeypatch.setattr(
                loop, "call_soon_threadsafe", lambda *a, **k: (calls.append(a), schedule(*a, **k))
            )
            held.release()
            await asyncio.wait_for(asyncio.gather(*waiting), 20)
            assert log._instance.signals.durable.waiters == 0
            return len(calls)

    assert 1 <= asyncio.run(program()) <= 5


def test_coroutines_ask_together_for_what_they_wait_for(tmp_path):
    """Goal: one sync serves all that append in a turn of their loop, and may begin before its end.
    Method: 1,000 wait in each of three turns, then some alone, beside one that always waits; count
    what they ask."""

    async def program() -> list[int]:
        with aof2.open(tmp_path / "root") as manager:
            durable, asked = manager.stream("s")._instance.signals.durable, []
            counts, done = [], threading.Event()
            keeper = asyncio.ensure_future(durable.wait_async(lambda: False, None))

            def wait() -> asyncio.Future[bool]:
                ask = functools.partial(asked.append, 1)
                return asyncio.ensure_future(durable.wait_async(done.is_set, None, ask=ask))

            for count in (1000, 1000, 1000, 1, 1):
                waiting = [wait() for _ in range(count)]
                for _ in range(5):
                    await asyncio.sleep(0)
                done.set()
                durable.wake()
                await asyncio.wait_for(asyncio.gather(*waiting), 20)
                counts.append(len(asked))
                done.clear()
                asked.clear()
            keeper.cancel()
            return counts

    assert asyncio.run(program()) == [4, 4, 4, 1, 1]


@pytest.mark.parametrize("state", [ring_full, no_segment])
def test_a_cancelled_append_is_wholly_there_or_not_at_all(tmp_path, state):
    """Goal: cancelling is safe at every await. Method: 1,000 appends of distinct records, each
    cancelled after a random number of turns of the loop, while room comes and goes."""
    print(f"seed {SEED}")
    rnd = random.Random(SEED)

    async def program() -> None:
        with state(tmp_path / "root") as (log, held):
            before, ended = log.next_offset, {}
            for n in range(1000):
                payload = b"%04d" % n * 100
                durable = rnd.random() < 0.3
                task = asyncio.ensure_future(log.append_async(payload, durable=durable))
                for _ in range(rnd.randrange(4)):
                    await asyncio.sleep(0)
                if n == 300:
                    held.release()
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    ended[await task] = payload
            written = [r.payload for r in log.reader(before)]
            assert len(set(written)) == len(written)
            assert set(written) <= {b"%04d" % n * 100 for n in range(1000)}
            for offset, payload in ended.items():
                assert written[offset - before] == payload
            assert sum(s.waiters for s in log._instance.signals._all()) == 0

    asyncio.run(program())


def test_several_loops_and_threads_wait_for_one_release(tmp_path):
    """Goal: no waiter is of another loop's business. Method: two loops and a thread wait for the
    same seal, which is then acknowledged."""
    ended: list[str] = []
    with seal_held(tmp_path / "root") as (log, held):

        def loop(name: str) -> None:
            async def program() -> None:
                await asyncio.gather(*(log.seal_async(timeout=20) for _ in range(3)))
                ended.append(name)

            asyncio.run(program())

        threads = [threading.Thread(target=loop, args=(name,)) for name in ("one", "two")]
        threads.append(threading.Thread(target=lambda: (log.seal(timeout=20), ended.append("t"))))
        for thread in threads:
            thread.start()
        while log._instance.signals.work.waiters < 7:
            threading.Event().wait(0.001)
        held.release()
        for thread in threads:
            thread.join(20)
    assert sorted(ended) == ["one", "t", "two"]


def test_closing_wakes_everybody_with_closed(tmp_path):
    """Goal: nobody waits for a closed manager. Method: followers in a thread and in two loops, a
    `WouldBlock`, then `close`."""
    manager = aof2.open(tmp_path / "root")
    log = manager.stream("a")
    log.append(RECORD)
    ends: list[type[BaseException]] = []

    def run(work) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except aof2.Closed as error:
                ends.append(type(error))

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    async def follow() -> None:
        reader = log.reader(start="latest", follow=True)
        async for _ in reader:
            raise AssertionError("nothing was appended")

    with pytest.raises(aof2.WouldBlock) as told:
        log.reader(start="latest", follow=True).read_nowait()
    threads = [
        run(lambda: asyncio.run(follow())),
        run(lambda: asyncio.run(follow())),
        run(lambda: list(log.reader(start="latest", follow=True))),
        run(lambda: told.value.wait(None)),
    ]
    while log._instance.signals.tail.waiters < len(threads):
        threading.Event().wait(0.001)
    manager.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert ends == [aof2.Closed] * 4


def test_a_close_is_not_held_up_by_a_coroutine_that_waits(tmp_path):
    """Goal: nothing held across an await blocks close. Method: coroutines wait for a held seal and
    for the tail; another one closes the manager in the same loop."""

    async def program() -> None:
        manager = await aof2.open_async(tmp_path / "root")
        log = await manager.stream_async("a")
        await log.append_async(RECORD)
        waiting = [
            asyncio.ensure_future(log.reader(start="latest", follow=True).read_async(timeout=None))
            for _ in range(3)
        ]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(manager.close_async(), 20)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, aof2.Closed)

    asyncio.run(program())


def test_sixty_four_coroutines_ask_for_one_record_with_one_fetch(tmp_path):
    """Goal: one fetch however many ask. Method: count how often the segment is opened."""

    async def program() -> int:
        with cold_get(tmp_path / "root") as (log, held):
            reads, read = [], log._instance._open_anew
            log._instance._open_anew = lambda *a: (reads.append(a), read(*a))[1]
            asking = [asyncio.ensure_future(log.get_async(0)) for _ in range(64)]
            threads = [threading.Thread(target=log.get, args=(0,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            while log._instance.signals.hydration.waiters < 72:
                await asyncio.sleep(0.001)
            held.release()
            got = await asyncio.wait_for(asyncio.gather(*asking), 20)
            for thread in threads:
                thread.join(20)
            assert {record.payload for record in got} == {RECORD}
            return len(reads)

    assert asyncio.run(program()) == 1


def test_a_wake_callback_serves_another_event_loop(tmp_path):
    """Goal: trio and the like need no asyncio. Method: the retry loop of such a loop: a callback
    sets an event, a refused call waits for it."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        reader, woken = log.reader(follow=True), threading.Event()
        remove = log.add_wake_callback(aof2.WouldBlockKind.TAIL, woken.set)
        for n in range(3):
            with pytest.raises(aof2.WouldBlock):
                reader.read_nowait()
            woken.clear()
            log.append(b"%d" % n)
            assert woken.wait(20)
            assert reader.read_nowait().payload == b"%d" % n  # type: ignore[union-attr]
        remove()
        remove()
        assert log._instance.signals.tail._callbacks == []


def test_an_append_with_room_does_not_suspend(tmp_path):
    """Goal: no turn of the loop for nothing. Method: drive the coroutine by hand, inside a loop."""

    async def program() -> None:
        async with await aof2.open_async(tmp_path / "root") as manager:
            log = manager.stream("a")
            await log.append_async(RECORD)
            await asyncio.sleep(0.01)
            for coroutine in (log.append_async(RECORD), log.append_many_async([RECORD])):
                with pytest.raises(StopIteration):
                    coroutine.send(None)
                await asyncio.sleep(0)

    asyncio.run(program())


def test_a_blocking_wait_says_once_what_it_waits_for(tmp_path, caplog):
    """Goal: a hang explains itself. Method: a seal and an append that wait longer than a second."""
    caplog.set_level(logging.WARNING, "aof2")
    with seal_held(tmp_path / "seal") as (log, _), pytest.raises(aof2.WaitTimeout):
        log.seal(timeout=1.3)
    with no_segment(tmp_path / "append") as (log, _), pytest.raises(aof2.WaitTimeout):
        log.append(RECORD, timeout=1.3)
    waits = [r for r in caplog.records if getattr(r, "event", "") == "call_waits"]
    assert [record.kind for record in waits] == ["rollover", "rollover"]


def test_a_manager_that_was_left_open_is_closed_at_exit(tmp_path):
    """Goal: nothing is lost by forgetting `close`. Method: a program that ends without it; the
    warning names what was pending, the reopen is clean."""
    program = (
        "import sys, aof2\n"
        "log = aof2.open(sys.argv[1]).stream('a')\n"
        "log.append(b'x')\n"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "ResourceWarning" in done.stderr
    assert "a: 1 records not durable" in done.stderr
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").recovery.clean
        assert manager.stream("a").next_offset == 1


def test_a_thread_that_outlives_the_main_one_loses_nothing(tmp_path):
    """Goal: no close under a thread that still appends. Method: a program whose main thread ends
    first; its other one, no daemon, goes on; all is there, and the close was clean."""
    program = (
        "import sys, threading, aof2\n"
        "log = aof2.open(sys.argv[1]).stream('a')\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    for n in range(1000):\n"
        "        log.append(b'%d' % n)\n"
        "threading.Thread(target=work).start()\n"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert "Traceback" not in done.stderr
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").recovery.clean
        assert [r.payload for r in manager.stream("a").reader()] == [b"%d" % n for n in range(1000)]


def test_a_cancelled_open_leaves_the_root_free(tmp_path):
    """Goal: no lock without a holder. Method: cancel `open_async` in the middle, open again."""

    async def program() -> None:
        opening = asyncio.ensure_future(aof2.open_async(tmp_path / "root"))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        for thread in threading.enumerate():
            if thread.name == "aof2-open":
                await asyncio.to_thread(thread.join, 20)
        async with await aof2.open_async(tmp_path / "root"):
            pass

    asyncio.run(program())


def test_a_stream_of_another_writer_is_followed_without_its_help(tmp_path):
    """Goal: readers beside a writer wait too. Method: a readonly manager: a coroutine and a thread
    at the tail see what is appended; a callback, which nobody could call, is refused."""

    async def program(log: aof2.Aof, beside: aof2.Aof) -> None:
        reader = beside.reader(start="latest", follow=True)
        waiting = asyncio.ensure_future(reader.read_async(timeout=20))
        other = beside.reader(start="latest", follow=True)
        blocking = asyncio.ensure_future(asyncio.to_thread(other.read, timeout=20))
        await asyncio.sleep(0.01)
        log.append(b"new")
        assert (await waiting).payload == (await blocking).payload == b"new"
        with pytest.raises(aof2.WaitTimeout):
            await reader.read_async(timeout=0.01)

    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(RECORD)
        with aof2.open(tmp_path / "root", readonly=True) as readonly:
            beside = readonly.stream("a")
            asyncio.run(program(log, beside))
            with pytest.raises(aof2.ConfigError, match="another process"):
                beside.add_wake_callback(aof2.WouldBlockKind.TAIL, print)
