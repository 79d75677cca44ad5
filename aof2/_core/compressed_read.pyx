"""Reading a `.seg.zst` file or object: the tables once, then only the ranges that are asked for.

What is read at a time is a *run*: one zstd frame, or all those that a frame of the log takes which
is longer than one, up to 16 MiB. So a run ends where a frame of the log does, any record costs one
fetch, and a damaged zstd frame costs no record that is not in it.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from aof2._core.compressed_cut cimport check_footer
from aof2._core.compressed_file cimport open_ranges
from aof2._core.compressed_table cimport (
    SEEK_FOOT_BYTES,
    TABLE_BASE_BYTES,
    WarmTable,
    check_table_bytes,
    parse_table,
    tables_bytes,
)
from aof2._core.layout cimport FRAMES_AT, Footer
from aof2._core.directory cimport Directory
from aof2._core.seal cimport FooterInfo
from aof2._core.window cimport Window, make_window
from aof2.errors import Closed, ObjectCorrupt, OffsetOutOfRange

cdef enum:
    RUN_BYTES_MAX = 16777216


cdef uint64_t _table_bytes_of(fetch, uint64_t file_bytes, str path) except 0:
    if file_bytes < TABLE_BASE_BYTES:
        raise ObjectCorrupt(f"too short: {file_bytes} bytes", path=path, position=0)
    foot = bytes(fetch(file_bytes - SEEK_FOOT_BYTES, file_bytes))
    if len(foot) != SEEK_FOOT_BYTES:
        raise ObjectCorrupt(f"it ends early: {len(foot)} bytes of {SEEK_FOOT_BYTES}", path=path,
                            position=file_bytes - SEEK_FOOT_BYTES)
    return tables_bytes(<const uint8_t *> PyBytes_AS_STRING(foot), file_bytes, path)


cdef class CompressedSegment:
    """Reader of one warm file or cold object, which are the same bytes.

    Args:
        fetch: `fetch(start, end)` returns exactly the bytes `[start, end)` of the file. It is
            called once here, for the tables, and then once per call of `read` or `window`. It may
            be called from several threads, and what it raises passes through.
        file_bytes: Size of the whole file or object.
        table_bytes: Size of what follows the last data frame, from the manifest; 0 takes it from
            the end of the file, for one more fetch.
        path: File or key, for messages.

    Attributes:
        run_count: Runs, from 0.

    `ObjectCorrupt` when the tables are damaged, `VersionTooNew` when a newer version wrote them.
    Nothing is kept of what is read. Several threads may use one reader.

    Example:
        >>> segment = open_warm(directory, "00000000000000000001.seg.zst")  # doctest: +SKIP
        >>> segment.window(segment.locate(segment.base_offset))  # doctest: +SKIP
        Window(8192..262144)
    """

    def __init__(self, fetch, uint64_t file_bytes, uint64_t table_bytes, *, str path not None):
        self.path = path
        if table_bytes == 0:
            table_bytes = _table_bytes_of(fetch, file_bytes, path)
        check_table_bytes(file_bytes, table_bytes, path)
        tail = bytes(fetch(file_bytes - table_bytes, file_bytes))
        if <uint64_t> len(tail) != table_bytes:
            raise ObjectCorrupt(f"{len(tail)} bytes of tables where {table_bytes} must be",
                                path=path, position=file_bytes - table_bytes)
        self._table = parse_table(tail, file_bytes, path)
        self._fetch = fetch
        self._find_runs()

    def __dealloc__(self):
        free(self._runs)

    cdef int _find_runs(self) except -1:
        """Note the first data frame of each run, and the one behind the last run."""
        cdef WarmTable table = self._table
        cdef uint32_t i, first = 0, limit = table.count - 1
        self._runs = <uint32_t *> malloc(4 * (<size_t> limit + 1))
        if self._runs == NULL:
            raise MemoryError("runs")
        for i in range(limit):
            if i == 0 or not table.inside(i) or (
                table.raw_end(i + 1) - table.entries[first].raw_position > RUN_BYTES_MAX
            ):
                first = i
                self._runs[self.run_count] = i
                self.run_count += 1
        self._runs[self.run_count] = limit
        return 0

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

    def runs_of(self, uint64_t position, uint64_t bytes_min=0):
        """The runs `(first, last)`, half-open, that hold `bytes_min` bytes from a raw position on.

        As many of the bytes as there are before `frames_end`; None at or behind it. No fetch.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t first, last
        if position >= table.frames_end:
            return None
        first = last = self._run_of(position)
        bytes_min = min(max(bytes_min, <uint64_t> 1), table.frames_end - position)
        while table.raw_end(self._runs[last + 1]) - position < bytes_min:
            last += 1
        return first, last + 1

    cdef uint32_t _run_of(self, uint64_t position) noexcept:
        """The run that holds a raw position before `frames_end`."""
        cdef uint32_t frame = self._table.find(position), low = 0, high = self.run_count, middle
        while high - low > 1:
            middle = low + (high - low) // 2
            if self._runs[middle] <= frame:
                low = middle
            else:
                high = middle
        return low

    def run_bytes(self, uint32_t run):
        """Raw bytes of a run, from 0 to `run_count` - 1; 0 for any other."""
        if run >= self.run_count:
            return 0
        return (self._table.raw_end(self._runs[run + 1])
                - self._table.entries[self._runs[run]].raw_position)

    def run_offset(self, uint32_t run):
        """Offset of the first record that begins in a run or behind it; `end_offset` behind the
        last run."""
        if run >= self.run_count:
            return self._table.header.end_offset
        return self._table.entries[self._runs[run]].first_offset

    def read(self, uint32_t first, uint32_t last):
        """Fetch some neighbouring runs at once.

        Args:
            first, last: Half-open.

        Returns:
            A list with a `Window` for each run, or the `ObjectCorrupt` that says why it cannot be
            read: what is damaged in one costs nothing in another. One fetch. `Closed` after
            `close`.
        """
        cdef WarmTable table = self._open()
        cdef uint32_t run, begin, end
        cdef uint64_t base
        cdef list out = []
        if not first < last <= self.run_count:
            raise IndexError(f"runs [{first}, {last}) of {self.run_count}")
        base = table.at[self._runs[first]]
        packed = self._fetch(base, table.at[self._runs[last]])
        if <uint64_t> len(packed) != table.at[self._runs[last]] - base:
            table.corrupt(f"{len(packed)} bytes where {table.at[self._runs[last]] - base} must be",
                          base)
        view = memoryview(packed)
        for run in range(first, last):
            begin, end = self._runs[run], self._runs[run + 1]
            part = view[table.at[begin] - base:table.at[end] - base]
            try:
                raw = table.decompress(part, begin, end)
            except ObjectCorrupt as error:
                out.append(error)
            else:
                out.append(Window(raw, table.entries[begin].raw_position))
        return out

    def cut(self, uint64_t position, list runs not None):
        """The bytes from a raw position on.

        Args:
            position: In the first of the runs.
            runs: Windows of runs that follow each other; several are copied into one.

        Returns:
            A `Window` that begins at `position`.
        """
        cdef Window run = runs[0]
        if len(runs) > 1:
            run = Window(b"".join(runs), run.start)
        return make_window(run.data + (position - run.start), position, run.end - position, run)

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
        span = self.runs_of(position, bytes_min)
        if span is None:
            return None
        runs = self.read(*span)
        for run in runs:
            if not isinstance(run, Window):
                raise run
        return self.cut(position, runs)

    def close(self):
        """Give up `fetch`; windows given out stay valid. Again is harmless."""
        self._fetch = None


def open_warm(Directory directory not None, str name not None, table_bytes=None):
    """Open a warm file for reading; it stays readable after its name has gone.

    Args:
        directory: Where it is.
        name: Its file name.
        table_bytes: From the manifest; None takes it from the end of the file.

    Returns:
        A `CompressedSegment`. `OSError` when the file cannot be opened or read, else as there.
    """
    ranges, file_bytes, path = open_ranges(directory, name)
    return CompressedSegment(ranges, file_bytes, table_bytes or 0, path=path)
