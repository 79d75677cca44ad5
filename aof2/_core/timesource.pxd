# The clock that is handed to the core.

from libc.stdint cimport int64_t


cdef class TimeSource:
    cdef int64_t (*now)(void *context) noexcept nogil
    cdef void *context


cdef class ManualTime(TimeSource):
    cdef int64_t _value
