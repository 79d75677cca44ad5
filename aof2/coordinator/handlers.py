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
    CompressToTier2,
    Delete,
    Evict,
    Fetch,
    Hydrate,
    Prepare,
    Publish,
    Relinquish,
    Retain,
    ReturnSpare,
    Rollover,
    SetAside,
    Snapshot,
    Upload,
)
from aof2.coordinator.context import Context
from aof2.coordinator.hydrating import handle_fetch, handle_hydrate, handle_set_aside
from aof2.coordinator.making_room import (
    handle_evict,
    handle_prepare,
    handle_relinquish,
    handle_return_spare,
)
from aof2.coordinator.publishing import (
    handle_delete,
    handle_publish,
    handle_retain,
    handle_snapshot,
)
from aof2.coordinator.uploading import (
    handle_compress_to_tier2,
    handle_upload,
    record_compressed,
)
from aof2.tiers.instance import StreamInstance


def handle(command: Command, ctx: Context) -> None:
    """Run one command."""
    stream = ctx.streams.get(command.stream)
    if stream is not None:
        try:
            _HANDLERS[type(command)](command, stream, ctx)
        finally:
            _stop_after_failed_sync(stream)
        # Before whoever waits is woken to look.
        command.acknowledge()
        stream.notify(type(command))


def _stop_after_failed_sync(stream: StreamInstance) -> None:
    """End the writer when a sync of its files or of their names failed: trying again proves
    nothing."""
    for tier in (stream.hot, stream.warm):
        if tier.directory.sync_failure and stream.writer is not None:
            stream.writer.fail(tier.directory.sync_failure)


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
        if writer.spare_id is None and not stream.spare_needed:
            # It is appended to now and then; the next record shall not wait for its segment.
            stream.spare_needed = 1
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
    stream.resort(command.segment)


def handle_compress(command: Compress, stream: StreamInstance, ctx: Context) -> None:
    """Build the warm file, verified by reading it back, then record it."""
    row = stream.manifest.index.segments.get(command.segment)
    if row is not None and stream.remote.is_trimmed(row):
        stream.resort(command.segment)
        return
    present = command.segment in stream.warm.sizes
    if row is None or row.cold is not None or (present and row.compressed is not None):
        stream.resort(command.segment)
        return
    if present:
        # Built, but the record failed: what no record vouches for is built again.
        stream.warm.evict(command.segment)
    guard = ctx.tier1.claim(stream.warm.bound(row.raw_bytes))
    if guard is None:
        return  # The planner makes room and plans it again.
    at = row.base_offset
    with guard:
        try:
            stream.manifest.append(RecordType.COMPRESSION_STARTED, command.segment, at)
            # The file is published (fsync, rename, fsync of the directory) before the manifest
            # mentions it. A crash between the two leaves a file that recovery verifies and adopts.
            info = stream.warm.build(command.segment, stream.hot, guard, ctx.stopping)
        except BaseException as error:
            stream.to_compress.postpone(command.segment)
            if not ctx.stopping():
                stream.manifest.append(
                    RecordType.COMPRESSION_FAILED, command.segment, at, reason=str(error)
                )
            raise
    record_compressed(stream, row, info)
    stream.manifest.flush()
    stream.resort(command.segment)


_HANDLERS: dict[type[Command], Any] = {
    Prepare: handle_prepare,
    ReturnSpare: handle_return_spare,
    Relinquish: handle_relinquish,
    Rollover: handle_rollover,
    Compress: handle_compress,
    CompressToTier2: handle_compress_to_tier2,
    Upload: handle_upload,
    Evict: handle_evict,
    Hydrate: handle_hydrate,
    SetAside: handle_set_aside,
    Fetch: handle_fetch,
    Publish: handle_publish,
    Snapshot: handle_snapshot,
    Retain: handle_retain,
    Delete: handle_delete,
}
