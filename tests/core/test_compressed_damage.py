"""Warm files that are damaged, hostile, cut short, or whose making fails half way."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from segfile import FOOTER_BYTES, FRAMES_AT, TIME_NS, Segment, items_of, sealed_segment
from warmfile import SEG, WARM, in_memory, made, mixed, scan, text

from aof2._core.compressed import CompressedInfo, build, restore, verify
from aof2._core.compressed_read import CompressedSegment, open_warm
from aof2._core.directory import Directory
from aof2._core.posix import set_seam_hook
from aof2.errors import (
    AofError,
    CompressionFailed,
    HydrationFailed,
    ObjectCorrupt,
    SegmentCorrupt,
    VersionTooNew,
)

DAMAGED = {"OBJECT_CORRUPT", "FORMAT", "VERSION_TOO_NEW"}


def outcome(data: bytes, table_bytes: int) -> bytes | str:
    """What a reader of these bytes gets: its segment's frames, or the name of a typed error."""
    try:
        reader = in_memory(data, table_bytes)
        reader.locate_time(TIME_NS)
        for offset in range(reader.base_offset, min(reader.end_offset, reader.base_offset + 100)):
            reader.window(reader.locate(offset))
        return scan(reader)
    except AofError as error:
        return error.code


def small(tmp_path: Path) -> tuple[Segment, Directory, CompressedInfo, bytes]:
    rng = random.Random(9)
    items = items_of([rng.randbytes(40) for _ in range(4)] + [text(rng, 9000), b"end"])
    segment, directory, info = made(tmp_path, items)
    return segment, directory, info, (tmp_path / WARM).read_bytes()


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
    """Goal: damage is never returned. Method: flip one bit, and all bits, of each byte of a small
    file;
    the reader answers a typed error or the identical bytes, and `verify` always objects."""
    segment, directory, info, packed = small(tmp_path)
    good = segment.data[FRAMES_AT : segment.frames_end]
    answers: dict[str, int] = {}
    for at in range(len(packed)):
        for flip in (1 << at % 8, 0xFF):
            hurt = bytearray(packed)
            hurt[at] ^= flip
            answer = outcome(bytes(hurt), info.table_bytes)
            assert answer in DAMAGED or answer == good
            name = answer if isinstance(answer, str) else "identical"
            answers[name] = answers.get(name, 0) + 1
            (tmp_path / "hurt").write_bytes(hurt)
            with pytest.raises((ObjectCorrupt, VersionTooNew)):
                verify(directory, "hurt")
    print(f"{len(packed)} bytes, outcomes {answers}")
    # Only hashes of the seek table and the last frame, which hold no record, may go unnoticed.
    assert answers["OBJECT_CORRUPT"] > 1.5 * len(packed)


def test_every_truncation_and_extension_is_found(tmp_path):
    """Goal: a file too short or too long is never read. Method: all lengths, all readers."""
    _, directory, info, packed = small(tmp_path)
    for n in [*range(len(packed)), len(packed) + 1, len(packed) + 100]:
        hurt = packed[:n].ljust(n, b"\0")
        assert outcome(hurt, info.table_bytes) == "OBJECT_CORRUPT"
        (tmp_path / "hurt").write_bytes(hurt)
        for read in (verify, open_warm):
            with pytest.raises(ObjectCorrupt) as caught:
                read(directory, "hurt")
            assert caught.value.path == str(tmp_path / "hurt")


def resealed(packed: bytes, info: CompressedInfo, change: Callable[[bytearray], None]) -> bytes:
    """The file with its table changed and a good checksum over the change."""
    start = len(packed) - info.table_bytes
    size = struct.unpack_from("<I", packed, start + 4)[0]
    body = bytearray(packed[start + 8 : start + 8 + size - 8])
    change(body)
    sealed = bytes(body) + struct.pack("<Q", crc64nvme(bytes(body)))
    return packed[: start + 8] + sealed + packed[start + 8 + size :]


@pytest.mark.parametrize("at", range(104 + 40 * 2))
def test_a_table_that_lies_under_a_good_checksum_is_refused_or_harmless(tmp_path, at):
    """Goal: a hostile file costs no crash and no memory. Method: all values of a byte of the header
    or
    the first entries, with the checksum made good again."""
    segment, _, info, packed = small(tmp_path)
    good = segment.data[FRAMES_AT : segment.frames_end]
    for value in (0, 1, 0x7F, 0x80, 0xFF):
        hurt = resealed(packed, info, lambda body, value=value: body.__setitem__(at, value))
        answer = outcome(hurt, info.table_bytes)
        assert answer in DAMAGED or answer == good


