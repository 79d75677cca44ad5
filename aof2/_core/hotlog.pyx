"""The hot log: its files and its landing ring, and writing the ring out to the files.

`hotsync` makes it durable. Nothing here takes the GIL, so that appends go on beside it.
"""

from libc.errno cimport EINVAL
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from aof2._core.bell cimport bell_ring
from aof2._core.checksum cimport crc64
from aof2._core.direct cimport direct_write
from aof2._core.placement cimport place_init
from aof2._core.posix cimport sys_close, sys_pwrite, tell_locked_store
from aof2._core.ring cimport build_ring
from aof2._core.ringview cimport unmap_ring
from aof2._core.run cimport run_free

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void store_release(void *at, uint64_t value)

cdef extern from "ringwait.h" nogil:
    void ring_wake(uint32_t *word)

cdef extern from "parking.h" nogil:
    void parking_init(Parking *parking)
    void unpark_all(Parking *parking)

cdef extern from "processor.h" nogil:
    int this_processor()

cdef extern from "loglock.h" nogil:
    void cond_init(pthread_cond_t *cond)
    int may_spin()
    int start_thread(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument)
    int pthread_mutex_init(pthread_mutex_t *lock, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_broadcast(pthread_cond_t *cond)

cdef enum:
    WRITE_BYTES_MAX = 1048576
    SPIN_NS = 500000             # what a wake-up costs hardly counts beside a slower device


cdef HotLog *hot_new() noexcept nogil:
    cdef HotLog *log = <HotLog *> calloc(1, sizeof(HotLog))
    if log != NULL:
        pthread_mutex_init(&log.lock, NULL)
        cond_init(&log.work)
        cond_init(&log.flush_work)
        parking_init(&log.flushed)
        cond_init(&log.change)
        log.spin_ns = SPIN_NS if may_spin() else 0
        place_init(&log.place)
    return log


cdef void hot_free_file(HotFile *file) noexcept nogil:
    if file != NULL:
        sys_close(file.fd)
        sys_close(file.direct_fd)
        run_free(&file.run)
        free(file)


cdef void hot_free(HotLog *log) noexcept nogil:
    """Give everything back; the threads must have ended."""
    cdef HotFile *file = log.oldest
    cdef HotFile *after
    while file != NULL:
        after = file.next
        hot_free_file(file)
        file = after
    hot_free_file(log.spare)
    free(log.block)
    if log.state != HOT_FORKED:
        # A forked child does not have the ring's mapping, and may have something else there.
        unmap_ring(log.header, log.ring, log.ring_bytes)
        unmap_ring(log.next_header, log.next_ring, log.next_ring_bytes)
    free(log)


cdef void hot_announce(HotLog *log) noexcept nogil:
    """Tell every waiter that something changed; the caller holds the lock."""
    log.changes += 1
    pthread_cond_broadcast(&log.change)
    if log.wanted:
        hot_tell(log, log.wanted if log.stop or log.state != HOT_OPEN else NEWS_ROOM)


cdef void hot_tell(HotLog *log, uint32_t news) noexcept nogil:
    news &= log.wanted
    if news and log.bell != NULL:
        log.news |= news
        log.wanted &= ~news
        bell_ring(log.bell)


cdef void hot_poison(HotLog *log, int failure) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    if log.state == HOT_OPEN:
        log.state = HOT_POISONED
        log.failure = failure
        log.file_limit = 0
    pthread_cond_broadcast(&log.work)
    pthread_cond_broadcast(&log.flush_work)
    unpark_all(&log.flushed)
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


cdef void hot_poke(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    # Whoever waits for a record is told by the very next one.
    log.wake_at = 0 if log.tail_wanted else log.tail + log.write_out_bytes
    if log.tail >= log.written + log.write_out_bytes:
        pthread_cond_broadcast(&log.work)
    if log.flush_idle:
        log.flush_idle = False
        pthread_cond_broadcast(&log.flush_work)
    pthread_mutex_unlock(&log.lock)


cdef void hot_ask(HotLog *log, uint64_t offset) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    if log.asked < offset:
        # The thread that was asked before, and has not synced yet, looks again by itself.
        if log.asked <= log.durable_offset:
            pthread_cond_broadcast(&log.flush_work)
        log.asked = offset
        log.place.asker = this_processor()
    pthread_mutex_unlock(&log.lock)


cdef int hot_refresh(HotLog *log, uint64_t needed) noexcept nogil:
    cdef uint64_t by_ring, by_flush
    if log.swapping:
        return PUT_RING_FULL
    if log.header == NULL or needed + 8 > log.ring_bytes:
        return PUT_NO_RING
    by_ring = load_acquire(&log.written) + log.ring_bytes
    by_flush = load_acquire(&log.durable) + log.unflushed_bytes_max
    log.ring_limit = min(by_ring, by_flush)
    # Announced before any of it is overwritten, so that a reader's check after its copy sees it.
    if log.ring_limit > log.ring_bytes and log.ring_limit - log.ring_bytes > log.header.oldest:
        store_release(&log.header.oldest, log.ring_limit - log.ring_bytes)
        tell_locked_store(&log.header.oldest, 8)
    if log.tail + needed + 8 <= log.ring_limit:
        return PUT_OK
    return PUT_RING_FULL if by_ring <= by_flush else PUT_UNFLUSHED


# --- writing out -------------------------------------------------------------------------------


cdef HotFile *hot_file_at(HotLog *log, uint64_t coordinate) noexcept nogil:
    """The file whose bytes lie at a coordinate; the caller holds the lock."""
    cdef HotFile *file = log.oldest
    while file != NULL and file.end != 0 and file.end <= coordinate:
        file = file.next
    return file


cdef int _write(
    HotLog *log, HotFile *file, uint64_t start, uint64_t *high, bint last
) noexcept nogil:
    """Write `[start, high)` to its file, or the beginning of it: `high` then says how far."""
    cdef const uint8_t *data = log.ring + (start & (log.ring_bytes - 1))
    cdef uint64_t position = start - file.ring_base, done = 0
    cdef int error
    if file.direct_fd >= 0:
        error = direct_write(
            file.direct_fd, log.block, data, position, high[0] - start, last, &done)
        if error != EINVAL:
            # While it is in the processor's cache: the seal need not read it back from the device.
            file.summed = crc64(file.summed, data, done)
            file.summed_to = position + done
            high[0] = start + done
            return error
        sys_close(file.direct_fd)
        file.direct_fd = -1
    return sys_pwrite(file.fd, data, high[0] - start, position)


cdef int hot_write_out(HotLog *log, uint64_t target, bint last) noexcept nogil:
    cdef HotFile *file
    cdef uint64_t start, high
    cdef int error = 0
    pthread_mutex_lock(&log.lock)
    while log.written < target and log.state == HOT_OPEN:
        if log.writing:
            pthread_cond_wait(&log.change, &log.lock)
            continue
        log.writing = True
        file = hot_file_at(log, log.written)
        # Between two files lies a stretch of the ring that belongs to neither.
        start = max(log.written, file.first)
        # Under the lock the active file and the tail belong together.
        high = file.end if file.end else load_acquire(&log.header.tail)
        high = min(high, start + WRITE_BYTES_MAX)
        pthread_mutex_unlock(&log.lock)
        error = _write(log, file, start, &high, last or file.end != 0)
        pthread_mutex_lock(&log.lock)
        log.writing = False
        if error:
            pthread_mutex_unlock(&log.lock)
            hot_poison(log, error)
            return error
        if high == start:
            hot_announce(log)
            break
        store_release(&log.written, high)
        store_release(&log.header.written, high)
        tell_locked_store(&log.header.written, 8)
        if high >= log.started + WRITEBACK_BYTES or high >= log.durable + log.flush_bytes:
            pthread_cond_broadcast(&log.flush_work)
        hot_announce(log)
    error = log.failure
    pthread_mutex_unlock(&log.lock)
    return error


# --- the ring ----------------------------------------------------------------------------------


cdef int _build_ring(HotLog *log, uint64_t ring_bytes, bint may_stop) noexcept nogil:
    cdef void *header = NULL
    cdef void *data = NULL
    cdef int error
    pthread_mutex_lock(&log.lock)
    while log.ring_building or log.swapping:
        if (may_stop and log.stop) or (log.swapping and not may_stop):
            # Whoever gives the ring back holds the turn. It waits for the thread to end, and takes
            # the claim of an append, which has to claim anew.
            pthread_mutex_unlock(&log.lock)
            return 0
        pthread_cond_wait(&log.change, &log.lock)
    if log.next_header != NULL and log.next_ring_bytes >= ring_bytes:
        pthread_mutex_unlock(&log.lock)
        return 0
    unmap_ring(log.next_header, log.next_ring, log.next_ring_bytes)
    log.next_header = NULL
    log.next_ring = NULL
    log.ring_building = True
    pthread_mutex_unlock(&log.lock)
    error = build_ring(log.dirfd, log.stream_uuid, ring_bytes, &header, &data)
    pthread_mutex_lock(&log.lock)
    log.ring_building = False
    if error == 0:
        log.next_header = <RingHeader *> header
        log.next_ring = <uint8_t *> data
        log.next_ring_bytes = ring_bytes
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
    return error


cdef int hot_build_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil:
    return _build_ring(log, ring_bytes, False)


cdef void *_ring_thread(void *argument) noexcept nogil:
    """Make the wanted ring and end: the other two threads must not wait for it."""
    cdef HotLog *log = <HotLog *> argument
    # Where there is no room for a larger ring, the one there is has to do.
    if _build_ring(log, log.ring_wanted, True) != 0:
        log.ring_failed = True
    return NULL


cdef void hot_want_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil:
    if log.ring_wanted == 0:
        log.ring_wanted = ring_bytes
        if start_thread(&log.ring_thread, _ring_thread, log) != 0:
            log.ring_wanted = 0


cdef bint hot_begin_swap(HotLog *log, bint give_back) noexcept nogil:
    cdef bint begun
    pthread_mutex_lock(&log.lock)
    while log.swapping or log.ring_building:
        pthread_cond_wait(&log.change, &log.lock)
    begun = log.header != NULL if give_back else log.next_header != NULL
    log.swapping = begun
    pthread_mutex_unlock(&log.lock)
    return begun


cdef void hot_begin_close(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    while log.swapping or log.ring_building:
        pthread_cond_wait(&log.change, &log.lock)
    log.swapping = True
    log.ring_limit = 0
    pthread_mutex_unlock(&log.lock)


cdef void hot_end_swap(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    log.swapping = False
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


cdef void hot_swap_ring(HotLog *log) noexcept nogil:
    cdef RingHeader *fresh
    cdef RingHeader *old
    pthread_mutex_lock(&log.lock)
    # A sync that runs touches the ring's header only under the lock; a write-out reads the ring.
    while log.writing:
        pthread_cond_wait(&log.change, &log.lock)
    fresh, old = log.next_header, log.header
    if old != NULL:
        fresh.segment_id, fresh.salt = old.segment_id, old.salt
        fresh.ring_base = old.ring_base
        old.closed = 1
        tell_locked_store(old, sizeof(RingHeader))
        ring_wake(&old.waiters)
    elif log.active != NULL:
        fresh.segment_id, fresh.salt = log.active.file_id, log.active.salt
        fresh.ring_base = log.active.ring_base
    fresh.next_offset, fresh.durable_offset = log.next_offset, log.durable_offset
    fresh.tail = fresh.oldest = log.tail
    fresh.written, fresh.durable = log.written, log.durable
    tell_locked_store(fresh, sizeof(RingHeader))
    unmap_ring(old, log.ring, log.ring_bytes)
    log.header, log.ring, log.ring_bytes = fresh, log.next_ring, log.next_ring_bytes
    log.next_header = NULL
    log.next_ring = NULL
    log.write_out_bytes = min(min(<uint64_t> 262144, log.ring_bytes // 4), log.flush_bytes)
    log.ring_limit = 0
    log.swapping = False
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


cdef void hot_drop_ring(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    log.header.closed = 1
    tell_locked_store(log.header, sizeof(RingHeader))
    ring_wake(&log.header.waiters)
    unmap_ring(log.header, log.ring, log.ring_bytes)
    unmap_ring(log.next_header, log.next_ring, log.next_ring_bytes)
    log.header = log.next_header = NULL
    log.ring = log.next_ring = NULL
    log.ring_limit = 0
    log.ring_wanted = 0
    # The threads were ended before; the next ring starts them again.
    log.stop = False
    log.swapping = False
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
