"""The one seam between the library and the operating system: every call, in one place, can be
watched."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, EIO, ENOENT, errno
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <errno.h>
    #include <fcntl.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/random.h>
    #include <sys/resource.h>
    #include <sys/syscall.h>
    #endif
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif

    static int aof2_fdatasync(int fd) {
    #ifdef __APPLE__
        return fcntl(fd, F_FULLFSYNC);
    #else
        return fdatasync(fd);
    #endif
    }

    static int aof2_fallocate(int fd, uint64_t n) {
    #ifdef __APPLE__
        fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, (off_t)n, 0};
        if (fcntl(fd, F_PREALLOCATE, &store) == -1) return errno;
        return ftruncate(fd, (off_t)n) == -1 ? errno : 0;
    #else
        return posix_fallocate(fd, 0, (off_t)n);
    #endif
    }

    static int aof2_random(void *data, size_t n) {
    #ifdef __linux__
        unsigned char *at = data;
        while (n) {
            ssize_t got = getrandom(at, n, 0);
            if (got < 0) { if (errno == EINTR) continue; return errno; }
            at += got; n -= (size_t)got;
        }
    #else
        arc4random_buf(data, n);
    #endif
        return 0;
    }

    /* A touch of every page stands in where the kernel is too old for MADV_POPULATE_*. */
    static int aof2_populate(void *address, size_t n, int writable) {
    #ifdef __linux__
        uintptr_t start = (uintptr_t)address & ~(uintptr_t)4095;
        size_t length = n + ((uintptr_t)address - start);
        int advice = writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
        if (madvise((void *)start, length, advice) == 0) return 0;
        if (errno != EINVAL) return errno;
    #endif
        for (size_t i = 0; i < n; i += 4096) {
            volatile unsigned char *page = (volatile unsigned char *)address + i;
            if (writable) *page = *page; else (void)*page;
        }
        return 0;
    }

    static int aof2_start_writeback(int fd, uint64_t position, uint64_t n) {
    #ifdef __linux__
        return sync_file_range(fd, (off_t)position, (off_t)n, SYNC_FILE_RANGE_WRITE) ? errno : 0;
    #else
        (void)fd; (void)position; (void)n;
        return 0;
    #endif
    }

    static int aof2_lower_priority(void) {
    #ifdef __linux__
        return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10) ? errno : 0;
    #else
        return 0;
    #endif
    }



    static int64_t aof2_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    """
    int64_t aof2_now()
    int aof2_fdatasync(int fd)
    int aof2_fallocate(int fd, uint64_t n)
    int aof2_random(void *data, size_t n)
    int aof2_populate(void *address, size_t n, int writable)
    int aof2_start_writeback(int fd, uint64_t position, uint64_t n)
    int aof2_lower_priority()
    ssize_t c_pwrite "pwrite"(int fd, const void *data, size_t n, int64_t position)
    ssize_t c_pread "pread"(int fd, void *data, size_t n, int64_t position)
    int c_close "close"(int fd)
    int c_ftruncate "ftruncate"(int fd, int64_t n)
    int c_openat "openat"(int dirfd, const char *name, int flags, int mode)
    int c_unlinkat "unlinkat"(int dirfd, const char *name, int flags)
    void *c_mmap "mmap"(void *at, size_t n, int protection, int flags, int fd, int64_t position)
    int c_munmap "munmap"(void *at, size_t n)
    int O_CLOEXEC, O_NOFOLLOW
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_FIXED
    void *MAP_FAILED

OP_NAMES = (
    "open", "pread", "pwrite", "fdatasync", "fsync_dir", "rename", "unlink", "mkdir", "rmdir",
    "fallocate", "ftruncate", "mmap", "madvise", "store", "random", "writeback",
)

seam_hook = NULL
cdef object _python_hook = None


cdef int _ask_python(
    int op, int fd, const char *name, uint64_t position, const void *data, size_t n
) noexcept with gil:
    hook = _python_hook
    if hook is None:
        return 0
    try:
        text = None if name == NULL else os.fsdecode(<bytes> name)
        contents = None
        if data != NULL and op in (OP_PWRITE, OP_STORE):
            contents = PyBytes_FromStringAndSize(<const char *> data, n)
        answer = hook(OP_NAMES[op], fd, text, position, contents, n)
        return 0 if answer is None else <int> answer
    except BaseException as error:
        # A hook that breaks must not go unnoticed, and nothing can be raised from here.
        print(f"seam hook failed: {error!r}")
        return EIO


cdef int _call_python_hook(
    int op, int fd, const char *name, uint64_t position, const void *data, size_t n
) noexcept nogil:
    # A function of its own: whoever tells of these may hold a lock, and must not wait for the GIL.
    return 0 if op >= OP_CREATED else _ask_python(op, fd, name, position, data, n)


def set_seam_hook(hook):
    """Install (or with None remove) a callable that sees every call to the operating system.

    Args:
        hook: `hook(op, fd, name, position, data, n)`; `op` is one of `OP_NAMES`. It returns None or
            0 to let the call pass, an errno to make it fail, or `-k` to let only `k` bytes of a
            write pass. It may be called from threads of the core.

    Returns:
        The hook that was installed before, or None. One hook serves the whole process.
    """
    global _python_hook, seam_hook
    previous = _python_hook
    _python_hook = hook
    if hook is None:
        seam_hook = NULL
    else:
        seam_hook = _call_python_hook
    return previous


# --- calls ------------------------------------------------------------------------------------


