# The one log-file format: what segments and manifest chunks have in common.

from libc.stdint cimport int64_t, uint64_t

from aof2._core.layout cimport Slot, StartBlock


cdef class LogHeader:
    cdef readonly str path
    cdef readonly str kind               # "segment" or "manifest"
    cdef readonly bytes stream_uuid
    cdef readonly uint64_t file_id
    cdef readonly uint64_t file_bytes
    cdef readonly uint64_t salt
    cdef readonly int64_t created_ns


cdef class StartInfo:
    cdef StartBlock block
    cdef readonly uint64_t base_offset
    cdef readonly uint64_t ring_base
    cdef readonly uint64_t epoch
    cdef readonly uint64_t ext_id
    cdef readonly bytes root_id
    cdef readonly uint64_t previous_id
    cdef readonly uint64_t previous_end_position
    cdef readonly uint64_t previous_end_offset
    cdef readonly uint64_t previous_chain_crc


# Frames must end at or before this position, so that END, index and footer fit behind them.
cdef uint64_t frames_limit(uint64_t file_bytes) noexcept nogil

cdef LogHeader read_header_fd(int fd, str path)
cdef StartInfo read_start_fd(int fd, LogHeader header)
cdef void fill_start_crc(StartBlock *block, uint64_t salt) noexcept nogil
cdef int write_slot(int fd, uint64_t salt, uint64_t n, uint64_t durable_position,
                    uint64_t next_offset) noexcept nogil
# The valid slot with the larger n; n is 0 when there is none.
cdef int read_slot(int fd, uint64_t salt, Slot *newest) except -1
