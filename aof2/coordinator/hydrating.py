"""Handlers that bring segments back to a nearer tier, and replace copies that were lost."""

from __future__ import annotations

from typing import Any

from aof2._core import compressed, seal
from aof2._core.compressed import CompressedInfo
from aof2._core.manifest import RecordType
from aof2.admission import on_disk
from aof2.coordinator.commands import Fetch, Hydrate, SetAside
from aof2.coordinator.context import Context
from aof2.coordinator.planner import Fit, how_fits
from aof2.errors import AofError, CorruptionError, HydrationFailed, SegmentCorrupt, VersionTooNew
from aof2.manifest.index import SegmentRow
from aof2.tiers.instance import StreamInstance
from aof2.tiers.residency import LOGGERS
from aof2.types import Tier


def handle_hydrate(command: Hydrate, stream: StreamInstance, ctx: Context) -> None:
    """Make the hot file of a segment again, from the nearest tier that has it.

    Order: the claim on the budget → `HydrationStarted` → a temporary file, all blocks allocated →
    its contents, verified against the manifest and the segment's footer → fdatasync → rename →
    fsync of the directory → `HydrationDone` → flush of the manifest. A crash before the rename
    leaves a name that the next open removes, one after it a whole file of a known segment, which
    the next open takes. A failure is told to those who wait; reads ask again later.
    """
    hydration, segment_id = stream.hydration, command.segment
    row = _wanted(stream, segment_id)
    publication = stream.remote.publication
    if publication is not None and publication.fenced is not None:
        hydration.settle(segment_id, publication.fenced)
        return
    if row is None or segment_id in stream.hot.sizes:
        hydration.drop(segment_id)
        return
    ask = hydration.asked.get(segment_id)
    source = min(stream.residency(row), default=None)
    if ask is None or source is None or hydration.is_pending(segment_id):
        if ask is not None and source is None:
            hydration.settle(segment_id, _failed("no tier has a copy of it", stream, row))
        return
    n = on_disk(row.raw_bytes)
    if source is Tier.COLD:
        # The object's bytes lie beside the segment's until they are unpacked.
        n += on_disk(row.cold.size if row.cold is not None else 0)
    target = int(ctx.config.tier0.bytes_max * ctx.config.tier0.evict_to_fraction)
    guard = ctx.tier0.claim(n, below=target)
    if guard is None:
        wish = ctx.wish(stream, ask)
        if wish is None or how_fits(ctx.view(), wish) is Fit.NEVER:
            text = (
                f"tier 0 has {ctx.tier0.used} of {ctx.tier0.bytes_max} bytes in use, and nothing "
                f"that was used less than this segment can go for its {n}: it is read where it is. "
                "Raise tier0.bytes_max to have it hot"
            )
            hydration.settle(segment_id, _failed(text, stream, row))
        return  # The planner makes room and plans it again.
    with guard:
        try:
            _record(stream, RecordType.HYDRATION_STARTED, row, source_tier=int(source))
            _restore(stream, row, source, guard, ctx)
        except Exception as error:
            # Whoever is told of it finds the bytes given back.
            guard.drop()
            _hydration_failed(stream, row, source, error, ctx)
            return
    _record(
        stream, RecordType.HYDRATION_DONE, row, source_tier=int(source), bytes=row.raw_bytes
    )
    stream.manifest.flush()
    # Whoever reads goes on with what he holds; the next one opens the hot copy.
    stream.forget(segment_id)
    hydration.settle(segment_id)
    _tell_hydrated(stream, row, source)


def _tell_hydrated(stream: StreamInstance, row: SegmentRow, source: Tier) -> None:
    LOGGERS[Tier.HOT].info(
        "segment %d of stream %s is hot again, from %s",
        row.segment_id,
        stream.name,
        source.name,
        extra={"event": "hydrated", "stream": stream.name, "segment": row.segment_id},
    )


def _restore(
    stream: StreamInstance, row: SegmentRow, source: Tier, guard: Any, ctx: Context
) -> None:
    hot, expect = stream.hot, expected(stream, row)
    if source is Tier.WARM:
        hot.restore(row.segment_id, stream.warm, guard, expect, ctx.stopping)
    elif stream.cold is not None and row.cold is not None:
        fetch = stream.cold.ranges(row.cold)
        hot.restore_object(row.segment_id, fetch, row.cold, guard, expect, ctx.stopping)
    else:
        raise HydrationFailed("its only copy is in tier 2: open the root with that", path=None)


