"""Making a landing ring: a preallocated, prefaulted file, mapped twice in a row behind a header page."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from aof2._core.hotlog cimport HotLog, hot_announce
from aof2._core.layout cimport FORMAT_VERSION, PAGE_BYTES, RingHeader
from aof2._core.posix cimport (
    Directory,
    check_errno,
    sys_close,
    sys_fallocate,
    sys_populate,
)
from aof2._core.ringview cimport map_ring, unmap_ring

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)
    int pthread_cond_wait(void *cond, void *lock)

RING_NAME = "landing.ring"


cdef uint64_t ring_bytes_for(uint64_t wanted) noexcept nogil:
    cdef uint64_t ring_bytes = 4 * PAGE_BYTES
    while ring_bytes < wanted:
        ring_bytes *= 2
    return ring_bytes


cdef int create_ring(
    HotLog *log, Directory directory, bytes stream_uuid, uint64_t ring_bytes
) except -1:
    cdef void *header = NULL
    cdef void *data = NULL
    cdef RingHeader *fresh
    cdef RingHeader *old
    cdef int error
    cdef str temporary = f".tmp-{RING_NAME}"
    directory.unlink(temporary, missing_ok=True)
    cdef int fd = directory.open_file(temporary, True, True)
    with nogil:
        error = sys_fallocate(fd, PAGE_BYTES + ring_bytes)
        if error == 0:
            error = map_ring(fd, ring_bytes, True, &header, &data)
        if error == 0:
            # Appends must not fault; both halves map the same pages, so one pass fills the page
            # cache and a second one the page table of the mirror.
            error = sys_populate(header, PAGE_BYTES, True)
            if error == 0:
                error = sys_populate(data, 2 * ring_bytes, True)
            if error:
                unmap_ring(header, data, ring_bytes)
        sys_close(fd)
    if error:
        directory.unlink(temporary)
        check_errno(error, "make the landing ring", directory.join(RING_NAME))
    fresh = <RingHeader *> header
    memset(fresh, 0, sizeof(RingHeader))
    memcpy(fresh.magic, <const char *> b"AOF2RING", 8)
    fresh.version = FORMAT_VERSION
    memcpy(fresh.stream_uuid, <const char *> stream_uuid, 16)
    fresh.ring_bytes = ring_bytes
    # Everything in the old ring is written out, so a crash before the rename finds nothing missing
    # and one after it an empty ring.
    try:
        directory.rename(temporary, RING_NAME)
    except BaseException:
        unmap_ring(header, data, ring_bytes)
        raise
    with nogil:
        pthread_mutex_lock(&log.lock)
        while log.writing or log.syncing:
            pthread_cond_wait(&log.change, &log.lock)
        old = log.header
        if old != NULL:
            fresh.segment_id, fresh.salt = old.segment_id, old.salt
            fresh.ring_base = old.ring_base
            old.closed = 1
        fresh.next_offset, fresh.durable_offset = log.next_offset, log.durable_offset
        fresh.tail = fresh.oldest = log.tail
        fresh.written, fresh.durable = log.written, log.durable
        unmap_ring(old, log.ring, log.ring_bytes)
        log.header = fresh
        log.ring = <uint8_t *> data
        log.ring_bytes = ring_bytes
        log.write_out_bytes = min(<uint64_t> 262144, ring_bytes // 4)
        log.ring_limit = 0
        hot_announce(log)
        pthread_mutex_unlock(&log.lock)
    return 0
