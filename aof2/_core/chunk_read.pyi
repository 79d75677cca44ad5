from aof2._core.directory import Directory
from aof2._core.logfile import LogHeader, StartInfo
from aof2._core.manifest_fold import Fold
from aof2._core.seal import FooterInfo

CHUNK_BYTES_MIN: int
CHUNK_BYTES_MAX: int
ABSENT: str
CLEAN: str
TORN: str
UNSEALED: str
SEALED: str

class ChunkReader:
    name: str
    path: str
    header: LogHeader
    start: StartInfo | None
    footer: FooterInfo | None
    position: int
    whole: bool
    low: int
    slot_n: int
    slot_position: int
    torn_end: int
    def __init__(
        self, directory: Directory, name: str, *, stream_uuid: bytes, chunk_id: int
    ) -> None: ...
    @property
    def records(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def chain_crc(self) -> int: ...
    @property
    def first_timestamp_ns(self) -> int: ...
    @property
    def last_timestamp_ns(self) -> int: ...
    def close(self) -> None: ...
    def read(self) -> list[tuple[int, bytes]]: ...
    def replay(self, fold: Fold) -> int: ...
    def pristine(self) -> bool: ...
    def state(self) -> str: ...
