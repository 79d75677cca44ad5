"""Handlers that bring the manifest to tier 2, take its snapshots, and delete what was trimmed."""

from __future__ import annotations

import dataclasses
import logging

from aof2._core.manifest import RecordType
from aof2.coordinator.commands import Delete, Publish, Retain, Snapshot
from aof2.coordinator.context import Context
from aof2.errors import Fenced
from aof2.manifest.index import SegmentRow
from aof2.tiers.instance import StreamInstance
from aof2.tiers.remote import DeleteStep

LOGGER = logging.getLogger("aof2.tier2")


def handle_publish(command: Publish, stream: StreamInstance, ctx: Context) -> None:
    """Claim the stream if that was not done yet, and publish the manifest as it is now."""
    publication = stream.remote.publication
    if publication is None or publication.fenced is not None:
        return
    stream.remote.due_s = ctx.clock.monotonic_s() + ctx.config.manifest.publish_interval_s
    stream.remote.asked = False
    try:
        publication.publish()
    except Fenced as error:
        # It cannot be mended by trying again: nothing more is accepted either.
        _fence(stream, error)
        return
    except BaseException:
        stream.remote.asked = True
        raise
    adopt_epoch(stream, publication.epoch)


def adopt_epoch(stream: StreamInstance, epoch: int) -> None:
    """Let what a stream's writer makes from now on carry a claimed epoch."""
    if stream.identity.epoch != epoch:
        stream.identity = dataclasses.replace(stream.identity, epoch=epoch)
        if stream.cold is not None:
            stream.cold.identity = stream.identity
        if stream.writer is not None:
            stream.writer.epoch = epoch


def _fence(stream: StreamInstance, error: Fenced) -> None:
    """Another writer owns the stream: take in nothing more, and wake everybody who waits."""
    if stream.writer is not None:
        spare = stream.writer.give_back_spare()
        if spare is not None:
            stream.hot.evict(spare)
        stream.writer.stop_appends()
    LOGGER.critical("%s", error, extra={"event": "fenced", "stream": stream.name})
    stream.notify(Publish, error)


def handle_snapshot(command: Snapshot, stream: StreamInstance, ctx: Context) -> None:
    """Write the snapshot that is due; the manifest keeps the order of its steps."""
    stream.manifest.write_snapshot()


def handle_retain(command: Retain, stream: StreamInstance, ctx: Context) -> None:
    """Give up what is more than the stream keeps. All of it is sealed, so its end is durable.

    A writer that was replaced gives nothing up: its files may have what nobody else does.
    """
    if command.before > stream.manifest.index.trimmed and not stream.remote.is_fenced:
        stream.retention.give_up(command.before)


def handle_delete(command: Delete, stream: StreamInstance, ctx: Context) -> None:
    """Delete the object of a segment that lies wholly below what was trimmed.

    Order: the decision is recorded and flushed → it is published → nobody has replaced us → the
    grace time → the object goes → that is recorded. The planner runs this again for each step.
    """
    manifest, remote, cold = stream.manifest, stream.remote, stream.cold
    publication = remote.publication
    row = manifest.index.segments.get(command.segment)
    key = None if row is None else row.upload_key if row.cold is None else row.cold.key
    if row is None or key is None or publication is None or cold is None:
        remote.deletes.pop(command.segment, None)
        return
    if not remote.is_ours or command.segment in remote.uploading:
        return
    if not row.delete_queued:
        _record(RecordType.TIER2_DELETE_QUEUED, row, key, stream)
    step = remote.deletes.get(command.segment, DeleteStep())
    if step.records == 0:
        # The decision is in the log by now; after a restart nobody knows where exactly.
        step = DeleteStep(records=manifest.appended_count)
    if publication.published_records < step.records:
        remote.asked = True
    elif step.due_s is None:
        step = DeleteStep(
            step.records, ctx.clock.monotonic_s() + ctx.config.retention.delete_grace_s
        )
    elif ctx.clock.monotonic_s() >= step.due_s:
        try:
            publication.assert_not_fenced()
        except Fenced as error:
            _fence(stream, error)
            return
        cold.delete(key)
        _record(RecordType.TIER2_DELETED, row, key, stream)
        remote.deletes.pop(command.segment, None)
        return
    remote.deletes[command.segment] = step


def _record(kind: RecordType, row: SegmentRow, key: str, stream: StreamInstance) -> None:
    stream.manifest.append(kind, row.segment_id, row.base_offset, key=key, reason="trimmed")
    stream.manifest.flush()
