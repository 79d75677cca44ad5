# Frames: the unit with a header and checksums; one record, an atomic batch, or the end of a file.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.layout cimport FrameHeader

cdef enum FrameStatus:
    FRAME_OK = 0
    FRAME_EMPTY = 1              # the length is 0: not written yet
    FRAME_SHORT = 2              # it goes on behind the bytes that are at hand
    FRAME_BAD = 3                # length, checksum or ordinal do not check
    FRAME_UNKNOWN = 4            # a good checksum, but a kind, flag or shape of a newer version

cdef struct FrameView:
    uint64_t position
    uint64_t total_bytes         # with padding
    uint32_t ordinal
    uint32_t count               # records in it
    int64_t timestamp_ns
    uint64_t durable_position    # 0: none claimed
    uint8_t kind
    bint has_ext_id
    uint64_t ext_id
    uint64_t crc64
    const uint8_t *data          # payload of a RECORD, payloads of a BATCH, chain crc of an END
    uint64_t data_bytes
    const uint8_t *ends          # BATCH: count + 1 u32, the first is 0
    const uint8_t *timestamps    # BATCH: count i64, or NULL
    const uint8_t *ext_ids       # BATCH: count u64, or NULL

# Check the frame at `at`; `expected_ordinal` < 0 takes any. Fills `view` only for FRAME_OK; for
# FRAME_SHORT, `view.total_bytes` says how many bytes are needed: a header, or what the header says.
cdef int check_frame(const uint8_t *at, uint64_t available, uint64_t position, uint64_t salt,
                     int64_t expected_ordinal, FrameView *view) noexcept nogil

# The checksum of a frame whose header is `header` and whose body, padding included, is at `body`.
cdef uint64_t frame_crc(uint64_t salt, uint64_t position, const FrameHeader *header,
                        const uint8_t *body, uint64_t padded_body_bytes) noexcept nogil

# Bytes of a BATCH body before its payloads.
cdef uint64_t batch_prefix_bytes(uint64_t count, bint has_ext_id, bint ext_id_column) noexcept nogil
