"""Making a stream in a root: fresh, or taken over from what tier 2 has of it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging

from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2._core.snapshot import read_head
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.errors import CorruptionError, Tier2Unavailable, WaitTimeout, WouldBlockKind
from aof2.manifest.chunks import chunk_name
from aof2.manifest.claims import claim
from aof2.manifest.generation import agree_on_uuid
from aof2.manifest.log import Manifest
from aof2.manifest.publish import Publisher
from aof2.manifest.published import Hint, read_hint
from aof2.manifest.remembered import Remembered, write_remembered
from aof2.manifest.restore import Chain, read_chain
from aof2.manifest.snapshot import head_name, page_name
from aof2.objectstore import ObjectStore
from aof2.pool import DaemonPool
from aof2.root import Root
from aof2.types import StreamIdentity

LOGGER = logging.getLogger("aof2.tiered")
THREAD_ENDS_S = 5.0


def check_store(
    store: ObjectStore, clock: Clock, until_s: float | None, *, needed: bool
) -> None:
    """Ask tier 2 whether it can be used.

    A fresh root must reach its tier 2; one with history can take in records without it.

    Args:
        store: It.
        clock: For the limit.
        until_s: Wait so long, in seconds of its monotonic time; None for ever. The request may go
            on, it changes nothing.
        needed: Raise when it cannot be reached; otherwise only say so in the log.

    Raises:
        WaitTimeout: it has not answered in time.
        Tier2Unavailable, Tier2Auth: it cannot be used.
    """
    try:
        _check_store(store, clock, until_s)
    except (Tier2Unavailable, WaitTimeout) as error:
        if needed:
            raise
        LOGGER.warning(
            "tier 2 cannot be reached, uploads wait: %s", error, extra={"event": "tier2_away"}
        )


def _check_store(store: ObjectStore, clock: Clock, until_s: float | None) -> None:
    # On a thread of its own, as nobody can leave a request that hangs.
    pool = DaemonPool(1, "aof2-check")
    asked = pool.submit(store.check)
    left_s = None if until_s is None else max(0.0, until_s - clock.monotonic_s())
    if concurrent.futures.wait([asked], left_s).not_done:
        pool.end(clock, 0.0)
        raise WaitTimeout(
            f"{store.describe()} has not answered in time; nothing was opened",
            kind=WouldBlockKind.REMOTE,
        )
    # It has nothing more to do, so its thread ends now and not a moment after this call.
    pool.end(clock, clock.monotonic_s() + THREAD_ENDS_S)
    asked.result()


class Creation:
    """Makes one stream; see `create`."""

    def __init__(
        self, root: Root, config: AofManagerConfig, clock: Clock, store: ObjectStore | None
    ) -> None:
        self._root = root
        self._config = config
        self._clock = clock
        self._store = store

    def create(self, name: str) -> Publisher | None:
        """Make a stream that the root does not have.

        One that tier 2 has under this name is taken over: whoever wrote it is replaced for good,
        and what it published is the history here.

        Returns:
            The right to publish, where the stream was taken over; None for a fresh one.

        Raises:
            Tier2Unavailable, Tier2Auth: the first stream of a root asks tier 2; nothing was made.
            ManifestCorrupt: what it has cannot be read; nothing was made.
        """
        identity = self._root.new_identity(name)
        if self._store is not None:
            try:
                uuid = agree_on_uuid(self._store, identity.directory, identity.uuid)
                identity = dataclasses.replace(identity, uuid=uuid)
                hint = read_hint(self._store, identity)
            except Tier2Unavailable as error:
                if not self._root.stream_names():
                    raise
                # A root at work takes in records while tier 2 is away. Whether the name is taken
                # there is found out before the first upload.
                LOGGER.warning(
                    "stream %s is made without asking tier 2: %s",
                    name,
                    error,
                    extra={"event": "tier2_away", "stream": name},
                )
            else:
                if hint.head is not None:
                    return self._take_over(self._store, identity, hint)
        self._root.create_stream(identity, lambda directory: self._begin(directory, identity, 1))
        return None

    def _begin(self, directory: Directory, identity: StreamIdentity, chunk_id: int) -> None:
        Manifest.create(
            directory,
            identity,
            time=self._clock.source,
            chunk_bytes=self._config.manifest.chunk_bytes,
            chunk_id=chunk_id,
        )

    def _take_over(self, store: ObjectStore, identity: StreamIdentity, hint: Hint) -> Publisher:
        """Claim → read the chain to its end → `.start` → the local directory gets its name.

        A crash between any two leaves either no local stream, which is taken over anew, or one
        whose history is that of the bucket.
        """
        epoch = claim(
            store,
            identity,
            hint=hint.epoch,
            nonce=self._clock.random_bytes(16),
            claimed_ns=self._clock.now_ns(),
        )
        made: list[Publisher] = []

        def fill(directory: Directory) -> None:
            chain = self._download(directory, store, identity, hint, epoch)
            self._begin(directory, identity, 1 if chain.end is None else chain.end.next_chunk)
            remote_offset = self._give_up_unpublished(directory, identity, epoch)
            publisher = Publisher.begin(store, identity, epoch, chain.end)
            published = Remembered(epoch, publisher.next_chunk - 1, remote_offset)
            write_remembered(directory, published)
            made.append(publisher)

        self._root.create_stream(identity, fill)
        LOGGER.warning(
            "stream %s was taken over from %s under epoch %d: a writer elsewhere is stopped",
            identity.name,
            store.describe(),
            epoch,
            extra={"event": "takeover", "stream": identity.name, "epoch": epoch},
        )
        return made[0]

    def _download(
        self,
        directory: Directory,
        store: ObjectStore,
        identity: StreamIdentity,
        hint: Hint,
        epoch: int,
    ) -> Chain:
        """Put the newest good snapshot and the chunks after it into an empty directory."""

        def read_covers(head: bytes, key: str) -> tuple[int, int, int, int]:
            return read_head(head, stream_uuid=identity.uuid, path=key).covers

        unusable: list[str] = []
        while True:
            chain = read_chain(store, identity, hint, read_covers, below=epoch, skip=unusable)
            snapshot = chain.snapshot
            if snapshot is None:
                break
            try:
                head = read_head(snapshot.head, stream_uuid=identity.uuid, path=snapshot.key)
                for page in head.pages:
                    data = chain.load_page(page.page_no, page.number, page.bytes, page.crc64)
                    directory.replace(page_name(page.page_no, page.number), data)
            except CorruptionError as error:
                LOGGER.error("%s; an older one serves", error, extra={"event": "snapshot_damaged"})
                unusable.append(snapshot.key)
                continue
            directory.replace(head_name(head.number), snapshot.head)
            break
        for chunk in chain.chunks():
            directory.create(chunk_name(chunk.chunk_id), chunk.data)
        directory.sync()
        return chain

    def _give_up_unpublished(
        self, directory: Directory, identity: StreamIdentity, epoch: int
    ) -> int:
        """End the history where tier 2 has no more of it; says where that is.

        What the writer before us sealed and did not bring to tier 2 was lost with its root. The
        segment that is opened there, under our epoch, says so for good.
        """
        manifest = Manifest.open(
            directory,
            dataclasses.replace(identity, epoch=epoch),
            time=self._clock.source,
            chunk_bytes=self._config.manifest.chunk_bytes,
        )
        try:
            index = manifest.index
            end, last, sealed = index.cold_end, index.last(), index.last_sealed()
            sealed_end = 0 if sealed is None else sealed.end_offset or 0
            following = max(end, index.trimmed)
            if following == sealed_end:
                return following
            LOGGER.error(
                "offsets from %d on of stream %s were never in tier 2 and are lost with the root "
                "that had them",
                following,
                identity.name,
                extra={"event": "takeover_lost", "stream": identity.name},
            )
            # One that was opened and never sealed gives its place.
            number = 1 if last is None else last.segment_id + last.sealed
            manifest.append(RecordType.SEGMENT_OPENED, number, end, base_offset=end, epoch=epoch)
            if following > end:
                # Nothing is left below what was trimmed, and no offset there is used again.
                manifest.append(
                    RecordType.SEAL_SEGMENT,
                    number,
                    following,
                    durable_bytes=0,
                    segment_crc64=0,
                    ext_id=0,
                    coordinator_watermark=0,
                    flush_failure=0,
                )
            manifest.flush()
            return following
        finally:
            manifest.close()
