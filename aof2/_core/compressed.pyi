import builtins
from collections.abc import Callable
from typing import NamedTuple

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

def build(
    source: Directory,
    source_name: str,
    target: Directory,
    target_name: str,
    *,
    level: int = 1,
    frame_bytes: int = 262144,
    stop: Callable[[], bool] | None = None,
) -> CompressedInfo: ...
def verify(
    directory: Directory,
    name: str,
    *,
    expect: CompressedInfo | None = None,
    stop: Callable[[], bool] | None = None,
) -> CompressedInfo: ...
def restore(
    source: Directory,
    source_name: str,
    target: Directory,
    target_name: str,
    *,
    expect: CompressedInfo | None = None,
    stop: Callable[[], bool] | None = None,
) -> CompressedInfo: ...
