"""What is said of damage that no copy heals: errors and gaps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2.errors import CorruptionError, RecordCorrupt, SegmentLost, VersionTooNew
from aof2.leases import ResidentSegment
from aof2.manifest.index import SegmentRow
from aof2.tiers.instance import StreamInstance
from aof2.types import Gap, Tier

LOGGER = logging.getLogger("aof2.tiered")
READ_AGAIN = "read again once the device is well; if it stays so, restore the file from a backup"


def bad_frame(stream: StreamInstance, held: ResidentSegment, cursor: RecordCursor) -> Exception:
    """The error for a frame that must be good and is not."""
    where: dict[str, Any] = {
        "stream": stream.name,
        "segment": held.segment_id,
        "path": held.source.path,
        "position": cursor.position,
        "offset": cursor.offset,
    }
    if cursor.status == CursorStatus.UNKNOWN:
        return VersionTooNew("a frame of a newer version: upgrade aof2", **where)
    return RecordCorrupt(
        "the frame fails its checks, so the record cannot be read; restore it from a backup",
        **where,
    )


def unreadable(
    stream: StreamInstance, row: SegmentRow, offset: int, tried: Mapping[Tier, Exception]
) -> CorruptionError:
    """The error for a record that no copy has any more.

    Args:
        tried: The copies, and why each does not have it.
    """
    found = [error for error in tried.values() if not isinstance(error, SegmentLost)]
    error = found[0] if found else next(iter(tried.values()))
    kind = type(error) if isinstance(error, CorruptionError) else RecordCorrupt
    message = error.message if isinstance(error, CorruptionError) else f"{error}: {READ_AGAIN}"
    others = sorted(stream.residency(row) - set(tried))
    if others:
        message += f"; {others[0].name} has another copy: open the root with its tier 2"
    made = kind(
        message,
        stream=stream.name,
        segment=row.segment_id,
        path=getattr(error, "path", None) or getattr(error, "filename", None),
        position=getattr(error, "position", None),
        offset=offset,
        intact_on=tuple(tier.name for tier in others),
    )
    made.__cause__ = error
    return made


def with_gap(
    gaps: Sequence[Gap], stream: StreamInstance, segment_id: int, gap: Gap
) -> tuple[Gap, ...]:
    """The gaps with one more, which is logged and counted; what is next to each other is one."""
    stream.meters.skipped += gap.next - gap.first
    LOGGER.error(
        "stream %s: records %d to %d cannot be read and are left out: %s",
        stream.name,
        gap.first,
        gap.next,
        gap.reason,
        extra={
            "event": "gap",
            "stream": stream.name,
            "segment": segment_id,
            "first": gap.first,
            "next": gap.next,
            "reason": gap.reason,
        },
    )
    if gaps and gaps[-1].next == gap.first:
        return (*gaps[:-1], Gap(gaps[-1].first, gap.next, gaps[-1].reason))
    return (*gaps, gap)
