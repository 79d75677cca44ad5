# The byte layouts of every file that the core writes, shared by writers and readers.
#
# All integers are little-endian and unsigned unless the field says otherwise. `docs/format.md` is
# the normative text; the sizes asserted at the end of `layout.pyx` keep the two from drifting
# apart.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    PAGE_BYTES = 4096
    STATIC_BYTES = 2048          # bytes 0-2047 of a log file: the static header
    START_AT = 2048              # the start block follows it
    SLOT_FIRST_AT = 4096         # two confirmation slots, 512 bytes apart
    SLOT_STEP = 512
    FRAMES_AT = 8192             # the first frame of every log file
    FRAME_ALIGN = 8
    FRAME_HEADER_BYTES = 32
    END_BYTES = 40               # an END frame: header and chain crc
    INDEX_STEP_BYTES = 4096      # one index entry per so many bytes of frames
    FORMAT_VERSION = 1
    COMPATIBLE_KNOWN = 0
    INCOMPATIBLE_KNOWN = 0

cdef enum FrameKind:
    KIND_RECORD = 1
    KIND_BATCH = 2
    KIND_END = 3

cdef enum FrameFlag:
    FLAG_EXT_ID = 1              # the body begins with a u64 ext_id

cdef enum BatchFlag:
    BATCH_TIMESTAMPS = 1         # a column i64 timestamps[count]
    BATCH_EXT_IDS = 2            # a column u64 ext_ids[count]

cdef packed struct StaticHeader:
    uint8_t magic[8]             # "AOF2SEGM" or "AOF2MLOG"
    uint32_t version
    uint32_t incompatible        # feature bits; an unknown one set: VersionTooNew
    uint32_t compatible          # feature bits; unknown ones are ignored
    uint32_t zero
    uint8_t stream_uuid[16]
    uint64_t file_id
    uint64_t file_bytes
    uint64_t salt
    int64_t created_ns
    uint8_t padding[1968]
    uint64_t crc64               # over the 2040 bytes before it

cdef packed struct StartBlock:
    uint64_t base_offset
    uint64_t ring_base
    uint64_t epoch
    uint64_t ext_id
    uint8_t root_id[16]
    uint64_t previous_id         # 0: there is no previous file
    uint64_t previous_end_position
    uint64_t previous_end_offset
    uint64_t previous_chain_crc
    uint8_t padding[1960]
    uint64_t crc64               # over the file's salt, then the 2040 bytes before it

cdef packed struct Slot:
    uint64_t n                   # counts up; the valid slot with the larger n is the newer
    uint64_t durable_position
    uint64_t next_offset
    uint64_t crc64               # over the file's salt, then the 24 bytes before it

cdef packed struct FrameHeader:
    uint32_t frame_bytes         # header and body, before padding; stored last
    uint32_t ordinal             # offset of the first record - base offset of the file
    int64_t timestamp_ns
    uint32_t durable             # durable position / 8 when this frame was written
    uint8_t kind
    uint8_t flags
    uint16_t zero
    uint64_t crc64               # over salt, position, the 24 bytes before it, body, padding

cdef packed struct BatchHeader:
    uint32_t count
    uint32_t flags

cdef packed struct IndexEntry:
    uint32_t position
    uint32_t ordinal
    int64_t max_timestamp_ns     # of every frame up to and with this one

cdef packed struct Footer:
    uint8_t magic[8]             # "AOF2FOOT"
    uint32_t version
    uint32_t flush_failure       # 1: sealed by a reopen after a failed flush
    uint8_t stream_uuid[16]
    uint64_t file_id
    uint64_t salt
    uint64_t record_count
    uint64_t base_offset
    uint64_t end_offset
    int64_t first_timestamp_ns
    int64_t last_timestamp_ns
    int64_t max_timestamp_ns
    uint64_t ext_id
    uint64_t end_position        # of the END frame
    uint64_t durable_position    # just past the END frame
    uint64_t coordinator_watermark
    uint64_t index_position
    uint64_t index_count
    uint64_t chain_crc
    uint64_t before_crc64        # of the file's bytes before the footer
    uint64_t crc64               # of the footer's bytes before this field

