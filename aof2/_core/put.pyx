"""Putting frames into the landing ring: one copy, one checksum pass, one ordered store.

The caller holds the GIL, which is what keeps appends of several threads apart; nothing here takes a
lock except a change of file. A frame becomes visible in this order: body, header without its
length, the zero length of the next frame, then this frame's length with release order, then the
tail, then the next offset.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from aof2._core.frame cimport batch_prefix_bytes, frame_crc
from aof2._core.hotlog cimport (
    PUT_NO_FILE,
    PUT_NO_MEMORY,
    PUT_NO_RING,
    PUT_OK,
    hot_announce,
    hot_refresh,
)
from aof2._core.layout cimport (
    BATCH_EXT_IDS,
    END_BYTES,
    FLAG_EXT_ID,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    FrameHeader,
    KIND_BATCH,
    KIND_RECORD,
    PAGE_BYTES,
    RingHeader,
    pad8,
)
from aof2._core.logfile cimport frames_limit
from aof2._core.posix cimport sys_pwrite, tell_locked_store, tell_store
from aof2._core.run cimport run_add
from aof2._core.seal cimport encode_end

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)

cdef extern from "ringwait.h" nogil:
    void ring_tell(uint32_t *word)

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void store_release(void *at, uint64_t value)
    void store_release32(void *at, uint32_t value)
    bint unlikely(bint condition)


cdef inline int _place(HotLog *log, uint64_t total, uint8_t **at) noexcept nogil:
    """Find room for a frame of `total` bytes behind the tail."""
    cdef int status
    if unlikely(log.tail + total > log.file_limit):
        return PUT_NO_FILE
    if unlikely(log.tail + total + 8 > log.ring_limit):
        status = hot_refresh(log, total)
        if status != PUT_OK:
            return status
    at[0] = log.ring + (log.tail & (log.ring_bytes - 1))
    return PUT_OK


cdef inline void _begin_header(
    FrameHeader *header, uint64_t frame_bytes, uint8_t kind, bint has_ext_id, int64_t now_ns
) noexcept nogil:
    """Fill in what does not depend on the frame's place."""
    header.frame_bytes = <uint32_t> frame_bytes
    header.timestamp_ns = now_ns
    header.kind = kind
    header.flags = FLAG_EXT_ID if has_ext_id else 0
    header.zero = 0


cdef inline int _publish(
    HotLog *log, uint8_t *at, FrameHeader *header, uint64_t total, uint32_t count
) noexcept nogil:
    """Finish a frame whose padded body is in place, and let readers and the threads see it."""
    cdef HotFile *file = log.active
    cdef uint64_t position = log.tail - file.ring_base
    header.ordinal = <uint32_t> (log.next_offset - file.base_offset)
    header.durable = <uint32_t> (load_acquire(&file.durable_position) >> 3)
    header.crc64 = frame_crc(
        file.salt, position, header, at + FRAME_HEADER_BYTES, total - FRAME_HEADER_BYTES
    )
    if run_add(&file.run, position, count, header.timestamp_ns, header.crc64) != 0:
        return PUT_NO_MEMORY
    memcpy(at + 4, <uint8_t *> header + 4, FRAME_HEADER_BYTES - 4)
    memset(at + total, 0, 8)
    tell_store(at, total + 8)
    store_release32(at, header.frame_bytes)
    tell_store(at, 4)
    log.tail += total
    log.next_offset += count
    # The tail before the offset: whoever reads the offset first finds every record below it.
    store_release(&log.header.tail, log.tail)
    tell_store(&log.header.tail, 8)
    store_release(&log.header.next_offset, log.next_offset)
    tell_store(&log.header.next_offset, 8)
    ring_tell(&log.header.waiters)
    return PUT_OK


cdef int put_record(
    HotLog *log, const uint8_t *payload, uint64_t n, bint has_ext_id, uint64_t ext_id,
    int64_t now_ns,
) noexcept nogil:
    cdef FrameHeader header
    cdef uint64_t frame_bytes = FRAME_HEADER_BYTES + (8 if has_ext_id else 0) + n
    cdef uint64_t total = pad8(frame_bytes)
    cdef uint8_t *at
    cdef uint8_t *body
    cdef int status = _place(log, total, &at)
    if unlikely(status != PUT_OK):
        return status
    _begin_header(&header, frame_bytes, KIND_RECORD, has_ext_id, now_ns)
    body = at + FRAME_HEADER_BYTES
    # The last eight bytes are cleared first, so that what the payload leaves of them is padding.
    if n & 7:
        memset(at + total - 8, 0, 8)
    if has_ext_id:
        memcpy(body, &ext_id, 8)
        body += 8
    memcpy(body, payload, n)
    return _publish(log, at, &header, total, 1)


