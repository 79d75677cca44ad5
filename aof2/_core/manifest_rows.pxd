# The rows of a manifest's index: one per segment, in order, in pages that may be unloaded.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    PAGE_ROWS = 4096

# What records say about a segment; the numbers are the format's (snapshots).
cdef enum RowFlag:
    ROW_SEALED = 1
    ROW_FLUSH_FAILURE = 2
    ROW_COMPRESSED = 4           # the facts of its compressed form are known; they stay
    ROW_WARM = 8
    ROW_KEY = 16                 # an upload was started under this key
    ROW_COLD = 32
    ROW_HOT_EVICTED = 64
    ROW_DELETE_QUEUED = 128
    ROW_NEEDS_FETCH = 256
    ROW_FLAGS_END = 512          # every flag is below

# Work that a row may have pending, as bits and as places in counters.
cdef enum Pending:
    PENDING_COMPRESS = 0
    PENDING_UPLOAD = 1
    PENDING_DELETE = 2
    PENDING_FETCH = 3
    PENDING_COUNT = 4

cdef struct Row:
    uint64_t segment_id
    uint64_t base_offset
    uint64_t end_offset          # 0 before the seal
    uint64_t epoch
    uint64_t raw_bytes
    uint64_t segment_crc64
    uint64_t ext_id
    uint64_t coordinator_watermark
    uint64_t bytes               # of the compressed form, as of the object
    uint64_t table_bytes
    uint64_t crc64
    uint64_t raw_crc64
    uint64_t recency             # ordinal of the record that used it last
    char *texts                  # key, then etag; NULL: neither
    uint16_t key_bytes
    uint16_t etag_bytes
    uint32_t flags

cdef struct Page:
    Row *rows                    # NULL: not loaded
    uint64_t first_id            # of an unloaded page, like the next two
    uint64_t first_base
    uint32_t pending[PENDING_COUNT]
    uint64_t changes             # so often a row of it was changed
    uint64_t saved_changes       # as of the snapshot that has it
    uint64_t number              # the snapshot that wrote it, 0: none
    uint64_t bytes               # of that file, and its crc64
    uint64_t crc64


cdef class RowStore:
    cdef Page *pages
    cdef uint64_t page_room
    cdef readonly uint64_t count # of rows, over all pages
    cdef object loader           # called with page and number, gives the page's bytes
    cdef bytes stream_uuid       # that a page must say; None where none is unloaded

    cdef Row *at(self, uint64_t i) except NULL
    cdef uint64_t page_count(self) noexcept
    cdef int load(self, uint64_t page_no) except -1
    cdef int _check_entry(self, Row *rows, uint64_t page_no) except -1
    cdef Row *append(self) except NULL
    cdef int cut(self, uint64_t count) except -1
    cdef int64_t place_of(self, uint64_t segment_id) except -1
    cdef int64_t place_of_offset(self, uint64_t offset) except -2
    cdef int set_texts(self, Row *row, const char *key, uint16_t key_bytes, const char *etag,
                       uint16_t etag_bytes) except -1
    cdef void changed(self, uint64_t i, uint32_t flags_before) noexcept
    cdef int add_pages(self, uint64_t pages) except -1
    cdef uint64_t first(self, uint64_t p, bint by_id) noexcept
    cdef int64_t _last_at_most(self, uint64_t value, bint by_id) except -2
    cdef int take_tail(self, uint64_t n, const char *data, uint64_t size, str path) except -1

cdef uint32_t pending_of(uint32_t flags) noexcept
cdef object make_row(Row *at)
cdef void free_rows(Row *rows, uint64_t n) noexcept
