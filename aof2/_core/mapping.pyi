from aof2._core.directory import Directory
from aof2._core.logfile import LogHeader, StartInfo
from aof2._core.ringview import RingView
from aof2._core.seal import FooterInfo
from aof2._core.window import Window

class MappedSegment:
    path: str
    header: LogHeader
    start: StartInfo
    footer: FooterInfo | None
    salt: int
    base_offset: int
    ext_id: int
    def __init__(
        self,
        directory: Directory,
        name: str,
        ring: RingView | None = None,
        written: int = ...,
    ) -> None: ...
    def locate(self, offset: int) -> int: ...
    def locate_time(self, timestamp_ns: int) -> int: ...
    def window(self, position: int, bytes_min: int = 0) -> Window | None: ...
