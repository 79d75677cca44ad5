"""Every byte and every length of a chunk, a snapshot's head and a page: noticed or harmless."""

from __future__ import annotations

import contextlib
import os

import pytest
from lives import IDENTITY, append_all, lives, open_manifest
from test_oracle import Snapshots, many_lives

from aof2._core.chunk_read import ChunkReader
from aof2._core.directory import Directory
from aof2._core.manifest import encode
from aof2._core.snapshot import capture, read_head
from aof2.errors import CorruptionError, FormatError, ManifestCorrupt
from aof2.manifest.chunks import chunk_name
from aof2.manifest.index import Index

FIRST, FRAMES_AT, CHUNK = chunk_name(1), 8192, 65536


class Nobody:
    """Takes the place of the oracle where only the index is wanted."""

    def __init__(self):
        self.applied = 0
        self.rows = []


def all_of(index):
    """Everything that an index says, as bytes."""
    return capture(
        index.fold, number=1, stream_uuid=bytes(16), root_id=bytes(16), epoch=1, created_ns=0,
        covers=(1, 8192, 0, 0),
    ).head  # fmt: skip


@pytest.fixture(scope="module")
def chunks(tmp_path_factory):
    """A 64 KiB chunk sealed, closed, flushed in its middle and killed; all_of after each record."""
    path = tmp_path_factory.mktemp("chunk") / "m"
    steps = list(lives(200, 9))
    manifest = open_manifest(path, chunk_bytes=CHUNK)
    index, expected, made = Index(), [all_of(Index())], {}
    for n, step in enumerate(steps):
        if n == 100:
            manifest.flush()
        if n == 420:
            made["killed"] = (path / FIRST).read_bytes(), 100
            manifest.close()
            made["closed"] = (path / FIRST).read_bytes(), 420
            manifest = open_manifest(path, chunk_bytes=CHUNK)
        append_all(manifest, [step])
        index.apply(encode(*step[:3], **step[3]))
        expected.append(all_of(index))
        if len(manifest.chunks()) == 3:
            made["sealed"] = (path / FIRST).read_bytes(), n
            break
    manifest.close()
    assert len(made) == 3
    return made, expected


def verdict(directory):
    """Records that a chunk gives, -1 when it is refused; and what they say."""
    index = Index()
    with contextlib.suppress(CorruptionError, FormatError):
        reader = ChunkReader(directory, FIRST, stream_uuid=IDENTITY.uuid, chunk_id=1)
        with contextlib.closing(reader):
            reader.replay(index.fold)
            reader.state()
            return index.applied, all_of(index)
    return -1, None


def harm_chunk(path, how, made, expected, step):
    """Flip bytes and cut at lengths, `step` apart; says how often it was noticed."""
    (data, least), sealed = made[how], how == "sealed"
    # Without a slot, the frames behind a flush are all that says what it covered.
    durable = 0 if how == "killed" else least
    file = path / FIRST
    file.write_bytes(data)
    directory, noticed = Directory(str(path)), 0
    whole = verdict(directory)[0]
    assert whole >= least
    descriptor = os.open(file, os.O_RDWR)
    for place in range(0, len(data), step):
        os.pwrite(descriptor, bytes([data[place] ^ 1 << place % 8]), place)
        records, found = verdict(directory)
        noticed += records != whole
        assert records < 0 or (records >= least and found == expected[records]), place
        assert records != whole or not sealed, place
        os.pwrite(descriptor, data[place : place + 1], place)
    for length in range(len(data) - 1, -1, -step):
        os.ftruncate(descriptor, length)
        records, found = verdict(directory)
        noticed += records != whole
        assert records < 0 or (records >= durable and found == expected[records]), length
    os.close(descriptor)
    directory.close()
    return noticed


@pytest.mark.parametrize("how", ["sealed", "closed", "killed"])
@pytest.mark.parametrize(
    "step", [17, pytest.param(1, marks=pytest.mark.long)], ids=["some", "every byte"]
)
def test_a_chunk_of_64_kib_is_never_changed_silently(tmp_path, chunks, how, step):
    """Goal: a flip or a cut is noticed or in the torn tail. Method: each byte, each length."""
    made, expected = chunks
    assert harm_chunk(tmp_path, how, made, expected, step) > 20_000 // step


def harmed(data, step):
    for place in range(0, len(data), step):
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
    for length in range(0, len(data), step):
        yield data[:length]


def test_every_byte_of_a_snapshot_head_counts():
    """Goal: no harmed head is believed. Method: flip every byte, cut to every length."""
    index = Index()
    many_lives(index, Nobody(), 100)
    made = all_of(index)
    for data in harmed(made, 1):
        with pytest.raises((ManifestCorrupt, FormatError)):
            read_head(data, stream_uuid=bytes(16), path="head")


@pytest.mark.parametrize("step", [4999, pytest.param(17, marks=pytest.mark.long)])
def test_every_byte_of_an_index_page_counts(step):
    """Goal: no harmed page is believed. Method: flip bytes, cut to lengths, and look a row up."""
    index, snapshots = Index(), Snapshots()
    many_lives(index, Nobody(), 4100)
    expected = all_of(index)
    snapshots.take(index)
    ((key, good),) = snapshots.pages.items()
    copy = snapshots.take(index)
    for data in harmed(good, step):
        snapshots.pages[key] = data
        with pytest.raises(ManifestCorrupt):
            copy.fold.row(7)
    snapshots.pages[key] = good
    assert copy.segments[8] == index.segments[8]
    assert expected
