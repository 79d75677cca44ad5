"""Command handlers: straight-line functions that do one command, with the order of durable steps.

A handler knows nothing of threads, retries, timing or logging: the runtime has those. It returns
when the command is done or has become pointless, and raises when it should be tried again.
"""

from __future__ import annotations

from typing import Any

from aof2._core.manifest import RecordType
from aof2.coordinator.commands import (
    Command,
    Compress,
    Delete,
    Evict,
    Prepare,
    Publish,
    Rollover,
    Snapshot,
    Upload,
)
from aof2.coordinator.context import Context
from aof2.coordinator.publishing import handle_delete, handle_publish, handle_snapshot
from aof2.tiers.instance import StreamInstance
from aof2.tiers.warm import WarmTier
from aof2.types import Tier


def handle(command: Command, ctx: Context) -> None:
    """Run one command."""
    stream = ctx.streams.get(command.stream)
    if stream is not None:
        _HANDLERS[type(command)](command, stream, ctx)
        stream.notify(type(command))


def handle_prepare(command: Prepare, stream: StreamInstance, ctx: Context) -> None:
    """Make a preallocated segment file and hand it to the writer."""
    writer = stream.writer
    if writer is None or writer.spare_bytes >= command.frame_bytes:
        stream.spare_needed = 0
        return
    if stream.remote.is_fenced:
        stream.spare_needed = 0
        return
    if not stream.manifest.reserve(len(stream.unsealed()) + 2):
        stalled = stream.manifest.stalled
        raise OSError(
            0 if stalled is None else stalled.errno or 0,
            "the manifest has no room for the records of another segment",
            stream.directory.path,
        ) from stalled
    if not ctx.tier0.admit(command.segment_bytes):
        return  # The planner makes room and plans it again.
    old = writer.give_back_spare()
    if old is not None:
        stream.hot.evict(old)
    segment_id = stream.spare_id + 1
    try:
        # The file is whole (allocated, header synced, named, directory synced) before it is
        # offered.
        stream.hot.prepare(segment_id, command.segment_bytes, ctx.clock.now_ns())
    except BaseException:
        ctx.tier0.release(command.segment_bytes)
        raise
    stream.spare_id = segment_id
    stream.size_steps += 1
    if stream.remote.is_fenced:
        stream.hot.evict(segment_id)
        return
    writer.add_spare(stream.hot.name(segment_id), segment_id)
    stream.spare_needed = 0


def handle_rollover(command: Rollover, stream: StreamInstance, ctx: Context) -> None:
    """Seal a segment: its bytes, then its index and footer, then the pointer, then the record."""
    writer, manifest = stream.writer, stream.manifest
    if writer is None:
        return
    watermark = manifest.appended_count
    ended = {u.segment_id: u for u in stream.unsealed()}.get(command.segment)
    if ended is None:
        return
    if not ended.ended:
        # It reached its age. Nothing of it is lost by a crash before or after the END.
        writer.end_segment()
    # Flush, index, footer, fdatasync, truncate, fdatasync. A crash after any of these is finished
    # by recovery, which derives the record from the footer.
    footer = writer.finish_seal(command.segment, watermark)
    if footer is None:
        return
    stream.hot.resize(command.segment, footer.file_bytes)
    stream.hot.write_pointer(command.segment, footer, writer.epoch)
    row = manifest.index.segments.get(command.segment)
    # An earlier attempt may have got as far as the records, and failed to flush them.
    if row is None or not row.sealed:
        manifest.append(
            RecordType.SEGMENT_OPENED,
            command.segment,
            footer.base_offset,
            base_offset=footer.base_offset,
            epoch=writer.epoch,
        )
        manifest.append(
            RecordType.SEAL_SEGMENT,
            command.segment,
            footer.end_offset,
            **stream.sealed_footer(command.segment, footer, watermark),
        )
    manifest.flush()
    # Readers find the segment in the index by now, so the writer may let go of it.
    writer.retire(command.segment)
    stream.drop_open(command.segment)
    stream.to_compress.add(command.segment)


