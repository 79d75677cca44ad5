"""Reading a `.seg.zst` file or object: the tables once, then only the ranges that are asked for.

How much one call of `window` fetches:

1. At least the zstd frame that holds the position, and as many more as `bytes_min` asks for.
2. All pieces of a frame of the log that is longer than one zstd frame, up to 16 MiB, so that any
   record costs one fetch and a window ends where a frame of the log does.
3. While calls follow each other, 2, 4, 8... zstd frames, up to 4 MiB of raw bytes.
"""

import os
import threading
from collections import OrderedDict

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from aof2._core.compressed_cut cimport check_footer
from aof2._core.compressed_table cimport (
    SEEK_FOOT_BYTES,
    TABLE_BASE_BYTES,
    TABLE_BYTES_MAX,
    WarmTable,
    parse_table,
    tables_bytes,
)
from aof2._core.layout cimport FRAMES_AT, Footer
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_pread
from aof2._core.seal cimport FooterInfo
from aof2._core.window cimport Window, make_window
from aof2.errors import Closed, ObjectCorrupt, OffsetOutOfRange

cdef enum:
    AHEAD_BYTES_MAX = 4194304
    LONG_BYTES_MAX = 16777216


cdef uint64_t file_size(int fd) except? 0:
    return os.fstat(fd).st_size


cdef bytes read_range(int fd, str path, uint64_t start, uint64_t end):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, end - start)
    cdef char *at = PyBytes_AS_STRING(out)
    cdef size_t got = 0
    cdef int error
    with nogil:
        error = sys_pread(fd, at, end - start, start, &got)
    check_errno(error, "read", path)
    if got != end - start:
        raise ObjectCorrupt(f"it ends early: {got} bytes of {end - start}", path=path,
                            position=start)
    return out


cdef WarmTable read_table(int fd, str path, uint64_t file_bytes, uint64_t table_bytes):
    if table_bytes == 0:
        if file_bytes < TABLE_BASE_BYTES:
            raise ObjectCorrupt(f"too short: {file_bytes} bytes", path=path, position=0)
        foot = read_range(fd, path, file_bytes - SEEK_FOOT_BYTES, file_bytes)
        table_bytes = tables_bytes(<const uint8_t *> PyBytes_AS_STRING(foot), file_bytes, path)
    _check_table_bytes(file_bytes, table_bytes, path)
    return parse_table(
        read_range(fd, path, file_bytes - table_bytes, file_bytes), file_bytes, path
    )


cdef int _check_table_bytes(uint64_t file_bytes, uint64_t table_bytes, str path) except -1:
    if not TABLE_BASE_BYTES <= table_bytes <= min(file_bytes, <uint64_t> TABLE_BYTES_MAX):
        raise ObjectCorrupt(f"a table of {table_bytes} bytes cannot be in a file of {file_bytes}",
                            path=path, position=0)
    return 0


cdef uint64_t _table_bytes_of(fetch, uint64_t file_bytes, str path) except 0:
    if file_bytes < TABLE_BASE_BYTES:
        raise ObjectCorrupt(f"too short: {file_bytes} bytes", path=path, position=0)
    foot = bytes(fetch(file_bytes - SEEK_FOOT_BYTES, file_bytes))
    if len(foot) != SEEK_FOOT_BYTES:
        raise ObjectCorrupt(f"it ends early: {len(foot)} bytes of {SEEK_FOOT_BYTES}", path=path,
                            position=file_bytes - SEEK_FOOT_BYTES)
    return tables_bytes(<const uint8_t *> PyBytes_AS_STRING(foot), file_bytes, path)


cdef class _FileRanges:
    """Ranges of a file through a held descriptor, so that they stay readable after an unlink."""

    cdef int _fd
    cdef str _path

    def __cinit__(self):
        self._fd = -1

    def __dealloc__(self):
        sys_close(self._fd)

    def __call__(self, uint64_t start, uint64_t end):
        return read_range(self._fd, self._path, start, end)


