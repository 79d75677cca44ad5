"""Decoding records from windows of a segment: one by one, or as columns.

A cursor knows one segment at a time and one window of it. When it cannot go on it says why
(`status`) and its owner gives it the next window or segment, so the same code reads mapped, ring
and decompressed bytes. The checksum is verified each time a frame is decoded.
"""

import enum

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from aof2._core.frame cimport (
    FRAME_BAD,
    FRAME_EMPTY,
    FRAME_OK,
    FRAME_SHORT,
    FrameView,
    check_frame,
)
from aof2._core.layout cimport KIND_BATCH, KIND_END
from aof2._core.record cimport Record, make_record
from aof2._core.window cimport Window, make_window

cdef enum:
    AT_RECORD = 0
    AT_STOP = 1
    AT_END = 2
    AT_WINDOW_END = 3
    AT_EMPTY = 4
    AT_BAD = 5
    AT_UNKNOWN = 6


class CursorStatus(enum.IntEnum):
    """Why a cursor returned nothing."""

    RECORD = 0
    """It returned something."""
    STOP = 1
    """The stop offset is reached."""
    END = 2
    """The segment has no more records."""
    WINDOW_END = 3
    """The window ends, or the next frame crosses its end: see `needed`."""
    EMPTY = 4
    """Nothing is written at the position."""
    BAD = 5
    """The frame at the position fails its checks."""
    UNKNOWN = 6
    """The frame at the position is of a newer version."""


cdef inline uint32_t _end_at(const uint8_t *ends, uint32_t i) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, ends + 4 * <uint64_t> i, 4)
    return value


cdef bint _ends_ascend(const FrameView *frame) noexcept nogil:
    """Whether a batch's ends can be used as they are: they come from a file."""
    cdef uint32_t i, before = 0, end
    for i in range(frame.count + 1):
        end = _end_at(frame.ends, i)
        if end < before or end > frame.data_bytes:
            return False
        before = end
    return True


