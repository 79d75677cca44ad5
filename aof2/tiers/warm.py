"""The warm tier of one stream: `.seg.zst` files below `warm/`."""

from __future__ import annotations

from collections.abc import Callable

from aof2._core import compressed
from aof2._core.compressed import CompressedInfo
from aof2._core.compressed_read import CompressedSegment, open_warm
from aof2._core.directory import Directory
from aof2._core.download import download
from aof2._core.filemap import FileMap
from aof2.admission import AdmissionGuard, Budget, on_disk
from aof2.config import Tier1Config
from aof2.manifest.index import ColdCopy
from aof2.streamdir import warm_ids, warm_name
from aof2.tiers.files import TierFiles
from aof2.tiers.hot import HotTier
from aof2.tiers.passing import PassingSegment

PIECE_EXTRA_BYTES = 96
"""Most that a zstd frame takes beside its raw bytes: header, a block's, both table entries."""


class WarmTier(TierFiles):
    """Files of tier 1; knows names and sizes, decides nothing.

    Attributes:
        sizes: Bytes that each usable file takes on disk, by segment id.
    """

    def __init__(self, directory: Directory, config: Tier1Config, budget: Budget) -> None:
        super().__init__(directory, budget)
        self._config = config

    @staticmethod
    def name(segment_id: int) -> str:
        """File name of a segment."""
        return warm_name(segment_id)

    def file_name(self, segment_id: int) -> str:
        """File name of a segment."""
        return warm_name(segment_id)

    def ids(self) -> list[int]:
        """Ids of the files that are there, ascending."""
        return warm_ids(self.directory)

    def bound(self, raw_bytes: int) -> int:
        """Bytes that the compressed form of a segment can take at most: what is claimed first."""
        # Two pieces in a row have more than `frame_bytes` together, unless one is the rest of a
        # long frame: three then. zstd stores a block of up to 128 KiB that does not shrink as it
        # is, behind 3 bytes.
        pieces = 3 * (raw_bytes // self._config.frame_bytes + 2)
        return on_disk(raw_bytes + pieces * PIECE_EXTRA_BYTES + raw_bytes // 32768 + 1024)

    def build(
        self, segment_id: int, hot: HotTier, guard: AdmissionGuard, stop: Callable[[], bool]
    ) -> CompressedInfo:
        """Compress a sealed segment and verify the result by reading it back.

        `bound` bytes are claimed; what the file does not need of them goes back.
        """
        info = compressed.build(
            hot.directory,
            hot.name(segment_id),
            self.directory,
            self.name(segment_id),
            level=self._config.level,
            frame_bytes=self._config.frame_bytes,
            stop=stop,
        )
        self.take(segment_id, guard, info.bytes)
        return info

    def passing(
        self, segment_id: int, hot: HotTier, stop: Callable[[], bool]
    ) -> PassingSegment:
        """The same bytes, without a file: for an upload that makes them on the way."""
        return PassingSegment(segment_id, hot, self._config, stop)

    def fetch(
        self,
        segment_id: int,
        fetch: Callable[[int, int], bytes],
        copy: ColdCopy,
        guard: AdmissionGuard,
        expect: CompressedInfo,
        stop: Callable[[], bool],
    ) -> None:
        """Make a file again from its object: written, synced, read back and verified, then named.

        The object's size is claimed.
        """
        name = self.name(segment_id)
        temporary = f".tmp-{name}"
        download(fetch, copy.size, self.directory, temporary, key=copy.key, stop=stop)
        try:
            compressed.verify(self.directory, temporary, expect=expect, stop=stop)
            self.directory.rename(temporary, name)
        except BaseException:
            self.directory.unlink(temporary, missing_ok=True)
            raise
        self.directory.sync()
        self.take(segment_id, guard, copy.size)

    def open(self, segment_id: int, table_bytes: int) -> CompressedSegment:
        """Open a file for reading; `FileNotFoundError` when its name has gone."""
        packed = open_warm(self.directory, self.name(segment_id), table_bytes)
        return self.lend(segment_id, packed)

    def contents(self, segment_id: int) -> FileMap:
        """The file's bytes, mapped, e.g. as the body of an upload."""
        return FileMap(self.directory, self.name(segment_id))
