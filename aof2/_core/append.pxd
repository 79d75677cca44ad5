# Appending to a stream: the calls that users make, and what they do when there is no room.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from aof2._core.durability cimport Durability
from aof2._core.gather cimport Gathered
from aof2._core.timesource cimport TimeSource


cdef class Appender(Durability):
    cdef TimeSource time
    cdef uint64_t record_bytes_max
    cdef uint64_t batch_bytes_max
    cdef uint64_t file_room              # largest frame that any segment can hold
    cdef bint intake_ended               # the stream is being closed
    cdef int claiming                    # appends between the claim of a ring's room and the ring

    cdef object _append(self, object payload, object ext_id, bint nowait, object timeout)
    cdef object _append_batch(self, Gathered batch, bint durable, bint nowait, object timeout)
    cdef int _put(self, const uint8_t *data, uint64_t n, Gathered batch, object ext_id,
                  uint64_t *after) except -1
    cdef int _retry_until_put(self, const uint8_t *data, uint64_t n, Gathered batch,
                              object ext_id, bint nowait, object timeout, uint64_t *after) except -1
    cdef object _remedy(self, int status, uint64_t total, bint nowait)
    cdef int _pause(self, object kind, uint64_t total, int64_t began, object timeout,
                    uint64_t seen, bint *told) except -1
    cdef uint64_t _spare_room(self) noexcept
    cdef int _poke(self) except -1
    # The segment writer's part.
    cdef int _roll(self) except -1
    cdef object _claim_ring(self, uint64_t total)
    cdef object _make_ring(self, uint64_t ring_bytes)
    cdef bint _grow_ring(self, uint64_t total) except -1
