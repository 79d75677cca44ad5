"""Reading a landing ring: the newest bytes of a stream, before they are written out.

The writer may overwrite the oldest bytes while they are being read, so every copy is checked
afterwards against the oldest coordinate still held; the frames' own checksums are the second line.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from aof2._core.layout cimport FORMAT_VERSION, PAGE_BYTES, RingHeader
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_map, sys_unmap

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void fence()

cdef extern from "<sys/mman.h>" nogil:
    void *c_mmap "mmap"(void *at, size_t n, int protection, int flags, int fd, long position)
    int c_madvise "madvise"(void *at, size_t n, int advice)
    int PROT_NONE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

cdef extern from * nogil:
    """
    #ifndef MADV_DONTFORK
    #define MADV_DONTFORK 10
    #endif
    """
    int MADV_DONTFORK


cdef int map_ring(
    int fd, uint64_t ring_bytes, bint writable, void **header, void **data
) noexcept nogil:
    cdef int error
    cdef void *at
    cdef void *out
    error = sys_map(fd, PAGE_BYTES, 0, writable, NULL, header)
    if error:
        return error
    at = c_mmap(NULL, 2 * ring_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if at == MAP_FAILED:
        error = errno
        sys_unmap(header[0], PAGE_BYTES)
        return error
    error = sys_map(fd, ring_bytes, PAGE_BYTES, writable, at, &out)
    if error == 0:
        error = sys_map(fd, ring_bytes, PAGE_BYTES, writable, <uint8_t *> at + ring_bytes, &out)
    if error:
        unmap_ring(header[0], at, ring_bytes)
        return error
    data[0] = at
    if writable:
        # A forked child must not be able to write into its parent's ring.
        c_madvise(header[0], PAGE_BYTES, MADV_DONTFORK)
        c_madvise(at, 2 * ring_bytes, MADV_DONTFORK)
    return 0


cdef void unmap_ring(void *header, void *data, uint64_t ring_bytes) noexcept nogil:
    if header != NULL:
        sys_unmap(header, PAGE_BYTES)
    if data != NULL:
        sys_unmap(data, 2 * ring_bytes)


cdef const uint8_t *ring_at(
    RingView ring, uint64_t coordinate, uint64_t *available
) noexcept nogil:
    available[0] = ring.ring_bytes
    return ring.data + (coordinate & (ring.ring_bytes - 1))


cdef class RingView:
    """A read-only mapping of a stream's landing ring.

    Args:
        directory, name: The ring file.
        stream_uuid: 16 bytes; a ring of another stream raises `ValueError`.

    Raises `OSError` when there is no ring, `ValueError` when the file is not a ring of this stream.
    """

    def __init__(self, Directory directory not None, str name not None, bytes stream_uuid not None):
        cdef uint64_t size
        cdef void *header = NULL
        cdef void *data = NULL
        cdef int error
        cdef int fd = directory.open_file(name)
        try:
            self.path = directory.join(name)
            size = os.fstat(fd).st_size
            if size < 2 * PAGE_BYTES or (size - PAGE_BYTES) & (size - PAGE_BYTES - 1):
                raise ValueError(f"{self.path} is not a landing ring: {size} bytes")
            with nogil:
                error = map_ring(fd, size - PAGE_BYTES, False, &header, &data)
            check_errno(error, "map the ring", self.path)
            self.header = <const RingHeader *> header
            self.data = <const uint8_t *> data
            self.ring_bytes = size - PAGE_BYTES
        finally:
            sys_close(fd)
        if (memcmp(self.header.magic, <const char *> b"AOF2RING", 8) != 0
                or self.header.version > FORMAT_VERSION
                or self.header.ring_bytes != self.ring_bytes
                or memcmp(self.header.stream_uuid, <const char *> stream_uuid, 16) != 0):
            raise ValueError(f"{self.path} is not a landing ring of this stream")

    def __dealloc__(self):
        unmap_ring(<void *> self.header, <void *> self.data, self.ring_bytes)

    @property
    def closed(self):
        """True when the writer gave this ring up: open the file of that name again."""
        return self.header.closed != 0

    def written(self):
        """Ring coordinate below which the segment files have the bytes."""
        return load_acquire(&self.header.written)

    def tail(self):
        """Ring coordinate just past the newest whole frame."""
        return load_acquire(&self.header.tail)

    def offsets(self):
        """`(next_offset, durable_offset)` of the stream."""
        return load_acquire(&self.header.next_offset), load_acquire(&self.header.durable_offset)

    def copy(self, uint64_t coordinate, uint64_t n):
        """Copy `n` bytes from a coordinate on.

        Returns:
            The bytes, or None when the ring no longer holds them all: they are in the segment file
            then.
        """
        if n > self.ring_bytes:
            return None
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
        memcpy(PyBytes_AS_STRING(out), self.data + (coordinate & (self.ring_bytes - 1)), n)
        # The check must come after the copy, in program order and in memory order.
        fence()
        return out if load_acquire(&self.header.oldest) <= coordinate else None