def test_a_newer_version_says_so(tmp_path):
    """Goal: an unknown incompatible bit is not called damage, a compatible one is no trouble."""
    segment, directory, info, packed = small(tmp_path)
    for at, refused in ((8, True), (12, True), (16, False)):
        other = resealed(packed, info, lambda body, at=at: body.__setitem__(at, body[at] | 2))
        (tmp_path / "other").write_bytes(other)
        if refused:
            with pytest.raises(VersionTooNew):
                open_warm(directory, "other")
        else:
            reader = open_warm(directory, "other", info.table_bytes)
            assert scan(reader) == segment.data[FRAMES_AT : segment.frames_end]


def test_a_damaged_segment_is_never_compressed(tmp_path):
    """Goal: no tier below gets a damaged copy. Method: flip each byte of a small segment (every 7th
    of
    the padding); header and footer damage may also read as a newer version."""
    segment = sealed_segment(items_of([b"a" * 50, b"b" * 5000, b"c"]))
    directory = Directory(tmp_path)
    dense = {*range(60), *range(2048, 2130), *range(FRAMES_AT, FRAMES_AT + 5400, 3)}
    dense |= {*range(len(segment.data) - FOOTER_BYTES, len(segment.data))}
    for at in sorted(dense | {*range(0, len(segment.data), 97)}):
        hurt = bytearray(segment.data)
        hurt[at] ^= 0x10
        (tmp_path / SEG).write_bytes(hurt)
        with pytest.raises((SegmentCorrupt, VersionTooNew)):
            build(directory, SEG, directory, WARM, frame_bytes=4096)
        assert directory.names() == [SEG]


def failed(run: Callable[[], object], failure: type[AofError]) -> AofError | None:
    """The error that `run` ends with, or None when it succeeds."""
    try:
        run()
    except failure as error:
        return error
    return None


@pytest.mark.parametrize("op", ["open", "pread", "pwrite", "fdatasync", "rename", "fsync_dir"])
def test_every_failing_call_ends_typed_and_leaves_no_temporary_file(tmp_path, op):
    """Goal: a failure costs nothing but the attempt. Method: fail the n-th call of each kind."""
    segment, directory, info = made(tmp_path, mixed(7, 40, 9000))
    for run, failure in (
        (lambda: build(directory, SEG, directory, "2"), CompressionFailed),
        (lambda: restore(directory, WARM, directory, "2"), HydrationFailed),
    ):
        for nth in range(100):
            calls = 0

            def fail(name: str, *_: object, nth: int = nth) -> int:
                nonlocal calls
                calls += name == op
                return 28 if name == op and calls == nth + 1 else 0

            set_seam_hook(fail)
            try:
                raised = failed(run, failure)
            finally:
                set_seam_hook(None)
            assert ".tmp-2" not in directory.names()
            if raised is None:
                break
            assert isinstance(raised.__cause__, OSError)
            assert raised.path == str(tmp_path / "2")
        assert nth >= 1
        (tmp_path / "2").unlink()
    assert (tmp_path / SEG).read_bytes() == segment.data
    assert verify(directory, WARM, expect=info) == info


@pytest.mark.parametrize("work", ["build", "restore"])
def test_a_file_gets_its_name_only_after_it_was_synced_and_read_back(tmp_path, work):
    """Goal: a crash at any step leaves the old state or the whole new file. Method: the seam's log
    of
    calls on the target shows the order."""
    _, directory, _ = made(tmp_path, mixed(7, 40, 9000))
    log: list[str] = []
    set_seam_hook(lambda op, *_: log.append(op))
    try:
        if work == "build":
            build(directory, SEG, directory, "2")
        else:
            restore(directory, WARM, directory, "2")
    finally:
        set_seam_hook(None)
    synced, named = log.index("fdatasync"), log.index("rename")
    assert synced < named
    assert log[named:] == ["rename", "fsync_dir"]
    # The zero-length write after a sync finds a file system that shut down meanwhile.
    assert log[synced + 1] == "pwrite"
    assert "pwrite" not in log[synced + 2 :]
    assert ("pread" in log[synced:named]) == (work == "build")