cdef int sys_pwrite(int fd, const void *data, size_t n, uint64_t position) noexcept nogil:
    cdef const char *at = <const char *> data
    cdef ssize_t done
    cdef size_t part = n
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_PWRITE, fd, NULL, position, data, n)
        if answer > 0:
            return answer
        if answer < 0:
            part = min(n, <size_t> -answer)
    while n:
        done = c_pwrite(fd, at, min(n, part), <int64_t> position)
        if done < 0:
            if errno == EINTR:
                continue
            return errno
        if done == 0:
            return EIO
        at += done
        n -= done
        position += done
        part = n
    return 0


cdef int sys_pread(int fd, void *data, size_t n, uint64_t position, size_t *got) noexcept nogil:
    cdef char *at = <char *> data
    cdef ssize_t done
    cdef int answer
    got[0] = 0
    if seam_hook != NULL:
        answer = seam_hook(OP_PREAD, fd, NULL, position, NULL, n)
        if answer > 0:
            return answer
    while n:
        done = c_pread(fd, at, n, <int64_t> position)
        if done < 0:
            if errno == EINTR:
                continue
            return errno
        if done == 0:
            break
        at += done
        n -= done
        position += done
        got[0] += done
    return 0


cdef int _write_nothing(int fd) noexcept nogil:
    # A file system that shut down while fdatasync ran reports success there, but not here.
    cdef int answer
    cdef char nothing = 0
    if seam_hook != NULL:
        answer = seam_hook(OP_PWRITE, fd, NULL, 0, NULL, 0)
        if answer > 0:
            return answer
    return errno if c_pwrite(fd, &nothing, 0, 0) < 0 else 0


cdef int sys_fdatasync(int fd) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_FDATASYNC, fd, NULL, 0, NULL, 0)
        if answer > 0:
            return answer
    while aof2_fdatasync(fd) != 0:
        if errno != EINTR:
            return errno
    return _write_nothing(fd)


cdef int sys_start_writeback(int fd, uint64_t position, uint64_t n) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_WRITEBACK, fd, NULL, position, NULL, n)
        if answer > 0:
            return answer
    return aof2_start_writeback(fd, position, n)


cdef int sys_fallocate(int fd, uint64_t n) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_FALLOCATE, fd, NULL, 0, NULL, n)
        if answer > 0:
            return answer
    return aof2_fallocate(fd, n)


cdef int sys_ftruncate(int fd, uint64_t n) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_FTRUNCATE, fd, NULL, n, NULL, 0)
        if answer > 0:
            return answer
    return errno if c_ftruncate(fd, <int64_t> n) != 0 else 0


cdef int sys_map(
    int fd, uint64_t n, uint64_t position, bint writable, void *at, void **address
) noexcept nogil:
    cdef int answer
    cdef void *result
    if seam_hook != NULL:
        answer = seam_hook(OP_MMAP, fd, NULL, position, NULL, n)
        if answer > 0:
            return answer
    result = c_mmap(
        at, n, PROT_READ | (PROT_WRITE if writable else 0),
        MAP_SHARED | (MAP_FIXED if at != NULL else 0), fd, <int64_t> position,
    )
    if result == MAP_FAILED:
        return errno
    address[0] = result
    if seam_hook != NULL and writable:
        seam_hook(OP_MAPPED, fd, NULL, position, result, n)
    return 0


cdef void sys_unmap(void *address, size_t n) noexcept nogil:
    c_munmap(address, n)


cdef int sys_populate(void *address, size_t n, bint writable) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_MADVISE, -1, NULL, 0, NULL, n)
        if answer > 0:
            return answer
    return aof2_populate(address, n, writable)


cdef int sys_random(void *data, size_t n) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_RANDOM, -1, NULL, 0, NULL, n)
        if answer > 0:
            return answer
    return aof2_random(data, n)


cdef int64_t sys_now(void *context) noexcept nogil:
    return aof2_now()


cdef int sys_openat(int dirfd, const char *name, int flags, int *fd) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_OPEN, dirfd, name, 0, NULL, 0)
        if answer > 0:
            return answer
    while True:
        fd[0] = c_openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if fd[0] >= 0:
            if seam_hook != NULL and flags & O_CREAT:
                seam_hook(OP_CREATED, fd[0], name, <uint64_t> dirfd, NULL, 0)
            return 0
        if errno != EINTR:
            return errno


cdef int sys_unlink(int dirfd, const char *name) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_UNLINK, dirfd, name, 0, NULL, 0)
        if answer > 0:
            return answer
    return errno if c_unlinkat(dirfd, name, 0) != 0 else 0


cdef void sys_close(int fd) noexcept nogil:
    if fd >= 0:
        c_close(fd)


cdef int sys_named(int op, int dirfd, const char *name) noexcept nogil:
    cdef int answer = 0
    if seam_hook != NULL:
        answer = seam_hook(op, dirfd, name, 0, NULL, 0)
    return answer if answer > 0 else 0


cdef int check_errno(int error, str doing, object path) except -1:
    """Raise the `OSError` that `error` stands for; 0 passes."""
    if error:
        raise OSError(error, f"{os.strerror(error)} ({doing})", path)
    return 0


def lower_thread_priority():
    """Let the calling thread run only when threads of ordinary priority leave time (Linux: nice
    10)."""
    check_errno(aof2_lower_priority(), "lower a thread's priority", None)


def random_bytes(size_t n):
    """`n` bytes from the operating system's random source."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
    check_errno(sys_random(PyBytes_AS_STRING(out), n), "draw random bytes", None)
    return out


def random_u64():
    """A random 64-bit number, never 0."""
    cdef uint64_t value = 0
    while value == 0:
        check_errno(sys_random(&value, 8), "draw random bytes", None)
    return value
