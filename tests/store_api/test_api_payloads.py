"""What may be appended, how large it may be, and that a refused call changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apihelp import KIB, small, tree

import aof2

RECORD_MAX = 20_000
BATCH_MAX = 24_000
SIZES = (0, 1, 7, 8, 9, 4095, 4096, 4097, RECORD_MAX)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[aof2.Aof]:
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(
            segment_bytes_max=64 * KIB, record_bytes_max=RECORD_MAX, batch_bytes_max=BATCH_MAX
        )
    )
    with aof2.open(tmp_path / "root", config=config) as manager:
        yield manager.stream("a")


def pattern(n: int) -> bytes:
    return bytes((i * 7 + n) & 255 for i in range(n))


def packed(payloads: list[bytes], kind: Any = np.int32) -> tuple[bytes, Any]:
    return b"".join(payloads), np.cumsum([len(p) for p in payloads], dtype=kind)


def append_when_it_can(log: aof2.Aof, payload: bytes, ids: Any) -> range:
    """Append without waiting in the call; while the next segment is being made, wait outside of
    it."""
    while True:
        try:
            offset = log.append_nowait(payload, ext_id=None if ids is None else ids[0])
        except aof2.WouldBlock as blocked:
            assert blocked.wait(10)  # noqa: PT017
        else:
            return range(offset, log.next_offset)


WAYS: dict[str, Callable[[aof2.Aof, list[bytes], Any], range]] = {
    "append": lambda log, p, ids: range(
        log.append(p[0], ext_id=None if ids is None else ids[0]), log.next_offset
    ),
    "append_nowait": lambda log, p, ids: append_when_it_can(log, p[0], ids),
    "append_many": lambda log, p, ids: log.append_many(p, ext_ids=ids),
    "append_packed": lambda log, p, ids: log.append_packed(*packed(p), ext_ids=ids),
    "append_packed_int64": lambda log, p, ids: log.append_packed(*packed(p, np.int64), ext_ids=ids),
    "extend": lambda log, p, ids: log.extend(iter(p)),
}


@pytest.mark.parametrize("ext_id", [None, 0, 2**64 - 1])
@pytest.mark.parametrize("way", WAYS)
def test_every_size_up_to_the_largest_comes_back_as_it_went_in(tmp_path, log, way, ext_id):
    """Goal: no size at a border of the format is special.

    Method: each size by each way of appending, alone and (for batches) with a neighbour; read by
    offset, in order, and again after reopening.
    """
    wanted: list[bytes] = []
    for size in SIZES:
        for payloads in ([pattern(size)], [pattern(size), b"n"]):
            if len(payloads) > 1 and way in ("append", "append_nowait"):
                continue
            ids = None if ext_id is None or way == "extend" else [ext_id] * len(payloads)
            span = WAYS[way](log, payloads, ids)
            assert span == range(len(wanted), len(wanted) + len(payloads))
            wanted += payloads
    assert [log.get(i).payload for i in range(len(wanted))] == wanted
    records = list(log.reader())
    assert [record.payload for record in records] == wanted
    expected = 0 if ext_id is None or way == "extend" else ext_id
    assert {record.ext_id for record in records} == {expected}
    assert list(log.reader().payloads()) == wanted


@pytest.mark.parametrize("ext_id", [None, 7])
@pytest.mark.parametrize("way", WAYS)
def test_one_byte_too_many_is_refused_and_changes_nothing(tmp_path, log, way, ext_id):
    """Goal: `RecordTooLarge` before anything happens. Method: compare offsets and files around
    it."""
    log.append(b"first")
    log.flush()
    limit = RECORD_MAX if way in ("append", "append_nowait", "extend") else BATCH_MAX
    ids = None if ext_id is None or way == "extend" else [ext_id]
    files, offsets = tree(tmp_path), log.watermarks
    with pytest.raises(aof2.RecordTooLarge, match=str(limit)):
        WAYS[way](log, [pattern(limit + 1)], ids)
    assert (log.watermarks, tree(tmp_path)) == (offsets, files)
    assert log.append(b"second") == 1


def test_the_largest_record_by_default_fits_a_segment_and_one_byte_more_does_not(tmp_path):
    """Goal: the default limit is what a segment really has room for.

    Method: find the limit by bisection on a smallest segment, with and without an ext_id, append it
    several times over, read it back.
    """
    for ext_id in (None, 5):
        with aof2.open(tmp_path / str(ext_id), config=small()) as manager:
            log = manager.stream("a")
            low, high = 1, 64 * KIB
            while high - low > 1:
                middle = (low + high) // 2
                try:
                    log.append(bytes(middle), ext_id=ext_id)
                except aof2.RecordTooLarge:
                    high = middle
                else:
                    low = middle
            assert low > 47 * KIB
            first = log.next_offset
            for n in range(3):
                log.append(bytes([n]) * low, ext_id=ext_id)
            got = [record.payload for record in log.reader(start=first)]
            assert got == [bytes([n]) * low for n in range(3)]


def test_batches_of_very_many_empty_records_are_limited_by_the_segment(log):
    """Goal: a batch's own table counts too. Method: empty payloads until the table does not fit."""
    assert log.append_many([b""] * 10_000) == range(10_000)
    with pytest.raises(aof2.RecordTooLarge):
        log.append_many([b""] * 100_000)
    assert log.next_offset == 10_000
    assert log.extend(b"" for _ in range(100_000)) == range(10_000, 110_000)
    assert sum(1 for _ in log.reader()) == 110_000


