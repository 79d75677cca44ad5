from libc.stdint cimport uint64_t
cdef uint64_t crc64(uint64_t crc, const void *data, size_t n) noexcept nogil
cdef uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b) noexcept nogil
