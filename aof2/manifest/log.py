"""The manifest of one stream: every tier move, appended, flushed in groups, replayed at open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from aof2._core.chunk import ChunkWriter, restore_size
from aof2._core.chunk_read import (
    ABSENT,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    CLEAN,
    ChunkReader,
)
from aof2._core.directory import Directory
from aof2._core.logfile import StartInfo, prepare
from aof2._core.manifest import RecordType, decode, encode
from aof2._core.scan import read_bytes, scan
from aof2._core.seal import finish
from aof2._core.timesource import TimeSource
from aof2.errors import Closed, ConfigError
from aof2.manifest.index import Index
from aof2.manifest.mirror import keep_mirror
from aof2.manifest.replay import ChainPoint, Replay, chunk_ids, chunk_name
from aof2.types import StreamIdentity

Quarantine = Callable[[str, bytes], object]
"""Keeps bytes that are about to be cut: `quarantine(name, contents)`."""


class Manifest:
    """The log of one stream's tier moves, and the index it folds into. Safe for threads.

    Made by `Manifest.open`. What `append` took is visible to readers at once and durable after the
    next `flush`; a failed sync stops the manifest for good (`DurabilityLost`).

    Attributes:
        index: The fold of all records. Look at it from the thread that appends, or between appends.
        replayed_records: Records that the open found.
        truncated_bytes: Bytes of unfinished last writes that the open cut.
        readonly: True when nothing may be appended.

    Example:
        >>> manifest = Manifest.open(directory, identity)  # doctest: +SKIP
        >>> manifest.append(RecordType.TRIMMED, 0, 7, before_offset=7)  # doctest: +SKIP
        0
        >>> manifest.flush()  # doctest: +SKIP
    """

    def __init__(
        self,
        directory: Directory,
        identity: StreamIdentity,
        *,
        time: TimeSource,
        chunk_bytes: int,
        readonly: bool,
        mirror: bool = False,
    ) -> None:
        """Only `open` calls this; it replays nothing yet."""
        if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX or chunk_bytes % 4096:
            raise ConfigError(
                f"manifest chunk_bytes {chunk_bytes}: {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}, "
                "in steps of 4096"
            )
        self.index = Index()
        self.readonly = readonly
        self.replayed_records = 0
        self.truncated_bytes = 0
        self._directory = directory
        self._identity = identity
        self._time = time
        self._chunk_bytes = chunk_bytes
        self._replay = Replay(directory, identity, self.index, live=readonly)
        self._writer: ChunkWriter | None = None
        self._mirror = mirror
        self._closed = False
        self._appended = 0
        self._durable = 0
        # `_sync_lock` is taken before `_lock`, and held while a sync or a rotation runs; `_lock` is
        # held for a moment only, so that appends go on during a sync.
        self._sync_lock = threading.Lock()
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        directory: Directory,
        identity: StreamIdentity,
        *,
        time: TimeSource | None = None,
        chunk_bytes: int = 262144,
        readonly: bool = False,
        quarantine: Quarantine | None = None,
        mirror: bool = False,
    ) -> Manifest:
        """Replay a manifest and make it ready for more.

        Args:
            directory: The stream's `manifest` directory; it stays the caller's.
            identity: The stream; a chunk of another one is `ManifestCorrupt`.
            time: Clock of the records.
            chunk_bytes: Size of new chunks, 16 KiB to 1 MiB in steps of 4 KiB.
            readonly: Write nothing, also where a tail is torn; `refresh` reads on.
            quarantine: Called with the bytes of a torn tail before they are cut.
            mirror: Leave a JSON copy of the index at close.

        `ManifestCorrupt` names chunk and position of damage, of a gap, and of a record that cannot
        follow the ones before it. `OSError` when the disk fails or is full.
        """
        self = cls(
            directory,
            identity,
            time=time or TimeSource(),
            chunk_bytes=chunk_bytes,
            readonly=readonly,
            mirror=mirror,
        )
        try:
            self._replay.run()
            if not readonly:
                self._recover(quarantine)
            self.replayed_records = self._appended = self._durable = self._replay.records
        except BaseException:
            self._replay.close()
            raise
        if not readonly:
            self._replay.close()
        return self

    @property
    def appended_count(self) -> int:
        """Records in the manifest; the offset that the next one gets."""
        return self._replay.records if self.readonly else self._appended

    @property
    def durable_count(self) -> int:
        """Records that survive power loss; in a readonly manifest, all that were read."""
        return self._replay.records if self.readonly else self._durable

    def __repr__(self) -> str:
        return f"Manifest({self._directory.path!r}, {self.appended_count} records)"

    # --- open ---------------------------------------------------------------------------------

    def _recover(self, quarantine: Quarantine | None) -> None:
        """Make the end of the log fit for appends: go on in a clean chunk, or seal it."""
        for name in self._directory.names():
            if name.startswith(".tmp-") and name.endswith(".mlog"):
                self._directory.unlink(name)
        replay, reader = self._replay, self._replay.reader
        for chunk_id in replay.later_ids():
            self._directory.unlink(chunk_name(chunk_id))
        if reader is None:
            self._writer = self._begin(replay.end)
            return
        if restore_size(self._directory, reader.name):
            replay.follow()
        start = reader.start
        ours = (
            start is not None
            and start.epoch == self._identity.epoch
            and start.root_id == self._identity.root_id
        )
        if replay.state == CLEAN and ours:
            self._writer = ChunkWriter(self._directory, reader.name, self._time, reader=reader)
            return
        self._cut(reader, quarantine)
        if replay.state == ABSENT:
            # Prepared, never started: a fresh file takes its number.
            self._directory.unlink(reader.name)
            self._writer = self._begin(replay.end)
            return
        found = scan(self._directory, reader.name)
        assert found is not None, "a chunk with records was started"
        footer = finish(self._directory, reader.name, found, now_ns=self._time.now_ns())
        self._writer = self._begin(
            ChainPoint(replay.chunk_id, footer.end_position, footer.end_offset, footer.chain_crc)
        )

    def _cut(self, reader: ChunkReader, quarantine: Quarantine | None) -> None:
        """Count the bytes behind the last valid frame, and keep them aside."""
        low, high = reader.position, reader.torn_end
        if reader.whole or low >= high:
            return
        self.truncated_bytes += high - low
        if quarantine is not None:
            quarantine(f"{reader.name}.{low}", read_bytes(self._directory, reader.name, low, high))

    def _begin(self, previous: ChainPoint) -> ChunkWriter:
        """Prepare the chunk after `previous` and make it the active one."""
        chunk_id = previous.chunk_id + 1
        name = chunk_name(chunk_id)
        prepare(
            self._directory,
            name,
            kind="manifest",
            stream_uuid=self._identity.uuid,
            file_id=chunk_id,
            file_bytes=self._chunk_bytes,
            created_ns=self._time.now_ns(),
        )
        start = StartInfo(
            base_offset=previous.end_offset,
            epoch=self._identity.epoch,
            root_id=self._identity.root_id,
            previous_id=0 if previous.is_root else previous.chunk_id,
            previous_end_position=previous.end_position,
            previous_end_offset=previous.end_offset,
            previous_chain_crc=previous.chain_crc,
        )
        return ChunkWriter(self._directory, name, self._time, start=start)

    # --- append and flush ---------------------------------------------------------------------

    def _active(self) -> ChunkWriter:
        if self._writer is None or self._closed:
            what = "was opened readonly" if self.readonly else "is closed"
            raise Closed(f"the manifest {what}", path=self._directory.path)
        return self._writer

    def append(self, type: RecordType | int, segment_id: int, offset: int, **fields: Any) -> int:
        """Append one record and take it into the index.

        Args:
            type: The record's type; `fields` are exactly those of the type.
            segment_id: The segment, 0 where the record is about the whole stream.
            offset: End offset for SEAL_SEGMENT, else the offset that the record is about.

        Returns:
            The record's own offset in the manifest. Durable after the next `flush`.

        `ManifestCorrupt` when the record cannot follow the ones before it, `OSError` (ENOSPC) when
        the next chunk finds no room, `DurabilityLost` after a failed sync; nothing was appended.
        """
        payload = encode(type, segment_id, offset, **fields)
        # The index takes what a replay would: reasons cut, tiers as `Tier`.
        record = decode(payload)
        while True:
            with self._lock:
                writer = self._active()
                change = self.index.check(record)
                if writer.append(payload):
                    change()
                    self._appended += 1
                    return self._appended - 1
            self._rotate(writer)

    def _rotate(self, full: ChunkWriter) -> None:
        """Seal a full chunk and go on in the next."""
        with self._sync_lock, self._lock:
            if self._active() is not full:
                return  # Another thread did it.
            # 1. The next chunk is prepared and mapped; want of room shows here, with nothing
            # changed. It counts as absent until its first frame is valid.
            successor = self._next_of(full)
            try:
                # 2. The full one is synced and sealed. 3. Only then a frame can reach the next.
                full.seal()
            except BaseException:
                successor.abandon()
                raise
            self._durable = self._appended
            self._writer = successor

    def _next_of(self, full: ChunkWriter) -> ChunkWriter:
        name = chunk_name(full.header.file_id + 1)
        # Left by a rotation that failed; it was never started.
        self._directory.unlink(name, missing_ok=True)
        try:
            return self._begin(
                ChainPoint(full.header.file_id, full.position, full.end_offset, full.chain_crc)
            )
        except OSError as error:
            if error.filename == self._directory.path:
                # The directory's sync failed: names may be lost, and no retry can tell.
                full.fail(error.errno or 5)
            raise

    def flush(self) -> None:
        """Make every record appended so far durable.

        Several threads share one sync. `DurabilityLost` when it fails, and from then on always.
        """
        with self._lock:
            self._active()
            target = self._appended
        with self._sync_lock:
            with self._lock:
                writer, position, count = self._active(), self._active().position, self._appended
            if self._durable >= target and not writer.failure:
                return  # The sync of another thread covered it.
            writer.sync(position)
            with self._lock:
                self._durable = max(self._durable, count)

    def refresh(self) -> int:
        """Take in what another process has appended since; for a readonly manifest.

        Returns:
            How many records that were. Nothing is written.
        """
        if not self.readonly:
            raise Closed("only a readonly manifest is refreshed", path=self._directory.path)
        with self._lock:
            if self._closed:
                raise Closed("the manifest is closed", path=self._directory.path)
            return self._replay.follow()

    def close(self) -> None:
        """Make everything durable and give the files back; again is harmless.

        `DurabilityLost` when the last sync fails; the files are given back all the same.
        """
        with self._sync_lock, self._lock:
            if self._closed:
                return
            self._closed = True
            self._replay.close()
            if self._writer is not None:
                failed = bool(self._writer.failure)
                self._writer.close()
                if not failed:
                    self._durable = self._appended
                if self._mirror and not failed:
                    keep_mirror(self._directory, self.index)

    def chunks(self) -> list[int]:
        """Numbers of the chunk files, ascending."""
        return chunk_ids(self._directory)
