"""What links a sealed manifest chunk to its neighbours, read from the chunk's bytes.

Every byte is checked: the static header, the start block and the footer by their own checksums, and
all bytes before the footer by the footer's. The records are not decoded; a `ChunkReader` does that
once the bytes are a file.
"""

from typing import NamedTuple

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from aof2._core.checksum cimport crc64
from aof2._core.chunk_read cimport CHUNK_BYTES_HIGHEST
from aof2._core.layout cimport (
    END_BYTES,
    FORMAT_VERSION,
    FRAMES_AT,
    Footer,
    INCOMPATIBLE_KNOWN,
    START_AT,
    StartBlock,
)
from aof2._core.logfile cimport fill_start_crc
from aof2._core.seal cimport footer_position

from aof2.errors import ManifestCorrupt, VersionTooNew


class ChunkLink(NamedTuple):
    """Where a sealed chunk stands in its manifest.

    Attributes:
        chunk_id: Its number.
        epoch: Of the writer that began it.
        root_id: Of the root where it was written.
        previous: End of the chunk before it: number, END position, end offset, chain crc.
        end: The same of this one.
    """

    chunk_id: int
    epoch: int
    root_id: bytes
    previous: tuple[int, int, int, int]
    end: tuple[int, int, int, int]


cdef object read_sealed(const uint8_t *data, uint64_t n, SealedChunk *chunk, str path):
    cdef uint64_t at, crc, found
    cdef Footer *footer = &chunk.footer
    if n < FRAMES_AT + END_BYTES + sizeof(Footer) or n > CHUNK_BYTES_HIGHEST:
        return f"no sealed chunk has {n} bytes", 0
    memcpy(&chunk.header, data, sizeof(chunk.header))
    if (memcmp(chunk.header.magic, <const char *> b"AOF2MLOG", 8) != 0
            or chunk.header.crc64 != crc64(0, data, sizeof(chunk.header) - 8)):
        return "the static header does not check", 0
    if chunk.header.version > FORMAT_VERSION or (
            chunk.header.incompatible & ~(<uint32_t> INCOMPATIBLE_KNOWN)):
        raise VersionTooNew(f"format version {chunk.header.version}, "
                            f"features {chunk.header.incompatible:#x}: upgrade aof2", path=path)
    memcpy(&chunk.start, data + START_AT, sizeof(StartBlock))
    crc = chunk.start.crc64
    fill_start_crc(&chunk.start, chunk.header.salt)
    if crc != chunk.start.crc64:
        return "the start block does not check", START_AT
    at = n - sizeof(Footer)
    memcpy(footer, data + at, sizeof(Footer))
    if (memcmp(footer.magic, <const char *> b"AOF2FOOT", 8) != 0
            or footer.crc64 != crc64(0, data + at, sizeof(Footer) - 8)):
        return "there is no good footer at the end: cut short, or never sealed", at
    if footer.version > FORMAT_VERSION:
        raise VersionTooNew(f"footer version {footer.version}: upgrade aof2", path=path)
    with nogil:
        found = crc64(0, data, at)
    if (found != footer.before_crc64
            or footer.salt != chunk.header.salt
            or footer.file_id != chunk.header.file_id
            or footer.end_position < FRAMES_AT or footer.end_position >= at
            or footer.index_count > n
            or footer_position(footer.end_position, footer.index_count) != at
            or footer.base_offset != chunk.start.base_offset
            or footer.base_offset != chunk.start.previous_end_offset
            or footer.end_offset - footer.base_offset != footer.record_count):
        return "the contents do not agree with the footer", at
    return None


def chunk_link(bytes data not None, *, bytes stream_uuid not None, uint64_t chunk_id,
               str path not None):
    """Check the bytes of a sealed chunk, and say what it continues and where it ends.

    Args:
        data: The whole file.
        stream_uuid, chunk_id: What its header must say.
        path: Where the bytes come from, for errors.

    Returns:
        A `ChunkLink`. `ManifestCorrupt` when any byte is not what was sealed, or another chunk's.

    One pass, O(len(data)).
    """
    cdef SealedChunk chunk
    cdef object wrong = read_sealed(<const uint8_t *> <const char *> data, len(data), &chunk, path)
    if wrong is None and (<char *> chunk.header.stream_uuid)[:16] != stream_uuid:
        wrong = "the chunk belongs to another stream", 0
    if wrong is None and chunk.header.file_id != chunk_id:
        wrong = f"the chunk says it is number {chunk.header.file_id}", 0
    if wrong is not None:
        raise ManifestCorrupt(f"{wrong[0]}; restore the chunk from another copy",
                              path=path, position=wrong[1])
    return ChunkLink(
        chunk_id, chunk.start.epoch, (<char *> chunk.start.root_id)[:16],
        (chunk.start.previous_id, chunk.start.previous_end_position,
         chunk.start.previous_end_offset, chunk.start.previous_chain_crc),
        (chunk_id, chunk.footer.end_position, chunk.footer.end_offset, chunk.footer.chain_crc),
    )
