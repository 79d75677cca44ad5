# Single records of hot segments at random, in one call.

from libc.stdint cimport uint32_t, uint64_t

from aof2._core.manifest_fold cimport Fold
from aof2._core.mapping cimport MappedSegment
from aof2._core.record cimport Record
from aof2._core.unsealed cimport UnsealedLookup


cdef class HeldSegment:
    cdef uint64_t segment_id
    cdef uint64_t base_offset
    cdef uint64_t end_offset             # as `base_offset` while it is not sealed
    cdef MappedSegment source


cdef class PointReader:
    cdef Fold _fold
    cdef UnsealedLookup _writer          # None once it was closed
    cdef object _slow
    cdef object _touch
    cdef list _held                      # by base offset
    cdef HeldSegment _last               # the one that the last call found its record in
    cdef uint32_t _hits
    cdef Record _find(self, uint64_t offset)
    # The held segment with the largest base offset that is not beyond `offset`, or None.
    cdef HeldSegment _holding(self, uint64_t offset)
    cdef HeldSegment _unsealed_of(self, uint64_t segment_id)
    cdef Record _in_sealed(self, HeldSegment held, uint64_t offset)
    cdef Record _in_unsealed(self, uint64_t offset)
