from collections.abc import Callable
from types import EllipsisType
from typing import Protocol

from aof2._core.manifest_fold import Fold
from aof2._core.mapping import MappedSegment
from aof2._core.record import Record
from aof2._core.unsealed import UnsealedLookup

class _Slow(Protocol):
    def __call__(self, offset: int, *, timeout: float | EllipsisType | None = ...) -> Record: ...

class HeldSegment: ...

class PointReader:
    def __init__(
        self,
        fold: Fold,
        writer: UnsealedLookup,
        slow: _Slow,
        touch: Callable[[int], object],
    ) -> None: ...
    def get(self, offset: int, *, timeout: float | EllipsisType | None = ...) -> Record: ...
    def keep(self, segment_id: int, source: MappedSegment) -> None: ...
    def drop(self, segment_id: int) -> None: ...
    def close(self) -> None: ...
