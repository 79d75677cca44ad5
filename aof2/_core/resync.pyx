"""Finding the next frame that validates, behind damage.

1. Where the damaged frame says that it ends, if the frame there is exactly the one that must follow
   a whole frame like it. So nothing that merely looks like a frame inside of a payload is met.
2. Otherwise every 8 bytes. A position is looked at closely only where kind, flags, ordinal and the
   `durable` field are possible, so that passing over a payload costs no checksums.
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
    KIND_END,
    KIND_RECORD,
    pad8,
)


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
    cdef uint64_t at
    if position + FRAME_HEADER_BYTES > end:
        return 0
    memcpy(&header, data + position, FRAME_HEADER_BYTES)
    at = position + pad8(header.frame_bytes)
    if header.frame_bytes >= FRAME_HEADER_BYTES and at <= end and _is_whole(
        data, at, end, salt, ordinal, records, view
    ) and view.ordinal - ordinal == _claimed_count(data + position, &header):
        return at
    at = position + FRAME_ALIGN
    while at + FRAME_HEADER_BYTES <= end:
        memcpy(&header, data + at, FRAME_HEADER_BYTES)
        if (
            header.frame_bytes >= FRAME_HEADER_BYTES and header.frame_bytes <= end - at
            and header.zero == 0 and KIND_RECORD <= header.kind <= KIND_END
            and not header.flags & ~FLAG_EXT_ID
            and ordinal < header.ordinal <= records and <uint64_t> header.durable * 8 <= at
            and _is_whole(data, at, end, salt, ordinal, records, view)
        ):
            return at
        at += FRAME_ALIGN
    return 0
