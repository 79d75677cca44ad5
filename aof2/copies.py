"""Recovery of what other tiers hold: warm files against records, and the work that is still to
do."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aof2._core import compressed
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2.errors import AofError
from aof2.manifest.index import SegmentRow
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier

LOGGER = logging.getLogger("aof2.tier1")


def recover_copies(
    stream: StreamInstance,
    set_aside: Callable[[Directory, str], None],
    *,
    takeover: bool,
) -> None:
    """Account for a stream's warm files, and derive again what was pending.

    Args:
        stream: Its hot segments are accounted for already.
        set_aside: Moves a file that cannot be used into quarantine.
        takeover: The records are another root's, and so are the local copies that they tell of.
    """
    copies = _Copies(stream, set_aside)
    copies.take_warm()
    if takeover:
        copies.disown()
    copies.derive_pending()
    copies.derive_fetches()


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
            elif row.compressed is not None and row.warm_present and not row.needs_fetch:
                if warm.directory.size(name) == row.compressed.bytes:
                    warm.adopt(segment_id)
                else:
                    self._to_quarantine(warm.directory, name)
            else:
                self._adopt_warm(segment_id)

    def _adopt_warm(self, segment_id: int) -> None:
        """A warm file without a record: the crash came between the two, or after its eviction; or
        one that was to be replaced."""
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
        if row.needs_fetch and row.cold is not None:
            manifest.append(RecordType.FETCH_DONE, segment_id, row.base_offset)
            return
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

    def disown(self) -> None:
        """Of a stream that was taken over, no warm file was ever here."""
        stream, index = self._stream, self._stream.manifest.index
        for segment_id in index.recorded_warm:
            if segment_id not in stream.warm.sizes:
                self._disown(index.segments[segment_id])

    def _disown(self, row: SegmentRow) -> None:
        if row.compressed is not None:
            self._stream.manifest.append(
                RecordType.LOCAL_EVICTED,
                row.segment_id,
                row.base_offset,
                tier=int(Tier.WARM),
                bytes=row.compressed.bytes,
                copy_tier=int(Tier.COLD),
            )

    def derive_fetches(self) -> None:
        """Warm files that are recorded, and missing: tier 2 has the segment and gives it back."""
        stream, index = self._stream, self._stream.manifest.index
        if stream.cold is None:
            return
        for segment_id in sorted({*index.needs_fetch, *index.recorded_warm}):
            row = index.segments[segment_id]
            held = stream.residency(row)
            if held == {Tier.HOT, Tier.COLD}:
                # Nobody misses it as long as the hot copy is there.
                self._disown(row)
            if held != {Tier.COLD} or stream.remote.is_trimmed(row):
                continue
            if not row.needs_fetch:
                LOGGER.warning(
                    "the warm file of segment %d of stream %s is missing: tier 2 has it",
                    segment_id,
                    stream.name,
                    extra={"event": "warm_copy_missing", "stream": stream.name},
                )
                stream.manifest.append(RecordType.FETCH_QUEUED, segment_id, row.base_offset)
            stream.hydration.to_fetch.add(segment_id)
