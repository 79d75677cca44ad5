"""What a reader has instead of a damaged manifest: an index made from the segments' own files."""

from __future__ import annotations

import logging

from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2._core.timesource import TimeSource
from aof2.errors import ManifestCorrupt
from aof2.manifest.chunks import ChunkFiles
from aof2.manifest.facts import FactFinder, Facts, Record, records_of
from aof2.manifest.log import Manifest
from aof2.manifest.rebuild import index_of
from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity

LOGGER = logging.getLogger("aof2.tiered")
CHUNK_BYTES = 262144


class StandIn(Manifest):
    """A readonly manifest without a log: every segment that has a copy with a good footer.

    Offsets that no copy holds belong to a segment of which no tier has a copy, so that reading
    them is `SegmentLost` and not a shift of offsets. It does not follow a writer: while the
    manifest is damaged there can be none.
    """

    def refresh(self) -> int:
        """Nothing new can come."""
        return 0


def stand_in(
    damage: ManifestCorrupt,
    manifest: Directory,
    identity: StreamIdentity,
    hot: Directory,
    warm: Directory,
    store: ObjectStore | None,
) -> StandIn:
    """Make an index from files, and objects where there is a store, because the log is damaged.

    Raises:
        ManifestCorrupt: `damage`, when the files contradict each other.
    """
    finder = FactFinder(identity, verify=False)
    finder.take_hot(hot)
    finder.take_warm(warm)
    if store is not None:
        finder.take_objects(store, {})
    made = StandIn(
        ChunkFiles(manifest, identity, TimeSource(), CHUNK_BYTES),
        snapshot_chunks=1,
        readonly=True,
        mirror=False,
        clock_s=lambda: 0.0,
    )
    try:
        made.index = index_of(_records(finder.facts))
    except ManifestCorrupt as error:
        raise damage from error
    LOGGER.error(
        "%s. Reading goes on with the %d segments that have a good copy; nothing can be appended "
        "before `aof2-admin repair`",
        damage,
        len(finder.facts.segments),
        extra={"event": "manifest_corrupt", "stream": identity.name, "path": damage.path},
    )
    for note in finder.facts.notes:
        LOGGER.warning("%s", note, extra={"event": "copy_passed_over", "stream": identity.name})
    return made


def _records(facts: Facts) -> list[Record]:
    records: list[Record] = []
    end, last_id = None, 0
    for segment in facts.ordered():
        base = segment.footer.base_offset
        if end is not None and base > end:
            records += _lost(last_id + 1, end, base)
        records += records_of(segment)
        end, last_id = segment.footer.end_offset, segment.segment_id
    return records


def _lost(segment_id: int, base: int, end: int) -> list[Record]:
    """A segment of which nothing is left, in the place of one or several."""
    sealed = {
        "durable_bytes": 0,
        "segment_crc64": 0,
        "ext_id": 0,
        "coordinator_watermark": 0,
        "flush_failure": False,
    }
    return [
        (RecordType.SEGMENT_OPENED, segment_id, base, {"base_offset": base, "epoch": 0}),
        (RecordType.SEAL_SEGMENT, segment_id, end, sealed),
    ]
