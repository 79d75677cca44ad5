# The manifest's record types and the layout of each: the payload of one frame of a manifest chunk.
#
# A record is the head, then the fields of its type, packed, as the table at the end lists them.
# `docs/format.md` is the normative text.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum ManifestType:
    SEGMENT_OPENED = 1
    SEAL_SEGMENT = 2
    COMPRESSION_STARTED = 3
    COMPRESSION_DONE = 4
    COMPRESSION_FAILED = 5
    UPLOAD_STARTED = 6
    UPLOAD_DONE = 7
    UPLOAD_FAILED = 8
    HYDRATION_STARTED = 9
    HYDRATION_DONE = 10
    HYDRATION_FAILED = 11
    LOCAL_EVICTED = 12
    TIER2_DELETE_QUEUED = 13
    TIER2_DELETED = 14
    TRIMMED = 15
    FETCH_QUEUED = 16
    FETCH_DONE = 17
    SNAPSHOT_MARKER = 18
    CUSTOM_EVENT = 19
    TYPE_COUNT = 19

cdef enum:
    TEXT_BYTES_MAX = 1024        # of one key, etag, reason or text
    RECORD_BYTES_MAX = 2176      # of the longest record, rounded up

cdef packed struct RecordHead:
    uint16_t type
    uint16_t flags               # none is known yet; one set: VersionTooNew
    uint32_t zero
    uint64_t segment_id          # 0 where the record is about the whole stream
    uint64_t offset

cdef extern from *:
    """
    /* The fields behind the head, by type, in the order of the format. Each is a u64; some are
       limited: :tier (0 hot, 1 warm, 2 cold), :flag (0 or 1). The others are texts (u16 length,
       then UTF-8): :text (refused when too long) and :reason (cut when too long). A trailing ? says
       that a writer may leave it out; it is then empty. */
    __attribute__((unused)) static const char *const aof2_manifest_fields[20] = {
        "",
        /*  1 SegmentOpened       */ "base_offset epoch",
        /*  2 SealSegment         */ "durable_bytes segment_crc64 ext_id coordinator_watermark "
                                     "flush_failure:flag",
        /*  3 CompressionStarted  */ "",
        /*  4 CompressionDone     */ "bytes table_bytes crc64 raw_crc64",
        /*  5 CompressionFailed   */ "reason:reason",
        /*  6 UploadStarted       */ "key:text",
        /*  7 UploadDone          */ "key:text size crc64 etag:text",
        /*  8 UploadFailed        */ "key:text? reason:reason",
        /*  9 HydrationStarted    */ "source_tier:tier",
        /* 10 HydrationDone       */ "source_tier:tier bytes",
        /* 11 HydrationFailed     */ "source_tier:tier reason:reason",
        /* 12 LocalEvicted        */ "tier:tier bytes copy_tier:tier",
        /* 13 Tier2DeleteQueued   */ "key:text reason:reason",
        /* 14 Tier2Deleted        */ "key:text reason:reason",
        /* 15 Trimmed             */ "before_offset",
        /* 16 FetchQueued         */ "",
        /* 17 FetchDone           */ "",
        /* 18 SnapshotMarker      */ "snapshot_number covers",
        /* 19 CustomEvent         */ "text:text",
    };
    """
    const char *const manifest_fields "aof2_manifest_fields"[20]

cdef enum:
    WORDS_MAX = 5                # fields of a type that are no texts
    TEXTS_MAX = 2

cdef struct ParsedRecord:
    uint16_t type
    uint64_t segment_id
    uint64_t offset
    uint64_t words[WORDS_MAX]    # the fields that are no texts, in the order of the format
    const char *texts[TEXTS_MAX]
    uint16_t text_bytes[TEXTS_MAX]

cdef int parse_record(const char *data, uint64_t n, ParsedRecord *out) except -1
cdef int check_text(str name, const char *at, uint16_t n) except -1
