"""When records become durable: by bytes, by time, by call; what `strict` adds."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from durablehelp import Calls, Seam, copy_without_ring, last_frame, settings
from waithelp import until

import aof2
from aof2._core import posix
from aof2.errors import ConfigError

KIB = 1024
SLICE_S = 0.1
"""So often a thread that waits for the disk looks for signals, and sees by itself how far it is."""


def test_so_many_bytes_are_synced_without_a_timer(tmp_path):
    """Goal: `flush.bytes`. Method: no interval; less than the bytes stays, more becomes durable by
    itself."""
    config = settings(1024 * KIB, interval_s=None, bytes=64 * KIB)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        log.append(b"x" * 1000)
        assert log.watermarks.local == 0
        for _ in range(100):
            log.append(b"x" * 1000)
        until(lambda: log.watermarks.local > 50)
        log.flush()
        assert log.watermarks.local == 101


def test_without_interval_and_bytes_only_calls_flush(tmp_path):
    """Goal: the manual policy. Method: a megabyte stays unsynced, with no sync call seen, until a
    flush."""
    config = settings(1024 * KIB, interval_s=None, bytes=None)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        log.append(b"first", durable=True)
        with Calls() as calls:
            for _ in range(100):
                log.append(b"x" * 1000)
            threading.Event().wait(0.15)
            assert calls.of("fdatasync") == []
            assert log.watermarks.local == 1
        log.flush()
        assert log.watermarks.local == 101


@pytest.mark.parametrize("interval_s", [0, 0.01])
def test_the_interval_makes_records_durable_by_itself(tmp_path, interval_s):
    """Goal: the timer. Method: appends alone, then again after an idle time."""
    with aof2.open(tmp_path / "r", config=settings(interval_s=interval_s, bytes=None)) as manager:
        log = manager.stream("a")
        for round_ in range(1, 4):
            log.append(b"x")
            until(lambda round_=round_: log.watermarks.local == round_)
            threading.Event().wait(0.12)


def test_backpressure_of_the_manual_policy_asks_for_a_sync(tmp_path):
    """Goal: `unflushed_bytes_max` is answered before a record is accepted, and ends by itself."""
    config = settings(8192 * KIB, interval_s=None, bytes=None, unflushed_bytes_max=1024 * KIB)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        kinds = set()
        while aof2.WouldBlockKind.FLUSH not in kinds:
            try:
                log.append_nowait(b"x" * 4000)
            except aof2.WouldBlock as blocked:
                kinds.add(blocked.kind)
                held = log.next_offset
                blocked.wait(30)
        assert held * 4000 < 8192 * KIB
        assert log.append(b"x", timeout=30) == held


@pytest.mark.parametrize("many", [False, True])
def test_strict_states_each_flush_in_the_segment_before_anybody_is_told(tmp_path, many):
    """Goal: order of a strict flush: sync, check, slot, sync, check, acknowledgement. Method: the
    calls of one durable append; and group commit still shares them."""
    with aof2.open(tmp_path / "r", config=settings(interval_s=3600, strict=True)) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        with Calls() as calls:
            if many:
                threads = [
                    threading.Thread(target=lambda: log.append(b"x", durable=True))
                    for _ in range(16)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            else:
                log.append(b"1", durable=True)
            seen = list(calls.seen)
    if many:
        assert len([c for c in seen if c[0] == "fdatasync"]) <= 32
        return
    kinds = [
        op if op == "fdatasync" else "check" if n == 0 else "slot" if position < 8192 else "write"
        for op, _, position, n in seen
    ]
    assert kinds == ["write", "fdatasync", "check", "slot", "fdatasync", "check"]


def test_coroutines_of_a_turn_share_a_few_syncs(tmp_path):
    """Goal: group commit for one loop, without a timer. Method: 1,000 durable appends at once, and
    again; then one after another, each of which asks for itself."""
    config = settings(1024 * KIB, interval_s=None, bytes=None, confirm_interval_s=3600)

    async def program(log: aof2.Aof) -> list[int]:
        counts = []
        for count in (1000, 1000, 1, 1, 1):
            with Calls() as calls:
                appends = [log.append_async(b"x" * 100, durable=True) for _ in range(count)]
                await asyncio.wait_for(asyncio.gather(*appends), 30)
            counts.append(len(calls.of("fdatasync")))
        return counts

    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        counts = asyncio.run(program(log))
        assert all(1 <= count <= 5 for count in counts[:2])
        assert counts[2:] == [1, 1, 1]
        assert log.watermarks.local == 2004


class Syncers(Seam):
    """Notes which threads sync."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def see(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> int | None:
        if op == "fdatasync":
            self.threads.add(threading.get_ident())
        return None


