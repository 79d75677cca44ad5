"""The cold tier of one stream: the same `.seg.zst` bytes as objects in a store."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aof2._core.checksum import crc64nvme
from aof2._core.compressed_read import CompressedSegment
from aof2._core.filemap import FileMap
from aof2.clock import Clock
from aof2.errors import UploadFailed
from aof2.manifest.index import ColdCopy, SegmentRow
from aof2.objectstore import ObjectInfo, ObjectStore, Source
from aof2.types import StreamIdentity


class ColdTier:
    """Objects of tier 2; knows keys, decides nothing.

    Attributes:
        identity: The stream; its epoch is part of new keys.
    """

    def __init__(self, store: ObjectStore, identity: StreamIdentity, clock: Clock) -> None:
        self.store = store
        self.identity = identity
        self._clock = clock

    def new_key(self, row: SegmentRow) -> str:
        """A fresh key for a segment; random, so that two writers never meet on one."""
        rest = (
            f"{row.base_offset:020d}-{row.end_offset:020d}"
            f".{self.identity.epoch:08x}-{self._clock.random_u64():016x}.seg.zst"
        )
        # A spread over 256 prefixes, because stores limit the request rate per prefix.
        spread = crc64nvme(rest.encode()) & 0xFF
        stream = f"{self.identity.directory}/{self.identity.uuid.hex()}"
        return f"{stream}/seg/{spread:02x}/{rest}"

    def upload(self, key: str, contents: FileMap | Source, crc64: int) -> ObjectInfo:
        """Create the object; the store verifies our checksum, and what it then says must agree.

        Raises:
            UploadFailed: the store's size or checksum differs from ours.
        """
        data = contents if isinstance(contents, Source) else memoryview(contents)
        size = data.nbytes
        info = self.store.put(key, data, crc64=crc64)
        if info.crc64 is None:
            found = self.store.head(key)
            info = info if found is None else found
        if info.size != size or (info.crc64 is not None and info.crc64 != crc64):
            raise UploadFailed(
                f"the store holds {info.size} bytes with another checksum than was sent; the local "
                "copy stays, the upload is tried again",
                path=key,
            )
        return info

    def delete(self, key: str) -> None:
        """Remove an object; fine when there is none."""
        self.store.delete(key)

    def ranges(self, copy: ColdCopy) -> Callable[[int, int], bytes]:
        """What reads ranges of an object: `fetch(start, end)`."""
        return functools.partial(self.store.get_range, copy.key)

    def open(self, copy: ColdCopy) -> CompressedSegment:
        """Open an object for reading: one ranged request now, one per stretch that is read."""
        return CompressedSegment(
            self.ranges(copy),
            copy.size,
            copy.table_bytes,
            path=copy.key,
        )
