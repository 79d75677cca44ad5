# Snapshots of a manifest's index as bytes.

from aof2._core.manifest_fold cimport Fold


cdef class Capture:
    cdef readonly bytes head
    cdef readonly tuple pages    # page_no and bytes of each that is to be written
    cdef list _written           # page_no, changes, number, bytes, crc64 of each