cdef class RecordCursor:
    """Returns the records of one segment after the other, in order.

    Args:
        offset: The first record wanted.
        stop: Records at or behind this offset are not returned.

    `enter` a segment, `load` its windows, then take records by iteration, `next_record` or
    `next_batch`. Iteration calls `refill()` whenever it cannot go on; a subclass overrides it.
    """

    def __init__(self, uint64_t offset=0, uint64_t stop=0xFFFFFFFFFFFFFFFF):
        self.offset = offset
        self.stop = stop

    def enter(self, uint64_t salt, uint64_t base_offset, uint64_t ext_id, uint64_t position):
        """Begin a segment at a frame border at or before the wanted record."""
        self._salt, self._base_offset, self._ext_id = salt, base_offset, ext_id
        self.position = position
        self._ordinal = -1
        self._window = None
        self._in_frame = False

    def enter_any(self, uint64_t salt, uint64_t base_offset, uint64_t ext_id, uint64_t position):
        """Begin a segment at a frame border, taking whatever record comes first there."""
        self.enter(salt, base_offset, ext_id, position)
        self._take_any = True

    def load(self, Window window):
        """Give it the bytes from `position` on."""
        if window is not None and not window.start <= self.position <= window.end:
            raise ValueError(f"{window} does not hold position {self.position}")
        self._window = window

    def move(self, uint64_t offset, uint64_t stop):
        """Set the wanted record and the stop; the owner enters the right segment next."""
        self.offset, self.stop = offset, stop
        self._window = None
        self._in_frame = False

    def set_stop(self, uint64_t stop):
        """Move the stop, for a reader that follows."""
        self.stop = stop

    cdef int _next_frame(self) except -1:
        """Find the frame that holds `offset`; AT_RECORD when `_frame` is it."""
        cdef Window window = self._window
        cdef uint64_t first
        cdef int status
        if self.offset >= self.stop:
            return AT_STOP
        self.needed = 0
        if window is None:
            return AT_WINDOW_END
        while True:
            status = check_frame(
                window.data + (self.position - window.start), window.end - self.position,
                self.position, self._salt, self._ordinal, &self._frame,
            )
            if status != FRAME_OK:
                self.needed = self._frame.total_bytes
                if status == FRAME_SHORT:
                    return AT_WINDOW_END
                return AT_EMPTY if status == FRAME_EMPTY else (
                    AT_BAD if status == FRAME_BAD else AT_UNKNOWN)
            first = self._base_offset + self._frame.ordinal
            if self._take_any and self._frame.kind != KIND_END:
                self.offset = first
                self._take_any = False
            if first > self.offset and self._frame.kind != KIND_END:
                return AT_BAD
            if self._frame.kind == KIND_END:
                return AT_END
            self._ordinal = <int64_t> self._frame.ordinal + self._frame.count
            self.position += self._frame.total_bytes
            if first + self._frame.count > self.offset:
                if self._frame.kind == KIND_BATCH and not _ends_ascend(&self._frame):
                    return AT_UNKNOWN
                self._in_frame = True
                return AT_RECORD

    cdef Record _take(self):
        """The record at `offset`, which is in the current frame."""
        cdef FrameView *frame = &self._frame
        cdef uint64_t i = self.offset - self._base_offset - frame.ordinal
        cdef uint64_t offset = self.offset, ext_id
        cdef int64_t timestamp_ns = frame.timestamp_ns
        cdef uint32_t start
        self.offset += 1
        self._in_frame = i + 1 < frame.count
        ext_id = frame.ext_id if frame.has_ext_id else self._ext_id
        if frame.kind != KIND_BATCH:
            return make_record(offset, timestamp_ns, ext_id, PyBytes_FromStringAndSize(
                <const char *> frame.data, <Py_ssize_t> frame.data_bytes))
        if frame.timestamps != NULL:
            memcpy(&timestamp_ns, frame.timestamps + 8 * i, 8)
        if frame.ext_ids != NULL:
            memcpy(&ext_id, frame.ext_ids + 8 * i, 8)
        start = _end_at(frame.ends, <uint32_t> i)
        return make_record(offset, timestamp_ns, ext_id, PyBytes_FromStringAndSize(
            <const char *> frame.data + start, _end_at(frame.ends, <uint32_t> i + 1) - start))

    def next_record(self):
        """The next `Record`, or None with `status` saying why there is none."""
        if not _at_record(self):
            return None
        return self._take()

    def refill(self):
        """Called by iteration when it cannot go on; True when it can now."""
        return False

    def __iter__(self):
        return self

    def __next__(self):
        while not _at_record(self):
            if not self.refill():
                raise StopIteration
        return self._take()

    cdef bytes _take_payload(self):
        """As `_take`, without the record around it."""
        cdef FrameView *frame = &self._frame
        cdef uint64_t i = self.offset - self._base_offset - frame.ordinal
        cdef uint32_t start
        self.offset += 1
        self._in_frame = i + 1 < frame.count
        if frame.kind != KIND_BATCH:
            return PyBytes_FromStringAndSize(
                <const char *> frame.data, <Py_ssize_t> frame.data_bytes)
        start = _end_at(frame.ends, <uint32_t> i)
        return PyBytes_FromStringAndSize(
            <const char *> frame.data + start, _end_at(frame.ends, <uint32_t> i + 1) - start)

    def next_batch(self, uint64_t bytes_max):
        """The next records as columns.

        Args:
            bytes_max: About so many payload bytes at most; a batch frame is never cut.

        Returns:
            `(first offset, count, data, offsets, timestamps, ext_ids)`: memoryviews of the payloads
            back to back, of `count + 1` u32 offsets into them, and of i64 / u64 columns, or one int
            where all records share it. Batch frames are zero-copy, record frames are gathered. None
            with `status` saying why when there is nothing.
        """
        if not _at_record(self):
            return None
        if self._frame.kind == KIND_BATCH:
            return self._batch_of_frame()
        return self._gather(bytes_max)

    cdef object _batch_of_frame(self):
        """The rest of the current batch frame, as views of the window."""
        cdef FrameView *frame = &self._frame
        cdef uint64_t i = self.offset - self._base_offset - frame.ordinal
        cdef uint64_t first = self.offset, n
        cdef object owner = self._window
        n = min(<uint64_t> frame.count - i, self.stop - self.offset)
        self.offset += n
        self._in_frame = i + n < frame.count
        ext_ids = frame.ext_id if frame.has_ext_id else self._ext_id
        timestamps = frame.timestamp_ns
        if frame.timestamps != NULL:
            timestamps = memoryview(make_window(frame.timestamps + 8 * i, 0, 8 * n, owner))
        if frame.ext_ids != NULL:
            ext_ids = memoryview(make_window(frame.ext_ids + 8 * i, 0, 8 * n, owner))
        return (
            first, n, memoryview(make_window(frame.data, 0, frame.data_bytes, owner)),
            memoryview(make_window(frame.ends + 4 * i, 0, 4 * (n + 1), owner)), timestamps, ext_ids,
        )

    cdef object _gather(self, uint64_t bytes_max):
        """Copy record frames of this window next to each other, in C."""
        cdef Columns columns = Columns.__new__(Columns)
        cdef uint64_t first = self.offset
        cdef FrameView *frame = &self._frame
        while True:
            columns.add(frame, frame.ext_id if frame.has_ext_id else self._ext_id)
            self.offset += 1
            self._in_frame = False
            if columns.data_bytes >= bytes_max or columns.data_bytes >= 0x7F000000:
                break
            # The frame after the last one stays current when it is not taken here.
            self.status = self._next_frame()
            if self.status != AT_RECORD or frame.kind == KIND_BATCH:
                break
            if columns.data_bytes + frame.data_bytes > bytes_max:
                break
        return (
            first, columns.count,
            memoryview(make_window(columns.data, 0, columns.data_bytes, columns)),
            memoryview(make_window(<const uint8_t *> columns.ends, 0, 4 * (columns.count + 1),
                                   columns)),
            memoryview(make_window(<const uint8_t *> columns.timestamps, 0, 8 * columns.count,
                                   columns)),
            memoryview(make_window(<const uint8_t *> columns.ext_ids, 0, 8 * columns.count,
                                   columns)),
        )


