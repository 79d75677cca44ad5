"""The manifest of one stream: every tier move, appended, flushed in groups, replayed at open."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from aof2._core.chunk import ChunkWriter
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType, encode
from aof2._core.timesource import TimeSource
from aof2.errors import Closed, ManifestCorrupt
from aof2.manifest.chunks import ChainPoint, ChunkFiles
from aof2.manifest.index import Index
from aof2.manifest.mend import Quarantine, mend
from aof2.manifest.mirror import keep_mirror
from aof2.manifest.replay import Replay
from aof2.manifest.sealed import SealedPart
from aof2.types import ReplayReport, StreamIdentity

RECORD_ROOM_BYTES = 512
"""Bytes that a record of a segment's life takes at most, with an ordinary key."""
RECORDS_PER_SEGMENT = 4
"""Records that an unfinished segment still needs: its seal, its copy, its upload, its eviction."""
LOOKS_MAX = 5
"""So often a reader looks before it believes that something is damaged."""


class Manifest(SealedPart):
    """The log of one stream's tier moves, and the index it folds into. Safe for threads.

    Made by `Manifest.open`. What `append` took is visible to readers at once and durable after the
    next `flush`; a failed sync stops the manifest for good (`DurabilityLost`).

    Attributes:
        index: The fold of all records. Look at it from the thread that appends, or between appends.
        replay: What the open found and did.
        readonly: True when nothing may be appended.
        stalled: Why the next chunk could not be prepared, None when all is well. Work that needs
            many records waits then; it is tried again with every rotation.
        published_chunk: Newest chunk that tier 2 has; None for a stream that was never in one.
            Chunks behind it are kept.

    Example:
        >>> manifest = Manifest.open(directory, identity)  # doctest: +SKIP
        >>> manifest.append(RecordType.TRIMMED, 0, 7, before_offset=7)  # doctest: +SKIP
        0
        >>> manifest.flush()  # doctest: +SKIP
    """

    def __init__(
        self,
        files: ChunkFiles,
        *,
        snapshot_chunks: int,
        readonly: bool,
        mirror: bool,
        clock_s: Callable[[], float],
    ) -> None:
        """Only `open` calls this; it replays nothing yet."""
        self.readonly = readonly
        self.stalled: OSError | None = None
        self.published_chunk: int | None = None
        self.index = Index()
        self.replay = ReplayReport()
        super().__init__(files, snapshot_chunks)
        self._clock_s = clock_s
        self._replay: Replay | None = None
        self._writer: ChunkWriter | None = None
        self._spare = False
        self._mirror = mirror
        self._closed = False
        self._appended = 0
        self._durable = 0
        # Locks are taken in this order. `_snapshot_lock` is held while a snapshot is written,
        # `_sync_lock` while a sync or a rotation runs; `_lock` is held for a moment only, so that
        # appends go on during a sync.
        self._snapshot_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._lock = threading.Lock()

    @staticmethod
    def create(
        directory: Directory,
        identity: StreamIdentity,
        *,
        time: TimeSource | None = None,
        chunk_bytes: int = 262144,
        chunk_id: int = 1,
    ) -> None:
        """Prepare the chunk that a new stream begins with; without one, a manifest counts as lost.

        `chunk_id` is more than 1 where earlier chunks come from elsewhere.
        """
        ChunkFiles(directory, identity, time or TimeSource(), chunk_bytes).prepare(chunk_id)

    @classmethod
    def open(
        cls,
        directory: Directory,
        identity: StreamIdentity,
        *,
        time: TimeSource | None = None,
        chunk_bytes: int = 262144,
        snapshot_chunks: int = 8,
        readonly: bool = False,
        quarantine: Quarantine | None = None,
        mirror: bool = False,
        clock_s: Callable[[], float] = lambda: 0.0,
    ) -> Manifest:
        """Replay a manifest and make it ready for more.

        Args:
            directory: The stream's `manifest` directory; it stays the caller's.
            identity: The stream; a chunk of another one is `ManifestCorrupt`.
            time: Clock of the records.
            chunk_bytes: Size of new chunks, 16 KiB to 1 MiB in steps of 4 KiB.
            snapshot_chunks: A snapshot is due after so many chunks.
            readonly: Write nothing, also where a tail is torn; `refresh` reads on.
            quarantine: Called with the bytes of a torn tail before they are cut.
            mirror: Leave a JSON copy of the index at close, and with each snapshot.
            clock_s: Monotonic seconds, for the time that the replay took.

        `ManifestCorrupt` names chunk and position of damage, of a gap, and of a record that cannot
        follow the ones before it. `OSError` when the disk fails or is full.
        """
        files = ChunkFiles(directory, identity, time or TimeSource(), chunk_bytes)
        self = cls(
            files,
            snapshot_chunks=snapshot_chunks,
            readonly=readonly,
            mirror=mirror,
            clock_s=clock_s,
        )
        self._open(quarantine)
        return self

    def _open(self, quarantine: Quarantine | None) -> None:
        # Behind a live writer, files come and go between two looks at them. What is really damaged
        # stays so.
        for _ in range(LOOKS_MAX - 1 if self.readonly else 0):
            with contextlib.suppress(ManifestCorrupt, FileNotFoundError):
                self._open_once(quarantine)
                return
        self._open_once(quarantine)

    def _open_once(self, quarantine: Quarantine | None) -> None:
        began_s = self._clock_s()
        loaded, damaged = self._snapshots.load(readonly=self.readonly)
        index = Index() if loaded is None else loaded.index
        if self.readonly:
            index.load_pages()
        replay = Replay(
            self._files.directory,
            self.identity,
            index,
            start=None if loaded is None else loaded.covers,
            live=self.readonly,
        )
        clean, truncated_bytes = not damaged, 0
        try:
            replay.run()
            self._raise_epoch(replay)
            self.index, self._first = index, self._files.ids()[0]
            if not self.readonly:
                mended = mend(self._files, replay, quarantine)
                self._writer, self._end = mended.writer, mended.end
                clean, truncated_bytes = clean and mended.clean, mended.truncated_bytes
                self._make_spare()
        except BaseException:
            replay.close()
            raise
        self._appended = self._durable = index.applied
        self.replay = replay.report(
            self._clock_s() - began_s,
            clean=clean,
            snapshot=None if loaded is None else loaded.head.number,
            truncated_bytes=truncated_bytes,
            corruptions=damaged,
        )
        if self.readonly:
            self._replay = replay
        else:
            replay.close()

    @property
    def is_lost(self) -> bool:
        """True once a sync has failed: nothing can be recorded any more."""
        writer = self._writer
        return writer is not None and bool(writer.failure or self._files.directory.sync_failure)

    @property
    def appended_count(self) -> int:
        """Records in the manifest; the offset that the next one gets."""
        return self.index.applied if self.readonly else self._appended

    @property
    def durable_count(self) -> int:
        """Records that survive power loss; in a readonly manifest, all that were read."""
        return self.index.applied if self.readonly else self._durable

    def __repr__(self) -> str:
        return f"Manifest({self._files.directory.path!r}, {self.appended_count} records)"

    # --- append and flush ---------------------------------------------------------------------

    def _active(self) -> ChunkWriter:
        if self._writer is None or self._closed:
            what = "was opened readonly" if self.readonly else "is closed"
            raise Closed(f"the manifest {what}", path=self._files.directory.path)
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
        while True:
            with self._lock:
                writer = self._active()
                self.index.check(payload)
                if writer.append(payload):
                    self.index.apply(payload)
                    self._appended += 1
                    return self._appended - 1
            with self._sync_lock, self._lock:
                if self._active() is writer:
                    self._rotate(writer)

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

    # --- chunks -------------------------------------------------------------------------------

    def _rotate(self, full: ChunkWriter) -> None:
        """Seal a chunk and go on in the next. Both locks are held."""
        # 1. The next chunk is prepared: want of room shows here, with nothing changed.
        if not self._spare:
            self._prepare_next(full)
        end = ChainPoint(full.header.file_id, full.position, full.end_offset, full.chain_crc)
        # 2. It is mapped and its start block written. It counts as absent until its first frame.
        successor = self._files.begin(end)
        try:
            # 3. The full one is synced and sealed. 4. Only then a frame can reach the next.
            full.seal()
        except BaseException:
            successor.abandon()
            raise
        self._durable = self._appended
        self._writer, self._end, self._spare = successor, end, False
        self._snapshots.chunk_ended(self.index, end)
        self._make_spare()

    def _prepare_next(self, active: ChunkWriter) -> None:
        try:
            self._files.keep_prepared(active.header.file_id + 1)
        except OSError as error:
            self.stalled = error
            if failure := self._files.directory.sync_failure:
                # Names may be lost, and no retry can tell.
                active.fail(failure)
            raise
        self._spare, self.stalled = True, None

    def _make_spare(self) -> None:
        """Keep one chunk prepared, so that a full disk stops no housekeeping; best effort."""
        try:
            self._prepare_next(self._active())
        except OSError as error:
            # Kept in `stalled`, which whoever wants more room meets; the active chunk has room.
            self.stalled = error

    def reserve(self, unfinished: int) -> bool:
        """Whether the records that `unfinished` segments still need have their room.

        A new segment is only made where this is True; else `stalled` says why.
        """
        with self._sync_lock, self._lock:
            if not self._spare:
                self._make_spare()
            needed = unfinished * RECORDS_PER_SEGMENT * RECORD_ROOM_BYTES
            return self._spare or self._active().room_bytes >= needed

    def seal_chunk(self) -> int:
        """Seal the active chunk, if it has records, so that it can be published.

        Returns:
            The index's `cold_end`, as the sealed chunks say it.
        """
        with self._sync_lock, self._lock:
            writer = self._active()
            if writer.records:
                self._rotate(writer)
            return self.index.cold_end

    def adopt_epoch(self, epoch: int) -> None:
        """Let what is written from now on carry another writer epoch."""
        with self._sync_lock, self._lock:
            writer, files = self._active(), self._files
            files.identity = dataclasses.replace(files.identity, epoch=epoch)
            if writer.records:
                self._rotate(writer)
            else:
                writer.abandon()
                self._writer = files.begin(self._end)

    # --- snapshots ----------------------------------------------------------------------------

    @property
    def snapshot_due(self) -> bool:
        """True while a snapshot is captured and waits to be written."""
        return self._snapshots.pending is not None

    def write_snapshot(self) -> None:
        """Write the snapshot that is due, read it back, record it, remove what it replaces.

        Without one due it does nothing. A failure leaves it due, and removes nothing.
        """
        with self._snapshot_lock:
            head = self._snapshots.write(self.index)
            if head is None:
                return
            self.append(
                RecordType.SNAPSHOT_MARKER, 0, 0, snapshot_number=head.number, covers=head.applied
            )
            self.flush()
            self._snapshots.prune(self.published_chunk)
            if self._mirror:
                with self._lock:
                    keep_mirror(self._files.directory, self.index)

    # --- readers, close -----------------------------------------------------------------------

    def refresh(self) -> int:
        """Take in what another process has appended since; for a readonly manifest.

        Returns:
            How many records that were. Nothing is written.
        """
        if not self.readonly or self._replay is None:
            raise Closed("only a readonly manifest is refreshed", path=self._files.directory.path)
        with self._lock:
            if self._closed:
                raise Closed("the manifest is closed", path=self._files.directory.path)
            before = self.index.applied
            linked = False
            with contextlib.suppress(FileNotFoundError):
                self._replay.follow()
                linked = self._replay.is_linked()
            if not linked:
                # The writer removed chunks that we had not read yet: a snapshot covers them.
                self._replay.close()
                self._open(None)
            return self.index.applied - before

    def close(self) -> None:
        """Make everything durable and give the files back; again is harmless.

        `DurabilityLost` when the last sync fails; the files are given back all the same.
        """
        with self._sync_lock, self._lock:
            if self._closed:
                return
            self._closed = True
            if self._replay is not None:
                self._replay.close()
            if self._writer is not None:
                failed = bool(self._writer.failure)
                self._writer.close()
                if not failed:
                    self._durable = self._appended
                if self._mirror and not failed:
                    keep_mirror(self._files.directory, self.index)
