# Scanning a log file for its valid prefix.

from libc.stdint cimport uint64_t

from aof2._core.logfile cimport LogHeader, StartInfo
from aof2._core.lookahead cimport Ahead
from aof2._core.run cimport Run


cdef class Scan:
    cdef Run run
    cdef bint run_taken                  # the run now belongs to a writer
    cdef readonly LogHeader header
    cdef readonly StartInfo start
    cdef readonly uint64_t end_position  # X: first position without a valid frame, or END
    cdef readonly bint whole             # an END frame stands at X
    cdef readonly uint64_t torn_end      # just past the last byte behind X that is not zero, or X
    cdef Ahead ahead                     # what valid frames behind X say
    cdef readonly uint64_t slot_n        # of the newest confirmation slot; 0: there is none
    cdef readonly uint64_t slot_position # its durable position
    cdef readonly uint64_t slot_offset   # its next offset
    cdef readonly uint64_t ring_from     # from here on the frames came from the ring; 0: none did
    cdef readonly int status             # FrameStatus at X
