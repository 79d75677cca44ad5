# What can still be read of a damaged hot segment.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.logfile cimport LogHeader
from aof2._core.ringview cimport RingView


cdef class SalvagedSegment:
    cdef readonly str path
    cdef readonly uint64_t salt
    cdef readonly uint64_t base_offset
    cdef readonly uint64_t end_offset
    cdef readonly uint64_t ext_id
    cdef readonly bint identified  # it is the segment that it should be
    cdef readonly bint started   # there is a good start block, or a frame
    cdef readonly bint whole     # there is a good END
    cdef uint8_t *_data          # the file; what could not be read is zero
    cdef uint64_t _bytes
    cdef list _stretches         # position, end, offset, next offset: frames without a hole

    cdef int _load(self, int fd, uint64_t n) except -1
    cdef bint _identify(self, int fd, bytes stream_uuid, uint64_t segment_id) except -1
    cdef int _begin(self, int fd, RingView ring) except -1
    cdef int _overlay(self, RingView ring, uint64_t ring_base) except -1
    cdef int _scan(self) except -1
