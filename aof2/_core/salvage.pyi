from aof2._core.directory import Directory
from aof2._core.ringview import RingView
from aof2._core.window import Window

class SalvagedSegment:
    path: str
    salt: int
    base_offset: int
    end_offset: int
    ext_id: int
    identified: bool
    started: bool
    whole: bool
    def __init__(
        self,
        directory: Directory,
        name: str,
        *,
        stream_uuid: bytes,
        segment_id: int,
        base_offset: int,
        end_offset: int | None,
        ext_id: int,
        ring: RingView | None = None,
    ) -> None: ...
    @property
    def stretches(self) -> list[tuple[int, int, int, int]]: ...
    @property
    def gaps(self) -> list[tuple[int, int]]: ...
    def beyond(self, offset: int) -> int: ...
    def locate(self, offset: int) -> int: ...
    def locate_time(self, timestamp_ns: int) -> int: ...
    def window(self, position: int, bytes_min: int = 0) -> Window | None: ...
