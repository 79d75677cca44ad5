"""A hot segment, mapped for reading: sealed ones whole, the active one together with the landing
ring.

The mapping keeps the bytes readable after the file's name has gone. Bytes behind the END are never
touched, because the file may be truncated there while it is mapped.
"""

import os

from libc.stdint cimport int64_t, uint8_t, uint64_t

from aof2._core.layout cimport END_BYTES, FRAMES_AT, Footer, IndexEntry
from aof2._core.logfile cimport read_header_fd, read_start_fd
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_map, sys_populate, sys_unmap
from aof2._core.ringview cimport RingView
from aof2._core.run cimport run_find, run_find_time
from aof2._core.seal cimport read_footer_fd
from aof2._core.window cimport Window, make_window

from aof2.errors import SegmentCorrupt

cdef enum:
    RING_TRIES_MAX = 100         # a live writer gets past a reader once or twice
    WINDOW_BYTES = 4194304       # a sealed segment is read in stretches of this size
    RING_COPY_BYTES = 262144     # at most so much is copied out of the ring at once


cdef class MappedSegment:
    """A read-only view of one `.seg` file.

    Args:
        directory, name: The file.
        ring: The stream's landing ring, for a segment that is being written; None otherwise.
        written: Position up to which it is written, for one that is being written when there is no
            ring at the moment; what comes later is not seen.

    Raises `FileNotFoundError` when the name has gone, `SegmentCorrupt` when header or footer do not
    check.
    """

    def __init__(self, Directory directory not None, str name not None, RingView ring=None,
                 uint64_t written=<uint64_t> -1):
        cdef void *address = NULL
        cdef uint64_t size
        cdef int fd = directory.open_file(name)
        try:
            self.path = directory.join(name)
            self.header = read_header_fd(fd, self.path)
            self.start = read_start_fd(fd, self.header)
            if self.start is None:
                raise SegmentCorrupt("the start block fails its checksum", path=self.path,
                                     position=2048)
            size = os.fstat(fd).st_size
            if size < FRAMES_AT:
                raise SegmentCorrupt(f"the file has only {size} bytes", path=self.path)
            if size != self.header.file_bytes:
                self.footer = read_footer_fd(fd, self.header, size - sizeof(Footer))
                if self.footer is None:
                    raise SegmentCorrupt("the file was cut: it has no good footer at its end",
                                         path=self.path, position=size)
            self._ring = ring
            self._written = min(size, written)
            check_errno(sys_map(fd, size, 0, False, NULL, &address), "map", self.path)
            self._data, self._bytes = <const uint8_t *> address, size
        finally:
            sys_close(fd)

    def __dealloc__(self):
        if self._data != NULL:
            # Of a file without a name this gives the pages back, which takes milliseconds.
            with nogil:
                sys_unmap(<void *> self._data, self._bytes)

    def __repr__(self):
        return f"MappedSegment({self.path!r}, sealed={self.footer is not None})"

    @property
    def salt(self):
        """The file's salt, which its frames' checksums cover."""
        return self.header.salt

    @property
    def base_offset(self):
        """Offset of the first record."""
        return self.start.base_offset

    @property
    def ext_id(self):
        """Default ext_id of the records."""
        return self.start.ext_id

    def locate(self, uint64_t offset):
        """Position of a frame border at or before the record, by the index (the front without
        one)."""
        cdef const IndexEntry *entry
        if self.footer is None or self._index() == NULL:
            return FRAMES_AT
        entry = run_find(self._index(), <unsigned int> self.footer.footer.index_count,
                         offset - self.start.base_offset)
        return FRAMES_AT if entry == NULL else self._checked(entry.position)

    def locate_time(self, int64_t timestamp_ns):
        """Position of a frame border before which every record is older than the time."""
        cdef const IndexEntry *entry
        if self.footer is None or self._index() == NULL:
            return FRAMES_AT
        entry = run_find_time(self._index(), <unsigned int> self.footer.footer.index_count,
                              timestamp_ns)
        return FRAMES_AT if entry == NULL else self._checked(entry.position)

    cdef const IndexEntry *_index(self) except? NULL:
        cdef const Footer *footer = &self.footer.footer
        cdef uint64_t end = footer.index_position + footer.index_count * sizeof(IndexEntry)
        if end > self._bytes or footer.index_count == 0:
            return NULL
        self._populate(footer.index_position, end)
        return <const IndexEntry *> (self._data + footer.index_position)

    cdef int _populate(self, uint64_t position, uint64_t end) except -1:
        """Read a range from the medium, once: one that cannot be read is an error here, not a
        signal later."""
        cdef uint64_t stretch, at
        for stretch in range(position // WINDOW_BYTES, (end - 1) // WINDOW_BYTES + 1):
            if not self._read[stretch]:
                at = stretch * WINDOW_BYTES
                check_errno(
                    sys_populate(<void *> (self._data + at),
                                 min(<uint64_t> WINDOW_BYTES, self._bytes - at), False),
                    "read", self.path)
                self._read[stretch] = 1
        return 0

    cdef uint64_t _read_end(self, uint64_t position) noexcept:
        cdef uint64_t stretch = position // WINDOW_BYTES
        while stretch * WINDOW_BYTES < self._bytes and self._read[stretch]:
            stretch += 1
        return min(stretch * WINDOW_BYTES, self._bytes)

    def _checked(self, uint64_t position):
        """An index entry's position, if it lies among the frames."""
        if position < FRAMES_AT or position > self.footer.footer.end_position or position & 7:
            raise SegmentCorrupt("an index entry points outside the frames", path=self.path,
                                 position=position)
        return position

    cdef object _window_of(self, uint64_t position, uint64_t end, bint populate):
        if populate:
            self._populate(position, end)
        return make_window(self._data + position, position, end - position, self)

    def window(self, uint64_t position, uint64_t bytes_min=0):
        """The bytes from a position on.

        Args:
            position: A frame border.
            bytes_min: Hold at least so many, where the segment has them.

        Returns:
            A `Window`; None where nothing is written yet.
        """
        cdef uint64_t end, wanted, coordinate, written, tail, n
        cdef int _
        if self.footer is not None:
            end = self.footer.footer.end_position + END_BYTES
            if position >= end:
                return None
            wanted = position + max(bytes_min, <uint64_t> 1)
            return self._window_of(position, min(
                end, (wanted + WINDOW_BYTES - 1) // WINDOW_BYTES * WINDOW_BYTES), True)
        if self._ring is None:
            if position >= self._written:
                return None
            return self._window_of(position, self._written, False)
        coordinate = self.start.ring_base + position
        for _ in range(RING_TRIES_MAX):
            written = self._ring.written()
            if coordinate + max(bytes_min, <uint64_t> 1) <= written:
                return self._window_of(
                    position, min(self._bytes, written - self.start.ring_base), False)
            tail = self._ring.tail()
            if coordinate >= tail or self._ring.closed:
                return None
            n = min(tail - coordinate, max(<uint64_t> RING_COPY_BYTES, bytes_min))
            data = self._ring.copy(coordinate, n)
            if data is not None:
                return Window(data, position)
            # It was overwritten while it was copied, so it is in the file by now.
        return None  # A ring that does not say so either is damaged.
