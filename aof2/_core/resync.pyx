"""Finding the next frame that validates, behind damage.

1. Where the damaged frame says that it ends, if the frame there is exactly the one that must follow
   a whole frame like it. So nothing that merely looks like a frame inside of a payload is met.
2. Otherwise every 8 bytes, as `lookahead` does. What is checksummed on the way is bounded, so a
   payload full of false headers can at worst widen the gap that is reported.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aof2._core.frame cimport FRAME_OK, FrameView, check_frame
from aof2._core.layout cimport (
    FLAG_EXT_ID,
    FRAME_ALIGN,
    FRAME_HEADER_BYTES,
    FrameHeader,
    KIND_BATCH,
    pad8,
)
from aof2._core.lookahead cimport NEXT_FOUND, NEXT_NONE, Sight, next_valid

cdef enum:
    BUDGET_FACTOR = 64           # checksummed bytes per byte that is passed over


cdef bint _is_whole(
    const uint8_t *data, uint64_t at, uint64_t end, uint64_t salt, uint64_t ordinal,
    uint64_t records, FrameView *view,
) noexcept nogil:
    """Whether a frame of some records behind `ordinal` begins there."""
    return (
        check_frame(data + at, end - at, at, salt, -1, view) == FRAME_OK
        and view.ordinal > ordinal and view.ordinal + <uint64_t> view.count <= records
    )


cdef uint64_t _claimed_count(const uint8_t *data, const FrameHeader *header) noexcept nogil:
    """Records that a damaged frame, which lies within the bytes at hand, says that it holds."""
    cdef uint32_t count
    cdef uint64_t at = FRAME_HEADER_BYTES + (8 if header.flags & FLAG_EXT_ID else 0)
    if header.kind != KIND_BATCH:
        return 1
    if header.frame_bytes < at + 4:
        return 0
    memcpy(&count, data + at, 4)
    return count


cdef uint64_t find_frame(
    const uint8_t *data, uint64_t position, uint64_t end, uint64_t salt, uint64_t ordinal,
    uint64_t records, FrameView *view,
) noexcept nogil:
    cdef FrameHeader header
    cdef Sight sight
    cdef uint64_t at, budget = BUDGET_FACTOR * (end - position)
    cdef int status
    if position + FRAME_HEADER_BYTES > end:
        return 0
    memcpy(&header, data + position, FRAME_HEADER_BYTES)
    at = position + pad8(header.frame_bytes)
    if header.frame_bytes >= FRAME_HEADER_BYTES and at <= end and _is_whole(
        data, at, end, salt, ordinal, records, view
    ) and view.ordinal - ordinal == _claimed_count(data + position, &header):
        return at
    at = position + FRAME_ALIGN
    while at < end:
        status = next_valid(data + at, end - at, end - at, at, salt, end, <int64_t> ordinal + 1,
                            &budget, &sight)
        if status == NEXT_NONE:
            return 0
        at = sight.position
        if status == NEXT_FOUND and _is_whole(data, at, end, salt, ordinal, records, view):
            return at
        at += FRAME_ALIGN
    return 0
