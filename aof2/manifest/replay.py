"""Reading the chunks of one manifest in order: at open, and again behind a live writer.

1. Chunks are numbered from 1 without a gap; each names its stream and the end of the one before it.
2. Every chunk but the newest started one is sealed, and agrees with its footer.
3. The newest ends where the first frame is not valid, unless something says that more was durable.
4. A prepared chunk without a valid frame was never started and counts as absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aof2._core.chunk_read import ABSENT, SEALED, ChunkReader
from aof2._core.directory import Directory
from aof2._core.manifest import decode
from aof2.errors import CorruptionError, FormatError, ManifestCorrupt
from aof2.manifest.index import Index
from aof2.types import StreamIdentity

_CHUNK_NAME = re.compile(r"(\d{20})\.mlog")


def chunk_name(chunk_id: int) -> str:
    """File name of a chunk.

    Example:
        >>> chunk_name(1)
        '00000000000000000001.mlog'
    """
    return f"{chunk_id:020d}.mlog"


def chunk_ids(directory: Directory) -> list[int]:
    """Numbers of the chunk files in a directory, ascending."""
    return sorted(int(m[1]) for name in directory.names() if (m := _CHUNK_NAME.fullmatch(name)))


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """The end of a chunk, as the start block of the next one names it."""

    chunk_id: int = 0
    end_position: int = 0
    end_offset: int = 0
    chain_crc: int = 0

    @property
    def is_root(self) -> bool:
        """True where nothing is continued."""
        return self.end_position == 0


class Replay:
    """Folds the chunks of one manifest into an index, and goes on where it stopped.

    Args:
        directory: The `manifest` directory.
        identity: The stream that every chunk must belong to.
        index: Takes the records in.
        live: Another process may be writing: what looks damaged is read again before it is
            believed.

    Attributes:
        reader: The chunk that is not sealed yet, None when there is none.
        state: What `ChunkReader.state` said about it.
        end: Where the newest sealed chunk ends.
        records: Records taken in so far.
    """

    def __init__(
        self, directory: Directory, identity: StreamIdentity, index: Index, *, live: bool
    ) -> None:
        self.directory = directory
        self.identity = identity
        self.index = index
        self.live = live
        self.reader: ChunkReader | None = None
        self.state = ABSENT
        self.end = self._root()
        self.records = 0
        self._broken: CorruptionError | FormatError | None = None

    def _root(self) -> ChainPoint:
        """Just before the lowest chunk: it must begin the chain."""
        ids = chunk_ids(self.directory)
        return ChainPoint(ids[0] - 1 if ids else 0)

    @property
    def chunk_id(self) -> int:
        """Number of the chunk that is read now."""
        return self.end.chunk_id + 1

    def close(self) -> None:
        """Give the open chunk back; again is harmless."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def run(self) -> None:
        """Take in everything there is, and check that nothing is where nothing may be."""
        before = -1
        while True:
            self.follow()
            stray = self._stray_chunk()
            if stray is None:
                return
            # A live writer may have sealed this chunk and started the next while we looked.
            if not self.live or self.records == before:
                raise ManifestCorrupt(
                    f"chunk {self.chunk_id} is unfinished or missing, but {stray} was started",
                    path=self.directory.join(chunk_name(self.chunk_id)),
                    position=None if self.reader is None else self.reader.position,
                )
            before = self.records

    def follow(self) -> int:
        """Take in what was appended since the last call.

        Returns:
            How many records that were.
        """
        records = self.records
        while self._follow_chunk():
            pass
        return self.records - records

    def _follow_chunk(self) -> bool:
        """Read on in the current chunk; True when it is sealed and the next one's turn has come."""
        reader, fresh = self.reader, self.reader is None
        if reader is None:
            name = chunk_name(self.chunk_id)
            if not self.directory.exists(name):
                return False
            reader = self.reader = ChunkReader(
                self.directory, name, stream_uuid=self.identity.uuid, chunk_id=self.chunk_id
            )
        taken = self._take(reader)
        if taken or fresh or reader.whole:
            self.state = self._judge(reader)
        if self.state == ABSENT:
            # A recovering writer replaces such a file, so its descriptor is not kept.
            if self.live:
                self.close()
            return False
        if fresh:
            self._check_link(reader)
        if self.state != SEALED:
            return False
        self.end = ChainPoint(self.chunk_id, reader.position, reader.end_offset, reader.chain_crc)
        self.close()
        self.state = ABSENT
        return True

    def _take(self, reader: ChunkReader) -> int:
        """Fold what a chunk has gained into the index."""
        if self._broken is not None:
            raise self._broken  # Nothing behind an impossible record is believed.
        found = reader.read()
        for position, payload in found:
            try:
                self.index.apply(decode(payload))
            except (CorruptionError, FormatError) as error:
                self._broken = type(error)(
                    error.message,
                    path=reader.path,
                    position=position,
                    segment=error.segment,
                    offset=error.offset,
                )
                raise self._broken from error
            self.records += 1
        return len(found)

    def _judge(self, reader: ChunkReader) -> str:
        while True:
            seen = (reader.position, reader.whole)
            try:
                return reader.state()
            except ManifestCorrupt:
                # Behind a live writer, a later frame may have been seen before an earlier one.
                self._take(reader)
                if not self.live or seen == (reader.position, reader.whole):
                    raise

    def _check_link(self, reader: ChunkReader) -> None:
        start = reader.start
        if start is None or (
            start.previous_id,
            start.previous_end_position,
            start.previous_end_offset,
            start.previous_chain_crc,
            start.base_offset,
        ) != (
            0 if self.end.is_root else self.end.chunk_id,
            self.end.end_position,
            self.end.end_offset,
            self.end.chain_crc,
            self.end.end_offset,
        ):
            raise ManifestCorrupt(
                "the chunk does not continue the one before it", path=reader.path, position=0
            )

    def later_ids(self) -> list[int]:
        """Chunks behind the current one; without a current one, from its place on."""
        first = self.chunk_id + (self.reader is not None)
        return [chunk_id for chunk_id in chunk_ids(self.directory) if chunk_id >= first]

    def _stray_chunk(self) -> int | None:
        """A chunk that may not be there: behind a gap, or started behind an unfinished one."""
        expected = self.chunk_id + (self.reader is not None)
        for chunk_id in self.later_ids():
            if chunk_id != expected:
                return chunk_id
            expected += 1
            reader = ChunkReader(
                self.directory,
                chunk_name(chunk_id),
                stream_uuid=self.identity.uuid,
                chunk_id=chunk_id,
            )
            started = bool(reader.read()) or reader.whole or reader.state() != ABSENT
            reader.close()
            if started:
                return chunk_id
        return None
