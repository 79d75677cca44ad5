"""Handlers that give streams room in tier 0, and those that take some back."""

from __future__ import annotations

from aof2._core.manifest import RecordType
from aof2.admission import AdmissionGuard
from aof2.coordinator.commands import Evict, Prepare, Relinquish, ReturnSpare
from aof2.coordinator.context import Context
from aof2.tiers.hot import PAGE_BYTES
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier


def handle_prepare(command: Prepare, stream: StreamInstance, ctx: Context) -> None:
    """Make a preallocated segment file and hand it to the writer; claim room for its ring."""
    writer = stream.writer
    if writer is None:
        return
    if stream.remote.is_fenced:
        _nothing_wanted(stream)
        return
    if not stream.manifest.reserve(len(stream.unsealed()) + 2):
        stalled = stream.manifest.stalled
        raise OSError(
            0 if stalled is None else stalled.errno or 0,
            "the manifest has no room for the records of another segment",
            stream.directory.path,
        ) from stalled
    wants_spare = command.frame_bytes > 0 and writer.spare_bytes < command.frame_bytes
    guard = ctx.tier0.claim(command.segment_bytes if wants_spare else 0)
    if guard is None:
        return  # The planner makes room and plans it again.
    with guard:
        if command.ring_bytes and not _have_ring(command.ring_bytes - PAGE_BYTES, stream):
            return
        if wants_spare:
            _make_spare(guard, stream, ctx)
    # Noted before the append is told, so that nobody takes away what it was given.
    if stream.blocked_since_s:
        stream.granted_ns = ctx.clock.now_ns()
    _nothing_wanted(stream)


def _have_ring(ring_bytes: int, stream: StreamInstance) -> bool:
    """Claim room for a ring that the append makes; make it, where that failed there."""
    claimed = stream.hot.claim_ring(ring_bytes)
    if claimed and stream.ring_failed and stream.writer is not None:
        stream.writer.prepare_ring(claimed)
        stream.ring_failed = False
    return claimed > 0


def _nothing_wanted(stream: StreamInstance) -> None:
    stream.spare_needed = stream.ring_needed = 0
    stream.blocked_since_s = 0.0


def _make_spare(guard: AdmissionGuard, stream: StreamInstance, ctx: Context) -> None:
    writer = stream.writer
    assert writer is not None
    old = writer.give_back_spare()
    if old is not None:
        stream.hot.evict(old)
    segment_id = stream.spare_id + 1
    # The file is whole (allocated, header synced, named, directory synced) before it is offered.
    stream.hot.prepare(segment_id, guard, ctx.clock.now_ns())
    stream.spare_id = segment_id
    stream.size_steps += 1
    if stream.remote.is_fenced:
        stream.hot.evict(segment_id)
        return
    sustained = stream.pace.is_sustained(ctx.clock.monotonic_s(), writer.appended_bytes)
    how = ctx.config.flush.write_out
    direct = how == "direct" or (how == "auto" and sustained)
    writer.add_spare(stream.hot.name(segment_id), segment_id, direct=direct)


def handle_return_spare(command: ReturnSpare, stream: StreamInstance, ctx: Context) -> None:
    """Remove the spare segment, to which nothing was ever written."""
    spare = None if stream.writer is None else stream.writer.give_back_spare()
    if spare is not None:
        stream.hot.evict(spare)


def handle_relinquish(command: Relinquish, stream: StreamInstance, ctx: Context) -> None:
    """End the active segment, whose seal is planned next, and give the landing ring back."""
    writer = stream.writer
    if writer is None:
        return
    # Everything in the ring is durable before the ring goes; a crash in between finds both.
    writer.end_segment()
    writer.drop_ring()


def handle_evict(command: Evict, stream: StreamInstance, ctx: Context) -> None:
    """Drop a local copy, once the record of another tier's verified copy is durable."""
    row = stream.manifest.index.segments.get(command.segment)
    tier = stream.hot if command.tier is Tier.HOT else stream.warm
    if row is None or command.segment not in tier.sizes:
        stream.forget(command.segment)
        return  # It went before, and then something failed.
    if not stream.remote.is_trimmed(row):
        lower = [other for other in stream.residency(row) if other > command.tier]
        if not lower:
            stream.resort(command.segment)
            return  # It became the only copy meanwhile.
        stream.manifest.append(
            RecordType.LOCAL_EVICTED,
            command.segment,
            row.base_offset,
            tier=int(command.tier),
            bytes=tier.sizes[command.segment],
            copy_tier=int(max(lower)),
        )
        # The record, and with it the one that says where the other copy is, before the name goes.
        # What was trimmed needs none: that record was flushed by the call that trimmed it.
        stream.manifest.flush()
    tier.evict(command.segment)
    stream.forget(command.segment)
