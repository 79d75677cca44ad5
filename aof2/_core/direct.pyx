"""Reading and writing files past the page cache, in whole blocks.

For sustained ingest: nothing is copied into the page cache, so nothing has to be written back from
there, and what others have in it stays. A page that a reader of the same file has mapped is dropped
by the system when it is written this way, and read again at the next touch (open(2), O_DIRECT), so
mapped readers see each byte as soon as it counts as written.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from aof2._core.directory cimport Directory
from aof2._core.layout cimport PAGE_BYTES
from aof2._core.posix cimport seam_hook, sys_close, sys_pwrite

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <fcntl.h>
    #include <stdint.h>
    #include <stdlib.h>
    #ifdef __linux__
    #include <sys/syscall.h>
    #include <unistd.h>
    #endif

    static int aof2_past_cache(int fd, int wanted) {
    #ifdef O_DIRECT
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0) return 0;
        return fcntl(fd, F_SETFL, wanted ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
    #elif defined(F_NOCACHE)
        return fcntl(fd, F_NOCACHE, wanted) == 0;
    #else
        (void)fd; (void)wanted;
        return 0;
    #endif
    }

    /* Asks `cachestat` (Linux 6.5). RWF_NOWAIT would begin to read what is not there. */
    static int aof2_is_cached(int fd, uint64_t position, uint64_t n) {
    #ifdef __linux__
        struct { uint64_t off, len; } range = {position, n};
        struct { uint64_t cached, rest[4]; } found;
        if (syscall(451, fd, &range, &found, 0) != 0) return 1;
        return found.cached * 4096 >= n;
    #else
        (void)fd; (void)position; (void)n;
        return 1;
    #endif
    }

    static void *aof2_blocks(size_t alignment, size_t n) {
        void *at = NULL;
        return posix_memalign(&at, alignment, n) == 0 ? at : NULL;
    }
    """
    int aof2_past_cache(int fd, int wanted)
    bint aof2_is_cached(int fd, uint64_t position, uint64_t n)
    void *aof2_blocks(size_t alignment, size_t n)


cdef bint past_cache(int fd, bint wanted) noexcept nogil:
    return aof2_past_cache(fd, wanted)


cdef int direct_open(Directory directory, str name, bint writable) except -2:
    cdef int fd = directory.open_file(name, writable)
    if not past_cache(fd, True):
        sys_close(fd)
        return -1
    return fd


cdef bint is_cached(int fd, uint64_t position, uint64_t n) noexcept nogil:
    # Whoever watches the calls sees one kind of read, wherever the bytes are.
    return seam_hook != NULL or aof2_is_cached(fd, position, n)


cdef uint8_t *direct_memory(uint64_t n) noexcept nogil:
    return <uint8_t *> aof2_blocks(PAGE_BYTES, n)


cdef int direct_write(
    int fd, uint8_t *block, const uint8_t *data, uint64_t position, uint64_t n, bint last,
    uint64_t *done
) noexcept nogil:
    cdef uint64_t inside = position & (PAGE_BYTES - 1)
    cdef uint64_t part = min(n, PAGE_BYTES - inside)
    cdef int error
    done[0] = 0
    if inside == 0 and n >= PAGE_BYTES:
        part = n & ~(<uint64_t> PAGE_BYTES - 1)
        error = sys_pwrite(fd, data, part, position)
    elif inside + part == PAGE_BYTES or last:
        memcpy(block + inside, data, part)
        memset(block + inside + part, 0, PAGE_BYTES - inside - part)
        error = sys_pwrite(fd, block, PAGE_BYTES, position - inside)
    else:
        return 0
    if error == 0:
        done[0] = part
    return error
