# Sealing a log file, and reading what a seal wrote.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.layout cimport Footer
from aof2._core.logfile cimport LogHeader
from aof2._core.run cimport Run


cdef class FooterInfo:
    cdef Footer footer
    cdef readonly uint64_t position      # of the footer in its file


cdef uint64_t footer_position(uint64_t end_position, uint64_t index_count) noexcept nogil
# The bytes of an END frame; returns how many.
cdef uint64_t encode_end(uint8_t *target, uint64_t salt, uint64_t position, uint32_t ordinal,
                         int64_t timestamp_ns, uint64_t durable_position,
                         uint64_t chain_crc) noexcept nogil
# Index and footer behind the END that is already in the file, in the order of a seal; 0 or an
# errno. `frames_crc64` covers the frames up to and with the END; NULL: they are read.
cdef int write_seal(int fd, const uint8_t *stream_uuid, uint64_t file_id, uint64_t salt,
                    uint64_t base_offset, uint64_t ext_id, Run *run, uint64_t end_position,
                    uint64_t coordinator_watermark, bint flush_failure,
                    const uint64_t *frames_crc64, Footer *out) noexcept nogil
# The footer at a position, or None when none with a good checksum is there.
cdef FooterInfo read_footer_fd(int fd, LogHeader header, uint64_t at)
cdef int rewrite_fd(int fd, uint64_t low, uint64_t high, str path) except -1
