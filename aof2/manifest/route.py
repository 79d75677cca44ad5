"""Which epoch published which chunk: the newest started epoch, and the ones that it goes on from.

Each `Start` names its parent, the epoch whose chain its writer read to the end before it began. The
newest `Start` decides: an epoch that is no ancestor of it was replaced before it could confirm
anything, and what it published there is not part of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from aof2.errors import ManifestCorrupt
from aof2.manifest.bucket import BucketKeys
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.notes import Start, get_note
from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity


@dataclass(slots=True)
class _Leg:
    epoch: int
    first_chunk: int
    start: Start | None  # None as long as only HEAD has told.


class Route:
    """The epochs of one chain, newest first; older ones are read when they are asked for.

    Args:
        epoch, first_chunk: The newest epoch that has a `Start`, and what that says.
        start: It, where it has been read already.
    """

    def __init__(
        self,
        store: ObjectStore,
        identity: StreamIdentity,
        epoch: int,
        first_chunk: int,
        start: Start | None = None,
    ) -> None:
        self._store = store
        self._identity = identity
        self._keys = BucketKeys(identity)
        self._legs = [_Leg(epoch, first_chunk, start)]

    @property
    def epoch(self) -> int:
        """The newest epoch."""
        return self._legs[0].epoch

    def epoch_of(self, chunk_id: int) -> int:
        """Epoch of the publisher of a chunk; `ManifestCorrupt` below the root of the chain."""
        while self._legs[-1].first_chunk > chunk_id:
            if not self._back():
                raise ManifestCorrupt(
                    f"the chain begins at chunk {self._legs[-1].first_chunk}, so there is no chunk "
                    f"{chunk_id}",
                    path=self._keys.start(self._legs[-1].epoch),
                )
        return next(leg.epoch for leg in self._legs if leg.first_chunk <= chunk_id)

    def root(self) -> int:
        """Number of the first chunk of the chain."""
        while self._back():
            pass
        return self._legs[-1].first_chunk

    def begins(self) -> bool:
        """Whether the first chunk of the chain is the first of the stream, not just of tier 2."""
        self.root()
        start = self._legs[-1].start
        return start is None or start.previous == ChainPoint()

    def end_of(self, epoch: int) -> int | None:
        """First chunk number that does not belong to an epoch any more.

        None where the epoch is the newest, 0 where it is not part of the chain.
        """
        while self._legs[-1].epoch > epoch and self._back():
            pass
        for newer, leg in zip([None, *self._legs], self._legs, strict=False):
            if leg.epoch == epoch:
                return None if newer is None else newer.first_chunk
        return 0

    def start_at(self, chunk_id: int) -> Start | None:
        """The `Start` whose first chunk this is, if it has been read."""
        return next(
            (leg.start for leg in self._legs if leg.start and leg.first_chunk == chunk_id), None
        )

    def _back(self) -> bool:
        """Take in the parent of the oldest epoch known; False where that begins the chain."""
        last = self._legs[-1]
        start = last.start = last.start or self._required(last.epoch)
        if start.first_chunk != last.first_chunk:
            raise ManifestCorrupt(
                f"the epoch begins at chunk {start.first_chunk}, but HEAD said {last.first_chunk}",
                path=self._keys.start(last.epoch),
            )
        if start.parent == 0:
            return False
        parent = self._required(start.parent)
        if parent.first_chunk > start.first_chunk:
            raise ManifestCorrupt(
                f"epoch {start.epoch} begins before its parent", path=self._keys.start(start.epoch)
            )
        self._legs.append(_Leg(parent.epoch, parent.first_chunk, parent))
        return True

    def _required(self, epoch: int) -> Start:
        start = read_start(self._store, self._identity, epoch)
        if start is None:
            raise ManifestCorrupt(
                f"epoch {epoch} published, but its start is missing", path=self._keys.start(epoch)
            )
        return start


def read_start(store: ObjectStore, identity: StreamIdentity, epoch: int) -> Start | None:
    """Where an epoch's chunks begin; None when it was only claimed, and so published nothing.

    `ManifestCorrupt` names the key when the object is damaged.
    """
    key = BucketKeys(identity).start(epoch)
    data = get_note(store, key)
    if data is None:
        return None
    start = Start.decode(data, uuid=identity.uuid, key=key)
    if start.epoch != epoch:
        raise ManifestCorrupt(f"the object is of epoch {start.epoch}", path=key)
    return start
