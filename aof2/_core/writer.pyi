from typing import Protocol

from aof2._core.bell import Bell
from aof2._core.directory import Directory
from aof2._core.gauges import WriterGauges
from aof2._core.ring import RING_NAME as RING_NAME
from aof2._core.ring import TEMPORARY_NAME as TEMPORARY_NAME
from aof2._core.scan import Scan
from aof2._core.seal import FooterInfo
from aof2._core.timesource import TimeSource
from aof2.errors import WouldBlock, WouldBlockKind

class _Host(Protocol):
    def on_half_full(self, segment_id: int) -> None: ...
    def on_rolled(self, segment_id: int) -> None: ...
    def on_no_segment(self, frame_bytes: int) -> WouldBlockKind: ...
    def on_blocked(self, kind: WouldBlockKind, frame_bytes: int) -> WouldBlock: ...
    def on_news(self, news: int) -> None: ...
    def on_waiting(self, kind: WouldBlockKind, waited_s: float) -> None: ...
    def on_ring(self, ring_bytes: int) -> None: ...

class SegmentWriter(WriterGauges):
    epoch: int
    ext_id: int
    def __init__(
        self,
        directory: Directory,
        *,
        stream: str,
        host: _Host,
        time: TimeSource,
        stream_uuid: bytes,
        root_id: bytes,
        epoch: int,
        ext_id: int,
        next_offset: int,
        previous: tuple[int, int, int, int] | None,
        interval_s: float,
        confirm_interval_s: float,
        unflushed_bytes_max: int,
        ring_bytes: int,
        ring_bytes_max: int,
        record_bytes_max: int,
        batch_bytes_max: int,
        segment_bytes_max: int,
        default_timeout_s: float | None,
        bell: Bell | None = None,
    ) -> None: ...
    def add_spare(self, name: str, file_id: int) -> None: ...
    def give_back_spare(self) -> int | None: ...
    def end_segment(self, *, nowait: bool = False) -> int | None: ...
    def resume(self, name: str, scan: Scan) -> None: ...
    def finish_seal(self, segment_id: int, coordinator_watermark: int) -> FooterInfo | None: ...
    def retire(self, segment_id: int) -> None: ...
    def mark_forked(self) -> None: ...
    def close(self) -> None: ...
