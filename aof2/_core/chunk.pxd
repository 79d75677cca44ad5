# Writing manifest chunks.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.chunk_read cimport ChunkReader
from aof2._core.logfile cimport LogHeader, StartInfo
from aof2._core.directory cimport Directory
from aof2._core.timesource cimport TimeSource
from aof2._core.run cimport Run


cdef class ChunkWriter:
    cdef Run run
    cdef int _fd
    cdef uint8_t *_map                   # NULL: closed or sealed
    cdef uint64_t _slot_n
    cdef uint64_t _slot_position
    cdef TimeSource _time
    cdef readonly str name
    cdef readonly str path
    cdef readonly LogHeader header
    cdef readonly StartInfo start
    cdef readonly uint64_t position      # where the next frame goes; of the END once sealed
    cdef readonly uint64_t durable_position
    cdef readonly int failure            # errno that poisoned it; 0: none

    cdef int _begin(self, StartInfo start) except -1
    cdef int _resume(self, ChunkReader reader) except -1
    cdef int _usable(self) except -1
    cdef int _poison(self, int error, str doing) except -1
    cdef int _store(self, const uint8_t *payload, uint64_t n) noexcept nogil
    cdef int _slot(self) noexcept nogil
    cdef void _release(self) noexcept
