"""The tables at the end of a `.seg.zst` file, and the one place where its bytes reach zstd.

After the data frames come two skippable frames, so that every zstd reader passes over them: our
table (`WarmTableHeader`, one `WarmEntry` per data frame, a checksum over both), then the seek table
of the public seekable format. A reader's algorithm:

1. Read the tables; their size is known, or follows from the count in the file's last nine bytes.
2. The checksum of our table must match before any field of it is believed.
3. Every sum must come out: compressed bytes to the file's size, raw bytes to the segment's, and the
   seek table must say the same as ours.
4. Compressed bytes are checked against their entry's checksum, and the raw size that their zstd
   header claims against the entry, before zstd sees them. So a wrong file costs no more memory than
   it says.
"""

import zstandard

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport (
    FORMAT_VERSION,
    FRAMES_AT,
    Footer,
    INCOMPATIBLE_KNOWN,
    WarmEntry,
    WarmTableHeader,
)
from aof2.errors import FormatError, ObjectCorrupt, VersionTooNew

cdef object _decompressor = zstandard.ZstdDecompressor()


cdef uint32_t _u32(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef uint64_t _content_bytes(const uint8_t *at, uint64_t n) noexcept nogil:
    """Raw size that a zstd frame's header claims; UINT64_MAX when it claims none we would allow."""
    cdef uint64_t value = 0
    cdef uint64_t position = 5
    cdef unsigned int size
    if n < 6 or _u32(at) != <uint32_t> 0xFD2FB528U or at[4] & 0x0B:
        return UINT64_MAX  # Not zstd, or with a dictionary or a reserved bit.
    if at[4] & 0x20:
        size = 1 if at[4] >> 6 == 0 else 1u << (at[4] >> 6)
    else:
        # Without a single segment zstd may allocate a window of its own, which we bound to 16 MiB.
        if at[4] >> 6 == 0 or at[5] >> 3 > 13:
            return UINT64_MAX
        size = 1u << (at[4] >> 6)
        position = 6
    if n < position + size:
        return UINT64_MAX
    memcpy(&value, at + position, size)
    return value + 256 if size == 2 else value


cdef class WarmTable:
    """What the tables of one file say, checked."""

    def __dealloc__(self):
        free(self.at)

    cdef uint64_t raw_end(self, uint32_t last) noexcept nogil:
        return <uint64_t> self.entries[last - 1].raw_position + self.entries[last - 1].raw_bytes

    cdef uint32_t find(self, uint64_t position) noexcept nogil:
        cdef uint32_t low = 0, high = self.count, middle
        while high - low > 1:
            middle = low + (high - low) // 2
            if self.entries[middle].raw_position <= position:
                low = middle
            else:
                high = middle
        return low

    cdef bint inside(self, uint32_t index) noexcept nogil:
        return 0 < index < self.count - 1 and (
            self.entries[index].first_offset == self.entries[index + 1].first_offset
        )

    cdef int corrupt(self, str what, uint64_t position) except -1:
        raise ObjectCorrupt(what, path=self.path, position=position)

    cdef object decompress(self, object packed, uint32_t first, uint32_t last):
        cdef const uint8_t[::1] data = packed
        cdef uint32_t i, bad, n = last - first
        cdef uint64_t base = self.at[first]
        cdef bytes places = PyBytes_FromStringAndSize(NULL, 16 * n)
        cdef bytes sizes = PyBytes_FromStringAndSize(NULL, 8 * n)
        cdef uint64_t *place = <uint64_t *> PyBytes_AS_STRING(places)
        cdef uint64_t *size = <uint64_t *> PyBytes_AS_STRING(sizes)
        if <uint64_t> data.shape[0] != self.at[last] - base:
            self.corrupt(f"{data.shape[0]} bytes where {self.at[last] - base} must be", base)
        with nogil:
            bad = last
            for i in range(first, last):
                place[2 * (i - first)] = self.at[i] - base
                place[2 * (i - first) + 1] = self.entries[i].compressed_bytes
                size[i - first] = self.entries[i].raw_bytes
                if crc64(0, &data[self.at[i] - base], self.entries[i].compressed_bytes) != (
                    self.entries[i].crc64
                ) or _content_bytes(
                    &data[self.at[i] - base], self.entries[i].compressed_bytes
                ) != self.entries[i].raw_bytes:
                    bad = i
                    break
        if bad != last:
            self.corrupt("compressed bytes do not match their checksum", self.at[bad])
        try:
            out = _decompressor.multi_decompress_to_buffer(
                zstandard.BufferWithSegments(packed, places), decompressed_sizes=sizes
            )
        except zstandard.ZstdError as error:
            raise ObjectCorrupt(
                f"zstd cannot decompress it: {error}", path=self.path, position=base
            ) from error
        return out[0] if n == 1 else _join(out, n, self.raw_end(last)
                                           - self.entries[first].raw_position)


cdef bytes _join(object parts, uint32_t count, uint64_t total):
    """One run of bytes: zstandard may spread its results over several allocations."""
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, total)
    cdef char *target = PyBytes_AS_STRING(whole)
    cdef const uint8_t[::1] part
    cdef uint32_t i
    for i in range(count):
        part = parts[i]
        with nogil:
            memcpy(target, &part[0], part.shape[0])
        target += part.shape[0]
    return whole


