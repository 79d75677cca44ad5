"""The manifest's index: what the records, taken in order, say about every segment.

The index is a fold: `apply` is its only way to change, and the same records give the same index in
the live process, at replay, and in a reader. A record that cannot follow the ones before it is
`ManifestCorrupt`; nothing has changed then. The fold itself is the core's; `transitions` has its
table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from aof2._core.manifest_fold import Fold
from aof2._core.manifest_rows import ColdCopy, SegmentRow, WarmCopy
from aof2._core.snapshot import restore
from aof2.manifest.transitions import COLD, REASONS, TRANSITIONS, WARM

__all__ = ["ColdCopy", "Index", "SegmentRow", "WarmCopy"]

PAGE_ROWS = 4096
LoadPage = Callable[[int, int], bytes]
"""`load_page(page_no, number)`: the bytes of an index page of a snapshot."""


class Segments(Mapping[int, SegmentRow]):
    """The rows by segment id, ascending; each is made when it is asked for."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold

    def __getitem__(self, segment_id: int) -> SegmentRow:
        row = self._fold.by_id(segment_id)
        if row is None:
            raise KeyError(segment_id)
        return row

    def __iter__(self) -> Iterator[int]:
        return (self._fold.row(i).segment_id for i in range(len(self._fold)))

    def __len__(self) -> int:
        return len(self._fold)


class Index:
    """All segments of one stream, by id and by offset.

    Changed by one thread at a time (its owner locks); the look-ups may run beside it, and see a row
    as sealed only when all of it is there. A row is what was true when it was asked for.

    Attributes:
        fold: The core's part.
        segments: Rows by segment id.

    Example:
        >>> from aof2._core.manifest import RecordType, encode
        >>> index = Index()
        >>> index.apply(encode(RecordType.SEGMENT_OPENED, 1, 0, base_offset=0, epoch=1))
        >>> index.find_by_offset(5).segment_id
        1
    """

    def __init__(self) -> None:
        self.fold = Fold(TRANSITIONS, REASONS)
        self.segments = Segments(self.fold)

    @classmethod
    def from_head(cls, data: bytes, load_page: LoadPage, *, path: str) -> Index:
        """The index of a snapshot, from the bytes of its head; pages are loaded when needed.

        Raises:
            ManifestCorrupt: the bytes are damaged.
        """
        self = cls()
        restore(self.fold, data, load_page, path=path)
        return self

    @property
    def applied(self) -> int:
        """Records taken in so far, those of a snapshot included."""
        return self.fold.applied

    @property
    def trimmed(self) -> int:
        """Offset below which everything was given up."""
        return self.fold.trimmed

    @property
    def cold_end(self) -> int:
        """End offset of the contiguous prefix of segments that are in tier 2 or given up."""
        return self.fold.cold_end

    @property
    def first_offset(self) -> int:
        """The earliest offset that the stream still has."""
        first = self.fold.row(0).base_offset if len(self.fold) else 0
        return max(self.fold.trimmed, first)

    def load_pages(self) -> None:
        """Have every row in memory, for a reader whose writer may remove pages."""
        for first in range(0, len(self.fold), PAGE_ROWS):
            self.fold.row(first)

    def rows(self, first: int = 0) -> Iterator[SegmentRow]:
        """Rows in order, from a place on."""
        i = first
        while i < len(self.fold):
            yield self.fold.row(i)
            i += 1

    def last(self) -> SegmentRow | None:
        """The newest segment, None before the first record."""
        return self.fold.row(len(self.fold) - 1) if len(self.fold) else None

    def last_sealed(self) -> SegmentRow | None:
        """The newest sealed segment, None when there is none."""
        return self.fold.last_sealed()

    def next_row(self, segment_id: int) -> SegmentRow | None:
        """The known segment that follows `segment_id`, None when there is none yet."""
        at = self.fold.place_after(segment_id)
        return self.fold.row(at) if at < len(self.fold) else None

    def find_by_offset(self, offset: int) -> SegmentRow | None:
        """The segment that holds (or, when active, may hold) an offset; None outside of all."""
        return self.fold.by_offset(offset)

    def check(self, payload: bytes) -> None:
        """Raise `ManifestCorrupt` if an encoded record cannot follow; changes nothing."""
        self.fold.check(payload)

    def apply(self, payload: bytes) -> None:
        """Take one encoded record in; raises as `check` does."""
        self.fold.apply(payload)

    @property
    def pending_compress(self) -> list[int]:
        """Sealed segments that were never compressed."""
        return self.fold.pending(0)

    @property
    def pending_upload(self) -> list[int]:
        """Segments with a warm copy that are not in tier 2."""
        return self.fold.pending(1)

    @property
    def pending_delete(self) -> list[int]:
        """Segments whose object is to be deleted."""
        return self.fold.pending(2)

    @property
    def needs_fetch(self) -> list[int]:
        """Segments without a usable local copy that are to be fetched."""
        return self.fold.pending(3)

    @property
    def recorded_warm(self) -> list[int]:
        """Segments in tier 2 whose warm file is there too, by the records; of older ones, whose
        pages are not in memory, nothing is told."""
        return self.fold.rows.with_flags(WARM | COLD, self.trimmed)
