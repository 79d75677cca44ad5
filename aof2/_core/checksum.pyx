from libc.stdint cimport uint64_t
cdef extern from "crc64nvme.h" nogil:
    uint64_t aof2_crc64(uint64_t crc, const void *data, size_t n)
cdef uint64_t crc64(uint64_t crc, const void *data, size_t n) noexcept nogil:
    return aof2_crc64(crc, data, n)
cdef uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b) noexcept nogil:
    return 0
def crc64nvme(data, uint64_t crc=0):
    cdef const unsigned char[::1] view = memoryview(data).cast("B")
    return aof2_crc64(crc, &view[0] if view.shape[0] else NULL, view.shape[0])
