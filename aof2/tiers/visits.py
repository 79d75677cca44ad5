"""Which segments are read again and again: a rule about counts and times, nothing else."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

WINDOW_S = 60.0
"""Visits that lie further apart have nothing to do with each other."""
VISITS_MIN = 2
VISIT_BYTES = 4 * 1024 * 1024
"""A segment needs one visit more for each of these: bringing it back costs more, too."""
KNOWN_MAX = 1024
"""Segments of a stream whose visits are remembered; those visited longest ago are forgotten."""


@dataclass(slots=True)
class _Visited:
    since_s: float
    stamp: int
    count: int = 0


class Visits:
    """The visits of one stream's segments that have no hot copy.

    A visit is a reader's arrival at a place that somebody chose: `get`, `reader(start=)`, `seek`. A
    reader that goes on into the next segment pays none, so a scan of a whole history, which reads
    every byte once, brings nothing back and drives nothing out.

    Example:
        >>> visits = Visits()
        >>> visits.note(7, 1 << 20, now_s=0.0, stamp=40) is None
        True
        >>> visits.note(7, 1 << 20, now_s=1.0, stamp=55)
        40
    """

    def __init__(self) -> None:
        self._visited: OrderedDict[int, _Visited] = OrderedDict()

    def note(self, segment_id: int, raw_bytes: int, *, now_s: float, stamp: int) -> int | None:
        """Count a visit.

        Args:
            segment_id: Which segment.
            raw_bytes: Its size.
            now_s: The time, monotonic.
            stamp: The moment in the order of evictions.

        Returns:
            None; or, when the segment should come back now, the stamp of the first of the visits
            that say so. A copy that was used after that is no colder than this segment.
        """
        seen = self._visited.get(segment_id)
        if seen is None or now_s - seen.since_s > WINDOW_S:
            seen = self._visited[segment_id] = _Visited(now_s, stamp)
        self._visited.move_to_end(segment_id)
        seen.count += 1
        if seen.count < max(VISITS_MIN, raw_bytes // VISIT_BYTES):
            while len(self._visited) > KNOWN_MAX:
                self._visited.popitem(last=False)
            return None
        del self._visited[segment_id]
        return seen.stamp
