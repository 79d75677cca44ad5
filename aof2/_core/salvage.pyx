"""What can still be read of a damaged hot segment: every frame that validates.

The file is read once, page by page where the medium has errors, and scanned from its first frame to
its end. Header, start block, index and footer may be damaged; what the caller knows of the segment
stands for them. Of the header and the footer one must be good, as they have the salt.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from aof2._core.compressed_cut cimport check_footer
from aof2._core.directory cimport Directory
from aof2._core.frame cimport FRAME_OK, FRAME_UNKNOWN, FrameView, check_frame
from aof2._core.layout cimport FRAMES_AT, Footer, KIND_END, PAGE_BYTES
from aof2._core.logfile cimport LogHeader, StartInfo, read_header_fd, read_start_fd
from aof2._core.posix cimport sys_close, sys_pread
from aof2._core.resync cimport find_frame
from aof2._core.ringview cimport RingView
from aof2._core.window cimport make_window

from aof2.errors import SegmentCorrupt, VersionTooNew

cdef uint64_t OFFSET_MAX = <uint64_t> 1 << 62   # stands for an end that is not known


cdef class SalvagedSegment:
    """A source of the frames of a damaged segment that are whole.

    Args:
        directory, name: The file.
        stream_uuid, segment_id: Whose it must be.
        base_offset, end_offset: Of the segment. None for the end of one that is not sealed: then
            its own start block goes before `base_offset` and `ext_id`, and the end is where its END
            is, or its last frame that is whole.
        ext_id: Of its records that have none of their own.
        ring: The landing ring, for what was not written into one that is not sealed.

    A window never reaches over damage. `FileNotFoundError` when there is no file, `OSError` when it
    cannot be opened; what is damaged in it is no error. It takes as much memory as the file is
    long.

    Example:
        >>> segment.gaps, segment.beyond(5)  # doctest: +SKIP
        ([(5, 6)], 6)
    """

    def __init__(self, Directory directory not None, str name not None, *,
                 bytes stream_uuid not None, uint64_t segment_id, uint64_t base_offset, end_offset,
                 uint64_t ext_id, RingView ring=None):
        cdef int fd = directory.open_file(name)
        self.path = directory.join(name)
        self.base_offset, self.ext_id = base_offset, ext_id
        self.end_offset = OFFSET_MAX if end_offset is None else end_offset
        self._stretches = []
        try:
            self._load(fd, os.fstat(fd).st_size)
            self.identified = self._identify(fd, stream_uuid, segment_id)
            if self.identified:
                if end_offset is None:
                    self._begin(fd, ring)
                self._scan()
        finally:
            sys_close(fd)
        if end_offset is None and not self.whole:
            self.end_offset = max([self.base_offset] + [one[3] for one in self._stretches])

    def __dealloc__(self):
        free(self._data)

    def __repr__(self):
        return f"SalvagedSegment({self.path!r}, {len(self._stretches)} stretches)"

    cdef int _load(self, int fd, uint64_t n) except -1:
        """Read the file; a page that cannot be read is taken for zeros."""
        cdef uint64_t at = 0
        cdef size_t got = 0, part
        cdef int error = 0
        self._data = <uint8_t *> calloc(n + 1, 1)
        if self._data == NULL:
            raise MemoryError("damaged segment")
        self._bytes = n
        with nogil:
            error = sys_pread(fd, self._data, n, 0, &got)
            if error:
                memset(self._data, 0, n)
                while at < n:
                    part = min(<uint64_t> PAGE_BYTES, n - at)
                    if sys_pread(fd, self._data + at, part, at, &got):
                        memset(self._data + at, 0, part)
                    at += part
        return 0

    cdef bint _identify(self, int fd, bytes stream_uuid, uint64_t segment_id) except -1:
        """Find the salt; False when the file belongs elsewhere, or does not tell."""
        cdef LogHeader header
        cdef Footer footer
        try:
            header = read_header_fd(fd, self.path)
        except (OSError, SegmentCorrupt):
            # The footer says the same.
            if self._bytes < sizeof(Footer):
                return False
            memcpy(&footer, self._data + self._bytes - sizeof(Footer), sizeof(Footer))
            self.salt = footer.salt
            return (check_footer(&footer) == 0 and footer.file_id == segment_id
                    and memcmp(footer.stream_uuid, <const char *> stream_uuid, 16) == 0)
        self.salt = header.salt
        return header.stream_uuid == stream_uuid and header.file_id == segment_id

    cdef int _begin(self, int fd, RingView ring) except -1:
        """Take what the start block says, and what only the landing ring has."""
        cdef StartInfo start = read_start_fd(fd, read_header_fd(fd, self.path))
        if start is not None:
            self.started, self.base_offset, self.ext_id = True, start.base_offset, start.ext_id
        if ring is not None and ring.header.salt == self.salt:
            self._overlay(ring, ring.header.ring_base if start is None else start.ring_base)
        return 0

    cdef int _overlay(self, RingView ring, uint64_t ring_base) except -1:
        """Put the bytes of the ring where they were to be written."""
        cdef uint64_t first = max(ring.written(), ring_base + FRAMES_AT), end = ring.tail()
        cdef bytes data
        end = min(end, ring_base + self._bytes)
        if first < end and end - first <= ring.ring_bytes:
            data = ring.copy(first, end - first)
            if data is not None:
                memcpy(self._data + (first - ring_base), PyBytes_AS_STRING(data), end - first)
        return 0

    cdef int _scan(self) except -1:
        """Note every stretch of frames that follow each other."""
        cdef FrameView view
        cdef uint64_t records = self.end_offset - self.base_offset, ordinal = 0, first = 0
        cdef uint64_t at = FRAMES_AT, start = FRAMES_AT, n = self._bytes
        cdef int status = FRAME_OK
        while at < n and ordinal <= records:
            with nogil:
                while at < n:
                    status = check_frame(self._data + at, n - at, at, self.salt, <int64_t> ordinal,
                                         &view)
                    if status != FRAME_OK or view.kind == KIND_END:
                        break
                    at += view.total_bytes
                    ordinal += view.count
            if status == FRAME_UNKNOWN:
                raise VersionTooNew("a frame of a newer version: upgrade aof2", path=self.path,
                                    position=at)
            if status == FRAME_OK and at < n:
                at += view.total_bytes
            if at > start:
                self._stretches.append(
                    (start, at, self.base_offset + first, self.base_offset + ordinal))
                self.started = True
            if status == FRAME_OK:
                if at > start and view.kind == KIND_END:
                    self.whole, self.end_offset = True, self.base_offset + ordinal
                break
            with nogil:
                start = find_frame(self._data, at, n, self.salt, ordinal, records, &view)
            if start == 0:
                break
            at, first, ordinal = start, view.ordinal, view.ordinal
        return 0

    @property
    def stretches(self):
        """Frames that follow each other: `(position, end, offset, next offset)` of each stretch."""
        return list(self._stretches)

    @property
    def gaps(self):
        """The offsets `(first, next)`, half-open, of the records that are lost, ascending."""
        cdef list out = []
        expected = self.base_offset
        for _, _, first, following in self._stretches:
            if first > expected:
                out.append((expected, first))
            expected = following
        if expected < self.end_offset:
            out.append((expected, self.end_offset))
        return out

    def beyond(self, uint64_t offset):
        """The offset of the first record at or behind `offset` that can be read; `end_offset` when
        there is none."""
        for _, _, first, following in self._stretches:
            if offset < following:
                return max(<object> offset, first)
        return self.end_offset

    def locate(self, uint64_t offset):
        """Position of a frame border at or before a record that can be read."""
        for start, _, _, following in self._stretches:
            if offset < following:
                return start
        return self._bytes

    def locate_time(self, int64_t timestamp_ns):
        """Position of a frame border before which every record is older than the time."""
        return self._stretches[0][0] if self._stretches else self._bytes

    def window(self, uint64_t position, uint64_t bytes_min=0):
        """The bytes from a position on, up to the next damage; None where there are none."""
        for start, end, _, _ in self._stretches:
            if start <= position < end:
                return make_window(self._data + position, position, end - position, self)
        return None
