"""The one seam between the library and the operating system: files, mappings, time, randomness.

Files are opened relative to a held directory descriptor, without following links, and must be
regular; they are created for the owner alone (0600, directories 0700).
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
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
    #include <sys/file.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <time.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/random.h>
    #include <sys/resource.h>
    #include <sys/syscall.h>
    #include <sys/vfs.h>
    #else
    #include <sys/mount.h>
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
        if (madvise((void *)start, length, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) return 0;
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

    static int aof2_is_regular(int fd) {
        struct stat info;
        return fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    }

    static int aof2_same_inode(int fd, int dirfd, const char *name) {
        struct stat a, b;
        return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0
            && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
    }

    static int64_t aof2_system_now(void *context) {
        struct timespec now;
        (void)context;
        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }

    static long aof2_fs_type(int fd) {
        struct statfs info;
        return fstatfs(fd, &info) == 0 ? (long)info.f_type : -1;
    }
    """
    int aof2_fdatasync(int fd)
    int aof2_fallocate(int fd, uint64_t n)
    int aof2_random(void *data, size_t n)
    int aof2_populate(void *address, size_t n, int writable)
    int aof2_start_writeback(int fd, uint64_t position, uint64_t n)
    int aof2_lower_priority()
    int aof2_is_regular(int fd)
    int aof2_same_inode(int fd, int dirfd, const char *name)
    int64_t aof2_system_now(void *context)
    long aof2_fs_type(int fd)
    ssize_t c_pwrite "pwrite"(int fd, const void *data, size_t n, int64_t position)
    ssize_t c_pread "pread"(int fd, void *data, size_t n, int64_t position)
    int c_close "close"(int fd)
    int c_fsync "fsync"(int fd)
    int c_ftruncate "ftruncate"(int fd, int64_t n)
    int c_openat "openat"(int dirfd, const char *name, int flags, int mode)
    int c_renameat "renameat"(int a, const char *old, int b, const char *new)
    int c_unlinkat "unlinkat"(int dirfd, const char *name, int flags)
    int c_mkdirat "mkdirat"(int dirfd, const char *name, int mode)
    int c_flock "flock"(int fd, int operation)
    void *c_mmap "mmap"(void *at, size_t n, int protection, int flags, int fd, int64_t position)
    int c_munmap "munmap"(void *at, size_t n)
    int O_RDONLY, O_CLOEXEC, O_NOFOLLOW, O_DIRECTORY, AT_REMOVEDIR
    int O_NONBLOCK
    int LOCK_EX, LOCK_NB
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_FIXED
    void *MAP_FAILED

OP_NAMES = (
    "open", "pread", "pwrite", "fdatasync", "fsync_dir", "rename", "unlink", "mkdir", "rmdir",
    "fallocate", "ftruncate", "mmap", "madvise", "store", "random", "writeback",
)

# statfs types of file systems on which flock, mmap or fdatasync cannot be relied on.
_NETWORK_FILE_SYSTEMS = {
    0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x517B: "smb", 0x01021997: "9p",
    0x00C36400: "ceph", 0x47504653: "gpfs", 0x0BD00BD0: "lustre", 0x65735546: "fuse",
}

seam_hook = NULL
cdef object _python_hook = None


cdef int _call_python_hook(
    int op, int fd, const char *name, uint64_t position, const void *data, size_t n
) noexcept nogil:
    with gil:
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


