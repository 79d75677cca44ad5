# Totals and sparse index of a run of frames, gathered as frames are added or scanned.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.layout cimport IndexEntry

cdef struct Run:
    uint64_t records
    uint64_t chain_crc
    int64_t first_timestamp_ns
    int64_t last_timestamp_ns
    int64_t max_timestamp_ns
    uint64_t durable_witness     # largest durable position that a frame claims
    uint64_t next_entry_at       # a frame at or behind this position gets an index entry
    IndexEntry *entries
    uint32_t entry_count
    uint32_t entry_capacity

cdef void run_init(Run *run) noexcept nogil
cdef void run_free(Run *run) noexcept nogil
# Add one frame; returns 0, or ENOMEM with nothing changed.
cdef int run_add(Run *run, uint64_t position, uint32_t count, int64_t timestamp_ns,
                 uint64_t frame_crc64) noexcept nogil
# The entry of the last indexed frame whose ordinal is at or below `ordinal`, or NULL.
cdef const IndexEntry *run_find(const IndexEntry *entries, uint32_t count,
                                uint64_t ordinal) noexcept nogil
# The entry before which every frame's timestamp is below `timestamp_ns`, or NULL: start at the
# front.
cdef const IndexEntry *run_find_time(const IndexEntry *entries, uint32_t count,
                                     int64_t timestamp_ns) noexcept nogil
