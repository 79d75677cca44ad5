"""A segment that is compressed on its way into tier 2: no local tier has room for the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aof2._core import compressed_pack
from aof2._core.compressed_cut import SealedSource
from aof2._core.compressed_pack import CompressedInfo
from aof2.config import Tier1Config
from aof2.objectstore import Source
from aof2.tiers.hot import HotTier


class PassingSegment(Source):
    """The `.seg.zst` bytes of a sealed segment, made each time they are asked for.

    Size and checksum have to be known before the first byte is sent, so making one compresses the
    whole segment, decompresses it again, and keeps nothing but what is told about the bytes. The
    file is held open meanwhile, as it may be evicted: a warm copy of it may come into being too.

    Attributes:
        info: What the object will be.

    Raises:
        SegmentCorrupt: the segment does not check.
        OSError: it cannot be opened.
        CompressionFailed: for everything else.
    """

    def __init__(
        self, segment_id: int, hot: HotTier, config: Tier1Config, stop: Callable[[], bool]
    ) -> None:
        self._level = config.level
        self._stop = stop
        self._sealed = SealedSource(
            hot.directory,
            hot.name(segment_id),
            frame_bytes=config.frame_bytes,
            group_bytes=config.frame_bytes,
        )
        hot.lend(segment_id, self)
        self.info: CompressedInfo = compressed_pack.measure(
            self._sealed, level=config.level, stop=stop
        )
        self.nbytes = self.info.bytes

    def pieces(self) -> Iterator[bytes]:
        """The bytes, one zstd frame after the other."""
        return compressed_pack.pieces(self._sealed, level=self._level, stop=self._stop)
