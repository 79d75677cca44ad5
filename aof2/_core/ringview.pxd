# A read-only view of a landing ring, of this process or another.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.directory cimport Directory
from aof2._core.layout cimport RingHeader


cdef class RingView:
    cdef readonly str path
    cdef const RingHeader *header
    cdef const uint8_t *data             # mapped twice in a row, so that no frame wraps
    cdef readonly uint64_t ring_bytes
    cdef void *_page                     # the header, writable for the waiter word; or NULL
    cdef uint32_t *_waiters
    cdef int64_t _spin_ns                # so long the next wait spins before it sleeps

    cdef int _open(self, Directory directory, str name, bint *waits) except -1
    cdef bint _moved(self, uint64_t next_offset, uint64_t durable_offset) noexcept nogil
    cdef void _wait(self, uint64_t next_offset, uint64_t durable_offset,
                    int64_t limit_ns) noexcept nogil


# Where the byte of a ring coordinate lies, and how many follow it in memory.
cdef const uint8_t *ring_at(RingView ring, uint64_t coordinate, uint64_t *available) noexcept nogil
# Map a ring file's data twice in a row behind one reservation; 0 or an errno.
cdef int map_ring(int fd, uint64_t ring_bytes, bint writable, void **header,
                  void **data) noexcept nogil
cdef void unmap_ring(void *header, void *data, uint64_t ring_bytes) noexcept nogil
