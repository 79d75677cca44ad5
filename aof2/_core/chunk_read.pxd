# Reading manifest chunks.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.manifest_fold cimport Fold
from aof2._core.logfile cimport LogHeader, StartInfo
from aof2._core.directory cimport Directory
from aof2._core.run cimport Run
from aof2._core.seal cimport FooterInfo

cdef enum:
    CHUNK_BYTES_LOWEST = 16384
    CHUNK_BYTES_HIGHEST = 1048576
    BODY_BYTES_MAX = 3968                # fits the smallest chunk as its only record


cdef class ChunkReader:
    cdef Run run
    cdef int _fd
    cdef uint64_t _size                  # of the file, at the last look
    cdef Directory _directory
    cdef readonly str name
    cdef readonly str path
    cdef readonly LogHeader header
    cdef readonly StartInfo start        # None: never started
    cdef readonly FooterInfo footer      # None: not sealed, or not looked for yet
    cdef readonly uint64_t position      # X: the first without a valid frame, or the END
    cdef readonly bint whole             # an END frame stands there
    cdef readonly uint64_t low           # something says that the file was durable up to here
    cdef readonly uint64_t slot_n        # of the newest confirmation slot; 0: there is none
    cdef readonly uint64_t slot_position
    cdef readonly uint64_t torn_end      # just past the last byte behind X that is not zero, or X

    cdef int _read_file(self, uint64_t at, uint64_t n, uint8_t *target, size_t *got) except -1
    cdef int _scan(self, const uint8_t *data, uint64_t n, list found, Fold fold) except -1
    cdef int _read_on(self, list found, Fold fold) except -1
    cdef int _look_ahead(self) except -1
    cdef bint _footer_agrees(self) except -1
