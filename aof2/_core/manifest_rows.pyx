"""The rows of a manifest's index: one per segment, in the order of their offsets.

Rows lie in pages of 4,096. A page that a snapshot holds need not be in memory: it is loaded when
one of its rows is asked for, and until then only its first segment and its pending work are known.
Rows may be looked up from any thread under the GIL; what changes them runs under the GIL as well.
"""

from typing import NamedTuple

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from aof2._core.rowcodec cimport decode_page, decode_rows

from aof2.errors import ManifestCorrupt


class WarmCopy(NamedTuple):
    """A verified warm file: sizes in bytes, crc64 of the file and of the segment it holds."""

    bytes: int
    table_bytes: int
    crc64: int
    raw_crc64: int


class ColdCopy(NamedTuple):
    """A verified object: its key, size in bytes, crc64, the store's etag, bytes of its table."""

    key: str
    size: int
    crc64: int
    etag: str
    table_bytes: int


class SegmentRow(NamedTuple):
    """What the manifest says about one segment, as of the moment it was asked.

    Attributes:
        segment_id: Ordinal of the segment in its stream.
        base_offset, end_offset: Offsets of its records, half-open; the end is None before the seal.
        epoch: Writer epoch of the last SegmentOpened; 0 when that record was lost.
        sealed: True once SealSegment was applied.
        raw_bytes: Durable bytes of the sealed file.
        segment_crc64: crc64 of everything before its footer.
        ext_id: Default ext_id of its records.
        coordinator_watermark: Manifest records that were applied when it was sealed.
        flush_failure: True when a reopen after a failed flush sealed it.
        compressed: Facts of the compression; they stay when the warm file goes, because the cold
            object is the same bytes.
        warm_present: True while records say that the warm file is there.
        upload_key: Key of the last UploadStarted; used again after a restart.
        cold: The object in tier 2.
        hot_evicted: True while records say that the hot copy is gone.
        delete_queued: True once the object may go.
        needs_fetch: True from FetchQueued on until a local copy is there again.
        recency: Ordinal of its last SegmentOpened, SealSegment or HydrationDone in the log.
    """

    segment_id: int
    base_offset: int
    end_offset: int | None
    epoch: int
    sealed: bool
    raw_bytes: int
    segment_crc64: int
    ext_id: int
    coordinator_watermark: int
    flush_failure: bool
    compressed: WarmCopy | None
    warm_present: bool
    upload_key: str | None
    cold: ColdCopy | None
    hot_evicted: bool
    delete_queued: bool
    needs_fetch: bool
    recency: int

    @property
    def warm(self):
        """The warm copy, None where records say that there is none (any more)."""
        return self.compressed if self.warm_present else None

    @property
    def warm_evicted(self):
        """True when there was a warm copy and records say that it is gone."""
        return self.compressed is not None and not self.warm_present


cdef object make_row(Row *at):
    # Making a tuple may let another thread run, and change the row: all is copied before.
    cdef Row copy = at[0]
    cdef Row *row = &copy
    cdef uint32_t flags = row.flags
    key = compressed = cold = None
    etag = ""
    if flags & ROW_KEY:
        key = row.texts[:row.key_bytes].decode("utf-8")
        etag = row.texts[row.key_bytes:row.key_bytes + row.etag_bytes].decode("utf-8")
    if flags & ROW_COMPRESSED:
        compressed = WarmCopy(row.bytes, row.table_bytes, row.crc64, row.raw_crc64)
    if flags & ROW_COLD:
        cold = ColdCopy(key, row.bytes, row.crc64, etag, row.table_bytes)
    return SegmentRow(
        row.segment_id,
        row.base_offset,
        row.end_offset if flags & ROW_SEALED else None,
        row.epoch,
        flags & ROW_SEALED != 0,
        row.raw_bytes,
        row.segment_crc64,
        row.ext_id,
        row.coordinator_watermark,
        flags & ROW_FLUSH_FAILURE != 0,
        compressed,
        flags & ROW_WARM != 0,
        key,
        cold,
        flags & ROW_HOT_EVICTED != 0,
        flags & ROW_DELETE_QUEUED != 0,
        flags & ROW_NEEDS_FETCH != 0,
        row.recency,
    )


