from collections.abc import Callable

from aof2._core.compressed_pack import CompressedInfo as CompressedInfo
from aof2._core.directory import Directory

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
