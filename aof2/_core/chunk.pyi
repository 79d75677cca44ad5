from aof2._core.chunk_read import ChunkReader
from aof2._core.logfile import LogHeader, StartInfo
from aof2._core.posix import Directory, TimeSource

class ChunkWriter:
    name: str
    path: str
    header: LogHeader
    start: StartInfo
    position: int
    durable_position: int
    failure: int
    def __init__(
        self,
        directory: Directory,
        name: str,
        time: TimeSource,
        *,
        start: StartInfo | None = None,
        reader: ChunkReader | None = None,
    ) -> None: ...
    @property
    def records(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def chain_crc(self) -> int: ...
    def append(self, payload: bytes) -> bool: ...
    def sync(self, position: int | None = None) -> None: ...
    def seal(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...
