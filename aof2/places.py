"""Places in a stream: what `start=` and `stop=` mean, and how a cursor gets there."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2.tiers.instance import StreamInstance

Place = int | Literal["earliest", "latest"] | datetime
"""Where to start or stop: an offset (negative: from the end), a name, or an aware datetime."""


def _resolve_time(stream: StreamInstance, when: datetime) -> int:
    """Offset of the first record at or after a time, where time stamps ascend."""
    if when.tzinfo is None:
        raise TypeError("a datetime without a time zone is ambiguous: give it one")
    # Whole numbers, because a float has no room for nanoseconds; time stamps have 63 bits.
    since = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
    wanted_ns = (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    wanted_ns = min(max(wanted_ns, 0), 2**63 - 1)
    ids = [info.segment_id for info in stream.infos()]
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        found = _first_at(stream, ids[middle], wanted_ns)
        if found is None:
            low = middle + 1
        else:
            high = middle
    found = _first_at(stream, ids[low], wanted_ns) if low < len(ids) else None
    return stream.next_offset if found is None else found


def _first_at(stream: StreamInstance, segment_id: int, wanted_ns: int) -> int | None:
    """Offset of a segment's first record at or after a time; None when all are older."""
    held = stream.open_segment(segment_id)
    source = held.source
    cursor = RecordCursor(source.base_offset)
    cursor.enter_any(
        source.salt,
        source.base_offset,
        source.ext_id,
        stream.locate_time(held, wanted_ns),
    )
    while True:
        record = cursor.next_record()
        if record is None:
            window = None
            if cursor.status == CursorStatus.WINDOW_END:
                window = source.window(cursor.position, cursor.needed)
            if window is None:
                return None
            cursor.load(window)
        elif record.timestamp_ns >= wanted_ns:
            return record.offset


def resolve(stream: StreamInstance, place: Place) -> int:
    """The offset that a `start=` or `stop=` means; `TypeError` or `ValueError` for anything
    else."""
    if isinstance(place, datetime):
        return _resolve_time(stream, place)
    if place == "earliest":
        return stream.first_offset
    if place == "latest":
        return stream.next_offset
    if isinstance(place, bool) or not isinstance(place, int):
        raise TypeError(
            f'{place!r} is no place in a stream: an offset, "earliest", "latest" or a datetime'
        )
    if place < 0:
        return max(stream.first_offset, stream.next_offset + place)
    return place
