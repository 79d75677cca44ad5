"""The hot log: the landing ring is written out and synced by two threads that never take the GIL.

Group commit: whoever wants durability first takes the turn to sync for all, everybody who comes
meanwhile waits for the next turn. Order of one flush: note the next offset, note the tail, write
out up to it, then
file by file, oldest first: fdatasync, a zero-length write (a file system that shut down during the
sync reports success there, but not here), and only then move the durable position.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from aof2._core.layout cimport FRAMES_AT
from aof2._core.logfile cimport write_slot
from aof2._core.posix cimport (
    sys_close,
    sys_fdatasync,
    sys_pwrite,
    sys_start_writeback,
    sys_write_check,
)
from aof2._core.ring cimport build_ring
from aof2._core.ringview cimport unmap_ring
from aof2._core.run cimport run_free

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void store_release(void *at, uint64_t value)

cdef extern from "loglock.h" nogil:
    void cond_init(pthread_cond_t *cond)
    int64_t monotonic_ns()
    int cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t wait_ns)
    int start_thread(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument)
    int pthread_mutex_init(pthread_mutex_t *lock, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_broadcast(pthread_cond_t *cond)
    int pthread_join(pthread_t thread, void **result)

cdef enum:
    WRITE_BYTES_MAX = 1048576
    WRITEBACK_BYTES = 4194304


cdef HotLog *hot_new() noexcept nogil:
    cdef HotLog *log = <HotLog *> calloc(1, sizeof(HotLog))
    if log != NULL:
        pthread_mutex_init(&log.lock, NULL)
        cond_init(&log.work)
        cond_init(&log.flush_work)
        cond_init(&log.change)
    return log


cdef void hot_free(HotLog *log) noexcept nogil:
    """Give everything back; the threads must have ended."""
    cdef HotFile *file = log.oldest
    cdef HotFile *after
    while file != NULL:
        after = file.next
        sys_close(file.fd)
        run_free(&file.run)
        free(file)
        file = after
    if log.spare != NULL:
        sys_close(log.spare.fd)
        free(log.spare)
    if log.state != HOT_FORKED:
        # A forked child does not have the ring's mapping, and may have something else there.
        unmap_ring(log.header, log.ring, log.ring_bytes)
        unmap_ring(log.next_header, log.next_ring, log.next_ring_bytes)
    free(log)


cdef void hot_announce(HotLog *log) noexcept nogil:
    """Tell every waiter that something changed; the caller holds the lock."""
    log.changes += 1
    pthread_cond_broadcast(&log.change)


cdef void hot_poison(HotLog *log, int failure) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    if log.state == HOT_OPEN:
        log.state = HOT_POISONED
        log.failure = failure
        log.file_limit = 0
    pthread_cond_broadcast(&log.work)
    pthread_cond_broadcast(&log.flush_work)
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


cdef void hot_poke(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    log.wake_at = log.tail + log.write_out_bytes
    pthread_cond_broadcast(&log.work)
    if log.flush_idle:
        log.flush_idle = False
        pthread_cond_broadcast(&log.flush_work)
    pthread_mutex_unlock(&log.lock)


cdef int hot_refresh(HotLog *log, uint64_t needed) noexcept nogil:
    cdef uint64_t by_ring, by_flush
    if log.header == NULL or needed + 8 > log.ring_bytes:
        return PUT_NO_RING
    by_ring = load_acquire(&log.written) + log.ring_bytes
    by_flush = load_acquire(&log.durable) + log.unflushed_bytes_max
    log.ring_limit = min(by_ring, by_flush)
    # Announced before any of it is overwritten, so that a reader's check after its copy sees it.
    if log.ring_limit > log.ring_bytes and log.ring_limit - log.ring_bytes > log.header.oldest:
        store_release(&log.header.oldest, log.ring_limit - log.ring_bytes)
    if log.tail + needed + 8 <= log.ring_limit:
        return PUT_OK
    return PUT_RING_FULL if by_ring <= by_flush else PUT_UNFLUSHED


# --- writing out -------------------------------------------------------------------------------


cdef HotFile *_file_at(HotLog *log, uint64_t coordinate) noexcept nogil:
    """The file whose bytes lie at a coordinate; the caller holds the lock."""
    cdef HotFile *file = log.oldest
    while file != NULL and file.end != 0 and file.end <= coordinate:
        file = file.next
    return file


cdef int hot_write_out(HotLog *log, uint64_t target) noexcept nogil:
    cdef HotFile *file
    cdef uint64_t start, high
    cdef int error = 0
    pthread_mutex_lock(&log.lock)
    while log.written < target and log.state == HOT_OPEN:
        if log.writing:
            pthread_cond_wait(&log.change, &log.lock)
            continue
        log.writing = True
        file = _file_at(log, log.written)
        # Between two files lies a stretch of the ring that belongs to neither.
        start = max(log.written, file.first)
        # Under the lock the active file and the tail belong together.
        high = file.end if file.end else load_acquire(&log.header.tail)
        high = min(high, start + WRITE_BYTES_MAX)
        pthread_mutex_unlock(&log.lock)
        error = sys_pwrite(file.fd, log.ring + (start & (log.ring_bytes - 1)), high - start,
                           start - file.ring_base)
        pthread_mutex_lock(&log.lock)
        log.writing = False
        if error:
            pthread_mutex_unlock(&log.lock)
            hot_poison(log, error)
            return error
        store_release(&log.written, high)
        store_release(&log.header.written, high)
        if high >= log.started + WRITEBACK_BYTES:
            pthread_cond_broadcast(&log.flush_work)
        hot_announce(log)
    error = log.failure
    pthread_mutex_unlock(&log.lock)
    return error


cdef void *_writer_thread(void *argument) noexcept nogil:
    cdef HotLog *log = <HotLog *> argument
    cdef uint64_t tail
    while True:
        pthread_mutex_lock(&log.lock)
        while not log.stop and log.state == HOT_OPEN and (
            log.header == NULL
            or load_acquire(&log.header.tail) < log.written + log.write_out_bytes
        ):
            pthread_cond_wait(&log.work, &log.lock)
        if log.stop or log.state != HOT_OPEN:
            pthread_mutex_unlock(&log.lock)
            return NULL
        tail = load_acquire(&log.header.tail)
        pthread_mutex_unlock(&log.lock)
        hot_write_out(log, tail)


# --- the ring ----------------------------------------------------------------------------------


cdef int hot_build_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil:
    cdef void *header = NULL
    cdef void *data = NULL
    cdef int error
    pthread_mutex_lock(&log.lock)
    while log.ring_building:
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


cdef void *_ring_thread(void *argument) noexcept nogil:
    """Make the wanted ring and end: the other two threads must not wait for it."""
    cdef HotLog *log = <HotLog *> argument
    # Where there is no room for a larger ring, the one there is has to do.
    hot_build_ring(log, log.ring_wanted)
    return NULL


cdef void hot_want_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil:
    if log.ring_wanted == 0:
        log.ring_wanted = ring_bytes
        if start_thread(&log.ring_thread, _ring_thread, log) != 0:
            log.ring_wanted = 0


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
    fresh.next_offset, fresh.durable_offset = log.next_offset, log.durable_offset
    fresh.tail = fresh.oldest = log.tail
    fresh.written, fresh.durable = log.written, log.durable
    unmap_ring(old, log.ring, log.ring_bytes)
    log.header, log.ring, log.ring_bytes = fresh, log.next_ring, log.next_ring_bytes
    log.next_header = NULL
    log.next_ring = NULL
    log.write_out_bytes = min(<uint64_t> 262144, log.ring_bytes // 4)
    log.ring_limit = 0
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


# --- syncing -----------------------------------------------------------------------------------


cdef int _sync_files(HotLog *log, uint64_t target) noexcept nogil:
    """Sync every file with bytes below `target`, oldest first, so that a later one never claims
    first.

    The list cannot lose files while this turn lasts; it may grow at its end.
    """
    cdef HotFile *file
    cdef uint64_t high
    cdef int error
    pthread_mutex_lock(&log.lock)
    file = log.oldest
    while file != NULL and file.first < target:
        high = (file.end if file.end and file.end < target else target) - file.ring_base
        pthread_mutex_unlock(&log.lock)
        if high > file.durable_position:
            error = sys_fdatasync(file.fd)
            if error == 0:
                error = sys_write_check(file.fd)
            if error:
                return error
            store_release(&file.durable_position, high)
        pthread_mutex_lock(&log.lock)
        file = file.next
    pthread_mutex_unlock(&log.lock)
    return 0


cdef int _flush_once(HotLog *log) noexcept nogil:
    """One turn; the caller holds the lock and has set `syncing`. Returns with the lock held."""
    cdef uint64_t offset, tail
    cdef int error
    # The offset first: the tail that is read after it covers every record below it.
    offset = load_acquire(&log.header.next_offset)
    tail = load_acquire(&log.header.tail)
    pthread_mutex_unlock(&log.lock)
    error = hot_write_out(log, tail)
    if error == 0:
        error = _sync_files(log, tail)
    if error:
        hot_poison(log, error)
    pthread_mutex_lock(&log.lock)
    log.syncing = False
    if error == 0 and log.state != HOT_POISONED:
        store_release(&log.durable, tail)
        store_release(&log.durable_offset, offset)
        store_release(&log.header.durable, tail)
        store_release(&log.header.durable_offset, offset)
    hot_announce(log)
    return error


cdef int hot_flush(
    HotLog *log, uint64_t target, uint64_t target_offset, int64_t timeout_ns
) noexcept nogil:
    cdef int64_t until = monotonic_ns() + timeout_ns
    cdef int error = 0
    pthread_mutex_lock(&log.lock)
    while error == 0 and (log.durable < target or log.durable_offset < target_offset):
        if log.state == HOT_POISONED:
            error = log.failure
        elif not log.syncing:
            log.syncing = True
            error = _flush_once(log)
        elif cond_wait_ns(&log.change, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            error = ETIMEDOUT
    pthread_mutex_unlock(&log.lock)
    return error


cdef int hot_confirm(HotLog *log) noexcept nogil:
    cdef HotFile *file
    cdef uint64_t position, offset
    cdef int error = 0
    pthread_mutex_lock(&log.lock)
    while log.syncing:
        pthread_cond_wait(&log.change, &log.lock)
    file = log.active
    if file == NULL or log.state == HOT_POISONED:
        pthread_mutex_unlock(&log.lock)
        return log.failure
    log.syncing = True
    position = file.durable_position
    offset = log.durable_offset
    pthread_mutex_unlock(&log.lock)
    # A slot only states a fact that already holds, so any version of it on disk is true.
    if position > FRAMES_AT and position != file.slot_position:
        error = write_slot(file.fd, file.salt, file.slot_n + 1, position, offset)
        if error == 0:
            error = sys_fdatasync(file.fd)
        if error == 0:
            error = sys_write_check(file.fd)
        if error == 0:
            file.slot_n += 1
            file.slot_position = position
    if error:
        hot_poison(log, error)
    pthread_mutex_lock(&log.lock)
    log.syncing = False
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
    return error


cdef void _start_writeback(HotLog *log) noexcept nogil:
    """Have the device begin with what was written out, so that the next sync has less to wait for.

    On the flush thread, which holds the lock: the call can block while the device's queue is full,
    and must not keep the other thread from emptying the ring. It is a hint, so a failure shows in
    the sync.
    """
    cdef uint64_t high = log.written, start
    cdef HotFile *file = _file_at(log, max(log.started, log.durable))
    if file == NULL or log.syncing:
        return
    log.syncing = True
    start = max(max(log.started, log.durable), file.first)
    high = min(high, file.end) if file.end else high
    pthread_mutex_unlock(&log.lock)
    if high > start:
        sys_start_writeback(file.fd, start - file.ring_base, high - start)
    pthread_mutex_lock(&log.lock)
    log.started = max(high, start)
    log.syncing = False
    hot_announce(log)


cdef bint _is_dirty(HotLog *log) noexcept nogil:
    return log.header != NULL and load_acquire(&log.header.tail) != log.durable


cdef void _flush_thread_wait(HotLog *log, int64_t wait_ns, bint until_woken) noexcept nogil:
    """Wait for a time (or for ever, below 0); the caller holds the lock."""
    cdef int64_t until = monotonic_ns() + wait_ns
    log.flush_idle = until_woken
    while not log.stop and log.state == HOT_OPEN and log.flush_idle == until_woken:
        if log.written >= max(log.started, log.durable) + WRITEBACK_BYTES and not log.syncing:
            _start_writeback(log)
        elif wait_ns < 0:
            pthread_cond_wait(&log.flush_work, &log.lock)
        elif cond_wait_ns(&log.flush_work, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            break
    log.flush_idle = False


cdef void *_flush_thread(void *argument) noexcept nogil:
    """Flush at the interval while there is something to flush, confirm once idle, then sleep.

    An append wakes this thread by passing `wake_at`. Setting it to 0 and looking at the tail once
    more an interval later closes the window in which an append did not yet see the 0.
    """
    cdef HotLog *log = <HotLog *> argument
    cdef bint armed = False, confirmed = False
    pthread_mutex_lock(&log.lock)
    while not log.stop and log.state == HOT_OPEN:
        if _is_dirty(log):
            armed = confirmed = False
            _flush_thread_wait(log, log.interval_ns, False)
            while not log.stop and log.syncing:
                pthread_cond_wait(&log.change, &log.lock)
            if not log.stop and log.state == HOT_OPEN and _is_dirty(log):
                log.syncing = True
                _flush_once(log)
        elif not armed:
            log.wake_at = 0
            armed = True
            _flush_thread_wait(log, log.interval_ns, True)
        elif not confirmed and log.header != NULL:
            _flush_thread_wait(log, log.confirm_ns, True)
            if not _is_dirty(log) and not log.stop:
                pthread_mutex_unlock(&log.lock)
                hot_confirm(log)
                pthread_mutex_lock(&log.lock)
                confirmed = True
        else:
            _flush_thread_wait(log, -1, True)
    pthread_mutex_unlock(&log.lock)
    return NULL


# --- threads and waiters -----------------------------------------------------------------------


cdef int hot_start_threads(HotLog *log) noexcept nogil:
    cdef int error
    if log.threads:
        return 0
    error = start_thread(&log.writer_thread, _writer_thread, log)
    if error:
        return error
    error = start_thread(&log.flush_thread, _flush_thread, log)
    if error:
        pthread_mutex_lock(&log.lock)
        log.stop = True
        pthread_cond_broadcast(&log.work)
        pthread_mutex_unlock(&log.lock)
        pthread_join(log.writer_thread, NULL)
        log.stop = False
        return error
    log.threads = True
    return 0


cdef void hot_stop_threads(HotLog *log) noexcept nogil:
    if not log.threads:
        return
    pthread_mutex_lock(&log.lock)
    log.stop = True
    pthread_cond_broadcast(&log.work)
    pthread_cond_broadcast(&log.flush_work)
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
    pthread_join(log.writer_thread, NULL)
    pthread_join(log.flush_thread, NULL)
    if log.ring_wanted:
        pthread_join(log.ring_thread, NULL)
    log.threads = False


cdef void hot_wait_change(HotLog *log, uint64_t seen, int64_t timeout_ns) noexcept nogil:
    cdef int64_t until = monotonic_ns() + timeout_ns
    pthread_mutex_lock(&log.lock)
    while log.changes == seen:
        if cond_wait_ns(&log.change, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            break
    pthread_mutex_unlock(&log.lock)