cdef class CompressedSegment:
    """Reader of one warm file or cold object, which are the same bytes.

    Args:
        fetch: `fetch(start, end)` returns exactly the bytes `[start, end)` of the file. It is
            called once here, for the tables, and then once per `window` that the cache cannot
            answer. It may be called from several threads, and what it raises passes through.
        file_bytes: Size of the whole file or object.
        table_bytes: Size of what follows the last data frame, from the manifest; 0 takes it from
            the end of the file, for one more fetch.
        path: File or key, for messages.
        cache_bytes: Bound of the decompressed bytes that are kept; 0 keeps none.

    `ObjectCorrupt` when the tables are damaged, `VersionTooNew` when a newer version wrote them.
    Several threads may use one reader; read-ahead works best when each has its own.

    Example:
        >>> segment = open_warm(directory, "00000000000000000001.seg.zst")  # doctest: +SKIP
        >>> segment.window(segment.locate(segment.base_offset))  # doctest: +SKIP
        Window(8192..262144)
    """

    def __init__(self, fetch, uint64_t file_bytes, uint64_t table_bytes, *, str path not None,
                 uint64_t cache_bytes=8 << 20):
        self.path = path
        if table_bytes == 0:
            table_bytes = _table_bytes_of(fetch, file_bytes, path)
        _check_table_bytes(file_bytes, table_bytes, path)
        tail = bytes(fetch(file_bytes - table_bytes, file_bytes))
        if <uint64_t> len(tail) != table_bytes:
            raise ObjectCorrupt(f"{len(tail)} bytes of tables where {table_bytes} must be",
                                path=path, position=file_bytes - table_bytes)
        self._table = parse_table(tail, file_bytes, path)
        self._fetch = fetch
        self._lock = threading.Lock()
        self._runs = OrderedDict()
        self._run_of = {}
        self._cache_bytes = cache_bytes
        self._ahead = 1

    def __repr__(self):
        return f"CompressedSegment({self.path!r})"

    @property
    def stream_uuid(self):
        """16 bytes that name the stream."""
        return (<const char *> self._table.header.stream_uuid)[:16]

    @property
    def segment_id(self):
        """Ordinal of the segment in its stream."""
        return self._table.header.segment_id

    @property
    def epoch(self):
        """Epoch of the writer that wrote the segment."""
        return self._table.header.epoch

    @property
    def base_offset(self):
        """Offset of the first record."""
        return self._table.header.base_offset

    @property
    def end_offset(self):
        """Offset just past the last record."""
        return self._table.header.end_offset

    @property
    def salt(self):
        """The salt that the checksums of the segment's frames cover."""
        return self._table.header.salt

    @property
    def ext_id(self):
        """The `ext_id` of records that carry none of their own."""
        return self._table.header.ext_id

    @property
    def raw_bytes(self):
        """Size of the sealed segment in bytes."""
        return self._table.header.raw_bytes

    @property
    def raw_crc64(self):
        """CRC-64/NVME of the whole sealed segment."""
        return self._table.header.raw_crc64

    @property
    def table_bytes(self):
        """Size of what follows the last data frame."""
        return len(self._table._tail)

    @property
    def frames_end(self):
        """Raw position just past the END frame; no window reaches beyond it."""
        return self._table.frames_end

    cdef WarmTable _open(self):
        if self._fetch is None:
            raise Closed("the reader was closed", path=self.path)
        return self._table

    def footer(self):
        """Footer of the sealed segment, as its hot file ends with it.

        Returns:
            A `FooterInfo`. One fetch. `ObjectCorrupt` when bytes do not check.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t last = table.count - 1
        cdef FooterInfo info = FooterInfo.__new__(FooterInfo)
        cdef const uint8_t[::1] raw = table.decompress(
            self._fetch(table.at[last], table.at[last + 1]), last, last + 1
        )
        # The table's own check says that this frame has room for a footer.
        memcpy(&info.footer, &raw[raw.shape[0] - sizeof(Footer)], sizeof(Footer))
        info.position = table.header.raw_bytes - sizeof(Footer)
        if (check_footer(&info.footer) != 0
                or memcmp(info.footer.stream_uuid, table.header.stream_uuid, 16) != 0
                or info.footer.file_id != table.header.segment_id
                or info.footer.base_offset != table.header.base_offset
                or info.footer.end_offset != table.header.end_offset):
            table.corrupt("the table does not match the segment's footer", table.at[last])
        return info

    def locate(self, uint64_t offset):
        """Raw position of a frame at or before the one that holds the record at `offset`.

        `OffsetOutOfRange` unless `base_offset <= offset < end_offset`. Fetches nothing.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t low = 0, high = table.count - 1, middle
        if not table.header.base_offset <= offset < table.header.end_offset:
            raise OffsetOutOfRange(
                f"offset {offset} is not in this segment", first=table.header.base_offset,
                next=table.header.end_offset, path=self.path,
            )
        # The last entry whose first record is not behind the offset. Pieces inside a long frame
        # name the record that follows it, so the search ends at the piece where the frame begins.
        while high - low > 1:
            middle = low + (high - low) // 2
            if table.entries[middle].first_offset <= offset:
                low = middle
            else:
                high = middle
        return max(<uint64_t> table.entries[low].raw_position, <uint64_t> FRAMES_AT)

    def locate_time(self, int64_t timestamp_ns):
        """Raw position of the first place whose records may be of `timestamp_ns` or later.

        All frames before it are earlier. `frames_end` when there is no such record. No fetch.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t low = 0, high = table.count - 1, middle
        while low < high:
            middle = low + (high - low) // 2
            if table.entries[middle].max_timestamp_ns >= timestamp_ns:
                high = middle
            else:
                low = middle + 1
        return max(<uint64_t> table.entries[low].raw_position, <uint64_t> FRAMES_AT)

    def window(self, uint64_t position, uint64_t bytes_min=0):
        """The segment's bytes from `position` on.

        Args:
            position: Raw position of a frame.
            bytes_min: So many bytes at least, as far as there are as many before `frames_end`.

        Returns:
            A `Window` that begins at `position`, or None at or behind `frames_end`. It ends where a
            frame does, unless the last one is longer than 16 MiB: then ask again, with its size.

        One fetch at most. `ObjectCorrupt` with the position in the compressed file when bytes do
        not check; `Closed` after `close`.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t first = 0, last = 0
        cdef uint64_t start = 0
        cdef bint sequential
        cdef Window run
        fetch = self._fetch
        if position >= table.frames_end:
            return None
        if bytes_min > table.frames_end - position:
            bytes_min = table.frames_end - position
        with self._lock:
            run = self._cached(position, bytes_min)
            if run is None:
                sequential = self._last_end and self._last_start <= position <= self._last_end
                first = table.find(position)
                start = table.entries[first].raw_position
                last = self._end_of_run(first, position + bytes_min - start, sequential)
        if run is None:
            packed = fetch(table.at[first], table.at[last])
            run = Window(table.decompress(packed, first, last), start)
            with self._lock:
                self._keep(run, first, last)
        self._last_start = run.start
        self._last_end = run.end
        return make_window(run.data + (position - run.start), position, run.end - position, run)

    def close(self):
        """Give up `fetch` and the cache; windows given out stay valid. Again is harmless."""
        with self._lock:
            self._fetch = None
            self._runs.clear()
            self._run_of.clear()
            self._held_bytes = 0

    cdef Window _cached(self, uint64_t position, uint64_t bytes_min):
        cdef Window run = self._run_of.get(self._table.find(position))
        if run is None or run.end - position < bytes_min:
            return None
        self._runs.move_to_end(run.start)
        return run

    cdef uint32_t _end_of_run(
        self, uint32_t first, uint64_t bytes_min, bint sequential
    ) noexcept:
        """The data frame behind the last one to fetch, from `first` on."""
        cdef WarmTable table = self._table
        cdef uint64_t start = table.entries[first].raw_position
        cdef uint64_t bytes_max = min(
            <uint64_t> AHEAD_BYTES_MAX, max(self._cache_bytes // 2, <uint64_t> 1)
        )
        cdef uint32_t limit = table.count - 1, last = first + 1, following, wanted
        while last < limit and table.raw_end(last) - start < bytes_min:
            last += 1
        last = _whole(table, last, start, LONG_BYTES_MAX)
        self._ahead = min(self._ahead * 2, <uint32_t> 1024) if sequential else 1
        wanted = self._ahead
        while last < limit and last - first < wanted:
            following = _whole(table, last + 1, start, bytes_max)
            if table.raw_end(following) - start > bytes_max or (
                following < limit and table.inside(following)
            ):
                break
            last = following
        return last

    cdef int _keep(self, Window run, uint32_t first, uint32_t last) except -1:
        """Put a run into the cache, in place of the runs that have been of no use for longest."""
        cdef Window old
        cdef uint32_t i
        if self._fetch is None or run.end - run.start > self._cache_bytes:
            return 0
        for i in range(first, last):
            old = self._run_of.get(i)
            if old is not None:
                self._drop(old)
        while self._held_bytes + (run.end - run.start) > self._cache_bytes:
            self._drop(next(iter(self._runs.values())))
        self._runs[run.start] = run
        self._held_bytes += run.end - run.start
        for i in range(first, last):
            self._run_of[i] = run
        return 0

    def _drop(self, Window run not None):
        cdef uint32_t i = self._table.find(run.start)
        del self._runs[run.start]
        self._held_bytes -= run.end - run.start
        while self._run_of.get(i) is run:
            del self._run_of[i]
            i += 1


cdef uint32_t _whole(
    WarmTable table, uint32_t last, uint64_t start, uint64_t bytes_max
) noexcept:
    """Extend a run over the rest of a long frame; as it is when that would be too much."""
    cdef uint32_t following = last
    while following < table.count - 1 and table.inside(following):
        following += 1
    return following if table.raw_end(following) - start <= bytes_max else last


def open_warm(Directory directory not None, str name not None, table_bytes=None, *,
              uint64_t cache_bytes=8 << 20):
    """Open a warm file for reading; it stays readable after its name has gone.

    Args:
        directory: Where it is.
        name: Its file name.
        table_bytes: From the manifest; None takes it from the end of the file.
        cache_bytes: As for `CompressedSegment`.

    Returns:
        A `CompressedSegment`. `OSError` when the file cannot be opened or read, else as there.
    """
    cdef _FileRanges ranges = _FileRanges()
    ranges._path = directory.join(name)
    ranges._fd = directory.open_file(name)
    return CompressedSegment(ranges, file_size(ranges._fd), table_bytes or 0, path=ranges._path,
                             cache_bytes=cache_bytes)