def test_what_the_device_did_not_keep_is_not_called_compressed(tmp_path):
    """Goal: a wrong write is found before the file has a name. Method: spoil one byte of the
    temporary
    file, here and there, at the moment of its sync."""
    _, directory, info = made(tmp_path, mixed(7, 40, 9000))
    for at in (0, 500, info.bytes // 2, info.bytes - info.table_bytes + 20, info.bytes - 14):

        def spoil(op: str, *_: object, at: int = at) -> None:
            if op == "fdatasync":
                with open(tmp_path / ".tmp-2", "r+b") as file:
                    file.seek(at)
                    (old,) = file.read(1)
                    file.seek(at)
                    file.write(bytes([old ^ 1]))

        set_seam_hook(spoil)
        try:
            with pytest.raises(CompressionFailed) as caught:
                build(directory, SEG, directory, "2", frame_bytes=4096)
        finally:
            set_seam_hook(None)
        assert isinstance(caught.value.__cause__, ObjectCorrupt)
        assert directory.names() == [SEG, WARM]


def test_stop_ends_the_work_and_leaves_nothing(tmp_path):
    """Goal: a close does not wait for a long compression. Method: say stop at each poll."""
    _, directory, _ = made(tmp_path, mixed(2, 30, 9000))
    for run, failure in (
        (lambda stop: build(directory, SEG, directory, "2", stop=stop), CompressionFailed),
        (lambda stop: verify(directory, WARM, stop=stop), CompressionFailed),
        (lambda stop: restore(directory, WARM, directory, "2", stop=stop), HydrationFailed),
    ):
        for nth in range(50):
            answers = iter([False] * nth + [True] * 100)
            raised = failed(lambda run=run, answers=answers: run(lambda: next(answers)), failure)
            if raised is None:
                break
            assert "stopped" in str(raised)
            assert directory.names() == [SEG, WARM]
        assert nth >= 1
        (tmp_path / "2").unlink(missing_ok=True)


def test_verify_objects_to_another_file_than_expected(tmp_path):
    """Goal: only the file that the manifest names is adopted. Method: one field off at a time."""
    _, directory, info = made(tmp_path, items_of([b"x"]))
    for field, value in info._asdict().items():
        other = b"?" * 16 if field == "stream_uuid" else value + 1
        with pytest.raises(ObjectCorrupt, match=field):
            verify(directory, WARM, expect=info._replace(**{field: other}))
    known = CompressedInfo(bytes=info.bytes, table_bytes=info.table_bytes, crc64=info.crc64)
    assert verify(directory, WARM, expect=known) == info


def test_a_damaged_run_costs_nothing_in_the_others(tmp_path):
    """Goal: of runs that are fetched together, each good one is given, whatever the others are.

    Method: flip one bit in each run in turn, read all at once.
    """
    segment, _, info = made(tmp_path, mixed(13, 60, 9000))
    packed = bytearray((tmp_path / WARM).read_bytes())
    fetched: list[tuple[int, int]] = []
    reader = in_memory(packed, info.table_bytes, fetched)
    for run in range(reader.run_count):
        fetched.clear()
        reader.read(run, run + 1)
        at = fetched[0][0] + 9
        packed[at] ^= 4
        for n, window in enumerate(reader.read(0, reader.run_count)):
            if n == run:
                assert isinstance(window, ObjectCorrupt)
                assert fetched[0][0] <= window.position < fetched[0][1]
            else:
                assert bytes(window) == segment.data[window.start : window.end]
        packed[at] ^= 4


def test_a_short_answer_is_damage_and_a_failed_fetch_passes_through(tmp_path):
    """Goal: a store that answers with other bytes than asked for is not believed."""
    _, _, info, packed = small(tmp_path)
    calls = 0

    def short(start: int, end: int) -> bytes:
        nonlocal calls
        calls += 1
        return packed[start : end - (calls > 1)]

    with pytest.raises(ObjectCorrupt):
        CompressedSegment(short, len(packed), info.table_bytes, path="k").window(FRAMES_AT)

    def fails(start: int, end: int) -> bytes:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        CompressedSegment(fails, len(packed), info.table_bytes, path="k")