cdef class PayloadIterator:
    """Iterates over a cursor's records as bytes, without an object around each."""

    def __init__(self, RecordCursor cursor not None):
        self._cursor = cursor

    def __iter__(self):
        return self

    def __next__(self):
        cdef RecordCursor cursor = self._cursor
        while not _at_record(cursor):
            if not cursor.refill():
                raise StopIteration
        return cursor._take_payload()


cdef class Columns:
    """Growing columns of gathered records; the memory that a batch of record frames lives in."""

    cdef uint8_t *data
    cdef uint32_t *ends
    cdef int64_t *timestamps
    cdef uint64_t *ext_ids
    cdef uint64_t data_bytes
    cdef uint64_t data_room
    cdef uint64_t count
    cdef uint64_t room

    def __dealloc__(self):
        free(self.data)
        free(self.ends)
        free(self.timestamps)
        free(self.ext_ids)

    cdef int _grow(self, uint64_t data_bytes) except -1:
        cdef void *moved
        if self.data_bytes + data_bytes > self.data_room or self.data == NULL:
            self.data_room = max(2 * self.data_room, self.data_bytes + data_bytes, <uint64_t> 4096)
            moved = realloc(self.data, self.data_room)
            if moved == NULL:
                raise MemoryError("batch")
            self.data = <uint8_t *> moved
        if self.count + 1 >= self.room:
            self.room = max(2 * self.room, <uint64_t> 64)
            moved = realloc(self.ends, 4 * self.room)
            if moved == NULL:
                raise MemoryError("batch")
            self.ends = <uint32_t *> moved
            moved = realloc(self.timestamps, 8 * self.room)
            if moved == NULL:
                raise MemoryError("batch")
            self.timestamps = <int64_t *> moved
            moved = realloc(self.ext_ids, 8 * self.room)
            if moved == NULL:
                raise MemoryError("batch")
            self.ext_ids = <uint64_t *> moved
        return 0

    cdef int add(self, const FrameView *frame, uint64_t ext_id) except -1:
        self._grow(frame.data_bytes)
        memcpy(self.data + self.data_bytes, frame.data, frame.data_bytes)
        self.ends[0] = 0
        self.timestamps[self.count] = frame.timestamp_ns
        self.ext_ids[self.count] = ext_id
        self.data_bytes += frame.data_bytes
        self.count += 1
        self.ends[self.count] = <uint32_t> self.data_bytes
        return 0


cdef inline bint _at_record(RecordCursor self) except -1:
    """Whether a record can be taken; if not, `status` says why."""
    if not self._in_frame:
        self.status = self._next_frame()
        return self.status == AT_RECORD
    if self.offset >= self.stop:
        self.status = AT_STOP
        return False
    return True
