"""Looking for valid frames behind a place where none is.

Frames lie at multiples of 8, so every such place is tried. A frame validates where its checksum
over salt, position, header and padded body is right; that is the whole test. Its ordinal need not
be the next one, because frames between are what is missing:

* As a *witness* every valid frame counts, whatever its ordinal. The checksum covers the file's
  random salt and the position, so only this file's writer can have written it there, and what it
  says about earlier bytes was true. An ordinal that contradicts the frames before would be one more
  reason not to cut.
* As the *place to go on reading* the ordinal must be at least the expected one; the gap is then
  exactly what lies between the two.

Most places are refused by their header: the length must fit into the file, two bytes must be 0, and
a frame cannot know more to be durable than lies before it. Only then the checksum is computed.
Payloads can be made to look like headers in every place, so the bytes that are checksummed directly
are limited to a few times those that are looked at. Beyond that, checksums of stretches come from a
table of running checksums, at a cost that does not depend on the length.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from aof2._core.checksum cimport crc64, crc64_combine
from aof2._core.frame cimport frame_crc
from aof2._core.layout cimport FRAME_HEADER_BYTES, FRAMES_AT, FrameHeader, KIND_END, pad8
from aof2._core.posix cimport sys_pread
from aof2._core.ringview cimport RingView, ring_at

cdef enum:
    LOOK_BYTES = 524288          # read at a time; stays in the processor's cache
    ZERO_BLOCK_BYTES = 1024      # looked at together for a byte that is not zero
    STEP_BYTES = 4096            # between two running checksums of the table
    BUDGET_FACTOR = 4            # directly checksummed bytes per byte that is looked at
    RING_BUDGET_FACTOR = 64      # in a ring, where there is no other way

cdef struct Sums:
    int fd
    uint64_t start
    uint64_t end
    uint64_t *values             # checksum of [start, start + k * STEP_BYTES); NULL: not made yet


cdef inline bint _plausible(
    const FrameHeader *header, uint64_t position, uint64_t limit, int64_t ordinal_min
) noexcept nogil:
    return (
        header.frame_bytes >= FRAME_HEADER_BYTES
        and pad8(header.frame_bytes) <= limit - position
        and header.zero == 0
        and header.kind != 0 and header.kind <= KIND_END
        and <uint64_t> header.durable * 8 <= position
        and <int64_t> header.ordinal >= ordinal_min
    )


cdef int next_valid(
    const uint8_t *data, uint64_t available, uint64_t starts, uint64_t position, uint64_t salt,
    uint64_t limit, int64_t ordinal_min, uint64_t *budget, Sight *sight,
) noexcept nogil:
    cdef FrameHeader header
    cdef uint64_t at = 0, word = 0, total
    if available < FRAME_HEADER_BYTES:
        return NEXT_NONE
    starts = min(starts, available - FRAME_HEADER_BYTES + 1)
    while at < starts:
        memcpy(&word, data + at, 8)
        # The length is the low half; most words are no length that fits.
        if <uint32_t> word < FRAME_HEADER_BYTES or <uint32_t> word > limit - position - at:
            at += 8
            continue
        memcpy(&header, data + at, sizeof(header))
        if not _plausible(&header, position + at, limit, ordinal_min):
            at += 8
            continue
        total = pad8(header.frame_bytes)
        sight.position = position + at
        sight.total_bytes = total
        sight.ordinal = header.ordinal
        sight.durable_position = <uint64_t> header.durable * 8
        if total > available - at or total > budget[0]:
            return NEXT_LONG
        budget[0] -= total
        if header.crc64 == frame_crc(salt, position + at, &header, data + at + FRAME_HEADER_BYTES,
                                     total - FRAME_HEADER_BYTES):
            return NEXT_FOUND
        at += 8
    return NEXT_NONE


# --- a whole file ------------------------------------------------------------------------------


cdef int _make_sums(Sums *sums) noexcept nogil:
    """Read the stretch once, and note the running checksum at every step."""
    cdef uint64_t count = (sums.end - sums.start) // STEP_BYTES + 1
    cdef uint64_t at = sums.start, crc = 0, k = 0, used
    cdef size_t got = 0
    cdef int error = 0
    cdef uint8_t *buffer = <uint8_t *> malloc(LOOK_BYTES)
    sums.values = <uint64_t *> malloc(count * 8)
    if buffer == NULL or sums.values == NULL:
        free(buffer)
        return ENOMEM
    while k < count and error == 0:
        error = sys_pread(sums.fd, buffer, LOOK_BYTES, at, &got)
        used = 0
        while k < count and error == 0:
            sums.values[k] = crc
            k += 1
            if used + STEP_BYTES > got:
                break
            crc = crc64(crc, buffer + used, STEP_BYTES)
            used += STEP_BYTES
            if used == LOOK_BYTES:
                break
        if used < LOOK_BYTES:
            break
        at += used
    while k < count:
        # The file became shorter meanwhile; nothing behind its end validates.
        sums.values[k] = crc
        k += 1
    free(buffer)
    return error


cdef int _sum_up_to(Sums *sums, uint64_t position, uint64_t *crc) noexcept nogil:
    """Checksum of everything from the table's start up to a position."""
    cdef uint64_t step = (position - sums.start) // STEP_BYTES
    cdef uint64_t at = sums.start + step * STEP_BYTES
    cdef uint8_t rest[STEP_BYTES]
    cdef size_t got = 0
    cdef int error = sys_pread(sums.fd, rest, position - at, at, &got)
    crc[0] = crc64(sums.values[step], rest, got)
    return error


