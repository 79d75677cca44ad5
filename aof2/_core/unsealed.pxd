# Finding records in segments that are not sealed yet.

from libc.stdint cimport uint64_t

from aof2._core.append cimport Appender
from aof2._core.hotlog cimport HotFile


cdef class UnsealedLookup(Appender):
    # The segment of an id, or NULL once it was retired.
    cdef HotFile *_find(self, uint64_t segment_id)