def _hydration_failed(
    stream: StreamInstance, row: SegmentRow, source: Tier, error: Exception, ctx: Context
) -> None:
    """Note why a segment did not come back; have a bad copy replaced first, if that was it."""
    segment_id = row.segment_id
    if ctx.stopping():
        raise error
    gone = isinstance(error, FileNotFoundError | HydrationFailed) and _is_gone(error)
    if gone and segment_id not in stream.warm.sizes:
        return  # It was evicted meanwhile; planned again, from the tier that has it.
    if gone or isinstance(error, CorruptionError):
        stream.report_damage(segment_id, source, error)
        stream.hydration.needs_recovery(segment_id, source, error)
        if stream.hydration.is_pending(segment_id):
            return  # The wish stays until the copy was made again.
    failure = error if isinstance(error, AofError) else _failed(str(error), stream, row)
    if failure is not error:
        failure.__cause__ = error
    LOGGERS[Tier.HOT].warning(
        "segment %d of stream %s does not come back: %s",
        segment_id,
        stream.name,
        error,
        extra={
            "event": "hydration_failed",
            "stream": stream.name,
            "segment": segment_id,
            "error": str(error),
        },
    )
    try:
        tier = int(source)
        _record(stream, RecordType.HYDRATION_FAILED, row, source_tier=tier, reason=str(error))
    finally:
        stream.hydration.settle(segment_id, failure)


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError)


def _failed(text: str, stream: StreamInstance, row: SegmentRow) -> HydrationFailed:
    return HydrationFailed(
        text, stream=stream.name, segment=row.segment_id, offset=row.base_offset
    )


def handle_set_aside(command: SetAside, stream: StreamInstance, ctx: Context) -> None:
    """Move a damaged local copy into quarantine, and have it made again.

    Order: another local copy is read whole → `FetchQueued`, if only tier 2 has the segment then →
    flush of the manifest → rename into quarantine → fsync of both directories. A crash before the
    rename finds the record at the next open, which verifies the file before it believes it.
    """
    hydration, segment_id, tier = stream.hydration, command.segment, command.tier
    row = _wanted(stream, segment_id)
    reason = hydration.damaged.get((segment_id, tier), "")
    held = frozenset[Tier]() if row is None else _whole_copies(stream, row, tier, ctx)
    if row is None or not held:
        # No other copy has all of it: what of this one can be read stays readable.
        hydration.is_replaced(segment_id, tier, fetch=False)
        return
    fetch = held == {Tier.COLD} and stream.cold is not None
    if fetch and not row.needs_fetch:
        _record(stream, RecordType.FETCH_QUEUED, row)
        stream.manifest.flush()
    files = stream.hot if tier is Tier.HOT else stream.warm
    files.set_aside(segment_id, hydration.quarantine, ctx.clock.now_ns())
    LOGGERS[tier].error(
        "the %s copy of segment %d of stream %s is set aside, %s serves it: %s",
        tier.name.lower(),
        segment_id,
        stream.name,
        min(held).name,
        reason,
        extra={
            "event": "copy_set_aside",
            "stream": stream.name,
            "segment": segment_id,
            "tier": tier.name.lower(),
            "error": reason,
        },
    )
    hydration.is_replaced(segment_id, tier, fetch=fetch)
    stream.forget(segment_id)


def _whole_copies(
    stream: StreamInstance, row: SegmentRow, but: Tier, ctx: Context
) -> frozenset[Tier]:
    """The tiers whose copy of a segment is whole: local ones are read, objects were verified when
    they were uploaded, and are again when they come back."""
    found = set(stream.residency(row) - {but})
    for tier in sorted(found - {Tier.COLD}):
        if not _is_whole(stream, row, tier, ctx):
            found.discard(tier)
    return frozenset(found)


def _is_whole(stream: StreamInstance, row: SegmentRow, tier: Tier, ctx: Context) -> bool:
    """Whether a local copy is what its checksums say; damage is reported."""
    try:
        _check_whole(stream, row, tier, ctx)
    except (CorruptionError, VersionTooNew, OSError) as error:
        if isinstance(error, CorruptionError):
            stream.report_damage(row.segment_id, tier, error)
            if row.cold is not None and stream.cold is not None:
                stream.hydration.needs_recovery(row.segment_id, tier, error)
        return False
    return True


