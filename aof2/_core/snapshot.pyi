import builtins
from collections.abc import Callable
from typing import NamedTuple

from aof2._core.manifest_fold import Fold

class PageRef(NamedTuple):
    page_no: int
    number: int
    bytes: int
    crc64: int

class HeadInfo(NamedTuple):
    number: int
    epoch: int
    root_id: bytes
    created_ns: int
    covers: tuple[int, int, int, int]
    applied: int
    pages: tuple[PageRef, ...]

class Capture:
    head: builtins.bytes
    pages: tuple[tuple[int, builtins.bytes], ...]

def capture(
    fold: Fold,
    *,
    number: int,
    stream_uuid: bytes,
    root_id: bytes,
    epoch: int,
    created_ns: int,
    covers: tuple[int, int, int, int],
) -> Capture: ...
def written(fold: Fold, capture: Capture) -> None: ...
def read_head(data: bytes, *, stream_uuid: bytes, path: str) -> HeadInfo: ...
def restore(
    fold: Fold, data: bytes, loader: Callable[[int, int], bytes], *, path: str
) -> None: ...
