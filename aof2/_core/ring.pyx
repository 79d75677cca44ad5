"""Making a landing ring: a preallocated, prefaulted file, mapped twice in a row behind a header
page.

It is made under a temporary name, so that a thread can prepare a larger ring while appends go on in
the old one; taking it into use is a rename and a few stores.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from aof2._core.layout cimport FORMAT_VERSION, PAGE_BYTES, RingHeader
from aof2._core.posix cimport (
    O_CREAT,
    O_EXCL,
    O_RDWR,
    sys_close,
    sys_fallocate,
    sys_openat,
    sys_populate,
    sys_unlink,
    tell_locked_store,
)
from aof2._core.ringview cimport map_ring, unmap_ring

RING_NAME = "landing.ring"
TEMPORARY_NAME = ".tmp-landing.ring"


cdef uint64_t ring_bytes_for(uint64_t wanted) noexcept nogil:
    cdef uint64_t ring_bytes = 4 * PAGE_BYTES
    while ring_bytes < wanted:
        ring_bytes *= 2
    return ring_bytes


cdef int build_ring(
    int dirfd, const uint8_t *stream_uuid, uint64_t ring_bytes, void **header, void **data
) noexcept nogil:
    cdef const char *name = b".tmp-landing.ring"
    cdef RingHeader *fresh
    cdef int fd = -1, error
    sys_unlink(dirfd, name)
    error = sys_openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL, &fd)
    if error:
        return error
    error = sys_fallocate(fd, PAGE_BYTES + ring_bytes)
    if error == 0:
        error = map_ring(fd, ring_bytes, True, header, data)
    if error == 0:
        # Appends must not fault. Both halves map the same pages: one pass fills the page cache and
        # the first page table, the second one the page table of the mirror.
        error = sys_populate(header[0], PAGE_BYTES, True)
        if error == 0:
            error = sys_populate(data[0], 2 * ring_bytes, True)
        if error:
            unmap_ring(header[0], data[0], ring_bytes)
    sys_close(fd)
    if error:
        sys_unlink(dirfd, name)
        return error
    fresh = <RingHeader *> header[0]
    memset(fresh, 0, sizeof(RingHeader))
    memcpy(fresh.magic, <const char *> b"AOF2RING", 8)
    fresh.version = FORMAT_VERSION
    memcpy(fresh.stream_uuid, stream_uuid, 16)
    fresh.ring_bytes = ring_bytes
    tell_locked_store(fresh, sizeof(RingHeader))
    return 0
