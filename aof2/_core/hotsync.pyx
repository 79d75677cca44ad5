"""Making the hot log durable: group commit, and the two threads that write out and sync.

Group commit: whoever wants durability first takes the turn to sync for all, everybody who comes
meanwhile waits for the next turn. Order of one flush: note the next offset, note the tail, write
out up to it, then file by file, oldest first: fdatasync, a zero-length write (a file system that
shut down during the sync reports success there, but not here), and only then move the durable
position.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint64_t

from aof2._core.hotlog cimport (
    HOT_OPEN,
    HOT_POISONED,
    HotFile,
    HotLog,
    SYNC_CLASSES,
    WRITEBACK_BYTES,
    NEWS_DURABLE,
    hot_announce,
    hot_file_at,
    hot_poison,
    hot_tell,
    hot_write_out,
    pthread_cond_t,
    pthread_mutex_t,
    pthread_t,
)
from aof2._core.layout cimport FRAMES_AT
from aof2._core.logfile cimport write_slot
from aof2._core.posix cimport sys_fdatasync, sys_start_writeback, tell_locked_store

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void store_release(void *at, uint64_t value)

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    int cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t wait_ns)
    int start_thread(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_broadcast(pthread_cond_t *cond)
    int pthread_join(pthread_t thread, void **result)


cdef enum:
    LOOK_AGAIN_NS = 50000000     # after an append that did not see that it has to wake us


cdef int _sync(HotLog *log, HotFile *file) noexcept nogil:
    """One fdatasync, counted by how long it took."""
    cdef int64_t took_ns, bound_ns = 1000, began = monotonic_ns()
    cdef int step = 0
    cdef int error = sys_fdatasync(file.fd)
    took_ns = monotonic_ns() - began
    while step < SYNC_CLASSES - 1 and took_ns > bound_ns:
        bound_ns *= 4
        step += 1
    log.sync_counts[step] += 1
    log.sync_ns += took_ns
    return error


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
            error = _sync(log, file)
            if error:
                return error
            store_release(&file.durable_position, high)
        pthread_mutex_lock(&log.lock)
        file = file.next
    pthread_mutex_unlock(&log.lock)
    return 0


cdef int _confirm_file(
    HotLog *log, HotFile *file, uint64_t position, uint64_t offset
) noexcept nogil:
    """State in the file's next slot what is durable, and sync that; whoever calls has the turn.

    A slot only states a fact that already holds, so any version of it on disk is true.
    """
    cdef int error = 0
    if position > FRAMES_AT and position != file.slot_position:
        error = write_slot(file.fd, file.salt, file.slot_n + 1, position, offset)
        if error == 0:
            error = _sync(log, file)
        if error == 0:
            file.slot_n += 1
            file.slot_position = position
    return error


cdef int _confirm_files(HotLog *log, uint64_t target, uint64_t offset) noexcept nogil:
    """For `flush.strict`: every file that this turn has synced says so before anybody is told.

    Nothing is sealed before its last turn has ended, so no slot follows a footer.
    """
    cdef HotFile *file
    cdef uint64_t covered
    cdef int error
    pthread_mutex_lock(&log.lock)
    file = log.oldest
    while file != NULL and file.first < target:
        covered = file.base_offset + file.run.records if file.end else offset
        pthread_mutex_unlock(&log.lock)
        error = _confirm_file(log, file, file.durable_position, min(covered, offset))
        if error:
            return error
        pthread_mutex_lock(&log.lock)
        file = file.next
    pthread_mutex_unlock(&log.lock)
    return 0


cdef int _flush_once(HotLog *log) noexcept nogil:
    """One turn; the caller holds the lock and has set `syncing`. Returns with the lock held."""
    cdef uint64_t offset, tail
    cdef int error
    # The offset first: the tail that is read after it covers every record below it.
    if log.header != NULL:
        offset = load_acquire(&log.header.next_offset)
        tail = load_acquire(&log.header.tail)
    else:
        # Without a ring nothing is appended, but an END may have been written.
        offset, tail = log.next_offset, log.tail
    pthread_mutex_unlock(&log.lock)
    error = hot_write_out(log, tail)
    if error == 0:
        error = _sync_files(log, tail)
    if error == 0 and log.strict:
        error = _confirm_files(log, tail, offset)
    if error:
        hot_poison(log, error)
    pthread_mutex_lock(&log.lock)
    log.syncing = False
    if error == 0 and log.state != HOT_POISONED:
        store_release(&log.durable, tail)
        store_release(&log.durable_offset, offset)
        if log.header != NULL:
            store_release(&log.header.durable, tail)
            store_release(&log.header.durable_offset, offset)
            tell_locked_store(&log.header.durable, 24)
        hot_tell(log, NEWS_DURABLE)
    hot_announce(log)
    return error


cdef int hot_flush(
    HotLog *log, uint64_t target, uint64_t target_offset, int64_t timeout_ns, bint lead
) noexcept nogil:
    cdef int64_t until = monotonic_ns() + timeout_ns
    cdef int error = 0
    pthread_mutex_lock(&log.lock)
    while error == 0 and (log.durable < target or log.durable_offset < target_offset):
        if log.state == HOT_POISONED:
            error = log.failure
        elif lead and not log.syncing:
            log.syncing = True
            error = _flush_once(log)
        else:
            if log.asked < target_offset:
                log.asked = target_offset
                pthread_cond_broadcast(&log.flush_work)
            if cond_wait_ns(&log.change, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
                error = ETIMEDOUT
    pthread_mutex_unlock(&log.lock)
    return error


cdef int hot_confirm(HotLog *log) noexcept nogil:
    cdef HotFile *file
    cdef uint64_t position, offset
    cdef int error
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
    error = _confirm_file(log, file, position, offset)
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
    cdef HotFile *file = hot_file_at(log, max(log.started, log.durable))
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
    # A flush notes the offset before the tail, so it may leave the offset behind the tail.
    return log.header != NULL and (
        load_acquire(&log.header.tail) != log.durable
        or load_acquire(&log.header.next_offset) != log.durable_offset
    )


cdef void _flush_thread_wait(HotLog *log, int64_t wait_ns, bint until_woken) noexcept nogil:
    """Wait for a time (or for ever, below 0); the caller holds the lock."""
    cdef int64_t until = monotonic_ns() + wait_ns
    log.flush_idle = until_woken
    while (
        not log.stop and log.state == HOT_OPEN and log.flush_idle == until_woken
        and log.asked <= log.durable_offset
    ):
        if log.written >= log.durable + log.flush_bytes:
            break
        if log.written >= max(log.started, log.durable) + WRITEBACK_BYTES and not log.syncing:
            _start_writeback(log)
        elif wait_ns < 0:
            pthread_cond_wait(&log.flush_work, &log.lock)
        elif cond_wait_ns(&log.flush_work, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            break
    log.flush_idle = False


cdef void *_flush_thread(void *argument) noexcept nogil:
    """Flush at the interval, or once there is enough, while there is something to flush; confirm
    once idle, then sleep.

    An append wakes this thread by passing `wake_at`. Setting it to 0 and looking at the tail once
    more a while later closes the window in which an append did not yet see the 0.
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
        elif log.asked > log.durable_offset:
            # Somebody asked beyond the last record: there is nothing to sync for him.
            log.asked = log.durable_offset
        elif not armed:
            log.wake_at = 0
            armed = True
            _flush_thread_wait(log, LOOK_AGAIN_NS, True)
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
