"""What crosses a process border: errors and values do, handles do not."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import aof2
from aof2 import errors


def in_child(work: Callable[[], None]) -> str:
    """Run work in a forked child; returns its traceback, empty when all went well."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            work()
        except BaseException:
            text = traceback.format_exc()
        os.write(writable, text.encode()[-4000:])
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return text if status == 0 else f"the child ended with status {status}: {text}"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_forked_handle_and_the_parent_goes_on(tmp_path: Path) -> None:
    """Goal: a child never writes with the parent's handles, never hangs, and does not take its
    lock.

    Method: fork with a stream in use; every call in the child; then the parent appends, and a
    second
    writer is still refused.
    """
    root = tmp_path / "root"
    with aof2.open(root) as manager:
        log = manager.stream("a")
        log.append(b"before")
        reader = log.reader(follow=True)

        def child() -> None:
            for call in (
                lambda: log.append(b"x"),
                lambda: log.append_nowait(b"x"),
                lambda: log.append(b"x", durable=True),
                lambda: log.append_many([b"x"]),
                lambda: log.append_many([]),
                lambda: log.append_packed(b"", memoryview(bytearray(0)).cast("i")),
                lambda: log.extend([b"x"]),
                log.flush,
                log.flush_nowait,
                log.wait,
                log.seal,
                log.seal_nowait,
                log.wait_nowait,
                reader.read,
                reader.read_nowait,
                reader.read_batch,
                lambda: reader.seek(0),
                lambda: log.add_wake_callback(aof2.WouldBlockKind.TAIL, print),
                lambda: manager.stream_nowait("b"),
                manager.drain_nowait,
                log.reader,
                log.segments,
                lambda: log.get(0),
                lambda: log.get_nowait(0),
                lambda: manager.stream("a"),
                lambda: manager.stream("b"),
                manager.streams,
                manager.drain,
            ):
                with pytest.raises(aof2.ForkedHandle, match="readonly=True"):
                    call()
            manager.close()
            with pytest.raises(aof2.RootLocked):
                aof2.open(root)
            with aof2.open(root, readonly=True) as beside:
                assert beside.stream("a").get(0).payload == b"before"

        assert in_child(child) == ""
        assert log.append(b"after", durable=True) == 1
        with pytest.raises(aof2.RootLocked) as caught:
            aof2.open(root)
        assert caught.value.pid == os.getpid()
        assert [record.payload for record in log.reader()] == [b"before", b"after"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_nothing_that_is_the_parents_to_know(tmp_path: Path) -> None:
    """Goal: no number that has stopped moving. Method: every property and report, in a child."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(b"x")

        def child() -> None:
            for call in (
                manager.health,
                manager.metrics,
                lambda: manager.bytes_used,
                lambda: log.next_offset,
                lambda: log.first_offset,
                lambda: log.watermarks,
                lambda: log.ext_id,
                log.explain_block,
            ):
                with pytest.raises(aof2.ForkedHandle):
                    call()

        assert in_child(child) == ""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_the_coordinator_plans_is_not_held_up(tmp_path: Path) -> None:
    """Goal: no lock of the parent's holds a child. Method: fork while a worker holds the
    coordinator's lock; the child asks how things are, and has to end."""
    with aof2.open(tmp_path / "root") as manager:
        manager.stream("a").append(b"x")

        def child() -> None:
            signal.alarm(20)
            for call in (manager.health, manager.metrics, manager.drain_nowait):
                with pytest.raises(aof2.ForkedHandle):
                    call()

        with manager._coordinator._wake:
            assert in_child(child) == ""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_coroutines_and_waits_of_a_forked_child_are_refused_too(tmp_path: Path) -> None:
    """Goal: no wait that nobody ends. Method: every async form, and a wait that began before."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(b"before")
        reader = log.reader(follow=True)
        with pytest.raises(aof2.WouldBlock) as blocked:
            log.reader(start="latest", follow=True).read_nowait()

        def child() -> None:
            with pytest.raises(aof2.ForkedHandle):
                blocked.value.wait(None)
            for coroutine in (
                log.append_async(b"x"),
                log.append_many_async([b"x"]),
                log.extend_async([b"x"]),
                log.flush_async(),
                log.wait_async(),
                log.seal_async(),
                log.get_async(0),
                manager.stream_async("b"),
                manager.drain_async(),
                reader.read_async(),
                reader.read_batch_async(),
                reader.seek_async(0),
            ):
                with pytest.raises(aof2.ForkedHandle):
                    asyncio.run(coroutine)

        assert in_child(child) == ""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_keep_the_parents_lock(tmp_path: Path) -> None:
    """Goal: the root is free once the parent closed it.

    Method: a child that outlives the manager.
    """
    manager = aof2.open(tmp_path / "root")
    manager.stream("a").append(b"1")
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(readable, 1)
        os._exit(0)
    manager.close()
    with aof2.open(tmp_path / "root") as again:
        assert again.stream("a").append(b"2") == 1
    os.write(writable, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(readable)
    os.close(writable)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_ends_in_the_ordinary_way_harms_nothing(tmp_path: Path) -> None:
    """Goal: collecting the parent's objects in a child touches no file.

    Method: the child drops every handle and collects; files and the parent's appends are unharmed.
    """
    with aof2.open(tmp_path / "root") as manager:
        handles = {"log": manager.stream("a")}
        handles["log"].append(b"1")

        def child() -> None:
            import gc

            handles.clear()
            gc.collect()

        assert in_child(child) == ""
        assert (tmp_path / "root").glob("*/segments/landing.ring")
        assert handles["log"].append(b"2", durable=True) == 1
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").recovery.clean
        assert list(manager.stream("a").reader().payloads()) == [b"1", b"2"]


EXTRA = {
    "WouldBlock": {"kind": aof2.WouldBlockKind.FLUSH, "retry_after_s": 0.5},
    "WaitTimeout": {"kind": aof2.WouldBlockKind.TAIL},
    "NotYetDurable": {"offset": 5, "level": "remote"},
    "OffsetOutOfRange": {"first": 3, "next": 9},
    "RootLocked": {"pid": 77, "host": "here"},
    "Fenced": {"epoch": 4},
    "RecordCorrupt": {"intact_on": ("WARM",), "position": 8192},
}
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.AofError)
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_all_its_fields(cls):
    """Goal: errors come back whole from worker processes. Method: round trip, by every protocol."""
    error = cls("what happened", stream="a", path="/p", **EXTRA.get(cls.__name__, {}))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is cls
        assert str(again) == str(error)
        assert again.code == cls.code
        ours = {k: v for k, v in vars(error).items() if k != "_waiter"}
        assert {k: v for k, v in vars(again).items() if k != "_waiter"} == ours


def test_codes_are_of_one_class_each():
    """Goal: a code in an alert names one class.

    Method: they are all different, and none is inherited.
    """
    codes = [cls.__dict__["code"] for cls in CLASSES]
    assert len(set(codes)) == len(codes)


def test_an_error_of_a_live_handle_pickles_and_its_wait_returns_at_once(tmp_path):
    """Goal: `WouldBlock` travels without its handle. Method: one from the tail of a reader."""
    with aof2.open(tmp_path / "root") as manager:
        reader = manager.stream("a").reader(follow=True)
        with pytest.raises(aof2.WouldBlock) as caught:
            reader.read_nowait()
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.kind is aof2.WouldBlockKind.TAIL
        assert again.wait(0) is True


def test_values_pickle(tmp_path):
    """Goal: records, rows of the residency map and reports go to other processes.

    Method: round trip.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        log.append(b"payload", ext_id=2**63)
        log.append(b"")
        log.seal()
        manager.drain()
        records, rows = list(log.reader()), log.segments()
        report, marks = log.recovery, log.watermarks
    got = pickle.loads(pickle.dumps((records, rows, report, marks)))
    assert got[1:] == (rows, report, marks)
    assert got[0] == records
    assert [(r.offset, r.timestamp_ns, r.ext_id, r.payload) for r in got[0]] == [
        (r.offset, r.timestamp_ns, r.ext_id, r.payload) for r in records
    ]


def test_handles_do_not_pickle_and_say_what_to_do(tmp_path):
    """Goal: no handle is copied by accident. Method: pickle each; the text names readonly=True."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        for handle in (manager, log, log.reader()):
            with pytest.raises(TypeError, match="readonly=True"):
                pickle.dumps(handle)
