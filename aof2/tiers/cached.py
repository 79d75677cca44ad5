"""A segment in the warm or cold tier, read through the frame cache."""

from __future__ import annotations

from collections.abc import Hashable

from aof2._core.compressed_read import CompressedSegment
from aof2._core.window import Window
from aof2.framecache import FrameCache, Read, Ticket
from aof2.signals import Signal


class CachedSegment:
    """A `SegmentSource` over a `.seg.zst` file or object.

    Args:
        packed: The file or object.
        frames: Where decompressed runs are kept, and who reads them.
        signal: Woken when what was asked for is here.
    """

    def __init__(self, packed: CompressedSegment, frames: FrameCache, signal: Signal) -> None:
        self.packed = packed
        self.path = packed.path
        self.salt = packed.salt
        self.base_offset = packed.base_offset
        self.ext_id = packed.ext_id
        self.locate = packed.locate
        self.locate_time = packed.locate_time
        self._frames = frames
        self._signal = signal
        # A file that was made anew may be cut into other runs.
        self._key = packed.path, packed.raw_crc64, packed.run_count, packed.table_bytes

    def window(self, position: int, bytes_min: int = 0) -> Window | None:
        """The bytes from a position on, read on this thread where they are not kept; see
        `CompressedSegment.window`."""
        span = self.packed.runs_of(position, bytes_min)
        if span is None:
            return None
        found = [
            self._frames.bring(*self._wish(run, run + 1), self._signal) for run in range(*span)
        ]
        return self.packed.cut(position, [_window(window) for window in found])

    def ask(self, position: int, bytes_min: int = 0) -> list[Ticket]:
        """Have the same bytes brought by other threads; see `cut`."""
        span = self.packed.runs_of(position, bytes_min)
        return [] if span is None else [self.ask_run(run, run + 1) for run in range(*span)]

    def ask_run(self, first: int, last: int, *, ahead: bool = False) -> Ticket:
        """Have a run brought, and by the same request those up to `last` that nobody asked for."""
        return self._frames.ask(*self._wish(first, last), self._signal, ahead=ahead)

    def cut(self, position: int, tickets: list[Ticket]) -> Window | None:
        """The bytes from a position on, once everything that `ask` answered has come.

        Raises:
            ObjectCorrupt, FetchFailed, …: what one of the reads raised.
        """
        if not tickets:
            return None
        return self.packed.cut(position, [_window(ticket.outcome) for ticket in tickets])

    def _wish(self, first: int, last: int) -> tuple[list[Hashable], Read]:
        """The keys of some runs, and what reads the first `n` of them."""
        keys: list[Hashable] = [(self._key, run) for run in range(first, last)]
        return keys, lambda n: self.packed.read(first, first + n)


def _window(outcome: object) -> Window:
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, Window)
    return outcome
