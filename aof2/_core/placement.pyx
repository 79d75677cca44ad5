"""On which processor the flush thread runs for a lone thread that waits for each of its flushes.

Where a device interrupts one processor only, a sync is quickest on that one, as each of its steps
wakes whoever waits there; but the thread that appends and then spins may sit there and keeps the
flush thread away. Beside it, it costs next to nothing, as it sleeps most of the time. On other
machines it is the other way round, or all the same. So it is tried: in rounds of a few flushes the
place where they run now is challenged by another one, which replaces it if it is quicker.
"""

from libc.stdint cimport int64_t, uint32_t

cdef extern from "processor.h" nogil:
    int allowed_processors(void *allowed)
    int hold_on_processor(int processor, const void *allowed)
    void leave_processor(const void *allowed)

cdef enum:
    PLACE_RESTS = 32             # one round of so many tries another place
    PLACE_GAIN_PERCENT = 10      # less than that is noise


cdef void place_init(Placement *place) noexcept nogil:
    place.asker = place.now = place.best = place.held = PLACE_FREE
    place.freed = False
    place.counted = place.rest = 0


cdef int64_t _median(int64_t *took_ns) noexcept nogil:
    """Sorts the samples where they are."""
    cdef int i, j
    cdef int64_t one
    for i in range(1, PLACE_SAMPLES):
        one = took_ns[i]
        j = i
        while j > 0 and took_ns[j - 1] > one:
            took_ns[j] = took_ns[j - 1]
            j -= 1
        took_ns[j] = one
    return took_ns[PLACE_SAMPLES // 2]


cdef int _challenger(Placement *place) noexcept nogil:
    """Where whoever asks runs, or wherever the system likes: the other one each time."""
    place.freed = place.best != PLACE_FREE and (not place.freed or place.asker == place.best)
    return PLACE_FREE if place.freed else place.asker


cdef void place_note(Placement *place, int64_t took_ns) noexcept nogil:
    cdef int64_t median_ns
    place.took_ns[place.counted] = took_ns
    place.counted += 1
    if place.counted < PLACE_SAMPLES:
        return
    place.counted = 0
    median_ns = _median(place.took_ns)
    if place.now == place.best:
        place.best_ns = median_ns
        if place.rest:
            place.rest -= 1
        else:
            place.now = _challenger(place)
        return
    if median_ns * 100 < place.best_ns * (100 - PLACE_GAIN_PERCENT):
        place.best = place.now
    place.now = place.best
    place.rest = PLACE_RESTS


cdef void place_hold(Placement *place) noexcept nogil:
    if place.now == place.held:
        return
    if place.now == PLACE_FREE:
        place_release(place)
    elif place.held != PLACE_FREE or allowed_processors(place.allowed) == 0:
        if hold_on_processor(place.now, place.allowed) == 0:
            place.held = place.now


cdef void place_release(Placement *place) noexcept nogil:
    if place.held != PLACE_FREE:
        place.held = PLACE_FREE
        leave_processor(place.allowed)


def places(took_ns, askers):
    """Where each flush runs, if it takes a known time at each place; for tests.

    Args:
        took_ns: How long a flush takes at which place, by processor; -1: where the system likes.
        askers: For each flush the processor of the thread that asks for it.

    Returns:
        The place of each flush.
    """
    cdef Placement place
    cdef list out = []
    place_init(&place)
    for asker in askers:
        place.asker = asker
        out.append(place.now)
        place_note(&place, took_ns[place.now])
    return out
