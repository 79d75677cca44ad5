"""Following a stream that another process writes: woken by it, and without it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from waithelp import until

import aof2
from aof2 import signals
from aof2._core.directory import Directory
from aof2._core.ring import RING_NAME
from aof2._core.ringview import RingView
from aof2.tiers.hot import HotTier

WRITER = """
import sys
import aof2

with aof2.open(sys.argv[1]) as manager:
    log = manager.stream("s")
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        log.append(b"%d" % number)
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writing(tmp_path):
    """A stream with one record; only a test that asks has it flushed, as that wakes readers too."""
    manual = aof2.AofManagerConfig(flush=aof2.FlushConfig(interval_s=None, bytes=None))
    with aof2.open(tmp_path / "root", config=manual) as manager:
        log = manager.stream("s")
        log.append(b"first")
        yield log


@pytest.fixture
def copy(tmp_path, writing):
    """The same stream as another process sees it."""
    with aof2.open(tmp_path / "root", readonly=True) as manager:
        yield manager.stream("s")


def looks(reader: aof2.AofReader, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one each time that the reader looks whether there is more."""
    seen: list[int] = []
    has_more = reader._has_more

    def counted() -> bool:
        seen.append(reader.offset)
        return has_more()

    monkeypatch.setattr(reader, "_has_more", counted)
    return seen


@pytest.mark.parametrize("level", ["appended", "local"])
def test_a_reader_sleeps_until_the_writer_wakes_it(writing, copy, monkeypatch, level):
    """Goal: an idle follower costs nothing, and a record reaches it at once. Method: half a second
    without a record is a few looks, not the hundreds of polling; then one append ends the wait,
    which lasts for a minute without."""
    # What nobody wakes looks by itself only after the test has failed.
    monkeypatch.setattr(signals, "RING_WAIT_S", 60.0)
    writing.flush()
    reader = copy.reader(start="latest", follow=True, until=level)
    seen, got = looks(reader, monkeypatch), []
    thread = threading.Thread(target=lambda: got.append(reader.read(timeout=60).payload))
    thread.start()
    until(lambda: copy._instance.ring().waiters)
    before = len(seen)
    time.sleep(0.5)
    assert len(seen) - before < 5
    writing.append(b"second", durable=level == "local")
    thread.join(20)
    assert got == [b"second"]
    reader.close()


def test_many_readers_wake_at_one_append(writing, copy):
    """Goal: one word serves all who sleep. Method: eight readers wait; each gets each record."""
    got: list[list[bytes]] = [[] for _ in range(8)]

    def follow(into: list[bytes]) -> None:
        with copy.reader(start="latest", follow=True) as reader:
            ready.wait()
            into += [reader.read(timeout=20).payload for _ in range(50)]

    ready = threading.Barrier(9)
    threads = [threading.Thread(target=follow, args=(into,)) for into in got]
    for thread in threads:
        thread.start()
    ready.wait()
    for number in range(50):
        writing.append(b"%d" % number)
        time.sleep(0.001 * (number % 3))
    for thread in threads:
        thread.join(30)
    assert got == [[b"%d" % number for number in range(50)]] * 8


def test_where_the_ring_cannot_be_mapped_writable_it_is_polled(tmp_path, writing, monkeypatch):
    """Goal: a follower without the right to write follows, too. Method: its ring is opened as on a
    file system that is mounted readonly."""
    monkeypatch.setattr(HotTier, "open_ring", _without_waits(HotTier.open_ring))
    with aof2.open(tmp_path / "root", readonly=True) as manager:
        reader = manager.stream("s").reader(start="latest", follow=True)
        ring = reader._stream.ring()
        assert ring is not None
        assert not ring.can_wait
        with pytest.raises(ValueError, match="not mapped for waiting"):
            ring.wait(0, 0, 0.1)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(reader.read(timeout=20).payload))
        thread.start()
        writing.append(b"second")
        thread.join(20)
        assert got == [b"second"]


def _without_waits(open_ring):
    return lambda tier, *, waits=False: open_ring(tier)


def test_a_reader_that_is_closed_meanwhile_ends(copy):
    """Goal: close from another thread ends the wait. Method: close one that sleeps."""
    reader = copy.reader(start="latest", follow=True)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.extend(reader))
    thread.start()
    until(lambda: copy._instance.signals.tail._waited is not None)
    reader.close()
    thread.join(20)
    assert not thread.is_alive()
    assert got == []


def test_a_ring_that_is_given_up_ends_the_wait(tmp_path, writing):
    """Goal: nobody sleeps on a ring that no one writes to any more. Method: wait on one that says
    so, with far more time than the test has."""
    (path,) = (tmp_path / "root").glob(f"s-*/segments/{RING_NAME}")
    place = Directory(str(path.parent))
    ring = RingView(place, RING_NAME, writing._instance.identity.uuid, waits=True)
    thread = threading.Thread(target=lambda: ring.wait(*ring.offsets(), 1000.0))
    thread.start()
    until(lambda: ring.waiters)
    ring.retire()
    thread.join(20)
    assert not thread.is_alive()
    assert ring.closed
    place.close()


def test_a_follower_outlives_its_writer(tmp_path):
    """Goal: a writer that is killed and started again is followed as if nothing had happened.
    Method: three of them, one after the other, each killed; one reader gets all their records."""
    root = tmp_path / "root"
    with aof2.open(root) as manager:
        manager.stream("s")
    got: list[bytes] = []
    with aof2.open(root, readonly=True) as manager:
        reader = manager.stream("s").reader(start=0, follow=True)
        for turn in range(3):
            command = [sys.executable, "-c", WRITER, str(root), str(40 * turn), str(40 * turn + 40)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                while len(got) < 40 * turn + 40:
                    got.append(reader.read(timeout=30).payload)
                assert process.stdout is not None
                process.stdout.readline()
                process.kill()
    assert got == [b"%d" % number for number in range(120)]
