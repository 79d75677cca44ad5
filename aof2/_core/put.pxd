# Putting frames into the landing ring: one copy, one checksum pass, one ordered store.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.hotlog cimport HotFile, HotLog

cdef struct BatchSource:
    uint32_t count
    uint64_t data_bytes
    const uint8_t *packed        # the payloads back to back, or NULL: `pieces` and `sizes`
    const uint8_t **pieces
    const uint32_t *ends         # count + 1, the first is 0
    const uint64_t *ext_ids      # count, or NULL

# All of these return a PutStatus and change nothing unless it is PUT_OK.
cdef int put_record(HotLog *log, const uint8_t *payload, uint64_t n, bint has_ext_id,
                    uint64_t ext_id, int64_t now_ns) noexcept nogil
cdef int put_batch(HotLog *log, const BatchSource *source, bint has_ext_id, uint64_t ext_id,
                   int64_t now_ns) noexcept nogil
# END behind the active file's last frame; the file is then no longer active.
cdef int put_end(HotLog *log, int64_t now_ns) noexcept nogil
# Make a file active: its first frame comes next.
cdef void activate(HotLog *log, HotFile *file) noexcept nogil
# Ring base that the next file will have once the active one has its END.
cdef uint64_t next_ring_base(HotLog *log) noexcept nogil
