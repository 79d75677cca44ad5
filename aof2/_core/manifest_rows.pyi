from typing import NamedTuple

class WarmCopy(NamedTuple):
    bytes: int
    table_bytes: int
    crc64: int
    raw_crc64: int

class ColdCopy(NamedTuple):
    key: str
    size: int
    crc64: int
    etag: str
    table_bytes: int

class SegmentRow(NamedTuple):
    segment_id: int
    base_offset: int
    end_offset: int | None
    epoch: int
    sealed: bool
    raw_bytes: int
    segment_crc64: int
    ext_id: int
    coordinator_watermark: int
    flush_failure: bool
    compressed: WarmCopy | None
    warm_present: bool
    upload_key: str | None
    cold: ColdCopy | None
    hot_evicted: bool
    delete_queued: bool
    needs_fetch: bool
    recency: int
    @property
    def warm(self) -> WarmCopy | None: ...
    @property
    def warm_evicted(self) -> bool: ...

class RowStore:
    count: int
    def with_flags(self, flags: int, trimmed: int) -> list[int]: ...
