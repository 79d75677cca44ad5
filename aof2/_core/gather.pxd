# Gathering a caller's payloads into the shape that a batch frame is written from.

from libc.stdint cimport uint32_t, uint64_t

from aof2._core.put cimport BatchSource


cdef class Gathered:
    cdef BatchSource source
    cdef list owners                     # keep converted payloads alive
    cdef uint32_t *_ends
    cdef uint64_t *_ext_ids
    cdef const unsigned char **_pieces
    cdef Py_buffer _data
    cdef int _reserve(self, uint64_t count, bint pieces, bint ext_ids) except -1
    cdef int _take_ext_ids(self, object ext_ids, uint64_t count) except -1


cdef Gathered gather_many(object payloads, object ext_ids)
cdef Gathered gather_packed(object data, object ends, object ext_ids)