def test_each_thread_is_woken_however_many_wait(tmp_path):
    """Goal: threads wake in a chain, and none is left out of it: not by those who give up, nor by
    those who need another sync yet. Method: rounds in which 24 threads append once each, some with
    a limit around the time of a sync; nobody comes after them whose sync would wake the others.
    Whoever is not woken looks by himself after a tenth of a second: in the best round, nobody had
    to."""
    rounds: list[float] = []

    def work(number: int) -> None:
        ready.wait()
        limits = [0.0002, 0.001, 60.0]
        with suppress(aof2.NotYetDurable):
            log.append(b"x", durable=True, timeout=limits[min(number % 6, 2)])

    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("s")
        log.append(b"first", durable=True)
        for _ in range(20):
            ready = threading.Barrier(24)
            threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
            for thread in threads[1:]:
                thread.start()
            began = time.monotonic()
            threads[0].start()
            for thread in threads:
                thread.join()
            rounds.append(time.monotonic() - began)
    assert min(rounds) < SLICE_S


@pytest.mark.parametrize("timeout", [None, 3600, 5])
def test_whoever_waits_never_syncs_himself(tmp_path, timeout):
    """Goal: a device that hangs holds no caller beyond his limit, and none whom a signal ends.
    Method: the threads that sync for durable appends, a flush and a wait."""
    with aof2.open(tmp_path / "r", config=settings(interval_s=3600)) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        with Syncers() as syncers:
            for _ in range(5):
                log.append(b"x", durable=True, timeout=timeout)
            log.append(b"x")
            log.flush(timeout=timeout)
            log.wait(log.append(b"x"), "local", timeout=timeout)
        assert syncers.threads
        assert threading.get_ident() not in syncers.threads


