# Reading a `.seg.zst` file or object, of which only ranges are fetched.

from libc.stdint cimport uint32_t, uint64_t

from aof2._core.compressed_table cimport WarmTable


cdef class CompressedSegment:
    cdef object __weakref__
    cdef readonly str path
    cdef WarmTable _table
    cdef object _fetch           # None once closed
    cdef uint32_t *_runs         # first data frame of each run, and the one behind the last run
    cdef readonly uint32_t run_count

    cdef int _find_runs(self) except -1
    cdef uint32_t _run_of(self, uint64_t position) noexcept
    cdef WarmTable _open(self)
