"""A new generation of a manifest: written aside, then put in the place of the old one.

Order of durable steps; each is on disk before the next begins:

1. The new manifest is written below `.repair/`, synced, and read back. A crash leaves a directory
   that the next repair or open removes.
2. `.repair` is renamed to `manifest.new`: from here on the change is decided.
3. `manifest` is renamed into `quarantine/`. 4. `manifest.new` is renamed to `manifest`.

`settle` finishes 3 and 4, or removes what 1 left; every open for writing begins with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aof2._core.directory import Directory
from aof2._core.logfile import prepare
from aof2._core.manifest import RecordType, encode
from aof2._core.timesource import TimeSource
from aof2.manifest.chunks import chunk_ids, chunk_name
from aof2.manifest.facts import Record, SegmentFacts, records_of
from aof2.manifest.index import Index
from aof2.manifest.log import Manifest
from aof2.manifest.mirror import mirror_of
from aof2.types import StreamIdentity

CURRENT = "manifest"
DECIDED = "manifest.new"
ASIDE = ".repair"
QUARANTINE = "quarantine"
_KEPT = re.compile(r"manifest\.(\d+)")


def manifest_directory(stream: Directory) -> Directory:
    """The directory of a stream's manifest, also between two steps of a repair; for readers."""
    try:
        return stream.subdir(CURRENT)
    except FileNotFoundError:
        return stream.subdir(DECIDED)


def settle(stream: Directory, now_ns: int) -> str | None:
    """Finish or undo a repair that was cut, so that there is one manifest.

    Args:
        stream: The stream's directory, held by its writer.
        now_ns: For the name under which the old one is kept.

    Returns:
        Name of the old manifest below `quarantine/`, None when none was moved. Again is harmless.
    """
    names = stream.names()
    if ASIDE in names:
        remove_aside(stream)
    if DECIDED not in names:
        return None
    kept = None
    if CURRENT in names:
        kept = f"{CURRENT}.{now_ns}"
        quarantine = stream.subdir(QUARANTINE)
        try:
            stream.rename(CURRENT, kept, quarantine)
            quarantine.sync()
        finally:
            quarantine.close()
        stream.sync()
    stream.rename(DECIDED, CURRENT)
    stream.sync()
    return kept


def remove_aside(stream: Directory) -> None:
    """Remove what was being written aside."""
    child = stream.subdir(ASIDE)
    try:
        for entry in child.names():
            child.unlink(entry)
    finally:
        child.close()
    stream.rmdir(ASIDE)


def highest_chunk(stream: Directory) -> int:
    """Highest number that a chunk of this stream has had, in the directories that are there."""
    quarantine = stream.subdir(QUARANTINE)
    places = [(stream, CURRENT)] if stream.exists(CURRENT) else []
    places += [(quarantine, name) for name in quarantine.names() if _KEPT.fullmatch(name)]
    highest = 0
    try:
        for parent, name in places:
            directory = parent.subdir(name)
            try:
                highest = max([highest, *chunk_ids(directory)])
            finally:
                directory.close()
    finally:
        quarantine.close()
    return highest


def write_aside(
    stream: Directory,
    identity: StreamIdentity,
    records: Iterable[Record],
    *,
    first_chunk: int,
    chunk_bytes: int,
    source: TimeSource,
) -> None:
    """Write a whole manifest below `.repair/`, read it back, and decide for it (steps 1 and 2).

    Args:
        first_chunk: Number of its first chunk, which names nothing before it.

    Raises:
        ManifestCorrupt: the records contradict each other; nothing was changed.
        OSError: the disk fails or is full; nothing was changed.
    """
    if stream.exists(ASIDE):
        remove_aside(stream)
    aside = stream.subdir(ASIDE, create=True)
    try:
        prepare(
            aside,
            chunk_name(first_chunk),
            kind="manifest",
            stream_uuid=identity.uuid,
            file_id=first_chunk,
            file_bytes=chunk_bytes,
            created_ns=source.now_ns(),
        )
        manifest = Manifest.open(aside, identity, time=source, chunk_bytes=chunk_bytes)
        try:
            for kind, segment_id, offset, fields in records:
                manifest.append(kind, segment_id, offset, **fields)
        finally:
            manifest.close()
        aside.sync()
        again = Manifest.open(aside, identity, time=source, chunk_bytes=chunk_bytes, readonly=True)
        again.close()
        assert mirror_of(again.index) == mirror_of(manifest.index), "what was written is read back"
    finally:
        aside.close()
    stream.rename(ASIDE, DECIDED)
    stream.sync()


def generation_records(segments: Iterable[SegmentFacts], trimmed: int, text: str) -> list[Record]:
    """All records of a new generation.

    Args:
        segments: Contiguous, ascending.
        trimmed: Offset below which the stream was trimmed. Where history begins higher, nothing
            is said of what came before: another repair may find it.
        text: Says in the log what happened.
    """
    records: list[Record] = [(RecordType.CUSTOM_EVENT, 0, 0, {"text": text})]
    for facts in segments:
        records += records_of(facts)
    if trimmed:
        records.append((RecordType.TRIMMED, 0, trimmed, {"before_offset": trimmed}))
    return records


def index_of(records: Iterable[Record]) -> Index:
    """The index that records fold into, without a manifest."""
    index = Index()
    for kind, segment_id, offset, fields in records:
        index.apply(encode(kind, segment_id, offset, **fields))
    return index