def raising() -> Iterator[bytes]:
    yield b"one"
    yield b"two"
    raise LookupError("half way")


REFUSED: dict[str, tuple[Callable[[aof2.Aof], object], type[Exception], str]] = {
    "iterable raises": (lambda log: log.append_many(raising()), LookupError, "half way"),
    "str inside": (lambda log: log.append_many([b"a", "b"]), TypeError, "encode"),
    "str": (lambda log: log.append("a"), TypeError, "encode"),
    "str nowait": (lambda log: log.append_nowait("a"), TypeError, "encode"),
    "str as iterable": (lambda log: log.append_many("ab"), TypeError, "iterable"),
    "bytes as iterable": (lambda log: log.append_many(b"ab"), TypeError, "iterable"),
    "bytearray as iterable": (lambda log: log.append_many(bytearray(b"ab")), TypeError, "iterable"),
    "memoryview as iterable": (
        lambda log: log.append_many(memoryview(b"a")),
        TypeError,
        "iterable",
    ),
    "bytes to extend": (lambda log: log.extend(b"ab"), TypeError, "extend takes an iterable"),
    "str to extend": (lambda log: log.extend("ab"), TypeError, "extend takes an iterable"),
    "str in extend": (lambda log: log.extend(["ab"]), TypeError, "encode"),
    "str in a longer extend": (lambda log: log.extend(["ab", b""]), TypeError, "encode"),
    "number": (lambda log: log.append(5), TypeError, "."),
    "number inside": (lambda log: log.append_many([b"", 5]), TypeError, "bytes-like"),
    "none": (lambda log: log.append(None), TypeError, "."),
    "not contiguous": (lambda log: log.append(memoryview(b"abcd")[::2]), TypeError, "contiguous"),
    "numpy not contiguous": (
        lambda log: log.append(np.zeros(8, np.uint8)[::2]),
        TypeError,
        "contiguous",
    ),
    "not contiguous inside": (
        lambda log: log.append_many([memoryview(b"abcd")[::2]]),
        TypeError,
        "contiguous",
    ),
    "numpy not contiguous inside": (
        lambda log: log.append_many([np.zeros(8, np.uint8)[::2]]),
        TypeError,
        "contiguous",
    ),
    "packed not contiguous": (
        lambda log: log.append_packed(memoryview(b"abcd")[::2], np.array([2], np.int32)),
        TypeError,
        "contiguous",
    ),
    "packed numpy not contiguous": (
        lambda log: log.append_packed(np.zeros(8, np.uint8)[::2], np.array([4], np.int32)),
        TypeError,
        "contiguous",
    ),
    "packed ends not contiguous": (
        lambda log: log.append_packed(b"abcd", np.array([2, 3, 4, 5], np.int32)[::2]),
        TypeError,
        "contiguous",
    ),
    "packed str": (
        lambda log: log.append_packed("ab", np.array([2], np.int32)),
        TypeError,
        "encode",
    ),
    "packed ends a list": (lambda log: log.append_packed(b"ab", [2]), TypeError, "array"),
    "ends of floats": (lambda log: log.append_packed(b"ab", np.array([2.0])), TypeError, "int32"),
    "ends of unsigned": (
        lambda log: log.append_packed(b"ab", np.array([2], np.uint32)),
        TypeError,
        "int32",
    ),
    "ends of two dimensions": (
        lambda log: log.append_packed(b"ab", np.array([[2]], np.int32)),
        TypeError,
        "one-dim",
    ),
    "ends fall": (
        lambda log: log.append_packed(b"abc", np.array([2, 1, 3], np.int32)),
        ValueError,
        "ascend",
    ),
    "ends negative": (
        lambda log: log.append_packed(b"abc", np.array([-1, 3], np.int64)),
        ValueError,
        "ascend",
    ),
    "ends too far": (
        lambda log: log.append_packed(b"abc", np.array([4], np.int32)),
        ValueError,
        "ascend",
    ),
    "ends too short": (
        lambda log: log.append_packed(b"abc", np.array([2], np.int32)),
        ValueError,
        "3 bytes",
    ),
    "no ends for data": (
        lambda log: log.append_packed(b"abc", np.array([], np.int32)),
        ValueError,
        "3 bytes",
    ),
    "ext_id negative": (lambda log: log.append(b"", ext_id=-1), OverflowError, "."),
    "ext_id too large": (lambda log: log.append(b"", ext_id=2**64), OverflowError, "."),
    "ext_id a text": (lambda log: log.append(b"", ext_id="1"), TypeError, "."),
    "too few ext_ids": (
        lambda log: log.append_many([b"", b""], ext_ids=[1]),
        ValueError,
        "1 ext_ids for 2",
    ),
    "too many ext_ids": (
        lambda log: log.append_many([b""], ext_ids=[1, 2]),
        ValueError,
        "more ext_ids",
    ),
    "ext_ids with a text": (
        lambda log: log.append_many([b"", b""], ext_ids=[1, "2"]),
        TypeError,
        ".",
    ),
    "ext_ids too large": (lambda log: log.append_many([b""], ext_ids=[2**64]), OverflowError, "."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call_appends_nothing(tmp_path, log, name):
    """Goal: a batch is all or nothing, and what cannot be stored says what to do instead.

    Method: one wrong call each; the offsets and the files stay as they were, the next append works.
    """
    call, error, text = REFUSED[name]
    log.append(b"first")
    log.flush()
    files, offsets = tree(tmp_path), log.watermarks
    with pytest.raises(error, match=text):
        call(log)
    assert (log.watermarks, tree(tmp_path)) == (offsets, files)
    assert log.append_many([b"second"]) == range(1, 2)
    assert [record.payload for record in log.reader()] == [b"first", b"second"]


def test_an_empty_batch_is_an_empty_range_and_writes_nothing(tmp_path, log):
    """Goal: `[]` is allowed everywhere. Method: each way with nothing in it; files stay as they
    were."""
    for next_offset in (0, 1):
        files = tree(tmp_path)
        nothing = np.array([], np.int32)
        spans = [
            log.append_many([]),
            log.append_many(iter(())),
            log.append_many_nowait([], ext_ids=[]),
            log.append_packed(b"", nothing),
            log.append_packed_nowait(b"", nothing),
            log.append_many([], durable=True),
            log.extend([]),
        ]
        assert spans == [range(next_offset, next_offset)] * len(spans)
        assert tree(tmp_path) == files
        log.append(b"x", durable=True)


def test_every_contiguous_buffer_is_a_payload(log):
    """Goal: no copy to bytes is asked of callers. Method: one of each kind, compared with its
    bytes."""
    buffers = [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"a memoryview")[2:8],
        np.arange(5, dtype=np.int64),
        np.ones((2, 3), np.uint8),
        memoryview(np.arange(6, dtype=np.int32).reshape(2, 3)),
        type("MyBytes", (bytes,), {})(b"subclass"),
    ]
    wanted = [memoryview(buffer).tobytes() for buffer in buffers]
    for buffer in buffers:
        log.append(buffer)
        log.append_nowait(buffer, ext_id=3)
    log.append_many(buffers)
    log.extend(buffers)
    log.append_packed(bytearray(b"abc"), memoryview(np.array([1, 3], np.int64)))
    got = [record.payload for record in log.reader()]
    assert got[: 2 * len(wanted)] == [payload for payload in wanted for _ in range(2)]
    assert got[2 * len(wanted) :] == [*wanted, *wanted, b"a", b"bc"]


def test_a_list_that_changes_while_it_is_appended_does_not_change_the_batch(log):
    """Goal: what was handed over is what is stored. Method: change the buffer after the call."""
    buffer = bytearray(b"before")
    log.append(buffer)
    log.append_many([buffer])
    buffer[:] = b"later!"
    assert [record.payload for record in log.reader()] == [b"before", b"before"]


def test_extend_keeps_the_batches_before_an_error(log):
    """Goal: `extend` is not atomic and says so. Method: an iterable that raises after 2,500
    records."""

    def source() -> Iterator[bytes]:
        for n in range(2500):
            yield b"%d" % n
        raise LookupError("enough")

    with pytest.raises(LookupError):
        log.extend(source())
    kept = log.next_offset
    assert 0 < kept <= 2500
    assert list(log.reader().payloads()) == [b"%d" % n for n in range(kept)]


@pytest.mark.parametrize("batch_bytes_max", [None, 2000, 49_000])
def test_extend_cuts_batches_that_fit(tmp_path, batch_bytes_max):
    """Goal: `extend` takes any mix of sizes, whatever the limits. Method: small segments, large
    sums."""
    segment = aof2.SegmentConfig(segment_bytes_max=64 * KIB, batch_bytes_max=batch_bytes_max)
    sizes = [100] * 3000 + [0] * 3000 + [40_000, 1, 1999, 1, 2000, 40_000, 40_000] + [3] * 20_000
    with aof2.open(tmp_path / "root", config=aof2.AofManagerConfig(segment=segment)) as manager:
        log = manager.stream("a")
        assert log.extend(pattern(n) for n in sizes) == range(len(sizes))
        assert [len(payload) for payload in log.reader().payloads()] == sizes
