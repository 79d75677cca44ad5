# Decoding records from windows of a segment.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.frame cimport FrameView
from aof2._core.record cimport Record
from aof2._core.window cimport Window


cdef class RecordCursor:
    cdef readonly uint64_t offset        # of the next record to be returned
    cdef readonly uint64_t position      # of the next frame
    cdef readonly int status             # why the last call returned nothing, see `CursorStatus`
    cdef readonly uint64_t needed        # SHORT: bytes from `position` that the frame needs
    cdef uint64_t stop                   # records at or behind it are not returned
    cdef Window _window
    cdef uint64_t _salt
    cdef uint64_t _base_offset
    cdef uint64_t _ext_id
    cdef int64_t _ordinal                # that the next frame must have; < 0: any
    cdef FrameView _frame                # the frame that records are taken from
    cdef bint _in_frame
    cdef bint _take_any                  # the next frame sets the offset

    cdef int _next_frame(self) except -1
    cdef Record _take(self)
    cdef bytes _take_payload(self)
    cdef object _batch_of_frame(self)
    cdef object _gather(self, uint64_t bytes_max)


cdef class PayloadIterator:
    cdef RecordCursor _cursor
