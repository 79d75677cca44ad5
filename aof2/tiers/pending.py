"""Segments that wait for a kind of work, in the order in which they came."""

from __future__ import annotations

import itertools
from collections.abc import Iterator


class Pending:
    """A set of segment ids that keeps its order. Each step is atomic under the GIL and takes the
    same time, however many there are.

    Example:
        >>> pending = Pending()
        >>> pending.add(3), pending.add(1), pending.first(5)
        (None, None, [3, 1])
    """

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def add(self, segment_id: int) -> None:
        """Put a segment at the end; one that is there keeps its place."""
        self._ids.setdefault(segment_id)

    def discard(self, segment_id: int) -> None:
        """Take a segment out, if it is there."""
        self._ids.pop(segment_id, None)

    def keep(self, segment_id: int, wanted: bool) -> None:
        """Put a segment in or take it out."""
        if wanted:
            self.add(segment_id)
        else:
            self.discard(segment_id)

    def postpone(self, segment_id: int) -> None:
        """Work on a segment failed: the others come first."""
        if segment_id in self._ids:
            self.discard(segment_id)
            self.add(segment_id)

    def first(self, most: int) -> list[int]:
        """Those that came first, at most so many."""
        while True:
            try:
                return list(itertools.islice(self._ids, most))
            except RuntimeError:
                # Another thread put one in while this one looked.
                continue

    def __contains__(self, segment_id: object) -> bool:
        return segment_id in self._ids

    def __iter__(self) -> Iterator[int]:
        return iter(self.first(len(self._ids)))

    def __len__(self) -> int:
        return len(self._ids)
