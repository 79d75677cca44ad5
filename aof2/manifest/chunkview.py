"""One manifest chunk as it lies there: damage is described, not raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aof2._core.chunk_read import ChunkReader
from aof2._core.cursor import RecordCursor
from aof2._core.directory import Directory
from aof2._core.manifest import ManifestRecord, RecordType, decode
from aof2._core.window import Window
from aof2.errors import CorruptionError, FormatError
from aof2.manifest.chunks import chunk_name
from aof2.types import StreamIdentity

CORRUPT = "corrupt"
"""Beside the states of `ChunkReader.state`: the chunk cannot be what was written."""
FILE_BYTES_MAX = 4 << 20
"""Beyond any chunk; more is not read."""


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """What one chunk of a manifest says about itself, and whether that is true.

    Attributes:
        chunk_id: Number of the chunk.
        path: Its file.
        bytes: Size of the file.
        state: `sealed`, `clean`, `torn`, `unsealed`, `absent` (prepared, not begun), or `corrupt`.
        crc_good: True where every byte that counts is covered by a checksum that matches.
        records: Whole records that were found.
        first_record: Number of its first record in the manifest; None without a start block.
        epoch: Epoch of the writer that began it; None without a start block.
        root_id: Root where it was written, 32 hex digits; None without a start block.
        previous: End of the chunk before it, as its start block names it: chunk, position, record
            number, chain crc; None without a start block.
        end: Its own end, in the same form; None where it cannot be told.
        salt: The salt that its checksums cover; None without a static header.
        created_ns: When the file was prepared; None without a static header.
        first_timestamp_ns, last_timestamp_ns: Time stamps of its records; None without any.
        torn_bytes: Bytes of an unfinished last write.
        problem: What is wrong, None when nothing is.
        position: Where in the file that is, None when that cannot be told.
    """

    chunk_id: int
    path: str
    bytes: int
    state: str
    crc_good: bool
    records: int = 0
    first_record: int | None = None
    epoch: int | None = None
    root_id: str | None = None
    previous: tuple[int, int, int, int] | None = None
    end: tuple[int, int, int, int] | None = None
    salt: int | None = None
    created_ns: int | None = None
    first_timestamp_ns: int | None = None
    last_timestamp_ns: int | None = None
    torn_bytes: int = 0
    problem: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class InspectedRecord:
    """One manifest record, with its place.

    Attributes:
        chunk_id: The chunk that it is in.
        position: Of its frame in the chunk's file, in bytes.
        ordinal: Number of the record within the chunk, from 0.
        number: Number of the record within the manifest, from 0.
        timestamp_ns: When it was appended, since 1970, UTC.
        type: Name of the record's type, `SEAL_SEGMENT` for example; `?` where it cannot be decoded.
        segment_id: The segment that it is about; 0 where it is about the stream.
        offset: End offset of a sealed segment, else the offset that the record is about.
        fields: What the type adds; sizes in bytes, checksums as integers.
        problem: Why it cannot be decoded, although its checksum is good; None when it can.
    """

    chunk_id: int
    position: int
    ordinal: int
    number: int
    timestamp_ns: int
    type: str
    segment_id: int
    offset: int
    fields: dict[str, Any]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A chunk, its records, and their payloads."""

    info: ChunkInfo
    records: list[InspectedRecord]
    payloads: list[bytes]


def view_chunk(directory: Directory, identity: StreamIdentity, chunk_id: int) -> ChunkView | None:
    """Read a chunk, beside whoever writes to it.

    Returns:
        What is there; None where there is no such file (any more). `OSError` when the disk fails.
    """
    name = chunk_name(chunk_id)
    path = directory.join(name)
    try:
        size = directory.size(name)
        reader = ChunkReader(directory, name, stream_uuid=identity.uuid, chunk_id=chunk_id)
    except FileNotFoundError:
        return None
    except (CorruptionError, FormatError) as error:
        info = ChunkInfo(
            chunk_id,
            path,
            size,
            CORRUPT,
            False,
            problem=error.message,
            position=error.position,
        )
        return ChunkView(info, [], [])
    try:
        return _view(directory, reader, size)
    finally:
        reader.close()


def _view(directory: Directory, reader: ChunkReader, size: int) -> ChunkView:
    found: list[tuple[int, bytes]] = []
    problem: CorruptionError | FormatError | None = None
    try:
        found = reader.read()
        state = _judge(reader, found)
    except (CorruptionError, FormatError) as error:
        state, problem = CORRUPT, error
    header, start = reader.header, reader.start
    records = _records(directory, reader, found)
    point = (header.file_id, reader.position, reader.end_offset, reader.chain_crc)
    info = ChunkInfo(
        chunk_id=header.file_id,
        path=reader.path,
        bytes=size,
        state=state,
        crc_good=problem is None,
        records=len(found),
        first_record=None if start is None else start.base_offset,
        epoch=None if start is None else start.epoch,
        root_id=None if start is None else start.root_id.hex(),
        previous=None
        if start is None
        else (
            start.previous_id,
            start.previous_end_position,
            start.previous_end_offset,
            start.previous_chain_crc,
        ),
        end=point if problem is None and found else None,
        salt=header.salt,
        created_ns=header.created_ns,
        first_timestamp_ns=records[0].timestamp_ns if records else None,
        last_timestamp_ns=records[-1].timestamp_ns if records else None,
        torn_bytes=max(0, reader.torn_end - reader.position) if state == "torn" else 0,
        problem=None if problem is None else problem.message,
        position=None if problem is None else problem.position,
    )
    return ChunkView(info, records, [payload for _, payload in found])


def _judge(reader: ChunkReader, found: list[tuple[int, bytes]]) -> str:
    """What the chunk's end is worth; what looks damaged is read again while it still grows."""
    while True:
        seen = (reader.position, reader.whole)
        try:
            return reader.state()
        except (CorruptionError, FormatError):
            # Behind a live writer, a later frame may have been seen before an earlier one.
            found += reader.read()
            if seen == (reader.position, reader.whole):
                raise


def _records(
    directory: Directory, reader: ChunkReader, found: list[tuple[int, bytes]]
) -> list[InspectedRecord]:
    start, header = reader.start, reader.header
    if start is None or not found:
        return []
    # The frames carry the time stamps; the cursor of the segments reads them as well.
    cursor = RecordCursor(start.base_offset)
    cursor.enter(header.salt, start.base_offset, start.ext_id, found[0][0])
    cursor.load(Window(directory.read(reader.name, limit=FILE_BYTES_MAX), 0))
    records = []
    for ordinal, (position, payload) in enumerate(found):
        frame = cursor.next_record()
        problem = None
        try:
            record: ManifestRecord | None = decode(payload)
        except (CorruptionError, FormatError) as error:
            record, problem = None, error.message
        records.append(
            InspectedRecord(
                chunk_id=header.file_id,
                position=position,
                ordinal=ordinal,
                number=start.base_offset + ordinal,
                timestamp_ns=0 if frame is None else frame.timestamp_ns,
                type="?" if record is None else RecordType(record.type).name,
                segment_id=0 if record is None else record.segment_id,
                offset=0 if record is None else record.offset,
                fields={} if record is None else record.fields,
                problem=problem,
            )
        )
    return records
