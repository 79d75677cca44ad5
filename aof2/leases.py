"""A reader's scoped hold on one segment's bytes; they stay readable after the file's name has
gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aof2._core.window import Window
from aof2.types import Tier


class SegmentSource(Protocol):
    """What the core offers for reading a segment, whichever tier it is in."""

    @property
    def path(self) -> str: ...
    @property
    def salt(self) -> int: ...
    @property
    def base_offset(self) -> int: ...
    @property
    def ext_id(self) -> int: ...
    def locate(self, offset: int) -> int: ...
    def locate_time(self, timestamp_ns: int) -> int: ...
    def window(self, position: int, bytes_min: int = 0) -> Window | None: ...


@dataclass(frozen=True, slots=True)
class ResidentSegment:
    """A held segment: dropping the object drops the hold.

    Attributes:
        segment_id: Which segment.
        tier: Where its bytes are read from.
        source: How.
        sealed: False while it is being written.
    """

    segment_id: int
    tier: Tier
    source: SegmentSource
    sealed: bool
