"""A device that fails: the writer stops, nobody is told otherwise, readers go on."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from crashhelp import KIB, check, config, fill, payload, reopen

import aof2
from aof2._core import posix

Hook = Callable[..., "int | None"]


@contextlib.contextmanager
def seam(hook: Hook) -> Iterator[None]:
    """Let a hook see every call to the operating system.

    Python must not switch threads inside of it: a hook that is called in the middle of an append
    would
    let another append in.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    posix.set_seam_hook(hook)
    try:
        yield
    finally:
        posix.set_seam_hook(None)
        sys.setswitchinterval(before)


def fails_once(wanted: str, number: int) -> tuple[Hook, list[str]]:
    """A hook that lets the first call of a kind fail, and a list of the calls that it saw."""
    seen: list[str] = []

    def hook(op: str, *_: object) -> int | None:
        if op == wanted:
            seen.append(op)
            if len(seen) == 1:
                return number
        return None

    return hook, seen


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("op", ["fdatasync", "pwrite"])
def test_a_failed_flush_stops_the_writer_for_good(tmp_path, op, number):
    """Goal: promise 6. Method: the first sync or write fails, later ones would succeed."""
    root = tmp_path / "root"
    manager = aof2.open(root, config=config(interval_s=3600))
    log = manager.stream("a")
    fill(log, 10)
    log.flush()
    fill(log, 20)
    hook, seen = fails_once(op, number)
    with seam(hook), pytest.raises(aof2.DurabilityLost, match=os.strerror(number)) as caught:
        log.flush()
    assert seen
    assert caught.value.offset == 10
    assert isinstance(caught.value, OSError)
    for call in (
        log.flush,
        log.wait,
        lambda: log.wait(15),
        log.flush_nowait,
        lambda: log.append(b""),
        lambda: log.append_nowait(b""),
        lambda: log.append(b"", durable=True),
        lambda: log.append_many([b""]),
        lambda: log.extend([b""]),
        lambda: log.append(b"", timeout=0.01),
        log.seal,
    ):
        with pytest.raises(aof2.DurabilityLost):
            call()
    log.wait(5)
    assert (log.next_offset, log.watermarks.local) == (20, 10)
    assert [r.payload for r in log.reader()] == [payload(n) for n in range(20)]
    assert [r.offset for r in log.reader(until="local")] == list(range(10))
    assert log.get(19).payload == payload(19)
    with pytest.raises(aof2.DurabilityLost):
        manager.close()
    manager.close()
    count, report = reopen(root, 10)
    assert count == 20
    assert not report.clean


def test_everyone_who_waits_learns_of_a_failed_sync(tmp_path):
    """Goal: no waiter is left behind or told a success. Method: eight threads wait; the sync
    fails."""
    gate, answers = threading.Event(), []
    manager = aof2.open(tmp_path / "root", config=config(interval_s=3600))
    log = manager.stream("a")
    log.append(b"0", durable=True)

    def hook(op: str, *_: object) -> int | None:
        if op != "fdatasync":
            return None
        gate.wait(30)
        return errno.EIO

    def wait() -> None:
        try:
            log.append(b"x", durable=True)
        except Exception as error:
            answers.append(type(error))
        else:
            answers.append(None)

    with seam(hook):
        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        while log.next_offset < 9:
            threading.Event().wait(0.001)
        gate.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    assert answers == [aof2.DurabilityLost] * 8
    assert log.watermarks.local == 1
    with pytest.raises(aof2.DurabilityLost):
        manager.close()


def test_a_failed_sync_in_the_background_is_told_to_the_next_call(tmp_path):
    """Goal: nobody has to wait to be told. Method: the interval's own flush fails."""
    manager = aof2.open(tmp_path / "root", config=config(interval_s=0.001))
    log = manager.stream("a")
    log.append(b"0", durable=True)
    hook, seen = fails_once("fdatasync", errno.EIO)
    with seam(hook), pytest.raises(aof2.DurabilityLost):  # noqa: PT012
        for _ in range(100_000):
            log.append(b"x")
            threading.Event().wait(0.0005)
    assert seen
    with pytest.raises(aof2.DurabilityLost):
        log.append(b"x")
    with pytest.raises(aof2.DurabilityLost):
        manager.close()