cdef int _check_by_sums(Sums *sums, uint64_t salt, const Sight *sight, bint *valid) noexcept nogil:
    """Check a frame of any length by the checksums up to the two ends of its body."""
    cdef FrameHeader header
    cdef uint64_t head[5]
    cdef uint64_t body = sight.position + FRAME_HEADER_BYTES, before = 0, through = 0, n
    cdef size_t got = 0
    cdef int error = 0
    valid[0] = False
    n = sight.total_bytes - FRAME_HEADER_BYTES
    if sums.values == NULL:
        error = _make_sums(sums)
    if error == 0:
        error = sys_pread(sums.fd, &header, sizeof(header), sight.position, &got)
    if error == 0:
        error = _sum_up_to(sums, body, &before)
    if error == 0:
        error = _sum_up_to(sums, body + n, &through)
    if error or got != sizeof(header):
        return error
    head[0] = salt
    head[1] = sight.position
    memcpy(&head[2], &header, 24)
    valid[0] = header.crc64 == crc64_combine(
        crc64(0, head, 40), through ^ crc64_combine(before, 0, n), n)
    return 0


cdef inline void _note(Ahead *ahead, const Sight *sight) noexcept nogil:
    ahead.durable_position = max(ahead.durable_position, sight.durable_position)


cdef uint64_t data_bytes(const uint8_t *data, uint64_t n) noexcept nogil:
    cdef uint64_t some, word
    cdef unsigned int at
    # By blocks first: most of what is looked at are the zeros of an allocation.
    while n >= ZERO_BLOCK_BYTES:
        some = 0
        for at in range(ZERO_BLOCK_BYTES // 8):
            memcpy(&word, data + n - ZERO_BLOCK_BYTES + 8 * at, 8)
            some |= word
        if some:
            break
        n -= ZERO_BLOCK_BYTES
    while n and data[n - 1] == 0:
        n -= 1
    return n


cdef int look_ahead(
    int fd, uint64_t salt, uint64_t start, uint64_t size, Ahead *ahead, uint64_t *data_end
) noexcept nogil:
    cdef Sums sums
    cdef Sight sight
    cdef uint8_t *buffer = <uint8_t *> malloc(LOOK_BYTES)
    cdef uint64_t at = start, skip_to = start, begin, budget = 0, i
    cdef size_t got = 0
    cdef bint valid = False
    cdef int error = 0, status
    sums.fd, sums.start, sums.end, sums.values = fd, start, size, NULL
    data_end[0] = start
    if buffer == NULL:
        return ENOMEM
    while at + 8 <= size:
        error = sys_pread(fd, buffer, min(<uint64_t> LOOK_BYTES, size - at), at, &got)
        if error or got < 8:
            break
        i = data_bytes(buffer, got)
        if i:
            data_end[0] = at + i
        budget += BUDGET_FACTOR * <uint64_t> got
        # Nothing but zeros from here on, so no frame begins there.
        while i and skip_to < at + i:
            begin = skip_to - at
            status = next_valid(buffer + begin, got - begin, i - begin, skip_to, salt, size, 0,
                                &budget, &sight)
            if status == NEXT_NONE:
                break
            valid = status == NEXT_FOUND
            if not valid:
                error = _check_by_sums(&sums, salt, &sight, &valid)
                if error:
                    break
            if valid:
                _note(ahead, &sight)
            skip_to = sight.position + (sight.total_bytes if valid else 8)
        if error:
            break
        if got < LOOK_BYTES:
            break
        # The last header of the stretch may lie only half in it.
        at += got - FRAME_HEADER_BYTES
        skip_to = max(skip_to, at)
    free(buffer)
    free(sums.values)
    return error


cdef void look_ahead_ring(
    RingView ring, uint64_t salt, uint64_t ring_base, uint64_t start, uint64_t size, Ahead *ahead
) noexcept nogil:
    # The ring's header says which lap its bytes are of, but after a power cut it is worth nothing,
    # so every lap is tried: as many bytes as the file has.
    cdef uint64_t at = start, available = 0, end, budget = RING_BUDGET_FACTOR * (size - start)
    cdef const uint8_t *data
    cdef Sight sight
    cdef int status
    while at < size:
        data = ring_at(ring, ring_base + at, &available)
        end = min(available, size - at)
        status = next_valid(data, available, end, at, salt, size, 0, &budget, &sight)
        if status == NEXT_NONE:
            at += end
        elif status == NEXT_FOUND:
            _note(ahead, &sight)
            at = sight.position + sight.total_bytes
        elif sight.position > at and sight.total_bytes <= min(available, budget):
            at = sight.position          # it goes on behind the window: one that begins there fits
        else:
            at = sight.position + 8
