# Reads stretches of a file one after the other, from where they are.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.directory cimport Directory


cdef class StretchReader:
    cdef int _fd
    cdef int _direct_fd
    cdef uint8_t *_memory
    cdef uint64_t _room

    # Another one of the same file, also where its name is gone by now.
    cdef StretchReader twin(self)
    # The bytes [position, position + n), valid until the next call; `got` says how many there are.
    # NULL: `error` has an errno.
    cdef const uint8_t *read(self, uint64_t position, uint64_t n, uint64_t *got,
                             int *error) noexcept nogil
