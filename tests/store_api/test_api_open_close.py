"""Opening and closing again and again leaves nothing behind."""

from __future__ import annotations

import pytest
from apihelp import held, left_over, small, tree

import aof2


def test_opened_and_closed_a_thousand_times_without_a_stream(tmp_path):
    """Goal: a manager costs nothing once it is closed.

    Method: 1,000 times, after one to warm up: threads, descriptors, mappings and files as before.
    """
    root = tmp_path / "root"
    with aof2.open(root):
        pass
    before, files = held(), sorted(tree(tmp_path))
    for _ in range(1000):
        aof2.open(root).close()
    assert left_over(before) == {}
    assert sorted(tree(tmp_path)) == files


def test_opened_and_closed_a_hundred_times_with_a_stream(tmp_path):
    """Goal: reopening is cheap on disk too: after a clean close the same segment goes on.

    Method: 100 times a few appends; the count of files and their bytes stay bounded.
    """
    root, n = tmp_path / "root", 0
    with aof2.open(root, config=small()) as manager:
        manager.stream("a").append(b"%d" % n)
    before, files = held(), len(tree(tmp_path))
    for turn in range(1, 101):
        with aof2.open(root, config=small()) as manager:
            log = manager.stream("a")
            assert log.recovery.clean
            assert log.next_offset == 1 + 3 * (turn - 1)
            for _ in range(3):
                n += 1
                assert log.append(b"%d" % n) == n
    assert left_over(before) == {}
    after = tree(tmp_path)
    assert len(after) <= files + 4, sorted(after)
    with aof2.open(root, config=small()) as manager:
        log = manager.stream("a")
        assert [s.segment_id for s in log.segments()] == [1]
        assert list(log.reader().payloads()) == [b"%d" % k for k in range(n + 1)]


def test_opened_and_closed_often_for_reading(tmp_path):
    """Goal: readers leave nothing either. Method: 100 times beside a writer, reading everything."""
    with aof2.open(tmp_path / "root", config=small()) as manager:
        log = manager.stream("a")
        log.extend(b"%d" % n * 50 for n in range(2000))
        manager.drain()
        before = held()
        for _ in range(100):
            with aof2.open(tmp_path / "root", readonly=True) as beside:
                assert beside.stream("a").next_offset == 2000
                assert beside.stream("a").get(1999).payload == b"1999" * 50
        assert left_over(before) == {}


def test_a_closed_manager_closes_everything_it_gave_out(tmp_path):
    """Goal: no use after close.

    Method: every call on handles of a closed manager raises `Closed`.
    """
    manager = aof2.open(tmp_path / "root")
    log = manager.stream("a")
    log.append(b"x")
    reader = log.reader(follow=True)
    manager.close()
    manager.close()
    for call in (
        lambda: log.append(b"x"),
        lambda: log.append_nowait(b"x"),
        lambda: log.append_many([b"x"]),
        lambda: log.append_many([]),
        lambda: log.extend([b"x"]),
        lambda: log.extend([]),
        log.flush,
        log.wait,
        log.seal,
        log.reader,
        log.segments,
        lambda: log.get(0),
        lambda: log.get_nowait(0),
        lambda: manager.stream("a"),
        lambda: manager.stream("b"),
        manager.streams,
        manager.drain,
        lambda: list(reader),
    ):
        with pytest.raises(aof2.Closed, match="closed"):
            call()


def test_a_stream_is_the_same_object_each_time_and_keeps_its_ext_id(tmp_path):
    """Goal: `stream` is a look-up; ext_id= is the default from now on, also in a segment that goes
    on.

    Method: open the same stream with two defaults, in one manager and in the next; look at records.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a", ext_id=1)
        assert manager.stream("a") is log
        log.append(b"")
        log.append_many([b"", b""])
        assert log.ext_id == 1
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a", ext_id=2)
        assert log.ext_id == 2
        log.append(b"")
        log.append_many([b"", b""])
        log.append_packed(b"a", memoryview(bytearray(b"\1\0\0\0")).cast("i"))
        log.append(b"", ext_id=9)
        assert [record.ext_id for record in log.reader()] == [1, 1, 1, 2, 2, 2, 2, 9]
        assert manager.stream("a", ext_id=3) is log
        log.append(b"")
        assert log.get(log.next_offset - 1).ext_id == log.ext_id == 3
