# On which processor the flush thread runs for a lone thread that waits for each of its flushes.

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    PLACE_FREE = -1              # wherever the system likes
    PLACE_SAMPLES = 15

cdef struct Placement:
    int asker                    # where the thread ran that asked for the next flush
    int now                      # where flushes run in this round
    int best                     # where they run but for a round now and then
    int held                     # where the thread is held
    bint freed                   # the newest challenger was PLACE_FREE
    uint32_t counted             # flushes of this round so far
    uint32_t rest                # rounds until `best` is challenged again
    int64_t took_ns[PLACE_SAMPLES]
    int64_t best_ns              # median of the newest round of `best`
    uint8_t allowed[128]         # where the thread may run while nothing holds it

cdef void place_init(Placement *place) noexcept nogil
# A flush that somebody had asked for took so long.
cdef void place_note(Placement *place, int64_t took_ns) noexcept nogil
# Have the calling thread run where the next such flush is to run.
cdef void place_hold(Placement *place) noexcept nogil
# Have it run wherever it may again.
cdef void place_release(Placement *place) noexcept nogil