cdef uint32_t _first_bad(WarmTable table, uint64_t data_bytes) noexcept nogil:
    """Fill `table.at`; the first entry that contradicts the others, or `count`."""
    cdef uint64_t raw = 0, at = 0, offset = table.header.base_offset
    cdef int64_t time = table.entries[0].max_timestamp_ns
    cdef const WarmEntry *entry
    cdef const uint8_t *seek
    cdef uint32_t i
    for i in range(table.count):
        entry = &table.entries[i]
        seek = table.seek + SEEK_ENTRY_BYTES * i
        if (
            entry.raw_position != raw or entry.raw_bytes == 0 or entry.compressed_bytes == 0
            or entry.raw_bytes > FRAME_RAW_BYTES_MAX
            or entry.first_offset < offset or entry.first_offset > table.header.end_offset
            or (i == 0 and entry.first_offset != offset) or entry.max_timestamp_ns < time
            or entry.compressed_bytes > data_bytes - at
            or _u32(seek) != entry.compressed_bytes or _u32(seek + 4) != entry.raw_bytes
        ):
            return i
        table.at[i] = at
        at += entry.compressed_bytes
        raw += entry.raw_bytes
        offset = entry.first_offset
        time = entry.max_timestamp_ns
    table.at[table.count] = at
    i = table.count - 1
    table.frames_end = table.entries[i].raw_position
    if (
        at != data_bytes or raw != table.header.raw_bytes or offset != table.header.end_offset
        or table.frames_end < FRAMES_AT or table.entries[i].raw_bytes < sizeof(Footer)
    ):
        return i
    return table.count


cdef WarmTable parse_table(bytes tail, uint64_t file_bytes, str path):
    cdef WarmTable table = WarmTable.__new__(WarmTable)
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(tail)
    cdef uint64_t n = len(tail), start = file_bytes - n, size, crc
    cdef const uint8_t *foot = at + n - SEEK_FOOT_BYTES
    cdef uint32_t bad
    table.path = path
    table._tail = tail
    if n < TABLE_BASE_BYTES or n > file_bytes or _u32(at) != <uint32_t> SKIP_MAGIC:
        table.corrupt("no table where it must begin", start)
    size = _u32(at + 4)
    if size < sizeof(WarmTableHeader) + 8 or size + SKIP_HEADER_BYTES > n:
        table.corrupt("the table's size is impossible", start)
    memcpy(&crc, at + size, 8)
    if crc64(0, at + SKIP_HEADER_BYTES, size - 8) != crc:
        table.corrupt("the table does not match its checksum", start)
    memcpy(&table.header, at + SKIP_HEADER_BYTES, sizeof(WarmTableHeader))
    if memcmp(table.header.magic, b"AOF2WARM", 8) != 0:
        raise FormatError("not a table of this library", path=path, position=start)
    if table.header.version != FORMAT_VERSION or (
        table.header.incompatible & ~(<uint32_t> INCOMPATIBLE_KNOWN)
    ):
        raise VersionTooNew("written by a newer version; upgrade", path=path, position=start)
    table.count = table.header.entry_count
    table.entries = <const WarmEntry *> (at + SKIP_HEADER_BYTES + sizeof(WarmTableHeader))
    # Our table, the seek table with one more entry for our table's own frame, and nothing else.
    if (
        table.count < 2 or n != tables_bytes(foot, file_bytes, path)
        or n != TABLE_BASE_BYTES + TABLE_STEP_BYTES * <uint64_t> table.count
        or size != sizeof(WarmTableHeader) + 8 + sizeof(WarmEntry) * <uint64_t> table.count
    ):
        table.corrupt("the table's size contradicts its count", start)
    table.seek = at + SKIP_HEADER_BYTES + size + SKIP_HEADER_BYTES
    if (
        _u32(table.seek - 8) != <uint32_t> SEEK_MAGIC
        or _u32(table.seek - 4) != SEEK_ENTRY_BYTES * (table.count + 1) + SEEK_FOOT_BYTES
        or _u32(foot - 12) != size + SKIP_HEADER_BYTES or _u32(foot - 8) != 0
        or _u32(foot - 4) != XXH64_OF_NOTHING
    ):
        table.corrupt("the seek table does not match the table", start + 8 + size)
    table.at = <uint64_t *> malloc(8 * (<size_t> table.count + 1))
    if table.at == NULL:
        raise MemoryError
    with nogil:
        bad = _first_bad(table, start)
    if bad != table.count:
        table.corrupt(f"entry {bad} of the table contradicts the file", start)
    return table


