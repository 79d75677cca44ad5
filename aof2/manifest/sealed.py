"""The part of a manifest that does not change any more: sealed chunks and snapshots."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from aof2._core.chunk_read import CHUNK_BYTES_MAX
from aof2._core.snapshot import HeadInfo
from aof2.manifest.chunks import ChainPoint, ChunkFiles, chunk_name
from aof2.manifest.keeper import SnapshotKeeper
from aof2.manifest.replay import Replay
from aof2.types import StreamIdentity


class SealedPart:
    """What publication reads of a manifest."""

    def __init__(self, files: ChunkFiles, snapshot_chunks: int) -> None:
        self._files = files
        self._snapshots = SnapshotKeeper(files, snapshot_chunks)
        self._end = ChainPoint()
        # The lowest chunk as of the open. A directory that changes is not listed where a number
        # must be right: a listing may leave an entry out, or have it twice.
        self._first = 0

    @property
    def identity(self) -> StreamIdentity:
        """The stream, with the epoch that is written now."""
        return self._files.identity

    def _raise_epoch(self, replay: Replay) -> None:
        """Go on under the epoch that was written last."""
        start = None if replay.reader is None else replay.reader.start
        heads = [head.epoch for head in self._snapshots.heads]
        epoch = max([self.identity.epoch, *heads, 0 if start is None else start.epoch])
        self._files.identity = dataclasses.replace(self.identity, epoch=epoch)

    def sealed_chunks(self, after: int) -> list[int]:
        """Numbers of the sealed chunks behind `after`, ascending."""
        return list(range(after + 1, self._end.chunk_id + 1))

    def read_chunk(self, chunk_id: int) -> bytes:
        """The bytes of a sealed chunk."""
        return self._files.directory.read(chunk_name(chunk_id), limit=CHUNK_BYTES_MAX)

    def has_chain_point(self, chunk_id: int, end: ChainPoint) -> bool:
        """Whether the log here has a sealed chunk that ends exactly there.

        With an end of all zeros: whether the log begins with the chunk.
        """
        if end.is_root:
            return self.chain_root() == chunk_id
        known = [self._end, *(ChainPoint(*head.covers) for head in self._snapshots.heads)]
        if chunk_id < self._end.chunk_id and self._files.exists(chunk_id + 1):
            known.append(self._files.previous_of(chunk_id + 1) or ChainPoint())
        return end in known

    def chain_root(self) -> int | None:
        """Number of the chunk that the log begins with; None once that was removed."""
        first = self._first
        if not self._files.exists(first):
            return None
        previous = self._files.previous_of(first)
        return first if previous is not None and previous.is_root else None

    def root_epoch(self) -> int:
        """Epoch under which the log's first chunk was begun; for a log that still has it."""
        start = self._files.start_of(self._first)
        return self.identity.epoch if start is None else start.epoch

    def chunks(self) -> list[int]:
        """Numbers of the chunk files, ascending; the active and the prepared one are the last."""
        return self._files.ids()

    @property
    def snapshots(self) -> tuple[HeadInfo, ...]:
        """The newest good snapshots, at most two, newest first."""
        return tuple(self._snapshots.heads)

    def read_snapshot(
        self, head: HeadInfo, *, skip: Collection[tuple[int, int]]
    ) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """A snapshot's bytes, for publication: `(head, [(page, number, bytes)])`.

        Pages whose `(page, number)` is in `skip` are left out.
        """
        return self._snapshots.read(head, skip)
