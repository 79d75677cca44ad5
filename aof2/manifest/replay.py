"""Reading the chunks of one manifest in order: at open, and again behind a live writer.

1. Chunks are numbered without a gap; each names its stream and the end of the one before it. The
   first names nothing before it, unless a snapshot covers what came before.
2. Every chunk but the newest started one is sealed, and agrees with its footer.
3. A sealed chunk has a successor, because the next chunk is prepared before one is sealed. So a
   newest chunk that went missing is noticed.
4. The newest ends where the first frame is not valid, unless something says that more was durable.
5. A prepared chunk without a valid frame was never started and counts as absent.
"""

from __future__ import annotations

from aof2._core.chunk_read import ABSENT, SEALED, ChunkReader
from aof2._core.directory import Directory
from aof2.errors import CorruptionError, FormatError, ManifestCorrupt
from aof2.manifest.chunks import ChainPoint, chunk_ids, chunk_name
from aof2.manifest.index import Index
from aof2.types import ReplayReport, StreamIdentity


class Replay:
    """Folds the chunks of one manifest into an index, and goes on where it stopped.

    Args:
        directory: The `manifest` directory.
        identity: The stream that every chunk must belong to.
        index: Takes the records in.
        start: What the index covers already; None where the first chunk has to begin the chain.
        live: Another process may be writing: what looks damaged is read again before it is
            believed.

    Attributes:
        reader: The chunk that is not sealed yet, None when there is none.
        state: What `ChunkReader.state` said about it.
        end: Where the newest sealed chunk ends.
        records: Records taken in so far.
        chunks: Chunks that had any.
        read_bytes: Bytes of their frames.
        first_ns: Time stamp of the oldest record taken in, 0 before the first.
        last_ns: Time stamp of the newest.
    """

    def __init__(
        self,
        directory: Directory,
        identity: StreamIdentity,
        index: Index,
        *,
        start: ChainPoint | None,
        live: bool,
    ) -> None:
        self.directory = directory
        self.identity = identity
        self.index = index
        self.live = live
        self.reader: ChunkReader | None = None
        self.state = ABSENT
        self.records = 0
        self.chunks = 0
        self.read_bytes = 0
        self.first_ns = 0
        self.last_ns = 0
        self.end = self._root() if start is None else start
        self._broken: CorruptionError | FormatError | None = None

    def _root(self) -> ChainPoint:
        """Just before the lowest chunk: it must begin the chain."""
        ids = chunk_ids(self.directory)
        return ChainPoint(ids[0] - 1 if ids else 0)

    @property
    def chunk_id(self) -> int:
        """Number of the chunk that is read now."""
        return self.end.chunk_id + 1

    def report(self, duration_s: float, *, clean: bool, **more: int | None) -> ReplayReport:
        """What was replayed, for the user; `more` are the report's fields that others know."""
        return ReplayReport(
            chunks=self.chunks,
            records=self.records,
            bytes=self.read_bytes,
            duration_s=duration_s,
            chunk_lag_s=0.0 if clean else max(0, self.last_ns - self.first_ns) / 1e9,
            lag_bytes=0 if clean else self.read_bytes,
            **more,  # type: ignore[arg-type]
        )

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
            missing = not self.directory.exists(chunk_name(self.chunk_id))
            if stray is None and not missing:
                return
            # A live writer may have sealed this chunk and started the next while we looked.
            if not self.live or self.records == before:
                raise self._out_of_place(stray)
            before = self.records

    def _out_of_place(self, stray: int | None) -> ManifestCorrupt:
        if stray is None:
            text = (
                f"chunk {self.chunk_id} is missing: one is always prepared before the one before "
                "it is sealed. Restore it from a backup, or repair the manifest"
            )
        else:
            text = (
                f"chunk {self.chunk_id} is unfinished or missing, but {stray} was started. "
                "Restore it from a backup, or repair the manifest"
            )
        return ManifestCorrupt(
            text,
            path=self.directory.join(chunk_name(self.chunk_id)),
            position=None if self.reader is None else self.reader.position,
        )

    def is_linked(self) -> bool:
        """Whether the chunk that is read now is still there, or not there yet."""
        return self.directory.exists(chunk_name(self.chunk_id)) or self.reader is not None

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
            self.chunks += 1
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
        position = reader.position
        try:
            taken = reader.replay(self.index.fold)
        except (CorruptionError, FormatError) as error:
            self._broken = type(error)(
                error.message,
                path=reader.path,
                position=reader.position if error.position is None else error.position,
                segment=error.segment,
                offset=error.offset,
            )
            raise self._broken from error
        self.records += taken
        self.read_bytes += reader.position - position
        if taken:
            self.first_ns = self.first_ns or reader.first_timestamp_ns
            self.last_ns = reader.last_timestamp_ns
        return taken

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
        start, end = reader.start, self.end
        if start is None or (
            start.previous_id,
            start.previous_end_position,
            start.previous_end_offset,
            start.previous_chain_crc,
            start.base_offset,
        ) != (
            0 if end.is_root else end.chunk_id,
            end.end_position,
            end.end_offset,
            end.chain_crc,
            end.end_offset,
        ):
            raise ManifestCorrupt(
                "the chunk does not continue the one before it. Restore what is missing from a "
                "backup, or repair the manifest",
                path=reader.path,
                position=0,
            )

    def _stray_chunk(self) -> int | None:
        """A chunk that may not be there: behind a gap, or started behind an unfinished one."""
        first = self.chunk_id + (self.reader is not None)
        expected = first
        for chunk_id in chunk_ids(self.directory):
            if chunk_id < first:
                continue
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
