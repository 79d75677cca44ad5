# A bell: C threads ring it, one Python thread waits for it without the GIL.

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass

cdef struct BellState:
    bint rung
    bint closed
    pthread_mutex_t lock
    pthread_cond_t cond

cdef class Bell:
    cdef BellState *state
    cdef long _pid

cdef void bell_ring(BellState *bell) noexcept nogil
