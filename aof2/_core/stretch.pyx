"""Reading a file from front to back: what the page cache has from there, the rest past it.

A file that was written past the page cache is not in it; reading it through the cache would copy
all of it once more, and drive out what others have there. The memory is used again for each
stretch, so that it stays in the processor's cache.
"""

import os

from libc.errno cimport EINVAL, ENOMEM
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free

from aof2._core.direct cimport direct_memory, direct_open, is_cached
from aof2._core.directory cimport Directory
from aof2._core.layout cimport PAGE_BYTES
from aof2._core.posix cimport sys_close, sys_pread


cdef class StretchReader:
    """Reads one file.

    Args:
        directory, name: The file, which may lose its name afterwards. `OSError` when it cannot be
            opened.
    """

    def __cinit__(self):
        self._fd = self._direct_fd = -1

    def __init__(self, Directory directory not None, str name not None):
        self._fd = directory.open_file(name)
        self._direct_fd = direct_open(directory, name, False)

    def __dealloc__(self):
        # Of a file without a name this gives the pages back, which takes milliseconds.
        with nogil:
            sys_close(self._fd)
            sys_close(self._direct_fd)
        free(self._memory)

    cdef StretchReader twin(self):
        cdef StretchReader other = StretchReader.__new__(StretchReader)
        other._fd = os.dup(self._fd)
        if self._direct_fd >= 0:
            other._direct_fd = os.dup(self._direct_fd)
        return other

    cdef const uint8_t *read(
        self, uint64_t position, uint64_t n, uint64_t *got, int *error
    ) noexcept nogil:
        cdef uint64_t inside = position & (PAGE_BYTES - 1)
        cdef uint64_t wanted = (inside + n + PAGE_BYTES - 1) & ~(<uint64_t> PAGE_BYTES - 1)
        cdef size_t read = 0
        got[0] = 0
        if self._room < wanted:
            free(self._memory)
            self._memory = direct_memory(wanted)
            self._room = 0 if self._memory == NULL else wanted
        if self._memory == NULL:
            error[0] = ENOMEM
            return NULL
        error[0] = EINVAL
        if self._direct_fd >= 0 and not is_cached(self._fd, position - inside, wanted):
            error[0] = sys_pread(self._direct_fd, self._memory, wanted, position - inside, &read)
            # Behind the end of the file, the next read is at no block's border.
            if error[0] == EINVAL and read > 0:
                error[0] = 0
            read = read - inside if read > inside else 0
        if error[0] == EINVAL:
            # It is cached, or this file system has no other reads after all.
            error[0] = sys_pread(self._fd, self._memory + inside, n, position, &read)
        if error[0]:
            return NULL
        got[0] = min(<uint64_t> read, n)
        return self._memory + inside
