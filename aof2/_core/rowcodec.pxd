# Rows of a manifest's index as bytes: row images, and pages of 4,096 of them.

from libc.stdint cimport uint64_t

from aof2._core.manifest_rows cimport Row

cdef enum:
    SNAPSHOT_VERSION = 1

cdef bytes encode_rows(Row *rows, uint64_t n)
cdef int decode_rows(Row *rows, uint64_t n, const char *data, uint64_t size, str path) except -1
cdef bytes encode_page(Row *rows, uint64_t page_no, uint64_t number, bytes stream_uuid)
cdef int decode_page(Row *rows, uint64_t page_no, uint64_t number, bytes stream_uuid,
                     bytes data) except -1
cdef bytes sealed_with_crc(bytes body)
cdef int check_crc(bytes data, uint64_t least, str path) except -1
cdef int check_version(unsigned int version, unsigned int incompatible, str path) except -1
