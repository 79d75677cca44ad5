"""Reading a file from the device instead of the page cache, to see whether it still can be read."""

import os

from libc.errno cimport EINVAL
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free

from aof2._core.checksum cimport crc64
from aof2._core.direct cimport direct_memory, past_cache
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_pread
from aof2._core.seal cimport FooterInfo

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <fcntl.h>
    #include <stdlib.h>
    #include <stdint.h>

    static void aof2_drop_pages(int fd, uint64_t position, uint64_t n) {
    #ifdef POSIX_FADV_DONTNEED
        posix_fadvise(fd, (off_t)position, (off_t)n, POSIX_FADV_DONTNEED);
    #else
        (void)fd; (void)position; (void)n;
    #endif
    }
    """
    void aof2_drop_pages(int fd, uint64_t position, uint64_t n)

cdef enum:
    PIECE = 1 << 20

PIECE_BYTES = PIECE
"""Read at a time; a multiple of every block size, as reads past the cache need it."""


cdef class MediumReader:
    """Reads a file piece by piece from its device, and sums it up.

    Args:
        directory, name: The file.
        footer: Of a sealed file: `crc64` then covers what its `before_crc64` does.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> directory = Directory(folder.name)
        >>> directory.create("a", b"123456789")
        >>> reader = MediumReader(directory, "a")
        >>> reader.read(), reader.read(), hex(reader.crc64)
        (9, 0, '0xae8b14860a799888')
        >>> folder.cleanup()
    """

    def __cinit__(self):
        self._fd = -1

    def __init__(self, Directory directory not None, str name not None, FooterInfo footer=None):
        self.path = directory.join(name)
        self._fd = directory.open_file(name)
        self.size = os.fstat(self._fd).st_size
        self._end = self.size if footer is None else footer.position
        self._buffer = direct_memory(PIECE)
        if self._buffer == NULL:
            raise MemoryError("read buffer")
        past_cache(self._fd, True)

    def __dealloc__(self):
        sys_close(self._fd)
        free(self._buffer)

    def close(self):
        """Give the descriptor back; again is harmless."""
        sys_close(self._fd)
        self._fd = -1

    def read(self):
        """Read the next piece.

        Returns:
            Its length in bytes, at most `PIECE_BYTES`; 0 at the end of the file. `OSError` with the
            path when the device cannot give it.
        """
        cdef size_t got = 0
        cdef uint64_t counted
        cdef int error
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        if self._position >= self.size:
            return 0
        with nogil:
            aof2_drop_pages(self._fd, self._position, PIECE)
            error = sys_pread(self._fd, self._buffer, PIECE, self._position, &got)
            # Behind a last block that is not full, the next read is at no block's border.
            if error == EINVAL and self._position + got >= self.size:
                error = 0
            elif error == EINVAL:
                # This file system has no reads past the cache after all.
                past_cache(self._fd, False)
                error = sys_pread(self._fd, self._buffer, PIECE, self._position, &got)
            if error == 0:
                counted = 0
                if self._end > self._position:
                    counted = min(<uint64_t> got, self._end - self._position)
                self.crc64 = crc64(self.crc64, self._buffer, counted)
                aof2_drop_pages(self._fd, self._position, PIECE)
        check_errno(error, "read from the device", self.path)
        self._position += got
        return got
