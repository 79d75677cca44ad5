# One record as the user gets it.

from libc.stdint cimport int64_t, uint64_t


cdef class Record:
    cdef readonly uint64_t offset
    cdef readonly int64_t timestamp_ns
    cdef readonly uint64_t ext_id
    cdef readonly bytes payload


cdef Record make_record(uint64_t offset, int64_t timestamp_ns, uint64_t ext_id, bytes payload)
