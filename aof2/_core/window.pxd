# A stretch of one log file's bytes, wherever they come from.

from libc.stdint cimport uint8_t, uint64_t


cdef class Window:
    cdef const uint8_t *data     # the byte at position `start`
    cdef readonly uint64_t start
    cdef readonly uint64_t end   # position just past the last byte at hand
    cdef readonly object owner   # keeps the bytes alive
    cdef Py_buffer _view
    cdef Py_ssize_t _shape[1]


# A window over memory that `owner` keeps alive.
cdef Window make_window(const uint8_t *data, uint64_t start, uint64_t n, object owner)
