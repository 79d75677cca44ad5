# Reading a `.seg.zst` file or object, of which only ranges are fetched.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.compressed_table cimport WarmTable
from aof2._core.window cimport Window


cdef class CompressedSegment:
    cdef readonly str path
    cdef WarmTable _table
    cdef object _fetch           # None once closed
    cdef object _lock            # guards what follows; never held while bytes are fetched
    cdef object _runs            # decompressed runs by start, the least recently used first
    cdef dict _run_of            # the run that holds a data frame
    cdef uint64_t _held_bytes
    cdef uint64_t _cache_bytes
    cdef uint64_t _last_start    # the run that was last given out
    cdef uint64_t _last_end
    cdef uint32_t _ahead         # data frames to fetch, doubling while reads are sequential

    cdef Window _cached(self, uint64_t position, uint64_t bytes_min)
    cdef uint32_t _end_of_run(self, uint32_t first, uint64_t bytes_min,
                              bint sequential) noexcept
    cdef int _keep(self, Window run, uint32_t first, uint32_t last) except -1
    cdef WarmTable _open(self)


# The tables of the file behind a descriptor.
cdef WarmTable read_table(int fd, str path, uint64_t file_bytes, uint64_t table_bytes)

# Exactly the bytes [start, end) of it; ObjectCorrupt where it ends early.
cdef bytes read_range(int fd, str path, uint64_t start, uint64_t end)

cdef uint64_t file_size(int fd) except? 0
