"""Reading ahead: what a scan of cold data will want next is on its way while it decodes."""

from __future__ import annotations

from aof2.framecache import FrameCache
from aof2.leases import ResidentSegment
from aof2.tiers.cached import CachedSegment
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier

AHEAD_BYTES_FIRST = 512 << 10
AHEAD_BYTES_MAX = 32 << 20
"""Raw bytes that one scan has asked for beyond where it is; doubled with each request from the
first figure on, less where many scans share the cache."""
REQUESTS = 4
"""Into so many requests they are divided, so that these overlap."""


class ReadAhead:
    """What one reader has asked for beyond where it is.

    It only asks. A read that fails is asked for again by the reader itself once it gets there, and
    what the reader never gets to ages in the cache.

    Args:
        stream: What is read.
        frames: Keeps what comes.
    """

    def __init__(self, stream: StreamInstance, frames: FrameCache) -> None:
        self._stream = stream
        self._frames = frames
        self._at: tuple[int, int] | None = None
        self._next: tuple[int, int] = (0, 0)
        self._room = 0
        self._ahead = 0
        self._opening = 0

    def end(self) -> None:
        """The reader was closed: others may have its share of the room."""
        self._frames.leave(self)

    def enter(self, held: ResidentSegment, first: int, last: int, stop: int, below: Tier) -> None:
        """The reader goes on with some runs: ask for what comes behind them.

        Args:
            held: Their segment.
            first, last: The runs, half-open.
            stop: Offset that the reader does not go beyond.
            below: Tiers from here on are read ahead; those above are quick enough.
        """
        source = held.source
        assert isinstance(source, CachedSegment)
        if not self._follows(held.segment_id, first, last):
            return
        if self._next <= (held.segment_id, last):
            self._next, self._ahead = (held.segment_id, last), 0
        else:
            used = sum(source.packed.run_bytes(run) for run in range(first, last))
            self._ahead = max(0, self._ahead - used)
        room = min(self._room, self._frames.share(self))
        if self._ahead <= room - room // REQUESTS:
            self._ask(held, room, stop, below)

    def _follows(self, segment_id: int, first: int, last: int) -> bool:
        """Whether these runs are the next ones of a scan."""
        before, self._at = self._at, (segment_id, last)
        if before == self._at:
            return False
        # Pages 0 and 1 of a segment may be a run of their own, where no record is.
        if before is None or (
            before != (segment_id, first) and (first > 1 or before[0] >= segment_id)
        ):
            self._room = self._ahead = self._opening = 0
            self._next = self._at
            return False
        self._room = min(max(2 * self._room, AHEAD_BYTES_FIRST), AHEAD_BYTES_MAX)
        return True

    def _ask(self, held: ResidentSegment, room: int, stop: int, below: Tier) -> None:
        """Ask for runs until so many bytes are on their way, in this segment and those behind."""
        stream, opening = self._stream, 0
        segment_id, run = self._next
        here = held if segment_id == held.segment_id else stream.opened(segment_id)
        while self._ahead + opening < room:
            if here is not None and opening == 0:
                if not isinstance(here.source, CachedSegment):
                    return
                run = self._ask_runs(here.source, run, room, stop)
                self._next = segment_id, run
                if run < here.source.packed.run_count:
                    return
            following = stream.next_after(segment_id)
            row = None if following is None else stream.manifest.index.segments.get(following)
            if following is None or row is None or not row.sealed or row.base_offset >= stop:
                return
            if stream.nearest(following) < below:
                return
            segment_id, run = following, 0
            here = stream.opened(segment_id)
            if here is None or opening:
                # Its tables first; what is in it is asked for once they are here.
                opening += row.raw_bytes
            if here is None and self._opening < segment_id:
                self._opening = segment_id
                stream.ask_segment(segment_id, ahead=True)

    def _ask_runs(self, source: CachedSegment, run: int, room: int, stop: int) -> int:
        """Ask for runs of one segment from `run` on; returns the first that was not asked for."""
        packed = source.packed
        while packed.run_offset(run) < stop:
            last, n = run, 0
            while last < packed.run_count and packed.run_offset(last) < stop:
                more = packed.run_bytes(last)
                if n and n + more > room // REQUESTS:
                    break
                last, n = last + 1, n + more
            if last == run or self._ahead + n > room:
                break
            source.ask_run(run, last, ahead=True)
            self._ahead += n
            run = last
        return run
