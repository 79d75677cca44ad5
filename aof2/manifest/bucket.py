"""Names of the manifest's objects in a bucket. `docs/format.md`, "Bucket", is the normative text.

```
D/current/<generation>                     which stream the name D stands for
D/current/<generation>.<uuid>              the same as a name, so that one listing tells it
U/epoch/<epoch>, U/epoch/<epoch>.start     claims; where an epoch's chunks begin
U/manifest/<chunk>.<epoch>.mlog            sealed chunks, under the epoch of their publisher
U/manifest/<number>.<epoch>.snap           snapshot heads
U/manifest/pages/<page>.<number>.<crc64>.page
U/HEAD                                     a hint
```
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity

EPOCH_MAX = (1 << 32) - 1
"""Largest epoch: keys have room for 8 hex digits."""

_CURRENT = re.compile(r"(\d{20})(?:\.([0-9a-f]{32}))?")
_NUMBERED = re.compile(r"(\d{20})\.([0-9a-f]{8})\.(mlog|snap)")


class Numbered(NamedTuple):
    """A chunk or a snapshot head in the bucket: its number, and the epoch of its publisher."""

    number: int
    epoch: int


class Listing(NamedTuple):
    """What lies in a stream's `manifest/`, in ascending order."""

    chunks: list[Numbered]
    snapshots: list[Numbered]


class BucketKeys:
    """Keys of one stream's manifest objects, below the store's own prefix.

    Example:
        >>> from aof2.types import StreamIdentity
        >>> keys = BucketKeys(StreamIdentity("s", "s-00000000", bytes(16), bytes(16)))
        >>> keys.chunk(7, 1)[-38:]
        'manifest/00000000000000000007.00000001.mlog'[-38:]
    """

    def __init__(self, identity: StreamIdentity) -> None:
        self._stream = f"{identity.directory}/{identity.uuid.hex()}"
        self.head = f"{self._stream}/HEAD"

    def claim(self, epoch: int) -> str:
        """Key of an epoch's claim."""
        return f"{self._stream}/epoch/{epoch:020d}"

    def start(self, epoch: int) -> str:
        """Key of what says where an epoch's chunks begin."""
        return f"{self.claim(epoch)}.start"

    def chunk(self, chunk_id: int, epoch: int) -> str:
        """Key of a sealed chunk that a writer of `epoch` published."""
        return f"{self._stream}/manifest/{chunk_id:020d}.{epoch:08x}.mlog"

    def snapshot(self, number: int, epoch: int) -> str:
        """Key of a snapshot's head that a writer of `epoch` published."""
        return f"{self._stream}/manifest/{number:020d}.{epoch:08x}.snap"

    def page(self, page_no: int, number: int, crc64: int) -> str:
        """Key of an index page.

        It has the contents' checksum in place of an epoch: a snapshot's head names pages of earlier
        snapshots, of earlier writers too, and knows their checksums.
        """
        return f"{self._stream}/manifest/pages/{page_no:020d}.{number:020d}.{crc64:016x}.page"

    def list_manifest(self, store: ObjectStore) -> Listing:
        """All chunks and snapshot heads, by one listing; the pages are not among them."""
        place = f"{self._stream}/manifest/"
        found = Listing([], [])
        # Numbers have 20 digits, the first of which is 0; `pages/` begins otherwise.
        for info in store.list(f"{place}0"):
            match = _NUMBERED.fullmatch(info.key[len(place) :])
            if match is not None:
                entry = Numbered(int(match[1]), int(match[2], 16))
                (found.chunks if match[3] == "mlog" else found.snapshots).append(entry)
        return found


def current_key(directory: str, generation: int) -> str:
    """Key of the object that says which stream a name stands for.

    Example:
        >>> current_key("s-00000000", 1)
        's-00000000/current/00000000000000000001'
    """
    return f"{directory}/current/{generation:020d}"


def named_key(directory: str, generation: int, uuid: bytes) -> str:
    """Key of the empty object that repeats a generation's uuid as a name."""
    return f"{current_key(directory, generation)}.{uuid.hex()}"


def list_current(store: ObjectStore, directory: str) -> dict[int, list[bytes]]:
    """Generations of a name, each with the uuids that `named_key` objects tell."""
    place = f"{directory}/current/"
    generations: dict[int, list[bytes]] = {}
    names: list[tuple[int, bytes]] = []
    for info in store.list(place):
        match = _CURRENT.fullmatch(info.key[len(place) :])
        if match is None:
            continue
        if match[2] is None:
            generations[int(match[1])] = []
        else:
            names.append((int(match[1]), bytes.fromhex(match[2])))
    for generation, uuid in names:
        # The name follows the object that decides; alone it means nothing.
        if generation in generations:
            generations[generation].append(uuid)
    return generations
