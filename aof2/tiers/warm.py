"""The warm tier of one stream: `.seg.zst` files below `warm/`."""

from __future__ import annotations

from collections.abc import Callable

from aof2._core import compressed
from aof2._core.compressed import CompressedInfo
from aof2._core.compressed_read import CompressedSegment, open_warm
from aof2._core.directory import Directory
from aof2._core.filemap import FileMap
from aof2.admission import Budget, on_disk
from aof2.config import Tier1Config
from aof2.streamdir import warm_ids, warm_name
from aof2.tiers.hot import HotTier


class WarmTier:
    """Files of tier 1; knows names and sizes, decides nothing.

    Attributes:
        sizes: Bytes that each usable file takes on disk, by segment id.
    """

    def __init__(self, directory: Directory, config: Tier1Config, budget: Budget) -> None:
        self.directory = directory
        self.sizes: dict[int, int] = {}
        self._config = config
        self._budget = budget

    @staticmethod
    def name(segment_id: int) -> str:
        """File name of a segment."""
        return warm_name(segment_id)

    def ids(self) -> list[int]:
        """Ids of the files that are there, ascending."""
        return warm_ids(self.directory)

    @staticmethod
    def bound(raw_bytes: int) -> int:
        """Bytes that the compressed form of a segment can take at most: what is admitted first."""
        return on_disk(raw_bytes + raw_bytes // 128 + 65536)

    def build(self, segment_id: int, hot: HotTier, stop: Callable[[], bool]) -> CompressedInfo:
        """Compress a sealed segment and verify the result by reading it back.

        `bound` bytes must be admitted; what the file does not need of them is given back.
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
        self.sizes[segment_id] = on_disk(info.bytes)
        return info

    def adopt(self, segment_id: int) -> None:
        """Account for a file that is there and was found good."""
        size = on_disk(self.directory.size(self.name(segment_id)))
        self._budget.charge(size - self.sizes.get(segment_id, 0))
        self.sizes[segment_id] = size

    def evict(self, segment_id: int) -> None:
        """Drop a file's name; who has it open goes on reading."""
        self.directory.unlink(self.name(segment_id), missing_ok=True)
        self.forget(segment_id)

    def forget(self, segment_id: int) -> None:
        """Account for a file that is not there any more."""
        self._budget.release(self.sizes.pop(segment_id, 0))

    def open(self, segment_id: int, table_bytes: int) -> CompressedSegment:
        """Open a file for reading; `FileNotFoundError` when its name has gone."""
        return open_warm(self.directory, self.name(segment_id), table_bytes)

    def contents(self, segment_id: int) -> FileMap:
        """The file's bytes, mapped, e.g. as the body of an upload."""
        return FileMap(self.directory, self.name(segment_id))