def set_seam_hook(hook):
    """Install (or with None remove) a callable that sees every call to the operating system.

    Args:
        hook: `hook(op, fd, name, position, data, n)`; `op` is one of `OP_NAMES`. It returns None or 0
            to let the call pass, an errno to make it fail, or `-k` to let only `k` bytes of a write
            pass. It may be called from threads of the core.

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


cdef int sys_fdatasync(int fd) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_FDATASYNC, fd, NULL, 0, NULL, 0)
        if answer > 0:
            return answer
    while aof2_fdatasync(fd) != 0:
        if errno != EINTR:
            return errno
    return 0


cdef int sys_start_writeback(int fd, uint64_t position, uint64_t n) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_WRITEBACK, fd, NULL, position, NULL, n)
        if answer > 0:
            return answer
    return aof2_start_writeback(fd, position, n)


cdef int sys_write_check(int fd) noexcept nogil:
    # A file system that shut down while fdatasync ran reports success there, but not here.
    cdef int answer
    cdef char nothing = 0
    if seam_hook != NULL:
        answer = seam_hook(OP_PWRITE, fd, NULL, 0, NULL, 0)
        if answer > 0:
            return answer
    return errno if c_pwrite(fd, &nothing, 0, 0) < 0 else 0


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


cdef int sys_openat(int dirfd, const char *name, int flags, int *fd) noexcept nogil:
    cdef int answer
    if seam_hook != NULL:
        answer = seam_hook(OP_OPEN, dirfd, name, 0, NULL, 0)
        if answer > 0:
            return answer
    while True:
        fd[0] = c_openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if fd[0] >= 0:
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


cdef int _named(int op, int dirfd, bytes name) except -1:
    """Ask the hook about a call on a name; the errno it wants, or 0."""
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
    """Let the calling thread run only when threads of ordinary priority leave time (Linux: nice 10)."""
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


# --- time -------------------------------------------------------------------------------------


cdef class TimeSource:
    """A clock that is handed to the core: one C function that returns nanoseconds since 1970.

    The base class is the system's real-time clock.

    Example:
        >>> TimeSource().now_ns() > 0
        True
    """

    def __cinit__(self):
        self.now = aof2_system_now
        self.context = NULL

    def now_ns(self):
        """Nanoseconds since 1970-01-01 UTC."""
        return self.now(self.context)


cdef int64_t _manual_now(void *context) noexcept nogil:
    return (<int64_t *> context)[0]


cdef class ManualTime(TimeSource):
    """A clock that stands still until a test moves it.

    Example:
        >>> clock = ManualTime(5); clock.set_ns(7); clock.now_ns()
        7
    """

    def __init__(self, int64_t value_ns=0):
        self._value = value_ns
        self.now = _manual_now
        self.context = &self._value

    def set_ns(self, int64_t value_ns):
        """Set the time to `value_ns`."""
        self._value = value_ns


# --- directories ------------------------------------------------------------------------------


cdef class LockFile:
    """An exclusive `flock` on a file; released by `close` or by the end of the process."""

    def __cinit__(self):
        self._fd = -1

    def close(self):
        """Release the lock; again is harmless."""
        sys_close(self._fd)
        self._fd = -1

    def __dealloc__(self):
        sys_close(self._fd)


cdef class Directory:
    """A held directory; every name given to its methods is relative to it and never a link.

    Args:
        path: The directory.
        create: Make it, with its parents, when it is missing.

    Errors are `OSError` with the full path; the callers of the core turn them into the library's.
    """

    def __cinit__(self):
        self.fd = -1

    def __init__(self, path, *, bint create=False):
        self.path = os.fspath(path)
        if create:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
        check_errno(_named(OP_OPEN, -1, os.fsencode(self.path)), "open directory", self.path)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __dealloc__(self):
        sys_close(self.fd)

    def __repr__(self):
        return f"Directory({self.path!r})"

    cdef int _check_open(self) except -1:
        if self.fd < 0:
            raise ValueError(f"directory {self.path} is closed")
        return 0

    def close(self):
        """Give the descriptor back; again is harmless."""
        sys_close(self.fd)
        self.fd = -1

    def join(self, str name):
        """The full path of `name`, for messages."""
        return os.path.join(self.path, name)

    cdef int open_file(self, str name, bint writable=False, bint create=False) except -1:
        cdef bytes raw = os.fsencode(name)
        cdef int flags = O_RDWR if writable else O_RDONLY
        cdef int fd = -1
        self._check_open()
        if create:
            flags |= O_CREAT | O_EXCL
        # O_NONBLOCK: a pipe planted under the name must not hang the open; it has no effect on files.
        check_errno(
            sys_openat(self.fd, raw, flags | O_NONBLOCK, &fd), "open", self.join(name)
        )
        if not aof2_is_regular(fd):
            sys_close(fd)
            raise OSError(22, "not a regular file", self.join(name))
        return fd

    def subdir(self, str name, *, bint create=False):
        """The directory `name` below this one; it must not be a link.

        Args:
            create: Make it when it is missing, and sync this directory.
        """
        cdef int error
        self._check_open()
        if create and not self.exists(name):
            check_errno(_named(OP_MKDIR, self.fd, os.fsencode(name)), "mkdir", self.join(name))
            error = c_mkdirat(self.fd, os.fsencode(name), 0o700)
            check_errno(errno if error else 0, "mkdir", self.join(name))
            self.sync()
        cdef Directory child = Directory.__new__(Directory)
        child.path = self.join(name)
        check_errno(
            sys_openat(self.fd, os.fsencode(name), O_RDONLY | O_DIRECTORY, &child.fd),
            "open directory", child.path,
        )
        return child

    def names(self):
        """Names of the entries, sorted."""
        self._check_open()
        return sorted(os.listdir(self.fd))

    def exists(self, str name):
        """Whether there is an entry of that name, of any type."""
        self._check_open()
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def size(self, str name):
        """Size of a file in bytes; `FileNotFoundError` when there is none."""
        self._check_open()
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size

    def inode(self, str name):
        """Inode number of an entry, to see whether a name was given to another file."""
        self._check_open()
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_ino

    def read(self, str name, size_t limit=1 << 20):
        """Contents of a small file; `OSError` when it is larger than `limit` bytes."""
        cdef size_t got = 0
        cdef bytes out
        cdef int fd = self.open_file(name)
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise OSError(27, f"{size} bytes, expected at most {limit}", self.join(name))
            out = PyBytes_FromStringAndSize(NULL, size)
            check_errno(
                sys_pread(fd, PyBytes_AS_STRING(out), size, 0, &got), "read", self.join(name)
            )
            return out[:got]
        finally:
            sys_close(fd)

    def create(self, str name, data):
        """Write a new file and sync it; the name itself is durable only after `sync`.

        Args:
            name: Must not exist yet.
            data: Bytes-like contents.

        A failure leaves no file behind.
        """
        cdef Py_buffer view
        cdef int fd = self.open_file(name, True, True)
        cdef int error
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                error = sys_pwrite(fd, view.buf, view.len, 0)
                if error == 0:
                    error = sys_fdatasync(fd)
            if error:
                self.unlink(name)
                check_errno(error, "write", self.join(name))
        finally:
            PyBuffer_Release(&view)
            sys_close(fd)

    def replace(self, str name, data):
        """Replace a small file as a whole: temp, sync, rename, sync of the directory."""
        temporary = f".tmp-{name}"
        self.unlink(temporary, missing_ok=True)
        self.create(temporary, data)
        self.rename(temporary, name)
        self.sync()

    def rename(self, str old, str new, Directory target=None):
        """Rename an entry, within this directory or into `target`; durable only after `sync`."""
        cdef Directory into = self if target is None else target
        cdef int error
        self._check_open()
        into._check_open()
        check_errno(_named(OP_RENAME, self.fd, os.fsencode(new)), "rename", self.join(old))
        error = c_renameat(self.fd, os.fsencode(old), into.fd, os.fsencode(new))
        check_errno(errno if error else 0, "rename", self.join(old))

    def unlink(self, str name, *, bint missing_ok=False):
        """Remove a file's name."""
        cdef int error
        self._check_open()
        error = sys_unlink(self.fd, os.fsencode(name))
        if not (missing_ok and error == ENOENT):
            check_errno(error, "unlink", self.join(name))

    def rmdir(self, str name):
        """Remove an empty directory."""
        cdef int error
        self._check_open()
        check_errno(_named(OP_RMDIR, self.fd, os.fsencode(name)), "rmdir", self.join(name))
        error = c_unlinkat(self.fd, os.fsencode(name), AT_REMOVEDIR)
        check_errno(errno if error else 0, "rmdir", self.join(name))

    def sync(self):
        """Make the names in this directory durable."""
        cdef int error
        self._check_open()
        check_errno(_named(OP_FSYNC_DIR, self.fd, b"."), "sync directory", self.path)
        with nogil:
            error = c_fsync(self.fd)
        check_errno(errno if error else 0, "sync directory", self.path)

    def lock(self, str name, bytes text):
        """Take the exclusive lock of this directory.

        Args:
            name: The lock file; made when missing, never removed.
            text: Written into it for whoever finds it taken.

        Returns:
            A `LockFile`. `BlockingIOError` when another process (or handle) holds it.
        """
        cdef LockFile lock = LockFile.__new__(LockFile)
        cdef int error
        self._check_open()
        while True:
            check_errno(
                sys_openat(self.fd, os.fsencode(name), O_RDWR | O_CREAT, &lock._fd),
                "open", self.join(name),
            )
            if c_flock(lock._fd, LOCK_EX | LOCK_NB) != 0:
                error = errno
                lock.close()
                check_errno(error, "lock", self.join(name))
            # Someone may have replaced the file between the open and the lock.
            if aof2_same_inode(lock._fd, self.fd, os.fsencode(name)):
                break
            lock.close()
        check_errno(sys_ftruncate(lock._fd, 0), "write", self.join(name))
        check_errno(
            sys_pwrite(lock._fd, <const char *> text, len(text), 0), "write", self.join(name)
        )
        return lock

    def network_file_system(self):
        """Name of the network file system this directory is on, or None on a local one."""
        return _NETWORK_FILE_SYSTEMS.get(aof2_fs_type(self.fd) & 0xFFFFFFFF)
