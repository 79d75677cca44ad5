# Making a landing ring.

from libc.stdint cimport uint8_t, uint64_t

# A power of two, at least `wanted` and at least four pages.
cdef uint64_t ring_bytes_for(uint64_t wanted) noexcept nogil
# Make, map and prefault a ring file under its temporary name; 0 or an errno, then nothing is left.
cdef int build_ring(int dirfd, const uint8_t *stream_uuid, uint64_t ring_bytes, void **header,
                    void **data) noexcept nogil