def handle_compress(command: Compress, stream: StreamInstance, ctx: Context) -> None:
    """Build the warm file, verified by reading it back, then record it."""
    row = stream.manifest.index.segments.get(command.segment)
    present = command.segment in stream.warm.sizes
    if row is None or row.cold is not None or (present and row.compressed is not None):
        stream.to_compress.discard(command.segment)
        if row is not None and row.cold is None:
            stream.to_upload.add(command.segment)
        return
    if present:
        # Built, but the record failed: what no record vouches for is built again.
        stream.warm.evict(command.segment)
    bound = WarmTier.bound(row.raw_bytes)
    if not ctx.tier1.admit(bound):
        return  # The planner makes room and plans it again.
    at = row.base_offset
    try:
        _record(stream, RecordType.COMPRESSION_STARTED, command.segment, at)
        # The file is published (fsync, rename, fsync of the directory) before the manifest mentions
        # it. A crash between the two leaves a file that recovery verifies and adopts.
        info = stream.warm.build(command.segment, stream.hot, ctx.stopping)
    except BaseException as error:
        ctx.tier1.release(bound)
        if not ctx.stopping():
            _record(stream, RecordType.COMPRESSION_FAILED, command.segment, at, reason=str(error))
        raise
    ctx.tier1.release(bound - stream.warm.sizes[command.segment])
    _record(
        stream,
        RecordType.COMPRESSION_DONE,
        command.segment,
        at,
        bytes=info.bytes,
        table_bytes=info.table_bytes,
        crc64=info.crc64,
        raw_crc64=info.raw_crc64,
    )
    stream.manifest.flush()
    stream.to_compress.discard(command.segment)
    stream.to_upload.add(command.segment)


def handle_upload(command: Upload, stream: StreamInstance, ctx: Context) -> None:
    """Store the warm file's bytes as an object, then record it."""
    row = stream.manifest.index.segments.get(command.segment)
    if row is None or row.cold is not None or row.compressed is None or stream.cold is None:
        stream.to_upload.discard(command.segment)
        return
    key, at = row.upload_key, row.base_offset
    if key is None:
        # The key is durable before the request, so that a restart meets the same object and not a
        # second one.
        key = stream.cold.new_key(row)
        _record(stream, RecordType.UPLOAD_STARTED, command.segment, at, key=key)
        stream.manifest.flush()
    try:
        info = stream.cold.upload(
            key, stream.warm.contents(command.segment), row.compressed.crc64
        )
    except Exception as error:
        _record(stream, RecordType.UPLOAD_FAILED, command.segment, at, key=key, reason=str(error))
        raise
    _record(
        stream,
        RecordType.UPLOAD_DONE,
        command.segment,
        at,
        key=key,
        size=info.size,
        crc64=row.compressed.crc64,
        etag=info.etag,
    )
    stream.manifest.flush()
    stream.to_upload.discard(command.segment)


def handle_evict(command: Evict, stream: StreamInstance, ctx: Context) -> None:
    """Drop a local copy, once the record of another tier's verified copy is durable."""
    row = stream.manifest.index.segments.get(command.segment)
    tier = stream.hot if command.tier is Tier.HOT else stream.warm
    if row is None or command.segment not in tier.sizes:
        return
    if not stream.remote.is_trimmed(row):
        others = stream.residency(row) - {command.tier}
        lower = [other for other in others if other > command.tier]
        if not lower:
            return  # It became the only copy meanwhile.
        _record(
            stream,
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


def _record(
    stream: StreamInstance, kind: RecordType, segment_id: int, offset: int, **fields: Any
) -> None:
    stream.manifest.append(kind, segment_id, offset, **fields)


_HANDLERS: dict[type[Command], Any] = {
    Prepare: handle_prepare,
    Rollover: handle_rollover,
    Compress: handle_compress,
    Upload: handle_upload,
    Evict: handle_evict,
    Publish: handle_publish,
    Snapshot: handle_snapshot,
    Delete: handle_delete,
}
