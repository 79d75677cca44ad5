# Snapshots of a manifest's index as bytes.

from aof2._core.fold cimport Fold


cdef class Capture:
    cdef readonly bytes head
    cdef readonly tuple pages    # ((page_no, bytes), ...) that are to be written
    cdef list _written           # (page_no, changes, number, bytes, crc64) of each
