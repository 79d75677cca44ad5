"""CRC-64/NVME: the checksum of every frame, header and stored object.

The kernels are in crc64nvme.c, which picks the machine's fastest when this module is loaded.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

cdef extern from "crc64nvme.h" nogil:
    uint64_t aof2_crc64(uint64_t crc, const void *data, size_t n)
    uint64_t aof2_crc64_combine(uint64_t a, uint64_t b, uint64_t len_b)
    const char *aof2_crc64_implementation()
    int aof2_crc64_use(const char *name)


# Below this many bytes (a few microseconds' work) handing over the GIL costs more than it gives.
cdef enum:
    GIL_RELEASE_BYTES = 65536


cdef uint64_t crc64(uint64_t crc, const void *data, size_t n) noexcept nogil:
    return aof2_crc64(crc, data, n)


cdef uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b) noexcept nogil:
    return aof2_crc64_combine(crc_a, crc_b, len_b)


cdef inline uint64_t _checksum(uint64_t crc, const void *data, size_t n) noexcept:
    if n < GIL_RELEASE_BYTES:
        return aof2_crc64(crc, data, n)
    with nogil:
        crc = aof2_crc64(crc, data, n)
    return crc


def crc64nvme(data, uint64_t crc=0):
    """The CRC-64/NVME of `data`, any bytes-like object that is C-contiguous.

    `crc` is the result for the bytes just before, to go on from there. The GIL is released while
    64 KiB or more are read.

    Raises TypeError when `data` is not bytes-like (a `str`, say), BufferError or ValueError (the
    object's own choice) when it is not contiguous, OverflowError when `crc` is not a 64-bit number.

    >>> hex(crc64nvme(b"123456789"))
    '0xae8b14860a799888'
    >>> hex(crc64nvme(b"6789", crc64nvme(b"12345")))
    '0xae8b14860a799888'
    """
    cdef Py_buffer view
    if PyBytes_CheckExact(data):
        return _checksum(crc, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    crc = _checksum(crc, view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return crc


def crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b):
    """The CRC-64/NVME of A followed by B, from the checksums of both and the length of B in bytes.

    Raises OverflowError when an argument is not a 64-bit number.

    >>> hex(crc64nvme_combine(crc64nvme(b"12345"), crc64nvme(b"6789"), 4))
    '0xae8b14860a799888'
    """
    return aof2_crc64_combine(crc_a, crc_b, len_b)


def implementation():
    """The kernel in use: "vpclmul" or "pclmul" (x86-64), "pmull" (aarch64) or "table" (any).

    >>> implementation() in ("vpclmul", "pclmul", "pmull", "table")
    True
    """
    return aof2_crc64_implementation().decode("ascii")


def _use(str name not None):
    """Makes the named kernel the one the process uses, for tests; returns the one before.

    Raises ValueError when this machine has no such kernel.
    """
    previous = implementation()
    if aof2_crc64_use(name.encode("utf-8")) != 0:
        raise ValueError(f"no checksum kernel {name!r} on this machine")
    return previous
