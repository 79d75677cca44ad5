# A writer's landing ring: made, exchanged for a larger one, given back.

from libc.stdint cimport uint64_t

from aof2._core.gauges cimport WriterGauges


cdef class Landing(WriterGauges):
    cdef int _swap_ring(self) except -1