cdef uint32_t pending_of(uint32_t flags) noexcept:
    """The work that a row has pending, one bit each."""
    cdef uint32_t bits = 0
    if flags & ROW_SEALED and not flags & (ROW_COMPRESSED | ROW_COLD):
        bits |= 1 << PENDING_COMPRESS
    if flags & ROW_WARM and not flags & ROW_COLD:
        bits |= 1 << PENDING_UPLOAD
    if flags & ROW_DELETE_QUEUED:
        bits |= 1 << PENDING_DELETE
    if flags & ROW_NEEDS_FETCH:
        bits |= 1 << PENDING_FETCH
    return bits


cdef void free_rows(Row *rows, uint64_t n) noexcept:
    cdef uint64_t i
    if rows != NULL:
        for i in range(n):
            free(rows[i].texts)
        free(rows)


cdef class RowStore:
    """Rows in pages; the fold above it decides what they say."""

    def __dealloc__(self):
        cdef uint64_t p
        for p in range(self.page_room):
            free_rows(self.pages[p].rows, PAGE_ROWS)  # Rows beyond the count are zeros.
        free(self.pages)

    cdef uint64_t page_count(self) noexcept:
        return (self.count + PAGE_ROWS - 1) // PAGE_ROWS

    cdef int add_pages(self, uint64_t pages) except -1:
        """Have room for so many pages."""
        cdef Page *grown
        if pages <= self.page_room:
            return 0
        grown = <Page *> realloc(self.pages, 2 * pages * sizeof(Page))
        if grown == NULL:
            raise MemoryError("pages of the index")
        memset(grown + self.page_room, 0, (2 * pages - self.page_room) * sizeof(Page))
        self.pages, self.page_room = grown, 2 * pages
        return 0

    cdef Row *at(self, uint64_t i) except NULL:
        cdef uint64_t p = i // PAGE_ROWS
        if self.pages[p].rows == NULL:
            self.load(p)
        return self.pages[p].rows + i % PAGE_ROWS

    cdef int load(self, uint64_t page_no) except -1:
        """Bring a page into memory."""
        cdef Row *rows
        cdef uint64_t number = self.pages[page_no].number
        # Other threads may run, and load the same page, while this one is read.
        data = self.loader(page_no, number)
        rows = <Row *> calloc(PAGE_ROWS, sizeof(Row))
        if rows == NULL:
            raise MemoryError("a page of the index")
        try:
            decode_page(rows, page_no, number, self.stream_uuid, data)
            self._check_entry(rows, page_no)
        except BaseException:
            free_rows(rows, PAGE_ROWS)
            raise
        if self.pages[page_no].rows == NULL:
            self.pages[page_no].rows = rows
        else:
            free_rows(rows, PAGE_ROWS)
        return 0

    cdef int _check_entry(self, Row *rows, uint64_t page_no) except -1:
        """`ManifestCorrupt` unless a page's rows are what the snapshot's head says about them."""
        cdef Page *page = &self.pages[page_no]
        cdef uint32_t pending[PENDING_COUNT]
        cdef uint64_t i
        cdef int kind
        if page.rows != NULL:
            return 0
        memset(pending, 0, sizeof(pending))
        for i in range(PAGE_ROWS):
            for kind in range(PENDING_COUNT):
                pending[kind] += pending_of(rows[i].flags) >> kind & 1
        if (memcmp(pending, page.pending, sizeof(pending)) != 0
                or rows[0].segment_id != page.first_id or rows[0].base_offset != page.first_base):
            raise ManifestCorrupt("an index page is not what the head of its snapshot says",
                                  path=f"index page {page_no} of snapshot {page.number}")
        return 0

    cdef Row *append(self) except NULL:
        """A new row of zeros behind the last; it counts at once."""
        cdef uint64_t p = self.count // PAGE_ROWS
        self.add_pages(p + 1)
        if self.pages[p].rows == NULL:
            memset(&self.pages[p], 0, sizeof(Page))
            self.pages[p].rows = <Row *> calloc(PAGE_ROWS, sizeof(Row))
            if self.pages[p].rows == NULL:
                raise MemoryError("a page of the index")
        self.count += 1
        return self.pages[p].rows + (self.count - 1) % PAGE_ROWS

    cdef int take_tail(self, uint64_t n, const char *data, uint64_t size, str path) except -1:
        """Append the rows of a snapshot's head, behind whole pages."""
        cdef Row *rows = self.append()
        cdef uint64_t i
        self.count += n - 1
        decode_rows(rows, n, data, size, path)
        for i in range(self.count - n, self.count):
            self.changed(i, 0)
        return 0

    cdef int cut(self, uint64_t count) except -1:
        """Drop the rows from `count` on."""
        cdef uint64_t i
        cdef uint32_t before
        cdef Row *row
        for i in range(count, self.count):
            self.at(i)  # Loaded before anything is dropped, because loading may fail.
        while self.count > count:
            row = self.at(self.count - 1)
            before, row.flags = row.flags, 0
            self.changed(self.count - 1, before)
            free(row.texts)
            memset(row, 0, sizeof(Row))
            self.count -= 1
            # A page that is not full is part of the head, not a file of its own.
            self.pages[self.count // PAGE_ROWS].number = 0
        return 0

    cdef uint64_t first(self, uint64_t p, bint by_id) noexcept:
        cdef Page *page = &self.pages[p]
        if page.rows == NULL:
            return page.first_id if by_id else page.first_base
        return page.rows[0].segment_id if by_id else page.rows[0].base_offset

    cdef int64_t _last_at_most(self, uint64_t value, bint by_id) except -2:
        """Place of the last row whose id (or base offset) is at most `value`, -1: there is none."""
        cdef uint64_t low = 0, high = self.page_count(), middle, p
        cdef Row *rows
        while low < high:
            middle = (low + high) // 2
            if self.first(middle, by_id) <= value:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return -1
        p = low - 1
        self.at(p * PAGE_ROWS)
        if p >= self.page_count():
            # Another thread cut the rows while the page was loaded.
            return self._last_at_most(value, by_id)
        rows = self.pages[p].rows
        low, high = 0, min(<uint64_t> PAGE_ROWS, self.count - p * PAGE_ROWS)
        while low < high:
            middle = (low + high) // 2
            if (rows[middle].segment_id if by_id else rows[middle].base_offset) <= value:
                low = middle + 1
            else:
                high = middle
        return <int64_t> (p * PAGE_ROWS + low) - 1

    cdef int64_t place_of(self, uint64_t segment_id) except -1:
        """Place of the first row whose id is not below; the count, where there is none."""
        # A known row is looked up by its own id, so that no page but its own is loaded.
        cdef int64_t at = self._last_at_most(segment_id, True)
        return at if at >= 0 and self.at(at).segment_id == segment_id else at + 1

    cdef int64_t place_of_offset(self, uint64_t offset) except -2:
        """Place of the last row that begins at or before an offset, -1: there is none."""
        return self._last_at_most(offset, False)

    cdef int set_texts(self, Row *row, const char *key, uint16_t key_bytes, const char *etag,
                       uint16_t etag_bytes) except -1:
        """Keep a key and an etag; what was there is dropped."""
        cdef char *texts = <char *> malloc(max(1, key_bytes + etag_bytes))
        if texts == NULL:
            raise MemoryError("a key of the index")
        memcpy(texts, key, key_bytes)
        memcpy(texts + key_bytes, etag, etag_bytes)
        free(row.texts)
        row.texts, row.key_bytes, row.etag_bytes = texts, key_bytes, etag_bytes
        return 0

    cdef void changed(self, uint64_t i, uint32_t flags_before) noexcept:
        """Row `i` was changed: its page differs from what a snapshot has."""
        cdef Page *page = &self.pages[i // PAGE_ROWS]
        cdef uint32_t before = pending_of(flags_before)
        cdef uint32_t now = pending_of(page.rows[i % PAGE_ROWS].flags)
        cdef int kind
        page.changes += 1
        for kind in range(PENDING_COUNT):
            page.pending[kind] += (now >> kind & 1) - (before >> kind & 1)

    def with_flags(self, uint32_t flags, uint64_t trimmed):
        """Ids of the segments that have all of these flags and end beyond what was trimmed, as far
        as their pages are in memory; ascending."""
        cdef uint64_t p, i
        cdef Row *row
        cdef list found = []
        for p in range(self.page_count()):
            if self.pages[p].rows == NULL:
                continue
            for i in range(min(self.count - p * PAGE_ROWS, <uint64_t> PAGE_ROWS)):
                row = &self.pages[p].rows[i]
                if row.flags & flags == flags and row.end_offset > trimmed:
                    found.append(row.segment_id)
        return found
