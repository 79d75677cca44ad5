# The writer of a stream's segments.

from libc.stdint cimport uint64_t

from aof2._core.landing cimport Landing


cdef class SegmentWriter(Landing):
    cdef bytes stream_uuid
    cdef bytes root_id
    cdef public uint64_t epoch            # in the start blocks of segments that begin from now on
    cdef public uint64_t ext_id          # default for new segments
    cdef long _pid
    # Facts about the file before the next one, for its start block.
    cdef uint64_t previous_id
    cdef uint64_t previous_end_position
    cdef uint64_t previous_end_offset
    cdef uint64_t previous_chain_crc

    cdef int _write_start_of_spare(self) except -1
