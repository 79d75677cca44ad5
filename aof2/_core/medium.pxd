# Reads a file from its device: `read()` a piece, `crc64` of what was read so far.

from libc.stdint cimport uint8_t, uint64_t


cdef class MediumReader:
    cdef readonly str path
    cdef readonly uint64_t size
    cdef readonly uint64_t crc64
    cdef int _fd
    cdef uint64_t _position
    cdef uint64_t _end
    cdef uint8_t *_buffer
