"""Frames: how one is checked, and how an intact prefix of a run of them is measured.

A reader's algorithm, for the frame that should begin at a position:

1. A length of 0 means that nothing was written there yet.
2. The length must fit the bytes at hand, and the kind must be known.
3. The checksum covers the file's salt, the position, the header and the padded body, so that
neither a
   stale frame of an earlier lap nor one of another file or place passes. It must be checked before
   any field is believed.
4. The ordinal must be the expected one: frames follow each other without a hole.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport (
    BATCH_EXT_IDS,
    BATCH_TIMESTAMPS,
    FLAG_EXT_ID,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    FrameHeader,
    KIND_BATCH,
    KIND_END,
    KIND_RECORD,
    pad8,
)


cdef uint64_t frame_crc(
    uint64_t salt, uint64_t position, const FrameHeader *header, const uint8_t *body,
    uint64_t padded_body_bytes,
) noexcept nogil:
    cdef uint64_t head[5]
    head[0] = salt
    head[1] = position
    memcpy(&head[2], header, 24)
    return crc64(crc64(0, head, 40), body, padded_body_bytes)


cdef uint64_t batch_prefix_bytes(
    uint64_t count, bint has_ext_id, bint ext_id_column
) noexcept nogil:
    return (
        (8 if has_ext_id else 0)
        + pad8(8 + 4 * (count + 1))
        + (8 * count if ext_id_column else 0)
    )


cdef int _check_batch(const uint8_t *body, uint64_t body_bytes, FrameView *view) noexcept nogil:
    """Split a BATCH body into its columns; every size is checked before it is used."""
    cdef uint32_t count, flags, last, first
    cdef uint64_t at
    if body_bytes < 12:
        return FRAME_UNKNOWN
    memcpy(&count, body, 4)
    memcpy(&flags, body + 4, 4)
    if count == 0 or flags & ~(<uint32_t> (BATCH_TIMESTAMPS | BATCH_EXT_IDS)):
        return FRAME_UNKNOWN
    at = pad8(8 + 4 * (<uint64_t> count + 1))
    if at > body_bytes:
        return FRAME_UNKNOWN
    view.ends = body + 8
    view.timestamps = NULL
    view.ext_ids = NULL
    if flags & BATCH_TIMESTAMPS:
        view.timestamps = body + at
        at += 8 * <uint64_t> count
    if flags & BATCH_EXT_IDS:
        view.ext_ids = body + at
        at += 8 * <uint64_t> count
    memcpy(&first, view.ends, 4)
    memcpy(&last, view.ends + 4 * <uint64_t> count, 4)
    if at > body_bytes or first != 0 or last != body_bytes - at:
        return FRAME_UNKNOWN
    view.count = count
    view.data = body + at
    view.data_bytes = last
    return FRAME_OK


cdef int check_frame(
    const uint8_t *at, uint64_t available, uint64_t position, uint64_t salt,
    int64_t expected_ordinal, FrameView *view,
) noexcept nogil:
    cdef FrameHeader header
    cdef uint64_t total, body_bytes
    cdef const uint8_t *body
    view.total_bytes = 0
    if available < FRAME_HEADER_BYTES:
        if available >= 4:
            memcpy(&header, at, 4)
            if header.frame_bytes == 0:
                return FRAME_EMPTY
        # A window may end inside a header: whoever brings the next one has to bring more.
        view.total_bytes = FRAME_HEADER_BYTES
        return FRAME_SHORT
    memcpy(&header, at, FRAME_HEADER_BYTES)
    if header.frame_bytes == 0:
        return FRAME_EMPTY
    if header.frame_bytes < FRAME_HEADER_BYTES:
        return FRAME_BAD
    total = pad8(header.frame_bytes)
    if total > available:
        view.total_bytes = total
        return FRAME_SHORT
    # The checksum covers the length, so a damaged length cannot send the scan to a plausible but
    # wrong next frame; the padding is covered too.
    if header.crc64 != frame_crc(
        salt, position, &header, at + FRAME_HEADER_BYTES, total - FRAME_HEADER_BYTES
    ):
        return FRAME_BAD
    if expected_ordinal >= 0 and header.ordinal != <uint64_t> expected_ordinal:
        return FRAME_BAD
    if header.kind < KIND_RECORD or header.kind > KIND_END or header.flags & ~FLAG_EXT_ID:
        return FRAME_UNKNOWN
    body = at + FRAME_HEADER_BYTES
    body_bytes = header.frame_bytes - FRAME_HEADER_BYTES
    view.position = position
    view.total_bytes = total
    view.ordinal = header.ordinal
    view.count = 1
    view.timestamp_ns = header.timestamp_ns
    view.durable_position = <uint64_t> header.durable * 8
    view.kind = header.kind
    view.crc64 = header.crc64
    view.has_ext_id = header.flags & FLAG_EXT_ID
    view.ext_id = 0
    if view.has_ext_id:
        if body_bytes < 8:
            return FRAME_UNKNOWN
        memcpy(&view.ext_id, body, 8)
        body += 8
        body_bytes -= 8
    if header.kind == KIND_BATCH:
        return _check_batch(body, body_bytes, view)
    if header.kind == KIND_END:
        view.count = 0
    view.data = body
    view.data_bytes = body_bytes
    return FRAME_OK


def scan_tail(const uint8_t[::1] data not None, *, uint64_t salt, uint64_t position=FRAMES_AT,
              uint64_t ordinal=0):
    """Measure the intact prefix of a run of frames.

    Args:
        data: Contiguous bytes that start on a frame border; read in place with the GIL released.
        salt: The file's salt, from its header.
        position: Position of `data` in its file.
        ordinal: Expected ordinal of the first frame.

    Returns:
        `(records, valid_bytes)`: whole records found, and the byte just past the last intact frame.

    Damaged contents never raise: a bad frame ends the scan, and the caller decides by evidence
    whether that is a torn tail. One pass, O(valid_bytes).

    Example:
        >>> scan_tail(bytes(64), salt=1)
        (0, 0)
    """
    cdef FrameView view
    cdef uint64_t at = 0, records = 0, length = data.shape[0]
    if length:
        with nogil:
            while at < length and check_frame(
                &data[at], length - at, position + at, salt, ordinal + records, &view
            ) == FRAME_OK:
                at += view.total_bytes
                records += view.count
                if view.kind == KIND_END:
                    break
    return records, at
