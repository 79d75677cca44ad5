"""Publishing a manifest under a claimed epoch: its start, sealed chunks, snapshots, HEAD.

Order: claim, read back -> the old chain is read to its end -> `Start` -> chunks and snapshots ->
no higher claim -> only now they count -> HEAD. Everything but HEAD is create-only and has the same
bytes when it is done again, so any step may be repeated after a failure or a lost reply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aof2._core.checksum import crc64nvme
from aof2._core.chunk_link import chunk_link
from aof2.errors import Fenced, ManifestCorrupt, UploadFailed
from aof2.manifest.bucket import BucketKeys, Numbered
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.claims import assert_not_fenced, fenced
from aof2.manifest.notes import Head, Start, put_note
from aof2.manifest.route import read_start
from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity

HEAD_TRAILS_MAX = 8
"""HEAD is written before it trails by more chunks than this."""


class Publisher:
    """The manifest's way into the bucket, for one epoch; made by `begin`. For one thread at a time.

    Attributes:
        epoch: The claimed epoch.
        published: How far it was uploaded.
        confirmed: How far it was uploaded before a look that found no higher claim: this much is in
            the stream for good.
    """

    def __init__(
        self, store: ObjectStore, identity: StreamIdentity, start: Start, snapshot: Numbered | None
    ) -> None:
        """Only `begin` calls this."""
        first = start.first_chunk
        self.epoch = start.epoch
        self.published = Head(start.epoch, first, first, start.previous, snapshot)
        self.confirmed = self.published
        self._in_head = 0
        self._store = store
        self._identity = identity
        self._keys = BucketKeys(identity)
        self._fenced: Fenced | None = None

    @classmethod
    def begin(
        cls,
        store: ObjectStore,
        identity: StreamIdentity,
        epoch: int,
        after: Head | None,
        *,
        root: int | None = None,
    ) -> Publisher:
        """Say where the epoch's chunks begin; from now on they can be published.

        Args:
            epoch: Our claim.
            after: How far the stream is published, found *after* the claim was made; None: nothing.
            root: Number of a chunk that begins a chain of its own, after a repair.

        Raises:
            Fenced: Somebody claimed a higher epoch meanwhile.
            UploadFailed, FetchFailed, Tier2Auth, Tier2Unavailable: The store failed; call it again.

        Requests: two writes and one read.
        """
        if root is not None or after is None or after.previous == ChainPoint():
            first = root or (1 if after is None else after.next_chunk)
            start = Start(epoch, first, 0, ChainPoint())
        else:
            start = Start(epoch, after.next_chunk, after.epoch, after.previous)
        snapshot = None if root is not None or after is None else after.snapshot
        self = cls(store, identity, _put_start(store, identity, start), snapshot)
        self.confirm()
        self.write_head()
        return self

    @property
    def next_chunk(self) -> int:
        """Number of the chunk that `publish_chunk` takes next."""
        return self.published.next_chunk

    def publish_chunk(self, data: bytes) -> ChainPoint:
        """Upload the next sealed chunk; it counts once `confirm` has returned.

        Args:
            data: The whole file of chunk `next_chunk`; every byte is checked first.

        Returns:
            Where it ends.

        Raises:
            ManifestCorrupt: It is damaged, or not the next chunk; nothing was uploaded.
            Fenced: Known from before.
            UploadFailed, Tier2Auth, Tier2Unavailable: The store failed; call it again.
        """
        self._check_ours()
        head = self.published
        key = self._keys.chunk(head.next_chunk, self.epoch)
        link = chunk_link(data, stream_uuid=self._identity.uuid, chunk_id=head.next_chunk, path=key)
        if ChainPoint(*link.previous) != head.previous:
            raise ManifestCorrupt(
                "the local chunk does not continue what is published; nothing was uploaded",
                path=key,
                position=0,
            )
        if head.next_chunk - self._in_head >= HEAD_TRAILS_MAX:
            self.confirm()
            self.write_head()
        self._store.put(key, data, crc64=crc64nvme(data))
        end = ChainPoint(*link.end)
        self.published = replace(self.published, next_chunk=head.next_chunk + 1, previous=end)
        return end

    def publish_snapshot(
        self,
        number: int,
        covers: ChainPoint,
        head: bytes,
        pages: Iterable[tuple[int, int, bytes]],
    ) -> None:
        """Upload a snapshot: its pages, then its head; it counts once `confirm` has returned.

        Args:
            number: Of the snapshot. Another content needs another number.
            covers: End of the last chunk that it contains; that chunk must be published.
            head: The head's bytes.
            pages: `(page_no, number, contents)` of each page that the head names, but those that
                are known to be in the bucket. `number` is the snapshot that wrote the page.

        Raises:
            ValueError: It covers a chunk that is not published yet.
            Fenced: Known from before.
            UploadFailed, Tier2Auth, Tier2Unavailable: The store failed; call it again.
        """
        self._check_ours()
        if covers.chunk_id >= self.published.next_chunk:
            raise ValueError(f"chunk {covers.chunk_id} must be published before the snapshot of it")
        # Pages first: whoever finds the head finds all that it names.
        for page_no, page_number, page in pages:
            crc64 = crc64nvme(page)
            self._store.put(self._keys.page(page_no, page_number, crc64), page, crc64=crc64)
        self._store.put(self._keys.snapshot(number, self.epoch), head, crc64=crc64nvme(head))
        self.published = replace(self.published, snapshot=Numbered(number, self.epoch))

    def confirm(self) -> Head:
        """Make sure that nobody has replaced us: then all that was published is there for good.

        Returns:
            `confirmed`. One request.

        Raises:
            Fenced: Somebody has; what was published since the last time may not be in the stream.
            FetchFailed, Tier2Auth, Tier2Unavailable: The store failed and nothing is known.
        """
        self._check_ours()
        published = self.published
        try:
            assert_not_fenced(self._store, self._identity, self.epoch)
        except Fenced as error:
            self._fenced = error
            raise
        self.confirmed = published
        return published

    def write_head(self) -> None:
        """Write HEAD, with what is confirmed. One request; a hint, so failing costs readers only.

        Raises:
            Fenced: Known from before.
            UploadFailed, Tier2Auth, Tier2Unavailable: The store failed.
        """
        self._check_ours()
        data = self.confirmed.encode(self._identity.uuid)
        self._store.replace(self._keys.head, data, crc64=crc64nvme(data))
        self._in_head = self.confirmed.next_chunk

    def _check_ours(self) -> None:
        if self._fenced is not None:
            raise fenced(self._fenced.epoch, self._keys.claim(self._fenced.epoch))


def _put_start(store: ObjectStore, identity: StreamIdentity, start: Start) -> Start:
    """Create the `Start`; the answer is the one that counts."""
    key = BucketKeys(identity).start(start.epoch)
    try:
        put_note(store, key, start.encode(identity.uuid))
    except UploadFailed:
        found = read_start(store, identity, start.epoch)
        if found is None:
            raise
        # Ours from an earlier try: since then a replaced writer may have put more behind the end
        # that we had found, which is not part of the stream.
        if found.parent != start.parent or found.first_chunk > start.first_chunk:
            raise fenced(start.epoch, key) from None
        return found
    return start
