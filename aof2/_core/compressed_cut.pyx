"""A sealed segment, read in groups and cut into pieces for a `.seg.zst` file.

Where a piece (the raw bytes of one zstd frame) ends:

1. The first piece begins at 0, so pages 0 and 1 are in it.
2. Frames join a piece for as long as it stays within `frame_bytes`.
3. A longer frame is alone: it is cut at multiples of `frame_bytes` from its start, and what is left
   of it at the end is a piece of its own. So a piece begins where a frame does, or no record starts
   in it.
4. END always joins the piece before it. The last piece is everything behind END: index and footer.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64
from aof2._core.compressed_table cimport FRAME_RAW_BYTES_MAX
from aof2._core.layout cimport (
    FORMAT_VERSION,
    FRAME_ALIGN,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    Footer,
    FrameHeader,
    INCOMPATIBLE_KNOWN,
    KIND_BATCH,
    KIND_END,
    KIND_RECORD,
    PAGE_BYTES,
    STATIC_BYTES,
    StartBlock,
    StaticHeader,
    WarmEntry,
    WarmTableHeader,
    pad8,
)
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno
from aof2._core.stretch cimport StretchReader
from aof2._core.window cimport make_window
from aof2.errors import SegmentCorrupt, VersionTooNew

cdef enum:
    GROUP_BYTES = 4194304

cdef enum CutStatus:
    CUT_PIECE
    CUT_MORE                     # the answer lies behind the bytes at hand
    CUT_BAD                      # no frame can be at `walk.at`

cdef uint64_t NO_RECORD = <uint64_t> -1


cdef int check_footer(const Footer *footer) noexcept nogil:
    """0: good; 1: not a footer, or damaged; 2: of a newer version."""
    if memcmp(footer.magic, b"AOF2FOOT", 8) != 0 or (
        crc64(0, footer, sizeof(Footer) - 8) != footer.crc64
    ):
        return 1
    return 2 if footer.version != FORMAT_VERSION else 0


cdef void _take(Walk *walk, WarmEntry *entry, uint64_t end) noexcept nogil:
    memset(entry, 0, sizeof(WarmEntry))
    entry.raw_position = <uint32_t> walk.start
    entry.raw_bytes = <uint32_t> (end - walk.start)
    entry.first_offset = walk.first_offset
    entry.max_timestamp_ns = walk.max_timestamp_ns
    walk.start = end
    walk.first_offset = NO_RECORD


cdef int _cut(
    Walk *walk, const uint8_t *data, uint64_t start, uint64_t end, const Footer *footer,
    uint64_t frame_bytes, WarmEntry *entry,
) noexcept nogil:
    """Find the next piece before index and footer; `data` has the bytes [start, end)."""
    cdef FrameHeader header
    cdef uint64_t total, n
    while True:
        if walk.inside:
            n = min(walk.inside, frame_bytes)
            if walk.start + n > end:
                return CUT_MORE
            walk.inside -= n
            walk.at = walk.start + n
            if walk.inside or walk.at != footer.end_position:
                _take(walk, entry, walk.at)
                return CUT_PIECE
        if walk.at + FRAME_HEADER_BYTES > end:
            return CUT_MORE
        memcpy(&header, data + (walk.at - start), FRAME_HEADER_BYTES)
        total = pad8(header.frame_bytes)
        if (
            header.frame_bytes < FRAME_HEADER_BYTES or <int64_t> header.ordinal <= walk.ordinal
            or (header.kind == KIND_END) != (walk.at == footer.end_position)
        ):
            # Only END may repeat no ordinal and stand at END's place; all others come before it.
            return CUT_BAD
        if header.kind == KIND_END:
            if header.ordinal != footer.record_count or total > PAGE_BYTES:
                return CUT_BAD
            if walk.at + total > end:
                return CUT_MORE
            walk.at += total
            walk.ended = True
            _take(walk, entry, walk.at)
            return CUT_PIECE
        if header.kind != KIND_RECORD and header.kind != KIND_BATCH:
            return CUT_BAD
        if walk.at + total > footer.end_position:
            return CUT_BAD
        if walk.at + total - walk.start > frame_bytes and walk.at > walk.start:
            _take(walk, entry, walk.at)
            return CUT_PIECE
        walk.ordinal = header.ordinal
        if walk.first_offset == NO_RECORD:
            walk.first_offset = footer.base_offset + header.ordinal
        walk.max_timestamp_ns = max(walk.max_timestamp_ns, header.timestamp_ns)
        if total > frame_bytes:
            walk.inside = total
        else:
            walk.at += total


cdef class SealedSource:
    """One sealed segment, read from front to back; it stays open, whatever becomes of its name.

    Args:
        directory: Where it is.
        name: Its file name.
        frame_bytes: Raw bytes after which a piece ends.
        group_bytes: Raw bytes that are read at a time, or a little more.

    `SegmentCorrupt` when header, footer or totals do not check, `OSError` when it cannot be read.
    """

    def __init__(self, Directory directory not None, str name not None, *, uint64_t frame_bytes,
                 uint64_t group_bytes=GROUP_BYTES):
        if frame_bytes % FRAME_ALIGN or not PAGE_BYTES <= frame_bytes <= GROUP_BYTES:
            raise ValueError(f"frame_bytes {frame_bytes}: a multiple of 8 from 4096 to 4194304")
        self.path = directory.join(name)
        self.frame_bytes = frame_bytes
        self.group_bytes = group_bytes
        self._file = StretchReader(directory, name)
        self.file_bytes = directory.size(name)
        if not FRAMES_AT + sizeof(Footer) < self.file_bytes <= 0xFFFFFFFF:
            self.corrupt("no sealed segment has this size", self.file_bytes)
        self._begin()

    cdef int _begin(self) except -1:
        self.entries = bytearray()
        self._read_footer()
        self._read_header()
        self.walk.at = FRAMES_AT
        self.walk.ordinal = -1
        self.walk.first_offset = NO_RECORD
        self.walk.max_timestamp_ns = INT64_MIN
        return 0

    cdef SealedSource again(self):
        cdef SealedSource other = SealedSource.__new__(SealedSource)
        other.path = self.path
        other.frame_bytes = self.frame_bytes
        other.group_bytes = self.group_bytes
        other.file_bytes = self.file_bytes
        other._file = self._file.twin()
        other._begin()
        return other

    cdef int corrupt(self, str what, uint64_t position) except -1:
        raise SegmentCorrupt(what, path=self.path, position=position)

    cdef const uint8_t *_read(self, uint64_t position, uint64_t n) except NULL:
        cdef const uint8_t *at
        cdef uint64_t got = 0
        cdef int error
        with nogil:
            at = self._file.read(position, n, &got, &error)
        check_errno(error, "read", self.path)
        if got != n:
            self.corrupt(f"it ends early: {got} bytes of {n}", position)
        return at

    def _read_footer(self):
        cdef uint64_t position = self.file_bytes - sizeof(Footer)
        cdef int answer
        memcpy(&self.footer, self._read(position, sizeof(Footer)), sizeof(Footer))
        answer = check_footer(&self.footer)
        if answer == 2:
            raise VersionTooNew("a footer of a newer version", path=self.path, position=position)
        if answer or not (
            FRAMES_AT <= self.footer.end_position < position
            and self.footer.end_position % FRAME_ALIGN == 0
            and self.footer.end_offset - self.footer.base_offset == self.footer.record_count
        ):
            self.corrupt("no good footer at the end", position)

    def _read_header(self):
        cdef StaticHeader header
        cdef StartBlock start
        cdef const uint8_t *data = self._read(0, PAGE_BYTES)
        cdef uint64_t crc
        memcpy(&header, data, STATIC_BYTES)
        memcpy(&start, data + STATIC_BYTES, STATIC_BYTES)
        crc = crc64(crc64(0, &header.salt, 8), &start, STATIC_BYTES - 8)
        if crc64(0, &header, STATIC_BYTES - 8) != header.crc64 or (
            memcmp(header.magic, b"AOF2SEGM", 8) != 0
        ):
            self.corrupt("no good header of a segment", 0)
        if header.version != FORMAT_VERSION or (
            header.incompatible & ~(<uint32_t> INCOMPATIBLE_KNOWN)
        ):
            raise VersionTooNew("a segment of a newer version", path=self.path, position=0)
        if crc != start.crc64:
            self.corrupt("no good start block", STATIC_BYTES)
        if (
            memcmp(header.stream_uuid, self.footer.stream_uuid, 16) != 0
            or header.file_id != self.footer.file_id or header.salt != self.footer.salt
            or start.base_offset != self.footer.base_offset
        ):
            self.corrupt("header and footer are of different segments", 0)
        self.epoch = start.epoch

    cdef object next_group(self):
        cdef uint64_t start = self.walk.start, n = self.file_bytes - start
        cdef const uint8_t *at
        cdef WarmEntry entry
        cdef int answer = CUT_MORE
        if n == 0:
            return None
        # Behind END all is one piece; before it, room for one piece that lies across the end.
        if not self.walk.ended:
            n = min(n, self.group_bytes + self.frame_bytes + FRAMES_AT + PAGE_BYTES)
        elif n > FRAME_RAW_BYTES_MAX:
            self.corrupt("index and footer are larger than any", start)
        at = self._read(start, n)
        while not self.walk.ended and self.walk.start - start < self.group_bytes:
            with nogil:
                answer = _cut(&self.walk, at, start, start + n, &self.footer,
                              self.frame_bytes, &entry)
            if answer != CUT_PIECE:
                break
            self._append(&entry)
        if answer == CUT_BAD or (answer == CUT_MORE and self.walk.start == start and
                                 not self.walk.ended):
            self.corrupt("no frame where one must begin", self.walk.at)
        if self.walk.ended and start + n == self.file_bytes and (
            self.file_bytes - self.walk.start <= FRAME_RAW_BYTES_MAX
        ):
            if self.file_bytes - self.walk.start < sizeof(Footer):
                self.corrupt("END reaches into the footer", self.walk.start)
            _take(&self.walk, &entry, self.file_bytes)
            self._append(&entry)
        self._sum(at, start)
        return make_window(at, start, self.walk.start - start, self._file)

    cdef int _append(self, const WarmEntry *entry) except -1:
        self.entries += (<const char *> entry)[:sizeof(WarmEntry)]
        return 0

    cdef int _sum(self, const uint8_t *data, uint64_t start) except -1:
        """Carry the running checksums on; compare with the footer once it is reached."""
        cdef uint64_t footer_at = self.file_bytes - sizeof(Footer), n = self.walk.start - start
        with nogil:
            if self.walk.start > footer_at:
                self.before_crc64 = crc64(self.raw_crc64, data, footer_at - start)
            self.raw_crc64 = crc64(self.raw_crc64, data, n)
        if self.walk.start > footer_at and self.before_crc64 != self.footer.before_crc64:
            self.corrupt("its bytes do not match the footer's checksum", 0)
        return 0

    cdef int finish_entries(self) except -1:
        cdef WarmEntry *entry = <WarmEntry *> <char *> self.entries
        cdef uint64_t following = self.footer.end_offset
        cdef Py_ssize_t i
        for i in range(len(self.entries) // sizeof(WarmEntry) - 1, -1, -1):
            if entry[i].first_offset == NO_RECORD:
                entry[i].first_offset = following
            following = entry[i].first_offset
        return 0

    cdef void describe(self, WarmTableHeader *header) noexcept:
        memset(header, 0, sizeof(WarmTableHeader))
        memcpy(header.magic, b"AOF2WARM", 8)
        header.version = FORMAT_VERSION
        header.entry_count = len(self.entries) // sizeof(WarmEntry)
        memcpy(header.stream_uuid, self.footer.stream_uuid, 16)
        header.segment_id = self.footer.file_id
        header.epoch = self.epoch
        header.base_offset = self.footer.base_offset
        header.end_offset = self.footer.end_offset
        header.salt = self.footer.salt
        header.ext_id = self.footer.ext_id
        header.raw_bytes = self.file_bytes
        header.raw_crc64 = self.raw_crc64
