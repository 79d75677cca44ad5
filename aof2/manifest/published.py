"""How far a stream's manifest is published, and whether a local one goes on from there.

1. HEAD is a hint: where it is missing or damaged, one listing takes its place.
2. Claims are probed upwards from there; of those, the highest that has a `Start` is the newest
   epoch that may have published.
3. Its chunks are read from the hint's point, or from its `Start`, until one is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from aof2._core.chunk_link import ChunkLink, chunk_link
from aof2._core.chunk_read import CHUNK_BYTES_MAX
from aof2.errors import Fenced, ManifestCorrupt
from aof2.manifest.bucket import BucketKeys, Listing
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.claims import fenced, highest_claim
from aof2.manifest.notes import Head, get_note
from aof2.manifest.route import Route, read_start
from aof2.objectstore import ObjectNotFound, ObjectStore, ObjectTooLarge
from aof2.types import StreamIdentity

LocalHas = Callable[[int, ChainPoint], bool]
"""`local_has(chunk_id, end)`: whether the local chain's chunk of that number ends exactly there.
With an end of all zeros: whether the local chain has its root at that chunk."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What is known before the claims are probed.

    Attributes:
        head: What HEAD says, or the listing shows; None: nothing was published yet, as far as seen.
        listing: What lies there, where it had to be listed.
    """

    head: Head | None
    listing: Listing | None = None

    @property
    def epoch(self) -> int:
        """An epoch that is claimed, 0 when none is known; the hint for `claim`."""
        return 0 if self.head is None else self.head.epoch


@dataclass(frozen=True, slots=True)
class PublishedChunk:
    """A sealed chunk as it lies in the bucket.

    Attributes:
        chunk_id: Its number.
        epoch: Of its publisher, as in the key; the chunk itself may be of an earlier one.
        key: Its key.
        data: The whole file; every byte of it was checked, its records were not decoded.
        link: What it continues and where it ends.
    """

    chunk_id: int
    epoch: int
    key: str
    data: bytes
    link: ChunkLink


def read_hint(store: ObjectStore, identity: StreamIdentity) -> Hint:
    """Read HEAD: one request. Lost or damaged, it costs one listing and three more requests.

    Raises:
        ManifestCorrupt: What takes its place is damaged, too.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
        VersionTooNew: A newer version published the stream.
    """
    keys = BucketKeys(identity)
    try:
        data = get_note(store, keys.head)
        if data is not None:
            return Hint(Head.decode(data, uuid=identity.uuid, key=keys.head))
    except ManifestCorrupt:
        pass  # Only a hint: the listing knows as much.
    listing = keys.list_manifest(store)
    return Hint(_head_of(store, identity, listing), listing)


def find_end(
    store: ObjectStore, identity: StreamIdentity, hint: Hint, *, below: int | None = None
) -> Head | None:
    """Find out how far the stream is published now.

    Args:
        hint: From `read_hint`, or an earlier answer as `Hint(answer)`.
        below: Our own claim; higher ones are not looked for.

    Returns:
        The newest epoch and its end; None when nothing was ever published. One request per claim
        and per chunk above the hint, and two more.

    Raises:
        Fenced: Somebody above our claim has published.
        ManifestCorrupt: An object is damaged or missing; names the key.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
    """
    head = find_start(store, identity, hint, below=below)
    if head is None:
        return None
    route = Route(store, identity, head.epoch, head.first_chunk)
    for chunk in walk(store, identity, route, head.next_chunk, head.previous):
        head = replace(head, next_chunk=chunk.chunk_id + 1, previous=ChainPoint(*chunk.link.end))
    return head


def find_start(
    store: ObjectStore, identity: StreamIdentity, hint: Hint, *, below: int | None = None
) -> Head | None:
    """Like `find_end`, without looking for chunks beyond what the hint or the `Start` tells."""
    keys, known = BucketKeys(identity), hint.epoch
    if below is not None and known >= below:
        raise fenced(known, keys.start(known))
    top = highest_claim(store, identity, hint=known) if below is None else below - 1
    for epoch in range(top, known, -1):
        start = read_start(store, identity, epoch)
        if start is not None:
            snapshot = None if hint.head is None else hint.head.snapshot
            first = start.first_chunk
            return Head(epoch, first, first, start.previous, snapshot)
    return hint.head


def check_lineage(
    store: ObjectStore,
    identity: StreamIdentity,
    hint: Hint,
    local_has: LocalHas,
    *,
    below: int | None = None,
) -> Head | None:
    """Make sure that the local chain contains all that is published, before claiming and after.

    Returns:
        How far the stream is published (as `find_end`), to go on from. Nothing is written.

    Raises:
        Fenced: It does not: another writer went on from an earlier point.
        ManifestCorrupt, FetchFailed, Tier2Auth, Tier2Unavailable: As `find_end`.
    """
    head = find_end(store, identity, hint, below=below)
    if head is None:
        return None
    root = head.previous == ChainPoint()
    if not local_has(head.next_chunk if root else head.previous.chunk_id, head.previous):
        raise Fenced(
            f"the stream in tier 2 went on without this root: chunk {head.next_chunk - 1} of epoch "
            f"{head.epoch} is not in the local manifest. Nothing was uploaded or deleted. To go on "
            "here, move the stream's directory aside and open the root again: it takes over what "
            "is published",
            epoch=head.epoch,
            path=BucketKeys(identity).start(head.epoch),
        )
    return head


def walk(
    store: ObjectStore,
    identity: StreamIdentity,
    route: Route,
    chunk_id: int,
    previous: ChainPoint,
    *,
    published: int = 0,
) -> Iterator[PublishedChunk]:
    """The chunks of a chain, in order, up to the first that is not there.

    Args:
        route: Whose chunks count.
        chunk_id, previous: The first one, and the end of the one before it.
        published: Chunks below this number are known to be there.

    `ManifestCorrupt` names the key of a chunk that is missing in front of others, is damaged, or
    does not continue the one before it.
    """
    keys = BucketKeys(identity)
    while True:
        epoch = route.epoch_of(chunk_id)
        start = route.start_at(chunk_id)
        if start is not None and start.previous != previous:
            raise ManifestCorrupt(
                f"epoch {start.epoch} does not begin where the chunks before it end",
                path=keys.start(start.epoch),
            )
        key = keys.chunk(chunk_id, epoch)
        try:
            data = store.get(key, CHUNK_BYTES_MAX)
        except ObjectNotFound:
            if epoch == route.epoch and chunk_id >= published:
                return
            raise ManifestCorrupt(
                "a chunk of the manifest is missing, but later ones were published", path=key
            ) from None
        except ObjectTooLarge as error:
            raise ManifestCorrupt(error.message, path=key) from error
        link = chunk_link(data, stream_uuid=identity.uuid, chunk_id=chunk_id, path=key)
        if ChainPoint(*link.previous) != previous:
            raise ManifestCorrupt(
                "the chunk does not continue the one before it", path=key, position=0
            )
        yield PublishedChunk(chunk_id, epoch, key, data, link)
        chunk_id, previous = chunk_id + 1, ChainPoint(*link.end)


def _head_of(store: ObjectStore, identity: StreamIdentity, listing: Listing) -> Head | None:
    """What HEAD would say, by what was listed."""
    keys = BucketKeys(identity)
    epochs = {entry.epoch for entry in [*listing.chunks, *listing.snapshots]}
    if not epochs:
        return None
    epoch = max(epochs)
    # Claims have no gap only as long as each is made above one that exists.
    if get_note(store, keys.claim(epoch)) is None:
        raise ManifestCorrupt(
            f"epoch {epoch} published, but its claim is missing", path=keys.claim(epoch)
        )
    start = read_start(store, identity, epoch)
    if start is None:
        raise ManifestCorrupt(
            f"epoch {epoch} published, but its start is missing", path=keys.start(epoch)
        )
    snapshot = listing.snapshots[-1] if listing.snapshots else None
    newest = max((entry.number for entry in listing.chunks if entry.epoch == epoch), default=0)
    if newest < start.first_chunk:
        return Head(epoch, start.first_chunk, start.first_chunk, start.previous, snapshot)
    end = _end_of(store, identity, newest, epoch)
    return Head(epoch, start.first_chunk, newest + 1, end, snapshot)


def _end_of(store: ObjectStore, identity: StreamIdentity, chunk_id: int, epoch: int) -> ChainPoint:
    key = BucketKeys(identity).chunk(chunk_id, epoch)
    data = store.get(key, CHUNK_BYTES_MAX)
    link = chunk_link(data, stream_uuid=identity.uuid, chunk_id=chunk_id, path=key)
    return ChainPoint(*link.end)
