# Making a landing ring.

from libc.stdint cimport uint64_t

from aof2._core.hotlog cimport HotLog
from aof2._core.posix cimport Directory

# A power of two, at least `wanted` and at least a page.
cdef uint64_t ring_bytes_for(uint64_t wanted) noexcept nogil
# Make the ring file and put it in the place of the log's ring; everything must be written out.
cdef int create_ring(HotLog *log, Directory directory, bytes stream_uuid,
                     uint64_t ring_bytes) except -1
