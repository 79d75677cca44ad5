# A sealed segment, read in groups and cut into pieces for a `.seg.zst` file.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.layout cimport Footer, WarmEntry, WarmTableHeader
from aof2._core.stretch cimport StretchReader

cdef struct Walk:
    uint64_t start               # where the next piece begins
    uint64_t at                  # the next frame of the log, or just past a long one
    uint64_t inside              # bytes of a long frame that are still to be cut
    int64_t ordinal              # of the last frame, -1 before the first
    uint64_t first_offset        # of the first record that starts in the piece; NO_RECORD: none yet
    int64_t max_timestamp_ns
    bint ended                   # past END: what is left is index and footer


cdef class SealedSource:
    cdef readonly str path
    cdef uint64_t file_bytes
    cdef uint64_t frame_bytes
    cdef uint64_t group_bytes
    cdef uint64_t before_crc64   # running checksums of what was read
    cdef uint64_t raw_crc64
    cdef Footer footer
    cdef uint64_t epoch
    cdef Walk walk
    cdef bytearray entries       # WarmEntry of each piece, 0 in what only compressing tells
    cdef StretchReader _file

    # The same file, to be read from the front once more, also where its name is gone by now.
    cdef SealedSource again(self)
    cdef int _begin(self) except -1

    # The next pieces' bytes, valid until the next call, about `group_bytes` unless one piece is
    # longer, and their entries;
    # None at the end, where the source was compared with its footer.
    cdef object next_group(self)
    # Entries inside a long frame, or behind the last record, take the offset of what follows them.
    cdef int finish_entries(self) except -1
    cdef void describe(self, WarmTableHeader *header) noexcept
    cdef int corrupt(self, str what, uint64_t position) except -1
    cdef const uint8_t *_read(self, uint64_t position, uint64_t n) except NULL
    cdef int _append(self, const WarmEntry *entry) except -1
    cdef int _sum(self, const uint8_t *data, uint64_t start) except -1


cdef int check_footer(const Footer *footer) noexcept nogil