def _check_whole(stream: StreamInstance, row: SegmentRow, tier: Tier, ctx: Context) -> None:
    """Raise unless a local copy of a segment is what its checksums say."""
    if tier is Tier.WARM:
        files = stream.warm
        name = files.file_name(row.segment_id)
        compressed.verify(files.directory, name, expect=expected(stream, row), stop=ctx.stopping)
        return
    name = stream.hot.file_name(row.segment_id)
    footer = seal.read_footer(stream.hot.directory, name)
    if footer is None or footer.before_crc64 != row.segment_crc64:
        raise SegmentCorrupt(
            "its footer is not the one that was recorded",
            stream=stream.name,
            segment=row.segment_id,
            path=stream.hot.directory.join(name),
        )
    seal.verify_sealed(stream.hot.directory, name, footer)


def handle_fetch(command: Fetch, stream: StreamInstance, ctx: Context) -> None:
    """Make the warm file of a segment again, from its object.

    Order: `FetchQueued`, once → the claim on the budget → a temporary file, all blocks allocated →
    the object's bytes → fdatasync → read back from the device and verified: checksums, size and
    segment as recorded → rename → fsync of the directory → `FetchDone` → flush of the manifest.
    """
    hydration, segment_id = stream.hydration, command.segment
    row = _wanted(stream, segment_id)
    copies = frozenset[Tier]() if row is None else stream.residency(row)
    if row is None or row.cold is None or stream.cold is None or copies != {Tier.COLD}:
        hydration.to_fetch.discard(segment_id)
        return
    guard = ctx.tier1.claim(on_disk(row.cold.size))
    if guard is None:
        return  # The planner makes room and plans it again.
    with guard:
        try:
            if not row.needs_fetch:
                _record(stream, RecordType.FETCH_QUEUED, row)
                stream.manifest.flush()
            fetch = stream.cold.ranges(row.cold)
            expect = expected(stream, row)
            stream.warm.fetch(segment_id, fetch, row.cold, guard, expect, ctx.stopping)
        except (CorruptionError, VersionTooNew) as error:
            # Asking again would bring the same bytes; the next open tries once more.
            stream.report_damage(segment_id, Tier.COLD, error)
            LOGGERS[Tier.COLD].error(
                "the object of segment %d of stream %s is damaged: %s",
                segment_id,
                stream.name,
                error,
                extra={"event": "fetch_failed", "stream": stream.name, "segment": segment_id},
            )
            tier = int(Tier.COLD)
            _record(stream, RecordType.HYDRATION_FAILED, row, source_tier=tier, reason=str(error))
            hydration.to_fetch.discard(segment_id)
            if segment_id in hydration.asked:
                hydration.settle(segment_id, error)
            return
        except BaseException:
            hydration.to_fetch.postpone(segment_id)
            raise
    _record(stream, RecordType.FETCH_DONE, row)
    stream.manifest.flush()
    hydration.to_fetch.discard(segment_id)
    stream.forget(segment_id)
    stream.signals.hydration.wake()


def expected(stream: StreamInstance, row: SegmentRow) -> CompressedInfo:
    """What the compressed form of a segment must be, by the records."""
    assert row.compressed is not None
    assert row.end_offset is not None
    return CompressedInfo(
        bytes=row.compressed.bytes,
        table_bytes=row.compressed.table_bytes,
        crc64=row.compressed.crc64,
        raw_bytes=row.raw_bytes,
        raw_crc64=row.compressed.raw_crc64,
        stream_uuid=stream.identity.uuid,
        segment_id=row.segment_id,
        base_offset=row.base_offset,
        end_offset=row.end_offset,
    )


def _wanted(stream: StreamInstance, segment_id: int) -> SegmentRow | None:
    """The row of a segment that copies may be made of; None once it is not ours to keep."""
    row = stream.manifest.index.segments.get(segment_id)
    if row is None or stream.remote.is_trimmed(row) or stream.remote.is_fenced:
        return None
    return row if row.sealed else None


def _record(stream: StreamInstance, kind: RecordType, row: SegmentRow, **fields: Any) -> None:
    stream.manifest.append(kind, row.segment_id, row.base_offset, **fields)
