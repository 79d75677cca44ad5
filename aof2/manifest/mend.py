"""Making the end of a manifest fit for appends, when a writer opens it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aof2._core.chunk import ChunkWriter, restore_size, sync_chunk
from aof2._core.chunk_read import ABSENT, CLEAN, ChunkReader
from aof2._core.scan import read_bytes, scan
from aof2._core.seal import finish
from aof2.manifest.chunks import ChainPoint, ChunkFiles, chunk_name
from aof2.manifest.replay import Replay

LOGGER = logging.getLogger("aof2.tiered")

Quarantine = Callable[[str, bytes], object]
"""Keeps bytes that are about to be cut: `quarantine(name, contents)`."""


@dataclass(frozen=True, slots=True)
class Mended:
    """The end of a log that can be appended to.

    Attributes:
        writer: The active chunk.
        end: Where the newest sealed chunk ends.
        clean: True when there was nothing to mend.
        truncated_bytes: Bytes of an unfinished last write that were cut.
    """

    writer: ChunkWriter
    end: ChainPoint
    clean: bool
    truncated_bytes: int


def mend(files: ChunkFiles, replay: Replay, quarantine: Quarantine | None) -> Mended:
    """Go on in a clean chunk, or seal what is torn and begin the next.

    Run again, or after being cut itself, it ends the same: a chunk is only sealed once the next one
    is prepared, and a prepared chunk is only replaced in one step.
    """
    for name in files.directory.names():
        if name.startswith(".tmp-"):
            files.directory.unlink(name)
    reader = replay.reader
    assert reader is not None, "a replay ends in a chunk that is not sealed"
    for chunk_id in files.ids():
        if chunk_id > reader.header.file_id + 1:
            files.directory.unlink(chunk_name(chunk_id))
    if replay.state != ABSENT and restore_size(files.directory, reader.name):
        replay.follow()
    start = reader.start
    ours = (
        start is not None
        and start.epoch == files.identity.epoch
        and start.root_id == files.identity.root_id
    )
    if replay.state == CLEAN and ours:
        clean = reader.low >= reader.position
        writer = ChunkWriter(files.directory, reader.name, files.time, reader=reader)
        return Mended(writer, replay.end, clean, 0)
    cut = _cut(files, reader, quarantine)
    if replay.state == ABSENT:
        before = chunk_name(reader.header.file_id - 1)
        if files.directory.exists(before):
            # Whoever sealed it may have died before the cut of its length was durable; nothing may
            # follow it until it is.
            sync_chunk(files.directory, before)
        files.keep_prepared(reader.header.file_id)
        return Mended(files.begin(replay.end), replay.end, cut == 0, cut)
    clean = replay.state == CLEAN and reader.low >= reader.position
    files.keep_prepared(reader.header.file_id + 1)
    found = scan(files.directory, reader.name)
    assert found is not None, "a chunk with records was started"
    footer = finish(files.directory, reader.name, found, now_ns=files.time.now_ns())
    end = ChainPoint(
        reader.header.file_id, footer.end_position, footer.end_offset, footer.chain_crc
    )
    return Mended(files.begin(end), end, clean, cut)


def _cut(files: ChunkFiles, reader: ChunkReader, quarantine: Quarantine | None) -> int:
    """Keep the bytes behind the last valid frame aside; returns how many there are."""
    low, high = reader.position, reader.torn_end
    if reader.whole or low >= high:
        return 0
    if quarantine is not None:
        quarantine(f"{reader.name}.{low}", read_bytes(files.directory, reader.name, low, high))
    LOGGER.warning(
        "%d bytes of an unfinished write at the end of a manifest are cut",
        high - low,
        extra={"event": "manifest_cut", "path": reader.path, "position": low},
    )
    return high - low