def test_a_device_that_hangs_holds_nobody_beyond_the_limit(tmp_path):
    """Goal: limits hold while a sync does not return. Method: a sync waits for a gate; several wait
    for it with limits of their own, alone and together; then the gate opens."""
    gate = threading.Event()

    def hold(op: str, *_: object) -> int:
        if op == "fdatasync":
            assert gate.wait(60)
        return 0

    with aof2.open(tmp_path / "r", config=settings(interval_s=3600)) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        posix.set_seam_hook(hold)
        try:
            with pytest.raises(aof2.NotYetDurable) as caught:
                log.append(b"1", durable=True, timeout=0.05)
            assert caught.value.offset == 1
            late: list[BaseException] = []

            def wait() -> None:
                try:
                    log.wait(1, "local", timeout=0.05)
                except aof2.NotYetDurable as error:
                    late.append(error)

            threads = [threading.Thread(target=wait) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert len(late) == 4
        finally:
            gate.set()
            posix.set_seam_hook(None)
        log.wait(1, "local", timeout=30)


@pytest.mark.parametrize("strict", [False, True])
def test_damage_to_the_very_last_flush(tmp_path, strict):
    """Goal: the one limit of promise 5, and that `strict` closes it. Method: one durable record
    after another; a power cut leaves the file, without the ring, with a bit of the last one
    flipped."""
    config = settings(interval_s=3600, confirm_interval_s=3600, strict=strict)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        for n in range(5):
            log.append(b"record %d" % n, durable=True)
        copy = copy_without_ring(tmp_path / "r", tmp_path / "copy")
    path, position = last_frame(copy)
    data = bytearray(path.read_bytes())
    data[position + 34] ^= 1
    path.write_bytes(data)
    if strict:
        with pytest.raises(aof2.RecordCorrupt) as caught, aof2.open(copy) as manager:
            manager.stream("a")
        assert caught.value.position == position
    else:
        with aof2.open(copy) as manager:
            log = manager.stream("a")
            assert (log.next_offset, log.recovery.clean) == (4, False)
            assert log.recovery.truncated_bytes > 0


def test_strict_rollovers_recover_at_every_point(tmp_path):
    """Goal: slots of a strict writer never contradict its files. Method: copies of a live root
    between rollovers and seals open with everything acknowledged."""
    config = settings(interval_s=3600, strict=True)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        for n in range(12):
            log.append(b"%d" % n * 7000, durable=n % 3 == 0)
            durable = log.watermarks.local
            copy = copy_without_ring(tmp_path / "r", tmp_path / f"copy{n}")
            with aof2.open(copy, config=config) as other:
                found = list(other.stream("a").reader().payloads())
                assert len(found) >= durable
                assert found == [b"%d" % k * 7000 for k in range(len(found))]
    with aof2.open(tmp_path / "r", config=config) as manager:
        assert manager.stream("a").next_offset == 12


def test_nothing_of_a_later_segment_is_synced_before_the_earlier_ones(tmp_path):
    """Goal: flushes are ordered over segments. Method: durable appends over many rollovers; at each
    sync of a segment every byte that was written out to an earlier one has been synced."""
    with aof2.open(tmp_path / "r", config=settings(interval_s=0.001)) as manager:
        log = manager.stream("a")
        log.append(b"0")
        with Calls() as calls:
            for n in range(400):
                log.append(b"x" * 3000, durable=n % 7 == 0)
            log.flush()
    assert calls.segments > 10
    assert calls.out_of_order == []
    assert calls.unchecked == []


READER = """
import json, sys, time, aof2
with aof2.open(sys.argv[1], readonly=True, tier2=sys.argv[2]) as manager:
    log = manager.stream("a")
    for line in sys.stdin:
        wanted = json.loads(line)
        for _ in range(3000):
            marks = log.watermarks
            seen = [marks.appended, marks.local, marks.remote]
            if seen == wanted:
                break
            time.sleep(0.002)
        for until in ("appended", "local", "remote"):
            seen.append(len([r.offset for r in log.reader(until=until)]))
        print(json.dumps(seen), flush=True)
"""


def test_another_process_sees_the_watermarks_move(tmp_path):
    """Goal: all three watermarks in a readonly process, and `until=` ends at each. Method: a child
    looks after each step of the writer."""
    config = dataclasses.replace(
        settings(interval_s=None, bytes=None), tier2=aof2.Tier2Config(url=str(tmp_path / "cold"))
    )
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("a")
        log.append(b"0", durable=True)
        child = subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "r"), str(tmp_path / "cold")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child:
            for appended, step in (
                (5, None),
                (5, log.flush),
                (5, lambda: log.wait(4, "remote", timeout=30)),
                (9, None),
                (9, log.flush),
                (9, lambda: log.wait(8, "remote", timeout=30)),
            ):
                while log.next_offset < appended:
                    log.append(b"x")
                if step is not None:
                    step()
                marks = log.watermarks
                assert marks.appended == appended
                wanted = [marks.appended, marks.local, marks.remote]
                child.stdin.write(json.dumps(wanted) + "\n")
                child.stdin.flush()
                assert json.loads(child.stdout.readline()) == wanted * 2
            child.stdin.close()


@pytest.mark.parametrize("fields", [{"bytes": 100}, {"interval_s": -1}, {"interval_s": 1e9}])
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(ConfigError, match="flush"):
        aof2.FlushConfig(**fields)


def test_texts_turn_into_the_policies(tmp_path: Path):
    """Goal: files can say all of it."""
    path = tmp_path / "c.toml"
    path.write_text('[flush]\ninterval_s = "none"\nbytes = "none"\nstrict = true\n')
    flush = aof2.AofManagerConfig.from_toml(path).flush
    assert (flush.interval_s, flush.bytes, flush.strict) == (None, None, True)
