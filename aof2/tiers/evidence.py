"""The evidence rule: whether the unsealed end of a stream is an unfinished write, or damage.

Something that a flush is known to have covered is never given up. Witnesses are confirmation slots,
the durable positions that valid frames claim, before the first bad frame and behind it, the
pointer, the landing ring, and anything durable in a later file, because flushes are in order.
Without a witness the bytes behind the good prefix were never acknowledged as durable.

What a file claims about itself goes with it when it is lost or replaced by an older version. Then
the pointer, after a clean close, and the ring, after the death of the writer, still say how far
the durable records went: neither is told before the sync has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aof2._core.pointer import PointerInfo
from aof2._core.ringview import RingView
from aof2._core.scan import Scan
from aof2.errors import CorruptionError, RecordCorrupt, SegmentCorrupt, SegmentLost
from aof2.tiers.hot import HotTier


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What lies behind the sealed segments of a stream.

    Attributes:
        started: Segments that were begun, oldest first.
        prepared: Ids of files that nothing shows to have been begun.
        end_offset: Where the sealed segments end.
        durable_offset: The records below it were durable, as something outside of these files says.
    """

    started: Sequence[tuple[int, Scan]]
    prepared: Sequence[int]
    end_offset: int
    durable_offset: int


def durable_offset(pointer: PointerInfo | None, ring: RingView | None) -> int:
    """Offset below which the landing ring or the pointer says that the records were durable."""
    return max(
        0 if ring is None else ring.offsets()[1], 0 if pointer is None else pointer.closed_offset
    )


def lost_its_start(unfinished: Unfinished, at: int, end_offset: int) -> bool:
    """Whether a power cut took the start block of a started segment, or of the one before it, and
    nothing shows that a flush had covered anything from there on.

    Args:
        at: Which of `unfinished.started`.
        end_offset: Where the segment before it ends.
    """
    found = unfinished.started[at][1]
    if any(one.claims_durable for _, one in unfinished.started[at:]):
        return False
    return found.start is None or (
        found.start.base_offset != end_offset and found.start.previous_id in unfinished.prepared
    )


def find_damage(stream: str, hot: HotTier, unfinished: Unfinished) -> CorruptionError | None:
    """The error where something that was durable is missing; None where nothing shows that."""
    end_offset = unfinished.end_offset
    for at, (segment_id, found) in enumerate(unfinished.started):
        if lost_its_start(unfinished, at, end_offset):
            return _cut_damage(stream, hot, unfinished, at, end_offset)
        if found.start is None or found.start.base_offset != end_offset:
            return _misplaced(stream, hot, segment_id, found, end_offset)
        end_offset = found.end_offset
        if not found.whole:
            return _cut_damage(stream, hot, unfinished, at, end_offset)
    if end_offset < unfinished.durable_offset:
        return _lost(stream, hot, unfinished, end_offset)
    return None


def missing(durable: int, end_offset: int) -> str:
    """What to say where the files end before what was durable."""
    return (
        f"records up to offset {durable} were durable, but the files have them only up to "
        f"{end_offset}: the newest segment file is missing, or an older version is there"
    )


def _lost(stream: str, hot: HotTier, unfinished: Unfinished, end_offset: int) -> SegmentLost:
    last = max([0, *hot.ids()])
    return SegmentLost(
        f"{missing(unfinished.durable_offset, end_offset)}. Nothing was changed; restore it from a "
        "backup, or copy what is left with `aof2-admin repair --salvage`",
        stream=stream,
        segment=last or None,
        path=hot.directory.path,
        offset=end_offset,
    )


def _misplaced(
    stream: str, hot: HotTier, segment_id: int, found: Scan, end_offset: int
) -> SegmentCorrupt:
    text = "the start block is damaged, but a later segment shows that it was durable"
    if found.start is not None:
        text = (
            f"the segment begins at offset {found.start.base_offset}, but the one before it ends "
            f"at {end_offset}: a segment between them is missing or damaged"
        )
    return SegmentCorrupt(
        text,
        stream=stream,
        segment=segment_id,
        path=hot.directory.join(hot.name(segment_id)),
        offset=end_offset,
    )


def _cut_damage(
    stream: str, hot: HotTier, unfinished: Unfinished, at: int, end_offset: int
) -> CorruptionError | None:
    """Why a segment must not be cut where its valid prefix ends."""
    segment_id, found = unfinished.started[at]
    low = found.durable_low
    pointer = hot.read_pointer()
    later = any(one.claims_durable for _, one in unfinished.started[at + 1 :])
    later = later or (pointer is not None and pointer.segment_id >= segment_id)
    if found.end_position >= low and not later:
        if end_offset < unfinished.durable_offset:
            return _lost(stream, hot, unfinished, end_offset)
        return None
    return RecordCorrupt(
        "a record that was durable cannot be read: the frame there fails its checks, but "
        + ("a later segment shows" if later else f"position {low} shows")
        + " that it was flushed. Nothing was cut; restore the segment from a backup, or copy what "
        "is left with `aof2-admin repair --salvage`",
        stream=stream,
        segment=segment_id,
        path=hot.directory.join(hot.name(segment_id)),
        position=found.end_position,
        offset=end_offset,
    )
