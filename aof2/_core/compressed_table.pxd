# The tables at the end of a `.seg.zst` file, and the one place where bytes of it reach zstd.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.layout cimport WarmEntry, WarmTableHeader

cdef enum:
    SKIP_MAGIC = 0x184D2A5A      # the skippable frame with our table
    SEEK_MAGIC = 0x184D2A5E      # the skippable frame with the standard seek table
    SEEK_FOOT_MAGIC = 0x8F92EAB1
    SEEK_DESCRIPTOR = 0x80       # its entries carry checksums
    XXH64_OF_NOTHING = 0x51D8E999  # the low 32 bits, seed 0
    SKIP_HEADER_BYTES = 8
    SEEK_ENTRY_BYTES = 12
    SEEK_FOOT_BYTES = 9
    # Both tables of a file with n data frames are TABLE_BASE_BYTES + n * TABLE_STEP_BYTES long.
    TABLE_BASE_BYTES = 149
    TABLE_STEP_BYTES = 52
    # Bounds that keep a hostile file from asking for memory without limit.
    TABLE_BYTES_MAX = 67108864
    FRAME_RAW_BYTES_MAX = 16777216


cdef class WarmTable:
    cdef readonly str path
    cdef WarmTableHeader header
    cdef const WarmEntry *entries
    cdef uint64_t *at            # file position of each data frame, and the end of the last
    cdef uint32_t count          # data frames
    cdef uint64_t frames_end     # raw position just past the END frame
    cdef const uint8_t *seek     # entries of the standard seek table
    cdef bytes _tail             # what `entries` and `seek` point into

    cdef uint64_t raw_end(self, uint32_t last) noexcept nogil
    # The data frame that holds a raw position below `raw_bytes`.
    cdef uint32_t find(self, uint64_t position) noexcept nogil
    # Whether no record starts in a data frame: it lies inside a long frame of the log.
    cdef bint inside(self, uint32_t index) noexcept nogil
    cdef int corrupt(self, str what, uint64_t position) except -1
    # Raw bytes of the data frames [first, last); `packed` holds their compressed bytes.
    cdef object decompress(self, object packed, uint32_t first, uint32_t last)


# Take the tables from the last bytes of a file of `file_bytes`.
cdef WarmTable parse_table(bytes tail, uint64_t file_bytes, str path)

# Both skippable frames; `hashes` has the low 32 bits of XXH64 of every data frame's raw bytes.
cdef bytes encode_tables(const WarmTableHeader *header, bytearray entries, list hashes)

# Size of both tables, from the last SEEK_FOOT_BYTES of a file; ObjectCorrupt when they are no such.
cdef uint64_t tables_bytes(const uint8_t *foot, uint64_t file_bytes, str path) except 0

# ObjectCorrupt unless tables of so many bytes can be at the end of such a file.
cdef int check_table_bytes(uint64_t file_bytes, uint64_t table_bytes, str path) except -1
