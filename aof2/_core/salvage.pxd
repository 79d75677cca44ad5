# What can still be read of a damaged hot segment.

from libc.stdint cimport uint8_t, uint64_t


cdef class SalvagedSegment:
    cdef readonly str path
    cdef readonly uint64_t salt
    cdef readonly uint64_t base_offset
    cdef readonly uint64_t end_offset
    cdef readonly uint64_t ext_id
    cdef uint8_t *_data          # the file; what could not be read is zero
    cdef uint64_t _bytes
    cdef list _stretches         # position, end, offset, next offset: frames without a hole

    cdef int _load(self, int fd, uint64_t n) except -1
    cdef bint _identify(self, int fd, bytes stream_uuid, uint64_t segment_id) except -1
    cdef int _scan(self) except -1
