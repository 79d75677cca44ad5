"""Handlers that give segments a cold copy: from the warm file, or compressed on the way."""

from __future__ import annotations

from aof2._core.compressed_pack import CompressedInfo
from aof2._core.manifest import RecordType
from aof2.coordinator.commands import CompressToTier2, Upload
from aof2.coordinator.context import Context
from aof2.manifest.index import SegmentRow, WarmCopy
from aof2.objectstore import ObjectInfo
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier


def handle_upload(command: Upload, stream: StreamInstance, ctx: Context) -> None:
    """Store the warm file's bytes as an object, then record it."""
    with stream.remote.uploading_of(command.segment) as row:
        # Without a row it was done, trimmed or taken away from us since it was planned.
        if row is None or row.compressed is None or command.segment not in stream.warm.sizes:
            stream.resort(command.segment)
            return
        key = row.upload_key
        if key is None:
            key = _record_key(stream, row)
            stream.manifest.flush()
        assert stream.cold is not None
        try:
            contents = stream.warm.contents(command.segment)
            info = stream.cold.upload(key, contents, row.compressed.crc64)
        except Exception as error:
            stream.to_upload.postpone(command.segment)
            _record_failure(stream, row, key, error)
            raise
        _record_done(stream, row, key, info, row.compressed.crc64)
        stream.manifest.flush()
        stream.resort(command.segment)


def handle_compress_to_tier2(
    command: CompressToTier2, stream: StreamInstance, ctx: Context
) -> None:
    """Compress a segment twice: for its size and checksum, and again while the store takes it."""
    with stream.remote.uploading_of(command.segment) as row:
        if row is None or command.segment not in stream.hot.sizes:
            stream.resort(command.segment)
            return
        key = row.upload_key
        try:
            # Everything is decompressed again and compared, as for a warm file.
            source = stream.warm.passing(command.segment, stream.hot, ctx.stopping)
            if key is None or row.compressed != _copy(source.info):
                key = record_compressed(stream, row, source.info) or _record_key(stream, row)
                # What the object will be, and its key, are durable before the request, so that a
                # restart meets the same object and not a second one.
                stream.manifest.flush()
            assert stream.cold is not None
            # What is sent has the checksum that was recorded, or the object is not stored.
            info = stream.cold.upload(key, source, source.info.crc64)
        except Exception as error:
            stream.to_compress.postpone(command.segment)
            if not ctx.stopping():
                _record_failure(stream, row, key or "", error)
            raise
        _record_done(stream, row, key, info, source.info.crc64)
        if command.segment not in stream.warm.sizes:
            # No warm file was ever there, which the record of the compression cannot say.
            stream.manifest.append(
                RecordType.LOCAL_EVICTED,
                row.segment_id,
                row.base_offset,
                tier=int(Tier.WARM),
                bytes=0,
                copy_tier=int(Tier.COLD),
            )
        stream.manifest.flush()
        stream.resort(command.segment)


def record_compressed(stream: StreamInstance, row: SegmentRow, info: CompressedInfo) -> str | None:
    """Record what a segment's compressed form is.

    Returns:
        A fresh key, recorded as well, where an attempt under the old one may have stored other
        bytes, e.g. of another `tier1.level`; None where there is no need for one.
    """
    stream.manifest.append(
        RecordType.COMPRESSION_DONE, row.segment_id, row.base_offset, **_copy(info)._asdict()
    )
    if row.upload_key is None or row.compressed in (None, _copy(info)) or stream.cold is None:
        return None
    return _record_key(stream, row)


def _copy(info: CompressedInfo) -> WarmCopy:
    return WarmCopy(info.bytes, info.table_bytes, info.crc64, info.raw_crc64)


def _record_key(stream: StreamInstance, row: SegmentRow) -> str:
    """A fresh key, to be flushed before the first request, so that a restart meets the same object
    and not a second one."""
    assert stream.cold is not None
    key = stream.cold.new_key(row)
    stream.manifest.append(RecordType.UPLOAD_STARTED, row.segment_id, row.base_offset, key=key)
    return key


def _record_failure(stream: StreamInstance, row: SegmentRow, key: str, error: Exception) -> None:
    stream.manifest.append(
        RecordType.UPLOAD_FAILED, row.segment_id, row.base_offset, key=key, reason=str(error)
    )


def _record_done(
    stream: StreamInstance, row: SegmentRow, key: str, info: ObjectInfo, crc64: int
) -> None:
    stream.manifest.append(
        RecordType.UPLOAD_DONE,
        row.segment_id,
        row.base_offset,
        key=key,
        size=info.size,
        crc64=crc64,
        etag=info.etag,
    )
