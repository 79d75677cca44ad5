"""What a damaged manifest still says: its readable records, and those that were published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2.errors import CorruptionError, Fenced, FormatError, ManifestCorrupt
from aof2.manifest.bucket import BucketKeys
from aof2.manifest.chunks import chunk_ids, chunk_name
from aof2.manifest.chunkview import ChunkView, InspectedRecord, view_chunk
from aof2.manifest.claims import highest_claim
from aof2.manifest.facts import Record
from aof2.manifest.index import SegmentRow
from aof2.manifest.notes import Claim, get_note
from aof2.manifest.published import find_end, read_hint
from aof2.manifest.rebuild import ASIDE, manifest_directory, remove_aside
from aof2.manifest.restore import read_chain
from aof2.manifest.snapshot import newest, snapshot_numbers
from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity

NEVER = (1 << 64) - 1


@dataclass
class Remains:
    """What records that can still be read say; what copies of segments cannot.

    Attributes:
        trimmed: Offset below which the stream was trimmed.
        first_offset: Where the oldest sealed segment begins that was not trimmed as a whole; far
            beyond everything without one.
        sealed_offset: Where the newest sealed segment ends.
        epoch: Highest epoch of a chunk.
        last_id: Id of the newest sealed segment.
        last: The records that opened and sealed it.
        keys: Objects that uploads were recorded of, by segment.
        published_chunk: Newest chunk in the bucket.
        notes: What could not be read there.
    """

    trimmed: int = 0
    first_offset: int = NEVER
    sealed_offset: int = 0
    epoch: int = 0
    last_id: int = 0
    last: tuple[Record, ...] = ()
    keys: dict[int, str] = field(default_factory=dict)
    published_chunk: int = 0
    notes: list[str] = field(default_factory=list)


def read_remains(stream: Directory, identity: StreamIdentity, store: ObjectStore | None) -> Remains:
    """Read what is left of a stream's manifest, here and in the bucket.

    Args:
        stream: The stream's directory, held by its writer.
        store: The stream's tier 2.

    Raises:
        Fenced: another root wrote to the bucket last, so this one's copies are not the stream.
        FetchFailed, Tier2Unavailable, Tier2Auth: the bucket cannot be read.
    """
    remains = Remains()
    views = list(_local(stream, identity))
    if store is not None:
        _check_ours(store, identity, remains)
        views += _published(stream, store, identity, remains)
    records = [record for view in views for record in view.records]
    trims = [r.fields["before_offset"] for r in records if r.type == RecordType.TRIMMED.name]
    _take_snapshot(stream, identity, remains)
    remains.trimmed = max([remains.trimmed, *trims])
    remains.epoch = max([remains.epoch, *(view.info.epoch or 0 for view in views)])
    first_offset = _first_offset(records, remains.trimmed)
    remains.first_offset = min(remains.first_offset, first_offset)
    seals = [r for r in records if r.type == RecordType.SEAL_SEGMENT.name]
    last = max(seals, key=lambda r: r.offset, default=None)
    if last is not None and last.offset >= remains.sealed_offset:
        remains.sealed_offset, remains.last_id = last.offset, last.segment_id
        remains.last = _opened_and_sealed(records, last)
    for record in records:
        if record.type == RecordType.UPLOAD_DONE.name:
            remains.keys[record.segment_id] = record.fields["key"]
    return remains


def _local(stream: Directory, identity: StreamIdentity) -> Iterator[ChunkView]:
    try:
        manifest = manifest_directory(stream)
    except FileNotFoundError:
        return
    try:
        for chunk_id in chunk_ids(manifest):
            view = view_chunk(manifest, identity, chunk_id)
            if view is not None:
                yield view
    finally:
        manifest.close()


def _take_snapshot(stream: Directory, identity: StreamIdentity, remains: Remains) -> None:
    """What the newest good snapshot says: the chunks that it covers may be gone."""
    try:
        manifest = manifest_directory(stream)
    except FileNotFoundError:
        return
    try:
        loaded, _ = newest(manifest, identity, snapshot_numbers(manifest))
        if loaded is None:
            return
        index = loaded.index
        remains.epoch = max(remains.epoch, loaded.head.epoch)
        remains.trimmed = index.trimmed
        for row in index.rows():
            if row.cold is not None:
                remains.keys[row.segment_id] = row.cold.key
            if row.end_offset is not None and row.end_offset > index.trimmed:
                remains.first_offset = min(remains.first_offset, row.base_offset)
        last = index.last_sealed()
        if last is not None and last.end_offset is not None:
            remains.sealed_offset, remains.last_id = last.end_offset, last.segment_id
            remains.last = _records_of_row(last, last.end_offset)
    finally:
        manifest.close()


def _records_of_row(row: SegmentRow, end_offset: int) -> tuple[Record, ...]:
    opened = {"base_offset": row.base_offset, "epoch": row.epoch}
    sealed = {
        "durable_bytes": row.raw_bytes,
        "segment_crc64": row.segment_crc64,
        "ext_id": row.ext_id,
        "coordinator_watermark": row.coordinator_watermark,
        "flush_failure": row.flush_failure,
    }
    return (
        (RecordType.SEGMENT_OPENED, row.segment_id, row.base_offset, opened),
        (RecordType.SEAL_SEGMENT, row.segment_id, end_offset, sealed),
    )


def _check_ours(store: ObjectStore, identity: StreamIdentity, remains: Remains) -> None:
    """Refuse where another root published last; note how far the bucket goes."""
    keys = BucketKeys(identity)
    try:
        end = find_end(store, identity, read_hint(store, identity))
        if end is None:
            return
        remains.epoch = max(remains.epoch, end.epoch)
        remains.published_chunk = end.next_chunk - 1
        key = keys.claim(end.epoch)
        data = get_note(store, key)
        if data is None:
            raise ManifestCorrupt("the claim of a published epoch is missing", path=key)
        claimed = Claim.decode(data, uuid=identity.uuid, key=key)
    except (CorruptionError, FormatError) as error:
        remains.notes.append(f"{error.path}: {error.message}")
        listed = keys.list_manifest(store).chunks
        remains.published_chunk = max([remains.published_chunk, *(e.number for e in listed)])
        # What cannot be read is given up, whoever wrote it; whoever comes later is another matter.
        hint = max([remains.epoch, *(e.epoch for e in listed)])
        remains.epoch = highest_claim(store, identity, hint=hint)
        return
    if claimed.root_id != identity.root_id:
        raise Fenced(
            f"another root wrote to tier 2 last, under epoch {end.epoch}: what this root has is "
            "not the stream any more. Nothing was changed; open the stream from a fresh root",
            epoch=end.epoch,
            path=key,
        )


def _published(
    stream: Directory, store: ObjectStore, identity: StreamIdentity, remains: Remains
) -> Iterator[ChunkView]:
    """The published chunks, from the root of the chain on; snapshots add nothing to them."""
    if stream.exists(ASIDE):
        remove_aside(stream)
    aside = stream.subdir(ASIDE, create=True)
    try:
        chain = read_chain(store, identity, read_hint(store, identity), _no_snapshot)
        for chunk in chain.chunks():
            # A chunk is read as a file.
            name = chunk_name(chunk.chunk_id)
            aside.create(name, chunk.data)
            view = view_chunk(aside, identity, chunk.chunk_id)
            aside.unlink(name)
            if view is not None:
                yield view
    except (CorruptionError, FormatError) as error:
        remains.notes.append(f"{error.path}: {error.message}")
    finally:
        aside.close()
        remove_aside(stream)


def _no_snapshot(head: bytes, path: str) -> tuple[int, int, int, int]:
    raise ManifestCorrupt("chunks are read instead", path=path)


def _first_offset(records: list[InspectedRecord], trimmed: int) -> int:
    ends = {r.segment_id: r.offset for r in records if r.type == RecordType.SEAL_SEGMENT.name}
    bases = [
        r.fields["base_offset"]
        for r in records
        if r.type == RecordType.SEGMENT_OPENED.name and ends.get(r.segment_id, 0) > trimmed
    ]
    return min(bases, default=NEVER)


def _opened_and_sealed(records: list[InspectedRecord], last: InspectedRecord) -> tuple[Record, ...]:
    opened = [
        r
        for r in records
        if r.type == RecordType.SEGMENT_OPENED.name and r.segment_id == last.segment_id
    ]
    if not opened:
        return ()
    return tuple((RecordType[r.type], r.segment_id, r.offset, r.fields) for r in (opened[-1], last))