cdef uint64_t tables_bytes(const uint8_t *foot, uint64_t file_bytes, str path) except 0:
    cdef uint64_t count = _u32(foot)
    cdef uint64_t size = TABLE_BASE_BYTES + TABLE_STEP_BYTES * (count - 1)
    if (
        _u32(foot + 5) != <uint32_t> SEEK_FOOT_MAGIC or foot[4] != SEEK_DESCRIPTOR or count < 3
        or size > file_bytes or size > TABLE_BYTES_MAX
    ):
        raise ObjectCorrupt("no seek table at the end", path=path,
                            position=file_bytes - SEEK_FOOT_BYTES)
    return size


cdef int check_table_bytes(uint64_t file_bytes, uint64_t table_bytes, str path) except -1:
    if not TABLE_BASE_BYTES <= table_bytes <= min(file_bytes, <uint64_t> TABLE_BYTES_MAX):
        raise ObjectCorrupt(f"a table of {table_bytes} bytes cannot be in a file of {file_bytes}",
                            path=path, position=0)
    return 0


cdef uint8_t *_put32(uint8_t *at, uint32_t value) noexcept nogil:
    memcpy(at, &value, 4)
    return at + 4


cdef bytes encode_tables(const WarmTableHeader *header, bytearray entries, list hashes):
    cdef uint32_t count = header.entry_count, i
    cdef uint32_t size = sizeof(WarmTableHeader) + sizeof(WarmEntry) * count + 8
    cdef bytes out = PyBytes_FromStringAndSize(NULL, TABLE_BASE_BYTES + TABLE_STEP_BYTES * count)
    cdef uint8_t *at = <uint8_t *> PyBytes_AS_STRING(out)
    cdef const WarmEntry *entry = <const WarmEntry *> <const char *> entries
    cdef uint64_t crc
    at = _put32(_put32(at, SKIP_MAGIC), size)
    memcpy(at, header, sizeof(WarmTableHeader))
    memcpy(at + sizeof(WarmTableHeader), entry, sizeof(WarmEntry) * count)
    crc = crc64(0, at, size - 8)
    memcpy(at + size - 8, &crc, 8)
    at = _put32(_put32(at + size, SEEK_MAGIC), SEEK_ENTRY_BYTES * (count + 1) + SEEK_FOOT_BYTES)
    for i in range(count):
        at = _put32(_put32(at, entry[i].compressed_bytes), entry[i].raw_bytes)
        at = _put32(at, <uint32_t> hashes[i])
    # Readers of the seekable format sum the sizes of all frames, so our skippable one is listed
    # too; it has no contents.
    at = _put32(_put32(_put32(at, size + SKIP_HEADER_BYTES), 0), XXH64_OF_NOTHING)
    at = _put32(at, count + 1)
    at[0] = SEEK_DESCRIPTOR
    _put32(at + 1, <uint32_t> SEEK_FOOT_MAGIC)
    return out
