import builtins
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aof2._core.compressed_cut import SealedSource
from aof2._core.directory import Directory

class CompressedInfo(NamedTuple):
    bytes: int
    table_bytes: int
    crc64: int
    raw_bytes: int = 0
    raw_crc64: int = 0
    stream_uuid: builtins.bytes = ...
    segment_id: int = 0
    epoch: int = 0
    base_offset: int = 0
    end_offset: int = 0

class Packer:
    info: CompressedInfo | None
    def __init__(self, sealed: SealedSource, level: int, prove: bool = False) -> None: ...

def measure(
    directory: Directory,
    name: str,
    *,
    level: int = 1,
    frame_bytes: int = 262144,
    stop: Callable[[], bool] | None = None,
) -> CompressedInfo: ...
def pieces(
    directory: Directory,
    name: str,
    *,
    level: int = 1,
    frame_bytes: int = 262144,
    stop: Callable[[], bool] | None = None,
) -> Iterator[bytes]: ...
