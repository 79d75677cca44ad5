# Waiting for what the writer's threads do, and telling of it.

from libc.stdint cimport int64_t, uint64_t

from aof2._core.bell cimport Bell
from aof2._core.directory cimport Directory
from aof2._core.hotlog cimport HotLog

cdef enum:
    WAIT_SLICE_NS = 100000000            # signals are looked at this often


cdef class Durability:
    cdef HotLog *log
    cdef Directory directory
    cdef Bell bell                       # kept alive for the log
    cdef object host                     # what the writer asks when it needs something
    cdef readonly str stream
    cdef double default_timeout_s        # below 0: for ever

    cdef int _check_running(self) except -1
    cdef double _limit(self, object timeout) except? -2.0
    cdef int _tell(self, object kind, int64_t waited, bint *told) except -1
    cdef int _wait_durable(self, uint64_t next_offset, object timeout) except -1
