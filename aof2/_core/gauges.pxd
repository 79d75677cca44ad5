# What a stream's writer tells about itself.

from aof2._core.unsealed cimport UnsealedLookup


cdef class WriterGauges(UnsealedLookup):
    pass
