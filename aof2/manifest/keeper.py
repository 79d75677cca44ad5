"""When a manifest takes snapshots, and what of its files it then no longer needs."""

from __future__ import annotations

from collections.abc import Collection

from aof2._core.snapshot import Capture, HeadInfo, capture, written
from aof2.errors import ManifestCorrupt
from aof2.manifest import snapshot
from aof2.manifest.chunks import ChainPoint, ChunkFiles, chunk_name
from aof2.manifest.index import Index


class SnapshotKeeper:
    """The snapshots of one stream. Its owner locks.

    A snapshot is captured in memory where a chunk ends, because only there the index is what the
    sealed chunks say; it is written later, by whoever has the time.

    Attributes:
        heads: The newest good snapshots, at most two, newest first.
        pending: Number and contents of a snapshot that is captured and not written yet.
    """

    def __init__(self, files: ChunkFiles, every_chunks: int) -> None:
        self.heads: list[HeadInfo] = []
        self.pending: tuple[int, Capture] | None = None
        self._files = files
        self._every_chunks = every_chunks
        self._last_number = 0

    def load(self, *, readonly: bool) -> tuple[snapshot.Loaded | None, int]:
        """Choose the snapshot to open with; also says how many damaged ones were passed over.

        `FileNotFoundError` when a live writer has removed one since it was listed.
        """
        directory, identity = self._files.directory, self._files.identity
        numbers = snapshot.snapshot_numbers(directory)
        loaded, damaged = snapshot.newest(directory, identity, numbers)
        # A number is used once, also one whose snapshot is damaged: it may be published.
        self._last_number = max(numbers, default=0)
        if loaded is None:
            return None, damaged
        self.heads = [loaded.head]
        for number in [] if readonly else numbers:
            if number < loaded.head.number and len(self.heads) < snapshot.SNAPSHOTS_KEPT:
                try:
                    self.heads.append(snapshot.read(directory, identity, number)[1])
                except ManifestCorrupt:
                    # It only would have stood in for the good one, and goes with the next snapshot.
                    damaged += 1
        return loaded, damaged

    @property
    def covered_chunk(self) -> int:
        """Newest chunk that a snapshot covers, 0 without one."""
        return self.heads[0].covers[0] if self.heads else 0

    def chunk_ended(self, index: Index, end: ChainPoint) -> None:
        """A chunk was sealed: capture a snapshot if enough chunks came since the last one."""
        if self.pending is None and end.chunk_id - self.covered_chunk >= self._every_chunks:
            self.capture(index, end)

    def capture(self, index: Index, end: ChainPoint) -> None:
        """Capture the index where it is exactly what the chunks up to `end` say."""
        self._last_number += 1
        number = self._last_number
        identity = self._files.identity
        self.pending = (
            number,
            capture(
                index.fold,
                number=number,
                stream_uuid=identity.uuid,
                root_id=identity.root_id,
                epoch=identity.epoch,
                created_ns=self._files.time.now_ns(),
                covers=(end.chunk_id, end.end_position, end.end_offset, end.chain_crc),
            ),
        )

    def write(self, index: Index) -> HeadInfo | None:
        """Write the captured snapshot and read it back; None when none is pending.

        A failure leaves it pending.
        """
        if self.pending is None:
            return None
        number, captured = self.pending
        files = self._files
        head = snapshot.write(files.directory, files.identity, number, captured).head
        written(index.fold, captured)
        self.heads = [head, *self.heads][: snapshot.SNAPSHOTS_KEPT]
        self.pending = None
        return head

    def read(
        self, head: HeadInfo, skip: Collection[tuple[int, int]]
    ) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The bytes of a snapshot and of its pages: `(head, [(page, number, bytes)])`."""
        directory, identity = self._files.directory, self._files.identity
        data, _ = snapshot.read(directory, identity, head.number)
        pages = [
            (page.page_no, page.number, snapshot.read_page(directory, page.page_no, page.number))
            for page in head.pages
            if (page.page_no, page.number) not in skip
        ]
        return data, pages

    def prune(self, published_chunk: int | None) -> None:
        """Remove what neither of the two newest snapshots needs.

        Args:
            published_chunk: Chunks behind it stay; None where no chunk is ever published.
        """
        if len(self.heads) < snapshot.SNAPSHOTS_KEPT:
            return
        snapshot.prune(self._files.directory, self.heads)
        last = self.heads[-1].covers[0]
        if published_chunk is not None:
            last = min(last, published_chunk)
        for chunk_id in self._files.ids():
            if chunk_id <= last:
                self._files.directory.unlink(chunk_name(chunk_id), missing_ok=True)
