"""What the manifest's index says about one segment, and about each of its copies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmCopy:
    """A verified warm file: sizes in bytes, crc64 of the file and of the segment it holds."""

    bytes: int
    table_bytes: int
    crc64: int
    raw_crc64: int


@dataclass(frozen=True, slots=True)
class ColdCopy:
    """A verified object: its key, size in bytes, crc64, the store's etag, bytes of its table."""

    key: str
    size: int
    crc64: int
    etag: str
    table_bytes: int


@dataclass(slots=True)
class SegmentRow:
    """What the manifest says about one segment.

    Attributes:
        segment_id: Ordinal of the segment in its stream.
        base_offset, end_offset: Offsets of its records, half-open; the end is None before the seal.
        epoch: Writer epoch of the last SegmentOpened; 0 when that record was lost.
        sealed: True once SealSegment was applied.
        raw_bytes: Durable bytes of the sealed file.
        segment_crc64: crc64 of everything before its footer.
        ext_id: Default ext_id of its records.
        coordinator_watermark: Manifest records that were applied when it was sealed.
        flush_failure: True when a reopen after a failed flush sealed it.
        compressed: Facts of the last compression; they stay when the warm file goes, because the
            cold object is the same bytes.
        warm_present: True while records say that the warm file is there.
        upload_key: Key of the last UploadStarted; used again after a restart.
        cold: The object in tier 2.
        hot_evicted: True while records say that the hot copy is gone.
        delete_queued: True once the object may go.
    """

    segment_id: int
    base_offset: int
    end_offset: int | None = None
    epoch: int = 0
    sealed: bool = False
    raw_bytes: int = 0
    segment_crc64: int = 0
    ext_id: int = 0
    coordinator_watermark: int = 0
    flush_failure: bool = False
    compressed: WarmCopy | None = None
    warm_present: bool = False
    upload_key: str | None = None
    cold: ColdCopy | None = None
    hot_evicted: bool = False
    delete_queued: bool = False

    @property
    def warm(self) -> WarmCopy | None:
        """The warm copy, None where records say that there is none (any more)."""
        return self.compressed if self.warm_present else None

    @property
    def warm_evicted(self) -> bool:
        """True when there was a warm copy and records say that it is gone."""
        return self.compressed is not None and not self.warm_present
