"""Making the hot log durable: group commit.

One thread at a time has the turn to sync, for all who have asked; everybody who comes meanwhile
waits for the next turn. Users only ask: the flush thread takes the turn for them. Order of one
flush: note the next offset, note the tail, write out up to it, then file by file, oldest first:
fdatasync, a zero-length write (a file system that shut down during the sync reports success there,
but not here), and only then move the durable position.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from aof2._core.hotlog cimport (
    HOT_OPEN,
    HOT_POISONED,
    HotFile,
    HotLog,
    SYNC_CLASSES,
    NEWS_DURABLE,
    Parking,
    hot_announce,
    hot_poison,
    hot_tell,
    hot_write_out,
    pthread_cond_t,
    pthread_mutex_t,
)
from aof2._core.layout cimport FRAMES_AT
from aof2._core.logfile cimport write_slot
from aof2._core.posix cimport sys_fdatasync, tell_locked_store

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    uint32_t load_acquire32(const void *at)
    void add32(void *at, uint32_t n)
    void store_release(void *at, uint64_t value)

cdef extern from "parking.h" nogil:
    int park(Parking *parking, uint32_t ticket, int64_t wait_ns)
    uint32_t parking_ticket(const Parking *parking)
    void pass_on(Parking *parking)
    void unpark_chain(Parking *parking, int32_t waiting, int depth)

cdef extern from "ringwait.h" nogil:
    void ring_tell(uint32_t *word)

cdef extern from "processor.h" nogil:
    int this_processor()

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    void spin_turn(unsigned int turn)
    int cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t wait_ns)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_broadcast(pthread_cond_t *cond)


cdef enum:
    WOKEN_AT_ONCE = 2            # one of them has the GIL while the next one wakes


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


cdef void _begin_writing(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    while log.writing:
        pthread_cond_wait(&log.change, &log.lock)
    log.writing = True
    pthread_mutex_unlock(&log.lock)


cdef void _end_writing(HotLog *log) noexcept nogil:
    pthread_mutex_lock(&log.lock)
    log.writing = False
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)


cdef int _confirm_file(
    HotLog *log, HotFile *file, uint64_t position, uint64_t offset
) noexcept nogil:
    """State in the file's next slot what is durable, and sync that; whoever calls has the turn.

    A slot only states a fact that already holds, so any version of it on disk is true.
    """
    cdef int error = 0
    cdef bint direct = file.direct_fd >= 0
    if position > FRAMES_AT and position != file.slot_position:
        if direct:
            # Through the page cache, so never while the same file is written past it.
            _begin_writing(log)
        error = write_slot(file.fd, file.salt, file.slot_n + 1, position, offset)
        if direct:
            _end_writing(log)
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


cdef int hot_flush_once(HotLog *log) noexcept nogil:
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
    error = hot_write_out(log, tail, True)
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
            ring_tell(&log.header.waiters)
        hot_tell(log, NEWS_DURABLE)
    # Whoever waits has counted itself before it took the lock that is held here.
    unpark_chain(&log.flushed, <int32_t> load_acquire32(&log.waiting), WOKEN_AT_ONCE)
    hot_announce(log)
    return error


cdef bint _spin_until_durable(HotLog *log, uint64_t offset, int64_t limit_ns) noexcept nogil:
    """Look at the durable offset until it is there; for a device that is about as fast as waking a
    thread. Ends early when others wait as well, who need the processor."""
    cdef int64_t until = monotonic_ns() + min(limit_ns, 2 * log.spin_ns)
    cdef unsigned int turn = 0
    while load_acquire(&log.durable_offset) < offset:
        spin_turn(turn)
        turn += 1
        if log.state != HOT_OPEN or log.waiting > 1 or (turn % 16 == 0 and monotonic_ns() > until):
            return False
    return True


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
            error = hot_flush_once(log)
        elif cond_wait_ns(&log.change, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            error = ETIMEDOUT
    pthread_mutex_unlock(&log.lock)
    return error


cdef int hot_await_flush(HotLog *log, uint64_t offset, int64_t timeout_ns) noexcept nogil:
    cdef int64_t until = monotonic_ns() + timeout_ns
    cdef int error = 0
    cdef uint32_t ticket
    cdef bint spin = log.spin_ns > log.turn_ns
    add32(&log.waiting, 1)
    pthread_mutex_lock(&log.lock)
    log.arrivals += 1
    if log.asked < offset:
        log.asked = offset
        log.place.asker = this_processor()
        pthread_cond_broadcast(&log.flush_work)
    pthread_mutex_unlock(&log.lock)
    if spin and load_acquire32(&log.waiting) == 1:
        _spin_until_durable(log, offset, timeout_ns)
    while error == 0:
        ticket = parking_ticket(&log.flushed)
        if load_acquire(&log.durable_offset) >= offset:
            break
        if log.state == HOT_POISONED:
            pthread_mutex_lock(&log.lock)
            error = log.failure
            pthread_mutex_unlock(&log.lock)
        else:
            error = park(&log.flushed, ticket, until - monotonic_ns())
            pass_on(&log.flushed)
    add32(&log.waiting, <uint32_t> -1)
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


cdef void hot_wait_change(HotLog *log, uint64_t seen, int64_t timeout_ns) noexcept nogil:
    cdef int64_t until = monotonic_ns() + timeout_ns
    pthread_mutex_lock(&log.lock)
    while log.changes == seen:
        if cond_wait_ns(&log.change, &log.lock, until - monotonic_ns()) == ETIMEDOUT:
            break
    pthread_mutex_unlock(&log.lock)
