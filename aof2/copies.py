"""Recovery of what other tiers hold: warm files against records, and the work that is still to
do."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aof2._core import compressed
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2.errors import AofError
from aof2.tiers.instance import StreamInstance

LOGGER = logging.getLogger("aof2.tier1")


def recover_copies(stream: StreamInstance, set_aside: Callable[[Directory, str], None]) -> None:
    """Account for a stream's warm files, and derive again what was pending.

    Args:
        stream: Its hot segments are accounted for already.
        set_aside: Moves a file that cannot be used into quarantine.
    """
    copies = _Copies(stream, set_aside)
    copies.take_warm()
    copies.derive_pending()


class _Copies:
    def __init__(
        self, stream: StreamInstance, set_aside: Callable[[Directory, str], None]
    ) -> None:
        self._stream = stream
        self._to_quarantine = set_aside

    def take_warm(self) -> None:
        """Take warm files that the manifest knows; verify and adopt others; set strangers aside."""
        warm, manifest = self._stream.warm, self._stream.manifest
        for segment_id in warm.ids():
            name = warm.name(segment_id)
            row = manifest.index.segments.get(segment_id)
            if row is None or not row.sealed:
                self._to_quarantine(warm.directory, name)
            elif row.compressed is not None and row.warm_present:
                if warm.directory.size(name) == row.compressed.bytes:
                    warm.adopt(segment_id)
                else:
                    self._to_quarantine(warm.directory, name)
            else:
                self._adopt_warm(segment_id)

    def _adopt_warm(self, segment_id: int) -> None:
        """A warm file without a record: the crash came between the two, or after its eviction."""
        warm, manifest = self._stream.warm, self._stream.manifest
        row = manifest.index.segments[segment_id]
        try:
            info = compressed.verify(warm.directory, warm.name(segment_id))
        except AofError as error:
            LOGGER.error("%s", error, extra={"event": "warm_copy_damaged"})
            self._to_quarantine(warm.directory, warm.name(segment_id))
            return
        ours = (info.stream_uuid, info.segment_id, info.base_offset, info.end_offset)
        if ours != (self._stream.identity.uuid, segment_id, row.base_offset, row.end_offset) or (
            row.cold is not None and row.cold.crc64 != info.crc64
        ):
            self._to_quarantine(warm.directory, warm.name(segment_id))
            return
        warm.adopt(segment_id)
        manifest.append(
            RecordType.COMPRESSION_DONE,
            segment_id,
            row.base_offset,
            bytes=info.bytes,
            table_bytes=info.table_bytes,
            crc64=info.crc64,
            raw_crc64=info.raw_crc64,
        )

    def derive_pending(self) -> None:
        """Work that was under way or never began, derived again from facts and records."""
        stream, index = self._stream, self._stream.manifest.index
        for segment_id in sorted({*stream.hot.sizes, *stream.warm.sizes}):
            stream.resort(segment_id)
        # No other segment can be in no tier.
        for segment_id in sorted({*index.pending_compress, *index.pending_upload}):
            row = index.segments[segment_id]
            if stream.remote.is_trimmed(row):
                continue
            held = stream.residency(row)
            if not held:
                LOGGER.error(
                    "segment %d of stream %s is in no tier: offsets %d to %s cannot be read",
                    row.segment_id,
                    stream.name,
                    row.base_offset,
                    row.end_offset,
                    extra={"event": "segment_lost", "stream": stream.name},
                )
