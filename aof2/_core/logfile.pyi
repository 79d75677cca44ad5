from aof2._core.directory import Directory

class LogHeader:
    path: str
    kind: str
    stream_uuid: bytes
    file_id: int
    file_bytes: int
    salt: int
    created_ns: int

class StartInfo:
    base_offset: int
    ring_base: int
    epoch: int
    ext_id: int
    root_id: bytes
    previous_id: int
    previous_end_position: int
    previous_end_offset: int
    previous_chain_crc: int
    def __init__(
        self,
        *,
        base_offset: int,
        epoch: int,
        root_id: bytes,
        ring_base: int = 0,
        ext_id: int = 0,
        previous_id: int = 0,
        previous_end_position: int = 0,
        previous_end_offset: int = 0,
        previous_chain_crc: int = 0,
    ) -> None: ...

def frames_end(file_bytes: int) -> int: ...
def record_room(file_bytes: int) -> int: ...
def prepare(
    directory: Directory,
    name: str,
    *,
    kind: str,
    stream_uuid: bytes,
    file_id: int,
    file_bytes: int,
    created_ns: int,
) -> None: ...
def read_header(directory: Directory, name: str) -> LogHeader: ...
def write_start(directory: Directory, name: str, start: StartInfo) -> None: ...
