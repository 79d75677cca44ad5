"""Ranges of a `.seg.zst` file through a held descriptor."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from aof2._core.compressed_table cimport (
    SEEK_FOOT_BYTES,
    TABLE_BASE_BYTES,
    WarmTable,
    check_table_bytes,
    parse_table,
    tables_bytes,
)
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_pread

from aof2.errors import ObjectCorrupt


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
    check_table_bytes(file_bytes, table_bytes, path)
    return parse_table(
        read_range(fd, path, file_bytes - table_bytes, file_bytes), file_bytes, path
    )


cdef class _FileRanges:
    """Ranges of a file through a held descriptor, so that they stay readable after an unlink."""

    cdef int _fd
    cdef str _path

    def __cinit__(self):
        self._fd = -1

    def __dealloc__(self):
        # Of a file without a name this gives the pages back, which takes milliseconds.
        with nogil:
            sys_close(self._fd)

    def __call__(self, uint64_t start, uint64_t end):
        return read_range(self._fd, self._path, start, end)


cdef tuple open_ranges(Directory directory, str name):
    cdef _FileRanges ranges = _FileRanges()
    ranges._path = directory.join(name)
    ranges._fd = directory.open_file(name)
    return ranges, file_size(ranges._fd), ranges._path
