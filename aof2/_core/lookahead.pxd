# Looking for valid frames behind a place where none is.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.ringview cimport RingView

cdef enum NextStatus:
    NEXT_NONE = 0                # no frame that validates begins in the stretch
    NEXT_FOUND = 1
    NEXT_LONG = 2                # `sight` looks like one, but it cannot be checked from these bytes

cdef struct Sight:
    uint64_t position            # where it begins in its file
    uint64_t total_bytes         # with padding
    uint32_t ordinal
    uint64_t durable_position    # 0: none claimed

cdef struct Ahead:
    uint64_t durable_position    # the largest that a valid frame claims; 0: none

# The first frame that validates and begins among the first `starts` bytes at `data`, which lie at
# `position` of a file; `available` bytes are at hand, no frame goes beyond `limit` in the file. Its
# ordinal is at least `ordinal_min`. Not more than `budget` bytes are checksummed, then NEXT_LONG;
# the caller checks that one by other means and goes on 8 bytes behind its `position`.
cdef int next_valid(const uint8_t *data, uint64_t available, uint64_t starts, uint64_t position,
                    uint64_t salt, uint64_t limit, int64_t ordinal_min, uint64_t *budget,
                    Sight *sight) noexcept nogil
# How many of `n` bytes there are up to the last one that is not zero.
cdef uint64_t data_bytes(const uint8_t *data, uint64_t n) noexcept nogil
# Every valid frame of a file from `start` on, and `data_end`: just past the last byte that is not
# zero, or `start`. 0 or an errno.
cdef int look_ahead(int fd, uint64_t salt, uint64_t start, uint64_t size, Ahead *ahead,
                    uint64_t *data_end) noexcept nogil
# The same in a landing ring, whose bytes may be those of any position from `start` to `size`.
cdef void look_ahead_ring(RingView ring, uint64_t salt, uint64_t ring_base, uint64_t start,
                          uint64_t size, Ahead *ahead) noexcept nogil
