"""A bell that C threads ring to tell Python that something happened.

The write-out and flush threads never take the GIL, so they cannot wake an event loop. They ring,
and one thread per manager, which waits here, does the rest. Rings before it looks are one.
"""

from libc.stdlib cimport calloc, free

cdef extern from "loglock.h" nogil:
    void cond_init(pthread_cond_t *cond)
    int pthread_mutex_init(pthread_mutex_t *lock, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
    int pthread_cond_signal(pthread_cond_t *cond)

cdef extern from "<unistd.h>" nogil:
    int c_getpid "getpid"()


cdef void bell_ring(BellState *bell) noexcept nogil:
    pthread_mutex_lock(&bell.lock)
    if not bell.rung:
        bell.rung = True
        pthread_cond_signal(&bell.cond)
    pthread_mutex_unlock(&bell.lock)


cdef class Bell:
    """What C threads ring and one Python thread waits for.

    Example:
        >>> bell = Bell(); bell.ring(); bell.wait()
        True
    """

    def __cinit__(self):
        self.state = <BellState *> calloc(1, sizeof(BellState))
        if self.state == NULL:
            raise MemoryError("bell")
        self._pid = c_getpid()
        pthread_mutex_init(&self.state.lock, NULL)
        cond_init(&self.state.cond)

    def __dealloc__(self):
        free(self.state)

    def ring(self):
        """Wake the thread that waits, or the next one that does; from any thread."""
        if self._pid == c_getpid():
            bell_ring(self.state)

    def wait(self):
        """Wait for a ring, without the GIL.

        Returns:
            True when it rang since the last call, False once it is closed.
        """
        cdef bint closed
        with nogil:
            pthread_mutex_lock(&self.state.lock)
            while not self.state.rung and not self.state.closed:
                pthread_cond_wait(&self.state.cond, &self.state.lock)
            self.state.rung = False
            closed = self.state.closed
            pthread_mutex_unlock(&self.state.lock)
        return not closed

    def close(self):
        """End the waiting for good; again is harmless."""
        if self._pid != c_getpid():
            return  # The lock is the parent's, and may be held for ever here.
        pthread_mutex_lock(&self.state.lock)
        self.state.closed = True
        pthread_cond_signal(&self.state.cond)
        pthread_mutex_unlock(&self.state.lock)