cdef int put_batch(
    HotLog *log, const BatchSource *source, bint has_ext_id, uint64_t ext_id, int64_t now_ns
) noexcept nogil:
    cdef FrameHeader header
    cdef uint64_t prefix = batch_prefix_bytes(source.count, has_ext_id, source.ext_ids != NULL)
    cdef uint64_t frame_bytes = FRAME_HEADER_BYTES + prefix + source.data_bytes
    cdef uint64_t total = pad8(frame_bytes)
    cdef uint32_t words[2]
    cdef uint8_t *at
    cdef uint8_t *body
    cdef uint64_t columns
    cdef uint32_t i
    cdef int status = _place(log, total, &at)
    if unlikely(status != PUT_OK):
        return status
    _begin_header(&header, frame_bytes, KIND_BATCH, has_ext_id, now_ns)
    memset(at + total - 8, 0, 8)
    body = at + FRAME_HEADER_BYTES
    if has_ext_id:
        memcpy(body, &ext_id, 8)
        body += 8
    words[0] = source.count
    words[1] = BATCH_EXT_IDS if source.ext_ids != NULL else 0
    memcpy(body, words, 8)
    columns = 8 + 4 * (<uint64_t> source.count + 1)
    memcpy(body + 8, source.ends, columns - 8)
    memset(body + columns, 0, pad8(columns) - columns)
    body += pad8(columns)
    if source.ext_ids != NULL:
        memcpy(body, source.ext_ids, 8 * <uint64_t> source.count)
        body += 8 * <uint64_t> source.count
    if source.packed != NULL:
        memcpy(body, source.packed, source.data_bytes)
    else:
        for i in range(source.count):
            memcpy(body + source.ends[i], source.pieces[i], source.ends[i + 1] - source.ends[i])
    return _publish(log, at, &header, total, source.count)


cdef uint64_t next_ring_base(HotLog *log) noexcept nogil:
    # A page border, so that file positions and ring addresses agree modulo the page size.
    cdef uint64_t end = log.tail + (END_BYTES if log.active != NULL else 0)
    return (end + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES - FRAMES_AT


cdef int put_end(HotLog *log, int64_t now_ns) noexcept nogil:
    cdef HotFile *file = log.active
    cdef uint8_t frame[END_BYTES]
    cdef uint8_t *at = frame
    cdef int status
    if log.header != NULL:
        if log.tail + END_BYTES + 8 > log.ring_limit:
            status = hot_refresh(log, END_BYTES)
            if status != PUT_OK:
                return status
        at = log.ring + (log.tail & (log.ring_bytes - 1))
    encode_end(at, file.salt, log.tail - file.ring_base, <uint32_t> file.run.records, now_ns,
               load_acquire(&file.durable_position), file.run.chain_crc)
    if log.header != NULL:
        memset(at + END_BYTES, 0, 8)
        tell_store(at, END_BYTES + 8)
    elif sys_pwrite(file.fd, at, END_BYTES, log.tail - file.ring_base) != 0:
        # The ring was given back, so the frame goes where the write-out would bring it.
        return PUT_NO_RING
    pthread_mutex_lock(&log.lock)
    file.end_position = log.tail - file.ring_base
    log.tail += END_BYTES
    file.end = log.tail
    log.active = NULL
    log.file_limit = 0
    if log.header != NULL:
        store_release(&log.header.tail, log.tail)
        tell_locked_store(&log.header.tail, 8)
    else:
        log.written = log.tail
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
    return PUT_OK


cdef void activate(HotLog *log, HotFile *file) noexcept nogil:
    cdef HotFile *last
    file.first = file.ring_base + FRAMES_AT
    pthread_mutex_lock(&log.lock)
    if log.oldest == NULL:
        log.oldest = file
        # Nothing is pending, so what lies between the files is neither written nor durable work.
        log.written = file.first
        log.durable = file.first
        if log.header != NULL:
            store_release(&log.header.written, file.first)
            store_release(&log.header.durable, file.first)
    else:
        last = log.oldest
        while last.next != NULL:
            last = last.next
        last.next = file
    log.active = file
    log.tail = file.first
    if log.header != NULL:
        memset(log.ring + (log.tail & (log.ring_bytes - 1)), 0, 8)
        log.header.segment_id = file.file_id
        log.header.salt = file.salt
        log.header.ring_base = file.ring_base
        store_release(&log.header.tail, log.tail)
        tell_locked_store(log.ring + (log.tail & (log.ring_bytes - 1)), 8)
        tell_locked_store(log.header, sizeof(RingHeader))
    if log.state == 0:
        log.file_limit = file.ring_base + frames_limit(file.file_bytes)
    file.half = file.first + (frames_limit(file.file_bytes) - FRAMES_AT) // 2
    log.ring_limit = 0
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
