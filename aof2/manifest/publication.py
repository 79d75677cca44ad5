"""A stream's publication, as its writer carries it out: claim once, then publish what is sealed."""

from __future__ import annotations

import threading

from aof2._core.directory import Directory
from aof2._core.snapshot import HeadInfo
from aof2.clock import Clock
from aof2.errors import Fenced, ManifestCorrupt
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.claims import check_claims_ours, claim, highest_claim
from aof2.manifest.generation import agree_on_uuid
from aof2.manifest.log import Manifest
from aof2.manifest.notes import Head
from aof2.manifest.publish import Publisher
from aof2.manifest.published import Hint, check_lineage, find_end, read_hint
from aof2.manifest.remembered import Remembered, read_remembered, write_remembered
from aof2.objectstore import ObjectStore


class Publication:
    """What tier 2 has of one stream's manifest, and the right to add to it.

    `publish` is called by one thread at a time; the attributes may be read by any.

    Attributes:
        epoch: The epoch that was claimed, 0 before the claim.
        fenced: Set once another writer has replaced this one; nothing is published from then on.
        remote_offset: Offset below which every record is in objects that confirmed chunks name.
        published_records: Manifest records in confirmed chunks, as far as known in this process.
    """

    def __init__(
        self, store: ObjectStore, manifest: Manifest, directory: Directory, clock: Clock
    ) -> None:
        known = read_remembered(directory)
        self.epoch = 0
        self.fenced: Fenced | None = None
        self.remote_offset = 0 if known is None else known.remote_offset
        self.published_records = 0
        self._store = store
        self._manifest = manifest
        self._directory = directory
        self._clock = clock
        self._nonce = clock.random_bytes(16)
        self._publisher: Publisher | None = None
        self._pages: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        # Nothing that is not published yet may go, from here on.
        manifest.published_chunk = manifest.chunks()[0] - 1 if known is None else known.chunk_id

    def adopt(self, publisher: Publisher) -> None:
        """Go on under a claim that was made already, by a takeover."""
        with self._lock:
            if self._manifest.identity.epoch != publisher.epoch:
                self._manifest.adopt_epoch(publisher.epoch)
            self._publisher, self.epoch = publisher, publisher.epoch
            self.remote_offset = self._manifest.index.cold_end
            self.published_records = publisher.confirmed.previous.end_offset
            self._manifest.published_chunk = publisher.next_chunk - 1

    def publish(self) -> None:
        """Bring everything that is in the manifest now into the bucket, and see that it counts.

        1. Without a claim yet: the lineage is checked, the next epoch claimed, the lineage checked
           again, and `.start` written.
        2. The active chunk is sealed; its records are durable by that.
        3. Chunks are uploaded in order, then the newest snapshot that they cover.
        4. Nobody has claimed a higher epoch: only now any of it counts.
        5. HEAD, where it would trail too far; the hint for the next open.

        Any step may fail and be done again.

        Raises:
            Fenced: Another writer has taken the stream over.
            ManifestCorrupt: Something published is damaged.
            UploadFailed, FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
        """
        with self._lock:
            if self.fenced is not None:
                raise Fenced(self.fenced.message, epoch=self.fenced.epoch)
            try:
                self._publish()
            except Fenced as error:
                self.fenced = error
                raise

    def assert_not_fenced(self) -> None:
        """Make sure that nobody has replaced us, before something is deleted.

        Raises:
            Fenced: somebody has, or nothing was claimed yet.
        """
        with self._lock:
            if self._publisher is None:
                raise Fenced("the stream is not claimed yet; nothing is deleted", epoch=0)
            try:
                self._publisher.confirm()
            except Fenced as error:
                self.fenced = error
                raise

    def _publish(self) -> None:
        publisher = self._publisher or self._claim()
        cold_end = self._manifest.seal_chunk()
        for chunk_id in self._manifest.sealed_chunks(after=publisher.next_chunk - 1):
            publisher.publish_chunk(self._manifest.read_chunk(chunk_id))
        fresh = self._publish_snapshot(publisher)
        confirmed = publisher.confirm()
        remote_offset = max(self.remote_offset, cold_end)
        self._manifest.published_chunk = confirmed.next_chunk - 1
        # Remembered before it is told to anybody: the next open says no less.
        self._remember(publisher.epoch, confirmed.next_chunk - 1, remote_offset)
        self.published_records = confirmed.previous.end_offset
        self.remote_offset = remote_offset
        if fresh:
            publisher.write_head()

    def _remember(self, epoch: int, chunk_id: int, remote_offset: int) -> None:
        write_remembered(self._directory, Remembered(epoch, chunk_id, remote_offset))

    def _claim(self) -> Publisher:
        manifest, store = self._manifest, self._store
        identity, root = manifest.identity, manifest.chain_root()
        self._check_name()
        hint = self._hint(root)
        # A stale root must not even claim: its claim would stop the rightful writer.
        self._published_end(hint, root, None)
        epoch = claim(
            store,
            identity,
            hint=max(hint.epoch, self.epoch),
            nonce=self._nonce,
            claimed_ns=self._clock.now_ns(),
        )
        # What the writer before us published until our claim stopped it counts as well.
        after = self._published_end(hint, root, epoch)
        if after is None and root is None:
            # The beginning is in snapshots only, so they come before the first chunk.
            after = self._covered_by_snapshot()
        # From here on an open without a tier 2 keeps the chunks that continue what is there.
        published = 0 if after is None else after.next_chunk - 1
        self._remember(self.epoch, published, self.remote_offset)
        publisher = Publisher.begin(store, identity, epoch, after, root=None if after else root)
        manifest.adopt_epoch(epoch)
        self._publisher, self.epoch = publisher, epoch
        return publisher

    def _check_name(self) -> None:
        """The name must stand for this stream in tier 2; one that never was there takes it."""
        identity = self._manifest.identity
        uuid = agree_on_uuid(self._store, identity.directory, identity.uuid)
        if uuid != identity.uuid:
            raise Fenced(
                f"tier 2 has another stream of the name {identity.name!r}; nothing was uploaded. "
                "Give this root another prefix, or use another name",
                stream=identity.name,
            )

    def _hint(self, root: int | None) -> Hint:
        try:
            return read_hint(self._store, self._manifest.identity)
        except ManifestCorrupt:
            if root is None or root == 1:
                raise
            return Hint(None)  # A repair gave this chain up.

    def _published_end(self, hint: Hint, root: int | None, below: int | None) -> Head | None:
        """How far the stream is published, None: nothing of this chain is.

        A repaired manifest is a chain of its own, with higher numbers than the one that it
        replaces, which need not be readable any more. It replaces no more than what was there when
        it was made: whoever began after that has taken the stream over.
        """
        manifest, identity = self._manifest, self._manifest.identity
        if root is None or root == 1:
            return check_lineage(self._store, identity, hint, manifest.has_chain_point, below=below)
        repaired = manifest.root_epoch()
        try:
            end = find_end(self._store, identity, hint, below=below)
            if end is None:
                return None
            if end.next_chunk <= root:
                check_claims_ours(self._store, identity, range(end.epoch, repaired, -1)[:1])
                return None
            return check_lineage(self._store, identity, hint, manifest.has_chain_point, below=below)
        except ManifestCorrupt:
            top = (below or 1 + highest_claim(self._store, identity, hint=hint.epoch)) - 1
            check_claims_ours(self._store, identity, range(top, repaired, -1))
            return None

    def _covered_by_snapshot(self) -> Head:
        """Where a manifest goes on whose beginning was removed before there was a tier 2."""
        covers = ChainPoint(*self._manifest.snapshots[-1].covers)
        first = covers.chunk_id + 1
        return Head(0, first, first, covers, None)

    def _publish_snapshot(self, publisher: Publisher) -> bool:
        """Upload the newest snapshot that the published chunks cover; True when there was one."""
        known = publisher.published.snapshot
        for head in self._manifest.snapshots:
            covers = ChainPoint(*head.covers)
            if known is not None and head.number <= known.number:
                return False
            if covers.chunk_id < publisher.next_chunk:
                self._upload_snapshot(publisher, head, covers)
                return True
        return False

    def _upload_snapshot(self, publisher: Publisher, head: HeadInfo, covers: ChainPoint) -> None:
        data, pages = self._manifest.read_snapshot(head, skip=self._pages)
        publisher.publish_snapshot(head.number, covers, data, pages)
        self._pages.update((page_no, number) for page_no, number, _ in pages)
