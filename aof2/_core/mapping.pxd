# A hot segment, mapped for reading.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.layout cimport IndexEntry
from aof2._core.logfile cimport LogHeader, StartInfo
from aof2._core.directory cimport Directory
from aof2._core.ringview cimport RingView
from aof2._core.seal cimport FooterInfo


cdef class MappedSegment:
    cdef object __weakref__
    cdef readonly str path
    cdef readonly LogHeader header
    cdef readonly StartInfo start
    cdef readonly FooterInfo footer      # None while the segment is not sealed
    cdef const uint8_t *_data
    cdef uint64_t _bytes                 # mapped
    cdef RingView _ring
    cdef uint64_t _written               # without a ring: what is behind it is not seen
    cdef uint8_t _read[256]              # stretches that were read from the medium; 1 GiB at most
    cdef const IndexEntry *_index(self) except? NULL
    cdef int _populate(self, uint64_t position, uint64_t end) except -1
    # The end of what was read from the medium, from a position on; at or before it: nothing.
    cdef uint64_t _read_end(self, uint64_t position) noexcept
    cdef object _window_of(self, uint64_t position, uint64_t end, bint populate)