def test_a_short_write_is_completed(tmp_path):
    """Goal: a short write is no error. Method: every write-out passes at most 5 KiB at a time."""

    def hook(op: str, fd: int, name: str, position: int, data: bytes, n: int) -> int | None:
        return -5000 if op == "pwrite" and n > 5000 else None

    with aof2.open(tmp_path / "root", config=config()) as manager:
        log = manager.stream("a")
        with seam(hook):
            for _ in range(20):
                log.append_many([payload(log.next_offset + k) for k in range(100)])
            log.flush()
        assert check(log) == 2000
    assert reopen(tmp_path / "root", 2000)[0] == 2000


def test_sixteen_threads_share_syncs(tmp_path):
    """Goal: group commit. Method: 16 × 25 durable appends with a slow device; count its syncs."""
    syncs = []

    def hook(op: str, *_: object) -> None:
        if op == "fdatasync":
            syncs.append(op)
            threading.Event().wait(0.002)

    each, threads = 25, 16
    with aof2.open(tmp_path / "root", config=config(interval_s=3600)) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        durable = []

        def work() -> None:
            for _ in range(each):
                offset = log.append(b"x", durable=True)
                durable.append(log.watermarks.local > offset)

        with seam(hook):
            started = [threading.Thread(target=work) for _ in range(threads)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
        assert log.next_offset == 1 + each * threads
        assert durable == [True] * (each * threads)
    assert len(syncs) < each * threads / 3, len(syncs)


def test_a_full_disk_is_an_ordinary_answer_and_goes_on_with_the_same_handle(tmp_path):
    """Goal: promise 7 for the next segment. Method: its preallocation fails, later it succeeds."""
    full = True

    def hook(op: str, *_: object) -> int | None:
        return errno.ENOSPC if op == "fallocate" and full else None

    settings = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
    )
    with aof2.open(tmp_path / "root", config=settings) as manager:
        log = manager.stream("a")
        log.append(payload(0))
        with seam(hook):
            with pytest.raises(aof2.WaitTimeout) as late:  # noqa: PT012
                while True:
                    log.append(payload(log.next_offset), timeout=1)
            assert late.value.kind is aof2.WouldBlockKind.DISK_FULL
            held = log.next_offset
            with pytest.raises(aof2.WouldBlock) as caught:
                log.append_nowait(payload(held))
            assert caught.value.kind is aof2.WouldBlockKind.DISK_FULL
            assert log.next_offset == held
            check_readable(log, held)
            full = False
            assert log.append(payload(held), timeout=20) == held
        fill(log, held + 2000)
        log.flush()
        assert check(log) == held + 2000


def check_readable(log: aof2.Aof, count: int) -> None:
    assert list(log.reader().payloads()) == [payload(n) for n in range(count)]


def test_a_disk_that_is_really_full_kills_nobody(small_disk):
    """Goal: promise 7: no signal. Method: fill 8 MiB; read all; make room; go on; reopen."""
    settings = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=512 * KIB),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.05),
        flush=aof2.FlushConfig(ring_bytes=64 * KIB),
    )
    disk = small_disk(8 * KIB)
    ballast = disk / "ballast"
    ballast.write_bytes(os.urandom(2 << 20))
    with aof2.open(disk / "root", config=settings) as manager:
        log = manager.stream("a")
        body = os.urandom(4000)
        with pytest.raises((aof2.WouldBlock, aof2.StorageFull)) as caught:  # noqa: PT012
            while True:
                log.append(body, timeout=1)
        if isinstance(caught.value, aof2.WouldBlock):
            assert caught.value.kind is aof2.WouldBlockKind.DISK_FULL
        held = log.next_offset
        assert held > 300
        assert list(log.reader().payloads()) == [body] * held
        ballast.unlink()
        assert log.append(body, timeout=20) == held
        log.flush(timeout=20)
    with aof2.open(disk / "root", config=settings) as manager:
        assert list(manager.stream("a").reader().payloads()) == [body] * (held + 1)


EINTR_CHILD = """
import signal, sys, threading
import aof2
from crashhelp import config, fill, check

signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
with aof2.open(sys.argv[1], config=config(interval_s=0.001)) as manager:
    log = manager.stream("a")
    for n in range(40):
        fill(log, 100 * n)
        log.flush()
    check(log)
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""


def test_signals_in_the_middle_of_calls_change_nothing(tmp_path):
    """Goal: EINTR is retried everywhere. Method: a process with 5,000 signals a second."""
    from crashhelp import python

    child = python("-c", EINTR_CHILD, str(tmp_path / "root"), stderr=subprocess.PIPE)
    out, errors = child.communicate(timeout=60)
    assert out == b"done\n", errors.decode()
    assert reopen(tmp_path / "root", 3900)[0] == 3900
