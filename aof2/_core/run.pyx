"""Totals and sparse index of a run of frames.

One index entry stands for the first frame that begins in each `INDEX_STEP_BYTES` of frames, so that
a lookup in an open segment costs a binary search and a walk over at most that many bytes.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport FRAMES_AT, INDEX_STEP_BYTES, IndexEntry


cdef void run_init(Run *run) noexcept nogil:
    memset(run, 0, sizeof(Run))
    run.next_entry_at = FRAMES_AT
    run.max_timestamp_ns = INT64_MIN


cdef void run_free(Run *run) noexcept nogil:
    free(run.entries)
    run.entries = NULL
    run.entry_count = run.entry_capacity = 0


cdef int _add_entry(Run *run, uint64_t position) noexcept nogil:
    cdef IndexEntry *entries
    cdef uint32_t capacity
    if run.entry_count == run.entry_capacity:
        capacity = 64 if run.entry_capacity == 0 else 2 * run.entry_capacity
        entries = <IndexEntry *> realloc(run.entries, capacity * sizeof(IndexEntry))
        if entries == NULL:
            return ENOMEM
        run.entries = entries
        run.entry_capacity = capacity
    entries = &run.entries[run.entry_count]
    entries.position = <uint32_t> position
    entries.ordinal = <uint32_t> run.records
    entries.max_timestamp_ns = run.max_timestamp_ns
    run.entry_count += 1
    run.next_entry_at = position + INDEX_STEP_BYTES
    return 0


cdef int run_add(
    Run *run, uint64_t position, uint32_t count, int64_t timestamp_ns, uint64_t frame_crc64
) noexcept nogil:
    cdef int64_t before = run.max_timestamp_ns
    if timestamp_ns > run.max_timestamp_ns:
        run.max_timestamp_ns = timestamp_ns
    if position >= run.next_entry_at and _add_entry(run, position) != 0:
        run.max_timestamp_ns = before
        return ENOMEM
    if run.records == 0:
        run.first_timestamp_ns = timestamp_ns
    run.last_timestamp_ns = timestamp_ns
    run.records += count
    run.chain_crc = crc64(run.chain_crc, &frame_crc64, 8)
    return 0


cdef const IndexEntry *run_find(
    const IndexEntry *entries, uint32_t count, uint64_t ordinal
) noexcept nogil:
    cdef uint32_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) // 2
        if entries[middle].ordinal <= ordinal:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return NULL
    return &entries[low - 1]


cdef const IndexEntry *run_find_time(
    const IndexEntry *entries, uint32_t count, int64_t timestamp_ns
) noexcept nogil:
    cdef uint32_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) // 2
        if entries[middle].max_timestamp_ns < timestamp_ns:
            low = middle + 1
        else:
            high = middle
    # Every frame up to and with entry low - 1 is older; frames between it and the next may not be.
    if low == 0:
        return NULL
    return &entries[low - 1]
