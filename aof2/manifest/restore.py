"""Reading a whole published manifest: the newest good snapshot, then the chunks after it.

1. The newest epoch and its hint come from `published`.
2. Snapshots are tried from the newest on: HEAD's, then, if that one is not good, those that a
   listing finds. One that covers chunks which are not part of the chain does not count.
3. Without any, reading begins at the root of the chain.
4. Chunks follow, each under the epoch that `Route` names, each checked to continue the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from aof2._core.checksum import crc64nvme
from aof2.errors import CorruptionError, ManifestCorrupt
from aof2.manifest.bucket import BucketKeys, Numbered
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.notes import Head
from aof2.manifest.published import Hint, PublishedChunk, find_start, walk
from aof2.manifest.route import Route
from aof2.objectstore import ObjectNotFound, ObjectStore, ObjectTooLarge
from aof2.types import StreamIdentity

SNAPSHOT_BYTES_MAX = 64 << 20
"""Larger snapshot heads and index pages are not read."""

_SNAPSHOTS_TRIED_MAX = 16

ReadCovers = Callable[[bytes, str], tuple[int, int, int, int]]
"""`read_covers(head, path)`: checks a snapshot's head and tells the chunk end that it covers
(number, END position, end offset, chain crc); a `CorruptionError` when it is not good."""


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """A snapshot's head as it lies in the bucket; `covers` is the last chunk that it contains."""

    number: int
    epoch: int
    key: str
    head: bytes
    covers: ChainPoint


class Chain:
    """A published manifest, read from the bucket; made by `read_chain`.

    Attributes:
        snapshot: Where to begin, None: with an empty index.
        unusable: Keys of newer snapshots that were missing, damaged, or not part of the chain.
        end: How far the stream is published, None when it never was;
            exact once `chunks` has been read to its end.
    """

    def __init__(
        self, store: ObjectStore, identity: StreamIdentity, start: Head | None, route: Route | None
    ) -> None:
        """Only `read_chain` calls this."""
        self.snapshot: PublishedSnapshot | None = None
        self.unusable: list[str] = []
        self.end = start
        self._store = store
        self._identity = identity
        self._keys = BucketKeys(identity)
        self._route = route
        self._published = 0 if start is None else start.next_chunk

    def chunks(self) -> Iterator[PublishedChunk]:
        """The chunks behind the snapshot, in order; one request each, and one that ends it.

        One chunk is in memory at a time. `ManifestCorrupt` names the key of one that is missing in
        front of others, is damaged, or does not continue the one before.
        """
        if self.end is None or self._route is None:
            return
        route, point, snapshot = self._route, ChainPoint(), None
        if self.snapshot is None:
            first = route.root()
        else:
            point = self.snapshot.covers
            first = point.chunk_id + 1
            snapshot = Numbered(self.snapshot.number, self.snapshot.epoch)
        end = replace(self.end, next_chunk=first, previous=point, snapshot=snapshot)
        for chunk in walk(
            self._store, self._identity, route, first, point, published=self._published
        ):
            yield chunk
            point = ChainPoint(*chunk.link.end)
            end = replace(end, next_chunk=chunk.chunk_id + 1, previous=point)
        self.end = end

    def load_page(self, page_no: int, number: int, size: int, crc64: int) -> bytes:
        """Read an index page that a snapshot's head names; one request.

        `ManifestCorrupt` when it is missing or not what the head says: then `read_chain` may be
        asked for an older snapshot, with this one's key in `skip`.
        """
        key = self._keys.page(page_no, number, crc64)
        data = _get(self._store, key, min(size, SNAPSHOT_BYTES_MAX))
        if data is None or len(data) != size or crc64nvme(data) != crc64:
            raise ManifestCorrupt("an index page is missing or damaged", path=key)
        return data


def read_chain(
    store: ObjectStore,
    identity: StreamIdentity,
    hint: Hint,
    read_covers: ReadCovers,
    *,
    below: int | None = None,
    skip: Collection[str] = (),
) -> Chain:
    """Find what to restore or read a stream from.

    Args:
        hint: From `read_hint`.
        read_covers: Knows the format of snapshots.
        below: Our own claim, for a takeover; None only reads.
        skip: Keys of snapshots that were found unusable.

    Returns:
        The `Chain`; its chunks are read when they are asked for.

    Raises:
        Fenced: Somebody above our claim has published.
        ManifestCorrupt: An object is damaged or missing; names the key.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
    """
    start = find_start(store, identity, hint, below=below)
    if start is None:
        return Chain(store, identity, None, None)
    route = Route(store, identity, start.epoch, start.first_chunk)
    chain = Chain(store, identity, start, route)
    keys = BucketKeys(identity)
    tried = 0
    for number, epoch in _candidates(store, identity, hint, route):
        key = keys.snapshot(number, epoch)
        if key in skip:
            continue
        end = route.end_of(epoch)
        if end != 0:
            tried += 1
            head = _get(store, key, SNAPSHOT_BYTES_MAX)
            covers = None if head is None else _covers(head, key, read_covers)
            # What a replaced writer put there covers chunks that are not part of the chain.
            if head and covers and (end is None or covers.chunk_id < end):
                chain.snapshot = PublishedSnapshot(number, epoch, key, head, covers)
                return chain
        chain.unusable.append(key)
        if tried == _SNAPSHOTS_TRIED_MAX:
            break
    return chain


def _candidates(
    store: ObjectStore, identity: StreamIdentity, hint: Hint, route: Route
) -> Iterator[Numbered]:
    """Snapshots, the newest first; without a listing as long as HEAD's is good."""
    named = None if hint.head is None else hint.head.snapshot
    if hint.listing is None:
        if named is not None:
            yield named
        elif route.begins():
            return
        # Else the beginning is in snapshots only, and HEAD is older than the first of them.
    listing = hint.listing or BucketKeys(identity).list_manifest(store)
    yield from (entry for entry in reversed(listing.snapshots) if hint.listing or entry != named)


def _covers(head: bytes, key: str, read_covers: ReadCovers) -> ChainPoint | None:
    try:
        return ChainPoint(*read_covers(head, key))
    except CorruptionError:
        return None


def _get(store: ObjectStore, key: str, bytes_max: int) -> bytes | None:
    """The object, None when it is missing or too large to be what was published."""
    try:
        return store.get(key, bytes_max)
    except (ObjectNotFound, ObjectTooLarge):
        return None
