"""The unsealed end of a stream that another process may be writing, as its files and ring show
it."""

from __future__ import annotations

from dataclasses import dataclass

from aof2._core.ringview import RingView
from aof2._core.scan import Scan, scan
from aof2.tiers.hot import HotTier


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A segment that was started and is not sealed: the active one, or one that waits for its
    seal."""

    segment_id: int
    base_offset: int
    end_offset: int
    bytes: int
    ended: bool


class ReadonlyTail:
    """Started segments behind the sealed ones; it applies the recovery rule in memory and writes
    nothing.

    Attributes:
        segments: What was found, oldest first.
    """

    def __init__(self, hot: HotTier) -> None:
        self.segments: list[Unsealed] = []
        self._hot = hot
        self._scans: dict[int, Scan] = {}

    def refresh(self, after: int, end_offset: int, ring: RingView | None) -> None:
        """Look again.

        Args:
            after: Id of the last sealed segment, 0 for none.
            end_offset: Where it ends.
            ring: The landing ring, for frames that are not written out yet.
        """
        self.segments = []
        self._scans.clear()
        for segment_id in self._hot.ids():
            if segment_id <= after:
                continue
            try:
                found = scan(self._hot.directory, self._hot.name(segment_id), ring=ring)
            except FileNotFoundError:
                # The writing process removed it between the two looks.
                return
            if (
                found is None
                or found.start is None
                or found.start.base_offset != end_offset
            ):
                return
            end_offset = found.end_offset
            self._scans[segment_id] = found
            self.segments.append(
                Unsealed(
                    segment_id,
                    found.start.base_offset,
                    end_offset,
                    found.end_position,
                    found.whole,
                )
            )

    def offsets(self, ring: RingView | None, sealed_end: int) -> tuple[int, int]:
        """`(next offset, durable offset)`; from the ring while somebody writes, else from the
        files."""
        end = self.segments[-1].end_offset if self.segments else sealed_end
        if ring is None or ring.closed:
            return end, end
        following, durable = ring.offsets()
        # Nobody syncs a ring: after a power cut it may be older than the files.
        following, durable = max(following, end), max(durable, sealed_end)
        if self.segments:
            last = self.segments[-1]
            if following > last.end_offset and not last.ended:
                self.segments[-1] = Unsealed(
                    last.segment_id, last.base_offset, following, last.bytes, False
                )
        return following, durable

    def locate(self, segment_id: int, offset: int) -> int | None:
        """Position of a frame border at or before a record, None for a segment that is not here."""
        found = self._scans.get(segment_id)
        return None if found is None else found.locate(offset)

    def locate_time(self, segment_id: int, timestamp_ns: int) -> int | None:
        """Position of a frame border before which every record is older; None as for `locate`."""
        found = self._scans.get(segment_id)
        return None if found is None else found.locate_time(timestamp_ns)
