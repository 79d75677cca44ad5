# A whole file, mapped for reading.

from libc.stdint cimport uint64_t


cdef class FileMap:
    cdef void *_address
    cdef uint64_t _bytes
