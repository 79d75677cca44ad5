import builtins
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aof2._core.compressed_cut import SealedSource

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
    sealed: SealedSource, *, level: int = 1, stop: Callable[[], bool] | None = None
) -> CompressedInfo: ...
def pieces(
    sealed: SealedSource, *, level: int = 1, stop: Callable[[], bool] | None = None
) -> Iterator[bytes]: ...
