"""The manifest's index: what the records, taken in order, say about every segment.

The index is a fold: `apply` is its only way to change, and the same records give the same index in
the live process, at replay, and in a reader. A record that cannot follow the ones before it is
`ManifestCorrupt`; nothing has changed then.

```
SegmentOpened -> active -> SealSegment -> sealed -> CompressionDone -> warm -> UploadStarted
    -> UploadDone -> cold -> Tier2DeleteQueued -> Tier2Deleted
LocalEvicted takes the hot or the warm copy away; HydrationDone and FetchDone bring them back.
```
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from aof2._core.manifest import ManifestRecord, RecordType
from aof2.errors import ManifestCorrupt
from aof2.manifest.rows import ColdCopy, SegmentRow, WarmCopy
from aof2.types import Tier

__all__ = ["Change", "ColdCopy", "Index", "SegmentRow", "WarmCopy"]

Change = Callable[[], None]
"""Carries a checked record out; it cannot fail."""


def _nothing() -> None:
    """The change of an event: none."""


class Index:
    """All segments of one stream, by id and by offset.

    Changed by one thread at a time (its owner locks); the look-ups may run beside it, and see a row
    as sealed only when all of it is there.

    Attributes:
        segments: Rows by segment id, in ascending order. Read only; `apply` changes it.
        applied: Records applied so far.

    Example:
        >>> index = Index()
        >>> fields = {"base_offset": 0, "epoch": 1}
        >>> index.apply(ManifestRecord(RecordType.SEGMENT_OPENED, 1, 0, fields))
        >>> index.find_by_offset(5).segment_id
        1
    """

    def __init__(self) -> None:
        self.segments: dict[int, SegmentRow] = {}
        self.applied = 0
        # The rows again, in order: for searching. It only grows, or gives way to another list.
        self._order: list[SegmentRow] = []
        self._trimmed = 0
        self._checks: dict[RecordType, Callable[[ManifestRecord], Change]] = {
            RecordType.SEGMENT_OPENED: self._segment_opened,
            RecordType.SEAL_SEGMENT: self._seal_segment,
            RecordType.COMPRESSION_STARTED: self._event_of_sealed,
            RecordType.COMPRESSION_DONE: self._compression_done,
            RecordType.COMPRESSION_FAILED: self._event_of_sealed,
            RecordType.UPLOAD_STARTED: self._upload_started,
            RecordType.UPLOAD_DONE: self._upload_done,
            RecordType.UPLOAD_FAILED: self._event_of_sealed,
            RecordType.HYDRATION_STARTED: self._event_of_sealed,
            RecordType.HYDRATION_DONE: self._hydration_done,
            RecordType.HYDRATION_FAILED: self._event_of_sealed,
            RecordType.LOCAL_EVICTED: self._local_evicted,
            RecordType.TIER2_DELETE_QUEUED: self._delete_queued,
            RecordType.TIER2_DELETED: self._deleted,
            RecordType.TRIMMED: self._trimmed_before,
            RecordType.FETCH_QUEUED: self._event_of_sealed,
            RecordType.FETCH_DONE: self._fetch_done,
            RecordType.SNAPSHOT_MARKER: self._event,
            RecordType.CUSTOM_EVENT: self._event,
        }

    @property
    def first_offset(self) -> int:
        """The earliest offset that the stream still has."""
        order = self._order
        return max(self._trimmed, order[0].base_offset if order else 0)

    def rows(self) -> list[SegmentRow]:
        """All rows, in order; the list is a copy, the rows are not."""
        return list(self._order)

    def last(self) -> SegmentRow | None:
        """The newest segment, None before the first record."""
        order = self._order
        return order[-1] if order else None

    def last_sealed(self) -> SegmentRow | None:
        """The newest sealed segment, None when there is none."""
        return next((row for row in reversed(self._order) if row.sealed), None)

    def next_row(self, segment_id: int) -> SegmentRow | None:
        """The known segment that follows `segment_id`, None when there is none yet."""
        order = self._order
        at = bisect_right(order, segment_id, key=_id_of)
        return order[at] if at < len(order) else None

    def find_by_offset(self, offset: int) -> SegmentRow | None:
        """The segment that holds (or, when active, may hold) an offset; None outside of all."""
        order = self._order
        at = bisect_right(order, offset, key=_base_of)
        if at == 0 or offset < self._trimmed:
            return None
        row = order[at - 1]
        return row if row.end_offset is None or offset < row.end_offset else None

    def apply(self, record: ManifestRecord) -> None:
        """Take one record in. `ManifestCorrupt` when it cannot follow the ones before it."""
        self.check(record)()

    def check(self, record: ManifestRecord) -> Change:
        """Check one record without changing anything; call the result to take it in.

        Returns:
            The change. It must be called before any other record is checked.
        """
        change = self._checks[record.type](record)

        def counted() -> None:
            change()
            self.applied += 1

        return counted

    # --- rows ---------------------------------------------------------------------------------

    def _refuse(self, record: ManifestRecord, why: str) -> ManifestCorrupt:
        return ManifestCorrupt(
            f"{record.type.name} of segment {record.segment_id}: {why}",
            segment=record.segment_id,
            offset=record.offset,
        )

    def _sealed(self, record: ManifestRecord) -> SegmentRow:
        row = self.segments.get(record.segment_id)
        if row is None:
            raise self._refuse(record, "the segment is not known")
        if not row.sealed:
            raise self._refuse(record, "the segment is not sealed")
        return row

    def _event(self, record: ManifestRecord) -> Change:
        return _nothing

    def _event_of_sealed(self, record: ManifestRecord) -> Change:
        self._sealed(record)
        return _nothing

    def _place(self, segment_id: int) -> int:
        """Where a segment stands in order, or would stand."""
        return bisect_right(self._order, segment_id - 1, key=_id_of)

    def _segment_opened(self, record: ManifestRecord) -> Change:
        base, epoch = record.fields["base_offset"], record.fields["epoch"]
        at = self._place(record.segment_id)
        row = self.segments.get(record.segment_id)
        before = self._order[at - 1] if at else None
        later = [other for other in self._order[at:] if other is not row]
        # Opening is an event, not a decision: segments that were opened later, or with another
        # base, and never sealed, were lost together with an unproven tail.
        if any(other.sealed for other in self._order[at:]):
            raise self._refuse(record, "it or a later segment is sealed already")
        if before is not None and (
            base != before.end_offset if before.sealed else base < before.base_offset
        ):
            raise self._refuse(record, f"base {base} does not continue segment {before.segment_id}")

        def change() -> None:
            for lost in later:
                del self.segments[lost.segment_id]
            opened = row or SegmentRow(record.segment_id, base)
            opened.base_offset, opened.epoch = base, epoch
            self.segments[record.segment_id] = opened
            if row is None and not later:
                self._order.append(opened)
            elif later:
                self._order = [*self._order[:at], opened]

        return change

    def _base_by_contiguity(self, record: ManifestRecord, at: int) -> int:
        """Base offset of a segment whose SegmentOpened was lost."""
        if at < len(self._order):
            raise self._refuse(record, "a later segment was opened before it")
        if not self._order:
            return 0
        end = self._order[-1].end_offset
        if end is None:
            raise self._refuse(record, "neither it was opened, nor the one before it sealed")
        return end

    def _seal_segment(self, record: ManifestRecord) -> Change:
        fields, end = record.fields, record.offset
        at = self._place(record.segment_id)
        row = self.segments.get(record.segment_id)
        base = self._base_by_contiguity(record, at) if row is None else row.base_offset
        before = self._order[at - 1] if at else None
        after = self._order[at + 1] if at + 1 < len(self._order) else None
        if row is not None and row.sealed:
            if row.end_offset == end and all(
                getattr(row, name) == fields[field] for name, field in _SEAL_FIELDS
            ):
                return _nothing
            raise self._refuse(record, "it was sealed before with other values")
        if end <= base:
            raise self._refuse(record, f"end {end} is not beyond base {base}")
        if before is not None and before.sealed and before.end_offset != base:
            raise self._refuse(record, f"base {base} does not continue {before.end_offset}")
        if after is not None and (
            end != after.base_offset if after.sealed else end > after.base_offset
        ):
            raise self._refuse(record, f"end {end}, but the next segment is at {after.base_offset}")

        def change() -> None:
            sealed = row or SegmentRow(record.segment_id, base)
            for name, field in _SEAL_FIELDS:
                setattr(sealed, name, fields[field])
            if after is not None:
                # Where a tail was cut, the segment opened behind it begins lower than it was said.
                after.base_offset = end
            sealed.end_offset = end
            sealed.sealed = True
            if row is None:
                self.segments[record.segment_id] = sealed
                self._order.append(sealed)

        return change

    # --- copies -------------------------------------------------------------------------------

    def _compression_done(self, record: ManifestRecord) -> Change:
        row, facts = self._sealed(record), WarmCopy(**record.fields)

        def change() -> None:
            row.compressed, row.warm_present = facts, True

        return change

    def _upload_started(self, record: ManifestRecord) -> Change:
        row, key = self._sealed(record), record.fields["key"]
        if row.cold is not None and row.cold.key != key:
            raise self._refuse(record, f"it is in tier 2 already as {row.cold.key}")
        if not key:
            raise self._refuse(record, "the key is empty")
        return _setter(row, upload_key=key)

    def _upload_done(self, record: ManifestRecord) -> Change:
        row, fields = self._sealed(record), record.fields
        facts = row.compressed
        if row.upload_key != fields["key"]:
            raise self._refuse(record, f"no upload of {fields['key']} was started")
        if facts is None:
            raise self._refuse(record, "it was never compressed")
        if (fields["size"], fields["crc64"]) != (facts.bytes, facts.crc64):
            raise self._refuse(record, "size or crc64 are not those of the compressed segment")
        cold = ColdCopy(**fields, table_bytes=facts.table_bytes)
        if row.cold is not None and row.cold.crc64 != cold.crc64:
            raise self._refuse(record, "it was uploaded before with other contents")
        return _setter(row, cold=cold)

    def _hydration_done(self, record: ManifestRecord) -> Change:
        return _setter(self._sealed(record), hot_evicted=False)

    def _local_evicted(self, record: ManifestRecord) -> Change:
        row = self._sealed(record)
        tier, copy_tier = record.fields["tier"], record.fields["copy_tier"]
        held = {Tier.WARM: row.warm is not None, Tier.COLD: row.cold is not None}
        if tier is Tier.COLD or copy_tier <= tier or not held[copy_tier]:
            raise self._refuse(record, f"{copy_tier.name} does not justify to drop {tier.name}")
        if tier is Tier.HOT:
            return _setter(row, hot_evicted=True)
        return _setter(row, warm_present=False)

    def _fetch_done(self, record: ManifestRecord) -> Change:
        row = self._sealed(record)
        cold, facts = row.cold, row.compressed
        if cold is None or facts is None:
            raise self._refuse(record, "it is not in tier 2")
        warm = WarmCopy(cold.size, cold.table_bytes, cold.crc64, facts.raw_crc64)
        return _setter(row, compressed=warm, warm_present=True)

    def _delete_queued(self, record: ManifestRecord) -> Change:
        row, key = self._sealed(record), record.fields["key"]
        if not key or key not in (row.upload_key, row.cold and row.cold.key):
            raise self._refuse(record, f"{key} is not its object")
        return _setter(row, delete_queued=True)

    def _deleted(self, record: ManifestRecord) -> Change:
        row, key = self._sealed(record), record.fields["key"]
        if not row.delete_queued or key not in (row.upload_key, row.cold and row.cold.key):
            raise self._refuse(record, f"{key} was not queued for deletion")
        return _setter(row, cold=None, upload_key=None, delete_queued=False)

    def _trimmed_before(self, record: ManifestRecord) -> Change:
        before = record.fields["before_offset"]

        def change() -> None:
            self._trimmed = max(self._trimmed, before)

        return change


def _id_of(row: SegmentRow) -> int:
    return row.segment_id


def _base_of(row: SegmentRow) -> int:
    return row.base_offset


_SEAL_FIELDS = (
    ("raw_bytes", "durable_bytes"),
    ("segment_crc64", "segment_crc64"),
    ("ext_id", "ext_id"),
    ("coordinator_watermark", "coordinator_watermark"),
    ("flush_failure", "flush_failure"),
)
"""Attribute of a row, field of SealSegment."""


def _setter(row: SegmentRow, **values: Any) -> Change:
    """The change that sets attributes of a row."""

    def change() -> None:
        for name, value in values.items():
            setattr(row, name, value)

    return change
