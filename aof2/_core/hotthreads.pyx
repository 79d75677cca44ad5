"""The hot log's two threads: one writes out, one syncs.

Neither takes the GIL. The flush thread syncs at the interval, once there is enough, and at once
for whoever asks.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.hotlog cimport (
    HOT_OPEN,
    HotFile,
    HotLog,
    Parking,
    WRITEBACK_BYTES,
    hot_announce,
    hot_file_at,
    hot_write_out,
    pthread_cond_t,
    pthread_mutex_t,
    pthread_t,
)
from aof2._core.hotsync cimport hot_confirm, hot_flush_once
from aof2._core.placement cimport place_hold, place_note, place_release
from aof2._core.posix cimport sys_start_writeback

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    uint32_t load_acquire32(const void *at)

cdef extern from "ringwait.h" nogil:
    void ring_register_writer()

cdef extern from "parking.h" nogil:
    void unpark_all(Parking *parking)

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    void spin_turn(unsigned int turn)
    int cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t wait_ns)
    int start_thread(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_broadcast(pthread_cond_t *cond)
    int pthread_join(pthread_t thread, void **result)


cdef enum:
    LOOK_AGAIN_NS = 50000000     # after an append that did not see that it has to wake us
    LINGER_NS = 50000            # so soon the next one asks who appends and waits in a loop
    UNMET_TURNS = 8              # so many flushes do not wait for those who did not come


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
    if high > start and file.direct_fd < 0:
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


cdef void _flush_for_all(HotLog *log) noexcept nogil:
    """One turn of the flush thread, which holds the lock and keeps it."""
    cdef int64_t began = monotonic_ns()
    cdef bint asked = log.asked > log.durable_offset
    cdef uint64_t arrivals
    cdef uint32_t waiting
    if asked and log.spin_ns and began - log.ended_ns < LINGER_NS:
        log.linger = True
    if asked and log.expected > log.arrivals:
        _gather(log)
    log.syncing = True
    # Moving to another processor waits until that one takes us.
    pthread_mutex_unlock(&log.lock)
    if asked and log.turn_ns < log.spin_ns and load_acquire32(&log.waiting) == 1:
        place_hold(&log.place)
    else:
        place_release(&log.place)
    pthread_mutex_lock(&log.lock)
    arrivals = log.arrivals
    began = monotonic_ns()
    hot_flush_once(log)
    if asked:
        log.ended_ns = monotonic_ns()
        log.turn_ns = log.ended_ns - began
        waiting = load_acquire32(&log.waiting)
        if waiting == 1:
            place_note(&log.place, log.turn_ns)
        # Whoever came during the turn waits for the next one; the others of those who wait now
        # were served, and wake.
        log.expected = 0
        if waiting > 1 and waiting + arrivals > log.arrivals:
            log.expected = waiting + arrivals
        if log.linger and waiting <= 1 and log.turn_ns < log.spin_ns:
            _linger(log)


cdef void _gather(HotLog *log) noexcept nogil:
    """Wait a moment for those whom the last flush served; the caller holds the lock.

    Threads that append and wait in a loop would else split into two halves, each of which waits
    for the other's sync. Where they do not come back, the next flushes do not look out for them.
    """
    cdef int64_t until = log.ended_ns + min(log.turn_ns // 2, log.spin_ns)
    cdef unsigned int turn = 0
    if log.unmet:
        log.unmet -= 1
        return
    pthread_mutex_unlock(&log.lock)
    while load_acquire(&log.arrivals) < log.expected and not log.stop:
        spin_turn(turn)
        turn += 1
        if monotonic_ns() > until:
            break
    pthread_mutex_lock(&log.lock)
    if log.arrivals < log.expected:
        log.unmet = UNMET_TURNS


cdef void _linger(HotLog *log) noexcept nogil:
    """Right after a flush, look out for whoever asks for the next one; the caller holds the lock.

    Without it, each append of a thread that appends and waits in a loop would wake this thread.
    """
    cdef int64_t until = log.ended_ns + LINGER_NS
    cdef uint64_t durable = log.durable_offset
    cdef unsigned int turn = 0
    pthread_mutex_unlock(&log.lock)
    while load_acquire(&log.asked) <= durable and not log.stop and monotonic_ns() < until:
        spin_turn(turn)
        turn += 1
    pthread_mutex_lock(&log.lock)
    log.linger = log.asked > durable


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
                _flush_for_all(log)
        elif log.asked > log.durable_offset:
            # Somebody asked beyond the last record: there is nothing to sync for him.
            log.asked = log.durable_offset
        elif not armed:
            place_release(&log.place)
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
        hot_write_out(log, tail, False)


cdef int hot_start_threads(HotLog *log) noexcept nogil:
    cdef int error
    if log.threads:
        return 0
    ring_register_writer()
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
    unpark_all(&log.flushed)
    hot_announce(log)
    pthread_mutex_unlock(&log.lock)
    pthread_join(log.writer_thread, NULL)
    pthread_join(log.flush_thread, NULL)
    if log.ring_wanted:
        pthread_join(log.ring_thread, NULL)
    log.threads = False
