"""A whole file, mapped for reading: it can be sent on without a copy of it in memory."""

import os

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint64_t

from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_map, sys_populate, sys_unmap


cdef class FileMap:
    """The bytes of a file below a directory, through the buffer protocol.

    Args:
        directory, name: The file; it must not shrink while it is mapped.

    The medium is read here, so that a bad one is an `OSError` and not a signal later.
    """

    def __init__(self, Directory directory not None, str name not None):
        cdef int fd = directory.open_file(name)
        cdef int error
        try:
            self._bytes = os.fstat(fd).st_size
            if self._bytes:
                check_errno(sys_map(fd, self._bytes, 0, False, NULL, &self._address), "map",
                            directory.join(name))
                with nogil:
                    error = sys_populate(self._address, self._bytes, False)
                check_errno(error, "read", directory.join(name))
        finally:
            sys_close(fd)

    def __dealloc__(self):
        if self._address != NULL:
            # Of a file without a name this gives the pages back, which takes milliseconds.
            with nogil:
                sys_unmap(self._address, self._bytes)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._address, <Py_ssize_t> self._bytes, 1, flags)

    def __len__(self):
        return self._bytes