cdef packed struct SealedPointer:
    uint8_t magic[8]             # "AOF2SEAL"
    uint32_t version
    uint32_t zero
    uint8_t stream_uuid[16]
    uint64_t segment_id
    uint64_t end_offset
    uint64_t durable_bytes
    uint64_t coordinator_watermark
    uint64_t epoch
    uint64_t closed_offset       # end of the records at the last clean close; 0: sealed since
    uint8_t padding[8]
    uint64_t crc64               # over the 88 bytes before it

# One segment of an index, in snapshots; key and etag follow.
cdef packed struct RowImage:
    uint64_t segment_id
    uint64_t base_offset
    uint64_t end_offset          # 0 before the seal
    uint64_t epoch
    uint64_t raw_bytes
    uint64_t segment_crc64
    uint64_t ext_id
    uint64_t coordinator_watermark
    uint64_t bytes               # of the compressed form
    uint64_t table_bytes
    uint64_t crc64
    uint64_t raw_crc64
    uint64_t recency
    uint32_t flags
    uint16_t key_bytes
    uint16_t etag_bytes

# Of an index page; row images follow, then a crc64.
cdef packed struct PageHeader:
    uint8_t magic[8]             # "AOF2PAGE"
    uint32_t version
    uint32_t incompatible
    uint8_t stream_uuid[16]
    uint64_t page_no
    uint64_t number              # of the snapshot that wrote it
    uint64_t rows

# Of a snapshot; page entries and row images follow, then a crc64.
cdef packed struct SnapshotHeader:
    uint8_t magic[8]             # "AOF2SNAP"
    uint32_t version
    uint32_t incompatible
    uint8_t stream_uuid[16]
    uint8_t root_id[16]
    uint64_t number
    uint64_t epoch
    int64_t created_ns
    uint64_t chunk_id            # the last chunk that it covers
    uint64_t end_position        # of it, as a start block names it, and the next two
    uint64_t end_offset
    uint64_t chain_crc
    uint64_t applied             # manifest records in it
    uint64_t trimmed
    uint64_t cold_rows           # rows of the contiguous prefix that is cold or trimmed
    uint64_t cold_end            # end offset of these
    uint64_t page_count
    uint64_t tail_rows           # rows behind the pages, in the head itself

# A page, as the head names it.
cdef packed struct PageEntry:
    uint64_t number
    uint64_t bytes
    uint64_t crc64               # of the whole file
    uint64_t first_id
    uint64_t first_base
    uint32_t pending[4]          # rows with work pending, by kind

cdef packed struct RingHeader:
    uint8_t magic[8]             # "AOF2RING"
    uint32_t version
    uint32_t closed              # 1: this ring was given up; open the file of that name again
    uint8_t stream_uuid[16]
    uint64_t ring_bytes
    uint64_t segment_id          # the segment whose bytes arrive now
    uint64_t salt
    uint64_t ring_base           # of that segment
    uint64_t tail                # ring coordinate just past the newest whole frame
    uint64_t oldest              # ring coordinate of the oldest byte still held
    uint64_t written             # coordinate below which the segment files have the bytes
    uint64_t durable             # coordinate below which they are durable
    uint64_t next_offset         # offset of the next record
    uint64_t durable_offset      # offset below which records are durable
    uint32_t waiters             # readers that sleep; the one word that readers store to
    uint32_t zero

cdef packed struct WarmTableHeader:
    uint8_t magic[8]             # "AOF2WARM"
    uint32_t version
    uint32_t incompatible
    uint32_t compatible
    uint32_t entry_count
    uint8_t stream_uuid[16]
    uint64_t segment_id
    uint64_t epoch
    uint64_t base_offset
    uint64_t end_offset
    uint64_t salt
    uint64_t ext_id
    uint64_t raw_bytes
    uint64_t raw_crc64

cdef packed struct WarmEntry:
    uint32_t raw_position
    uint32_t raw_bytes
    uint32_t compressed_bytes
    uint32_t zero
    uint64_t crc64               # of the compressed bytes
    uint64_t first_offset        # of the first record that starts in this frame, or after it
    int64_t max_timestamp_ns     # of every frame up to and with the last that starts in it

cdef extern from *:
    """
    #define AOF2_PAD8(n) (((uint64_t)(n) + 7u) & ~(uint64_t)7u)
    """
    uint64_t pad8 "AOF2_PAD8"(uint64_t n) noexcept nogil
