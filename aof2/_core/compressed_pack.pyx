"""Compressing a sealed segment piece by piece, for a file or for whoever passes the bytes on.

The same segment, level and `frame_bytes` give the same bytes each time, as long as zstd is the same
one. So whoever cannot keep the bytes makes them twice: once to know their size and checksum, once
to send them.
"""

from collections import namedtuple

import xxhash
import zstandard

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aof2._core.checksum cimport crc64
from aof2._core.compressed_cut cimport SealedSource
from aof2._core.compressed_table cimport encode_tables
from aof2._core.layout cimport WarmEntry, WarmTableHeader

from aof2.errors import AofError, CompressionFailed


class CompressedInfo(
    namedtuple(
        "CompressedInfo",
        "bytes table_bytes crc64 raw_bytes raw_crc64 "
        "stream_uuid segment_id epoch base_offset end_offset",
        defaults=(0, 0, b"", 0, 0, 0, 0),
    )
):
    """What a `.seg.zst` file is, for the manifest and for comparing two copies.

    Attributes:
        bytes: Size of the file.
        table_bytes: Size of what follows its last data frame: our table and the seek table.
        crc64: CRC-64/NVME of the file.
        raw_bytes: Size of the sealed segment that it holds.
        raw_crc64: CRC-64/NVME of that segment.
        stream_uuid: 16 bytes that name the stream.
        segment_id: Ordinal of the segment in its stream.
        epoch: Epoch of the writer that wrote the segment.
        base_offset: Offset of the segment's first record.
        end_offset: Offset just past its last record.

    Example:
        >>> CompressedInfo(bytes=1000, table_bytes=253, crc64=7).raw_bytes
        0
    """

    __slots__ = ()


cdef object make_info(const WarmTableHeader *header, uint64_t n, uint64_t table_bytes,
                      uint64_t crc):
    return CompressedInfo(
        n, table_bytes, crc, header.raw_bytes, header.raw_crc64,
        (<const char *> header.stream_uuid)[:16], header.segment_id, header.epoch,
        header.base_offset, header.end_offset,
    )


cdef class Packer:
    """Makes the bytes of one `.seg.zst` file, about `group_bytes` of the segment at a time.

    Args:
        sealed: The segment; nothing of it was read yet.
        level: zstd's.
        prove: Decompress everything again and compare it with what was read.
    """

    def __init__(self, SealedSource sealed not None, int level, bint prove=False):
        self.sealed = sealed
        self.compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        self.prover = zstandard.ZstdDecompressor() if prove else None
        self.hashes = []

    cdef bytes next(self):
        cdef Py_ssize_t known = len(self.hashes)
        cdef bytes packed
        cdef const char *data
        cdef uint64_t n, crc = self.crc
        if self.info is not None:
            return None
        raw = self.sealed.next_group()
        packed = self._tables() if raw is None else self._compress(raw, known)
        data, n = PyBytes_AS_STRING(packed), len(packed)
        with nogil:
            crc = crc64(crc, data, n)
        self.crc = crc
        self.position += n
        if raw is None:
            self.info = self.info._replace(bytes=self.position, crc64=self.crc)
        return packed

    cdef bytes _tables(self):
        cdef WarmTableHeader header
        cdef bytes tables
        self.sealed.finish_entries()
        self.sealed.describe(&header)
        tables = encode_tables(&header, self.sealed.entries, self.hashes)
        self.info = make_info(&header, 0, len(tables), 0)
        return tables

    cdef bytes _compress(self, object raw, Py_ssize_t known):
        """Compress the pieces from number `known` on, with which `raw` begins; fill their
        entries."""
        cdef WarmEntry *entry = (<WarmEntry *> <char *> self.sealed.entries) + known
        cdef Py_ssize_t i, n = len(self.sealed.entries) // sizeof(WarmEntry) - known
        cdef uint64_t base = entry[0].raw_position, at = 0
        cdef bytearray places = bytearray(16 * n)
        cdef uint64_t *place = <uint64_t *> <char *> places
        cdef bytes packed
        cdef const uint8_t *data
        view = memoryview(raw)
        for i in range(n):
            place[2 * i] = entry[i].raw_position - base
            place[2 * i + 1] = entry[i].raw_bytes
            self.hashes.append(xxhash.xxh64_intdigest(view[place[2 * i]:][:entry[i].raw_bytes])
                               & 0xFFFFFFFF)
        results = self.compressor.multi_compress_to_buffer(
            zstandard.BufferWithSegments(raw, places))
        parts = [results[i] for i in range(n)]
        for i in range(n):
            entry[i].compressed_bytes = <uint32_t> len(parts[i])
            if self.prover is not None and (
                self.prover.decompress(parts[i]) != view[place[2 * i]:][:entry[i].raw_bytes]
            ):
                raise CompressionFailed("zstd does not give back what it was given",
                                        path=self.sealed.path)
        packed = b"".join(parts)
        data = <const uint8_t *> PyBytes_AS_STRING(packed)
        with nogil:
            for i in range(n):
                entry[i].crc64 = crc64(0, data + at, entry[i].compressed_bytes)
                at += entry[i].compressed_bytes
        return packed


def measure(SealedSource sealed not None, *, int level=1, stop=None):
    """Compress a sealed segment and keep nothing but what is said about its `.seg.zst` file.

    Everything is decompressed again and compared, so the bytes that `pieces` then makes are good if
    their checksum is the one told here. About two of the source's groups are in memory at any time.

    Args:
        sealed: The segment; its `frame_bytes` are those of the file.
        level: As for `compressed.build`.
        stop: Asked at every group; True gives up.

    Returns:
        The `CompressedInfo` of the file that `compressed.build` would make.

    `SegmentCorrupt` when the segment itself does not check, `VersionTooNew` when it is of a newer
    version, `CompressionFailed` for everything else.
    """
    cdef Packer packer
    try:
        packer = Packer(sealed.again(), level, True)
        while packer.next() is not None:
            _check_stop(stop, sealed.path)
    except (OSError, zstandard.ZstdError, MemoryError) as error:
        if isinstance(error, AofError):
            raise
        raise CompressionFailed(f"compression failed: {error}", path=sealed.path) from error
    return packer.info


def pieces(SealedSource sealed not None, *, int level=1, stop=None):
    """Make the bytes of a sealed segment's `.seg.zst` file, one group after the other.

    Args:
        sealed, level, stop: As for `measure`.

    Yields:
        Bytes that are the file, one behind the other.

    Raises as `measure` does, but `OSError` and `zstandard.ZstdError` as they come.
    """
    cdef Packer packer = Packer(sealed.again(), level, False)
    while True:
        _check_stop(stop, sealed.path)
        piece = packer.next()
        if piece is None:
            return
        yield piece


cdef int _check_stop(stop, path) except -1:
    if stop is not None and stop():
        raise CompressionFailed("stopped", path=path)
    return 0
