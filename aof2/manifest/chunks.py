"""The chunk files of one manifest: names, preparation, beginnings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aof2._core.chunk import ChunkWriter
from aof2._core.chunk_read import ABSENT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, ChunkReader
from aof2._core.directory import Directory
from aof2._core.logfile import StartInfo, prepare
from aof2._core.timesource import TimeSource
from aof2.errors import ConfigError
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
    """The end of a chunk, as the start block of the next one names it.

    All zeros but the number: where a manifest begins, so the next chunk names nothing before it.
    """

    chunk_id: int = 0
    end_position: int = 0
    end_offset: int = 0
    chain_crc: int = 0

    @property
    def is_root(self) -> bool:
        """True where nothing is continued."""
        return self.end_position == 0


@dataclass
class ChunkFiles:
    """The chunk files of one stream, for its writer.

    Attributes:
        directory: The `manifest` directory.
        identity: The stream; its epoch and root go into the chunks that begin.
        time: Clock of the headers and frames.
        chunk_bytes: Size of new chunks.
    """

    directory: Directory
    identity: StreamIdentity
    time: TimeSource
    chunk_bytes: int

    def __post_init__(self) -> None:
        n = self.chunk_bytes
        if not CHUNK_BYTES_MIN <= n <= CHUNK_BYTES_MAX or n % 4096:
            raise ConfigError(
                f"manifest chunk_bytes {n}: {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}, in steps of "
                "4096"
            )

    def prepare(self, chunk_id: int) -> None:
        """Make a chunk ready to begin: allocated, its header synced, its name durable.

        One of that number that never began gives way in one step, so that there is always one.
        """
        prepare(
            self.directory,
            chunk_name(chunk_id),
            kind="manifest",
            stream_uuid=self.identity.uuid,
            file_id=chunk_id,
            file_bytes=self.chunk_bytes,
            created_ns=self.time.now_ns(),
        )

    def keep_prepared(self, chunk_id: int) -> None:
        """Prepare a chunk unless one is there that can begin as it is."""
        if not self.exists(chunk_id) or not self._is_pristine(chunk_id):
            self.prepare(chunk_id)

    def _is_pristine(self, chunk_id: int) -> bool:
        reader = self.reader(chunk_id)
        try:
            reader.read()
            return (
                reader.state() == ABSENT
                and reader.header.file_bytes == self.chunk_bytes
                and reader.pristine()
            )
        finally:
            reader.close()

    def begin(self, previous: ChainPoint) -> ChunkWriter:
        """Begin the prepared chunk after `previous`; it counts as absent until its first frame."""
        root = previous.is_root
        start = StartInfo(
            base_offset=previous.end_offset,
            epoch=self.identity.epoch,
            root_id=self.identity.root_id,
            previous_id=0 if root else previous.chunk_id,
            previous_end_position=previous.end_position,
            previous_end_offset=previous.end_offset,
            previous_chain_crc=previous.chain_crc,
        )
        name = chunk_name(previous.chunk_id + 1)
        return ChunkWriter(self.directory, name, self.time, start=start)

    def reader(self, chunk_id: int) -> ChunkReader:
        """Open a chunk for reading; the caller closes it."""
        return ChunkReader(
            self.directory,
            chunk_name(chunk_id),
            stream_uuid=self.identity.uuid,
            chunk_id=chunk_id,
        )

    def previous_of(self, chunk_id: int) -> ChainPoint | None:
        """The end of the chunk before this one, as its start block names it."""
        start = self.start_of(chunk_id)
        if start is None:
            return None
        return ChainPoint(
            chunk_id - 1,
            start.previous_end_position,
            start.previous_end_offset,
            start.previous_chain_crc,
        )

    def start_of(self, chunk_id: int) -> StartInfo | None:
        """A chunk's start block, None where it has no good one."""
        reader = self.reader(chunk_id)
        try:
            reader.read()
            return reader.start
        finally:
            reader.close()

    def exists(self, chunk_id: int) -> bool:
        """Whether there is a chunk of that number."""
        return self.directory.exists(chunk_name(chunk_id))

    def ids(self) -> list[int]:
        """Numbers of the chunks, ascending; prepared ones are among them."""
        return chunk_ids(self.directory)
