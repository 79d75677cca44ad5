"""Warm files: built from sealed segments, read by range, and read by others."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess

import indexed_zstd
import pytest
import pyzstd
import xxhash
import zstandard
from awscrt.checksums import crc64nvme
from segfile import FRAMES_AT, TIME_NS, UUID, Item, items_of
from warmfile import SEG, SHAPES, WARM, frame_table, in_memory, made, mixed, scan

from aof2._core.compressed import CompressedInfo, restore, verify
from aof2._core.compressed_read import open_warm
from aof2._core.frame import scan_tail
from aof2.errors import Closed, OffsetOutOfRange


@pytest.mark.parametrize("frame_bytes", [4096, 65536, 262144])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_warm_file_gives_its_segment_back_byte_for_byte(tmp_path, shape, frame_bytes):
    """Goal: nothing is lost on the way there and back, whatever the sizes of records and frames.

    Method: build, compare every number of the answer with one computed here, verify, scan, restore.
    """
    segment, directory, info = made(tmp_path, SHAPES[shape](), frame_bytes)
    packed = (tmp_path / WARM).read_bytes()
    assert info == CompressedInfo(
        bytes=len(packed),
        table_bytes=info.table_bytes,
        crc64=crc64nvme(packed),
        raw_bytes=len(segment.data),
        raw_crc64=crc64nvme(segment.data),
        stream_uuid=UUID,
        segment_id=5,
        epoch=3,
        base_offset=1000,
        end_offset=segment.end_offset,
    )
    assert (
        zstandard.ZstdDecompressor()
        .stream_reader(io.BytesIO(packed), read_across_frames=True)
        .read()
        == segment.data
    )
    assert verify(directory, WARM, expect=info) == info
    for reader in (open_warm(directory, WARM), in_memory(packed, info.table_bytes)):
        assert scan(reader) == segment.data[FRAMES_AT : segment.frames_end]
        assert (reader.stream_uuid, reader.segment_id, reader.epoch) == (UUID, 5, 3)
        assert (reader.base_offset, reader.end_offset) == (1000, segment.end_offset)
        assert (reader.salt, reader.ext_id) == (segment.salt, 77)
        assert (reader.raw_bytes, reader.raw_crc64) == (info.raw_bytes, info.raw_crc64)
    assert restore(directory, WARM, directory, "again.seg", expect=info) == info
    assert (tmp_path / "again.seg").read_bytes() == segment.data
    assert directory.names() == [SEG, WARM, "again.seg"]


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_begin_on_frame_borders_and_stay_within_their_size(tmp_path, shape):
    """Goal: the cuts follow the format's rule.

    Method: read our table with struct and compare each border with the places of the frames; a
        piece that begins elsewhere must lie inside a frame longer than a piece.
    """
    segment, _, info = made(tmp_path, SHAPES[shape]())
    packed = (tmp_path / WARM).read_bytes()
    entries = frame_table(packed, info.table_bytes)
    starts = {place[0] for place in segment.places} | {0, FRAMES_AT, segment.end_position}
    assert entries[-1][0] == segment.frames_end
    assert entries[-1][0] + entries[-1][1] == len(segment.data)
    at = 0
    for i, (position, raw, size, zero, crc, first, latest) in enumerate(entries):
        assert zero == 0
        assert crc == crc64nvme(packed[at : at + size])
        end = position + raw
        here = [p for p in segment.places if position <= p[0] < end]
        before = [p[3] for p in segment.places if p[0] < end]
        assert latest == max(before, default=-(1 << 63))
        after = [p[2] + 1000 for p in segment.places if p[0] >= position]
        assert first == min(after, default=segment.end_offset)
        if i < len(entries) - 1:
            assert raw <= (8192 if i == 0 else 4096) + 40
            if position not in starts:
                assert not here
                long = max(p for p in segment.places if p[0] < position)
                assert long[1] > 4096
                assert end <= long[0] + long[1] or end == segment.frames_end
        at += size


def test_locate_leads_to_every_record_and_every_time(tmp_path):
    """Goal: one call of `window` at the located place holds the record's frame.

    Method: for each frame, all offsets and time stamps around it; a fresh reader, so nothing is
        cached.
    """
    segment, directory, _ = made(tmp_path, mixed(8, 120, 20_000))
    reader = open_warm(directory, WARM)
    borders = {place[0] for place in segment.places} | {segment.end_position}
    for position, size, ordinal, stamp in segment.places:
        found = reader.locate(1000 + ordinal)
        assert found in borders
        assert found <= position
        window = reader.window(found)
        assert window.end >= position + size
        assert bytes(window) == segment.data[found : window.end]
        for wanted in (stamp, stamp + 1, stamp - 1):
            start = reader.locate_time(wanted)
            assert start in borders | {segment.frames_end}
            assert all(p[3] < wanted for p in segment.places if p[0] < start)
            later = [p for p in segment.places if p[3] >= wanted]
            assert bool(later) == (start < segment.frames_end)
    assert reader.locate_time(-(1 << 63)) == FRAMES_AT
    assert reader.window(reader.frames_end) is None
    assert reader.window(1 << 40) is None
    for offset in (999, segment.end_offset):
        with pytest.raises(OffsetOutOfRange) as caught:
            reader.locate(offset)
        assert (caught.value.first, caught.value.next) == (1000, segment.end_offset)


def test_one_fetch_opens_and_one_more_reads_any_record(tmp_path):
    """Goal: the cost of a random read is one range, of one zstd frame or of one long record's
    pieces.

    Method: count fetches, jumping backwards so that nothing is sequential.
    """
    items = items_of([random.Random(i).randbytes(1000) for i in range(40)])
    items[20] = Item((random.Random(1).randbytes(30_000),), TIME_NS)
    segment, _, info = made(tmp_path, items)
    packed = (tmp_path / WARM).read_bytes()
    entries = frame_table(packed, info.table_bytes)
    fetched: list[tuple[int, int]] = []
    reader = in_memory(packed, info.table_bytes, fetched)
    assert fetched == [(len(packed) - info.table_bytes, len(packed))]
    for ordinal in range(39, -1, -1):
        fetched.clear()
        window = reader.window(reader.locate(1000 + ordinal))
        position, size, *_ = segment.places[ordinal]
        assert window.end >= position + size
        assert len(fetched) == 1
        if ordinal != 20:
            assert fetched[0][1] - fetched[0][0] in {entry[2] for entry in entries}


def test_neighbouring_runs_come_by_one_fetch(tmp_path):
    """Goal: runs cover the frames of the log without a hole, each ends on a frame border, and any
    number of them in a row is one fetch.

    Method: a segment of short and long frames; all runs at once, one by one, and in parts.
    """
    segment, _, info = made(tmp_path, mixed(12, 150, 30_000))
    packed = (tmp_path / WARM).read_bytes()
    fetched: list[tuple[int, int]] = []
    reader = in_memory(packed, info.table_bytes, fetched)
    borders = {place[0] for place in segment.places} | {0, segment.end_position}
    borders.add(segment.frames_end)
    offsets = {place[0]: 1000 + place[2] for place in segment.places}
    fetched.clear()
    whole = reader.read(0, reader.run_count)
    assert len(fetched) == 1
    at = 0
    for run, window in enumerate(whole):
        assert window.start == at
        assert at in borders
        at = window.end
        assert bytes(window) == segment.data[window.start : at]
        assert bytes(window) == bytes(reader.read(run, run + 1)[0])
        assert reader.run_bytes(run) == len(window)
        first = min(o for place, o in offsets.items() if place >= window.start)
        assert reader.run_offset(run) == first
        # Pages 0 and 1 may be a run of their own.
        inside = at - 8 if run == 0 else window.start
        assert reader.runs_of(inside) == reader.runs_of(at - 8) == (run, run + 1)
        assert reader.runs_of(inside, 1 << 40) == (run, reader.run_count)
    assert at == reader.frames_end
    assert reader.runs_of(at) is None
    assert reader.run_offset(reader.run_count) == segment.end_offset
    assert bytes(reader.cut(FRAMES_AT, whole)) == segment.data[FRAMES_AT:at]
    for span in ((0, 0), (2, 1), (0, reader.run_count + 1)):
        with pytest.raises(IndexError):
            reader.read(*span)


def test_a_window_grows_to_the_bytes_asked_for(tmp_path):
    """Goal: `bytes_min` is met across frames, and cut at the end of the frames of the log."""
    segment, directory, _ = made(tmp_path, items_of([bytes([i]) * 900 for i in range(100)]))
    reader = open_warm(directory, WARM)
    whole = segment.data[FRAMES_AT : segment.frames_end]
    for wanted in (1, 5000, 20_000, 3000, 1 << 30):
        window = reader.window(FRAMES_AT, wanted)
        assert len(window) >= min(wanted, len(whole))
        assert whole.startswith(bytes(window))


def test_windows_check_out_in_the_core(tmp_path):
    """Goal: the core accepts every frame of a window, at its position and under the table's salt.

    Method: scan each window on its own; it must be used up to its end.
    """
    segment, directory, _ = made(tmp_path, mixed(4, 200, 9000))
    reader = open_warm(directory, WARM)
    records, position = 0, FRAMES_AT
    while (window := reader.window(position)) is not None:
        found, size = scan_tail(bytes(window), salt=reader.salt, position=position, ordinal=records)
        assert size == len(window), "a window ends on a frame border"
        records += found
        position = window.end
    assert 1000 + records == segment.end_offset


def test_outside_readers_understand_the_file(tmp_path):
    """Goal: the file is what the public seekable format says.

    Method: `zstd -d`, pyzstd and indexed_zstd read it, whole and at random places; the seek table's
    hashes are compared with XXH64.
    """
    segment, _, info = made(tmp_path, mixed(5, 200, 20_000), 16384)
    path, rng = tmp_path / WARM, random.Random(6)
    packed = path.read_bytes()
    with pyzstd.SeekableZstdFile(path) as first:
        other = indexed_zstd.IndexedZstdFile(str(path))
        assert first.read() == segment.data
        assert other.size() == len(segment.data)
        for _ in range(100):
            at = rng.randrange(len(segment.data))
            for reader in (first, other):
                reader.seek(at)
                assert reader.read(3000) == segment.data[at : at + 3000]
        other.close()
    entries = frame_table(packed, info.table_bytes)
    seek = packed[-9 - 12 * (len(entries) + 1) :]
    for i, (position, raw, size, *_) in enumerate(entries):
        digest = xxhash.xxh64_intdigest(segment.data[position : position + raw]) & 0xFFFFFFFF
        assert struct.unpack_from("<III", seek, 12 * i) == (size, raw, digest)
        assert zstandard.frame_content_size(packed[sum(e[2] for e in entries[:i]) :][:32]) == raw
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program on the path: only the Python readers were compared")
    answer = subprocess.run(["zstd", "-d", "-c", str(path)], capture_output=True, check=True)
    assert answer.stdout == segment.data


def test_an_open_reader_outlives_the_name_and_a_closed_one_says_so(tmp_path):
    """Goal: eviction does not take bytes from under a reader; use after close is typed."""
    segment, directory, _ = made(tmp_path, items_of([b"x" * 100] * 200))
    reader = open_warm(directory, WARM)
    directory.unlink(WARM)
    window = reader.window(FRAMES_AT)
    assert scan(reader) == segment.data[FRAMES_AT : segment.frames_end]
    reader.close()
    reader.close()
    assert bytes(window) == segment.data[FRAMES_AT : window.end]
    with pytest.raises(Closed):
        reader.window(FRAMES_AT)
