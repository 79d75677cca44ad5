"""Directories that are held open, and the files below them.

Files are opened relative to a held directory descriptor, without following links, and must be
regular; they are created for the owner alone (0600, directories 0700).
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EDQUOT, EINTR, ENOENT, ENOSPC, errno
from libc.stdint cimport uint64_t

from aof2._core.posix cimport (
    O_CREAT,
    O_EXCL,
    O_RDWR,
    OP_CREATED,
    OP_FSYNC_DIR,
    OP_MKDIR,
    OP_OPEN,
    OP_RENAME,
    OP_RMDIR,
    check_errno,
    seam_hook,
    sys_close,
    sys_fdatasync,
    sys_ftruncate,
    sys_named,
    sys_openat,
    sys_pread,
    sys_pwrite,
    sys_unlink,
)
from aof2.errors import Closed

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <fcntl.h>
    #include <stdio.h>
    #include <sys/file.h>
    #include <sys/stat.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/vfs.h>
    #else
    #include <sys/mount.h>
    #endif

    static int aof2_is_regular(int fd) {
        struct stat info;
        return fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    }

    static int aof2_same_inode(int fd, int dirfd, const char *name) {
        struct stat a, b;
        return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0
            && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
    }

    static long aof2_fs_type(int fd) {
        struct statfs info;
        return fstatfs(fd, &info) == 0 ? (long)info.f_type : -1;
    }
    """
    int aof2_is_regular(int fd)
    int aof2_same_inode(int fd, int dirfd, const char *name)
    long aof2_fs_type(int fd)
    int c_fsync "fsync"(int fd)
    int c_renameat "renameat"(int a, const char *old, int b, const char *new)
    int c_unlinkat "unlinkat"(int dirfd, const char *name, int flags)
    int c_mkdirat "mkdirat"(int dirfd, const char *name, int mode)
    int c_flock "flock"(int fd, int operation)
    int O_RDONLY, O_DIRECTORY, O_NONBLOCK, AT_REMOVEDIR
    int LOCK_EX, LOCK_NB, LOCK_UN
    int c_getpid "getpid"()

# statfs types of file systems on which flock, mmap or fdatasync cannot be relied on.
_NETWORK_FILE_SYSTEMS = {
    0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x517B: "smb", 0x01021997: "9p",
    0x00C36400: "ceph", 0x47504653: "gpfs", 0x0BD00BD0: "lustre", 0x65735546: "fuse",
}


cdef class LockFile:
    """An exclusive `flock` on a file; released by `close` or by the end of the process."""

    def __cinit__(self):
        self._fd = -1
        self._pid = c_getpid()

    def close(self):
        """Release the lock; again is harmless."""
        # A forked child shares the lock until it has closed its descriptor: it must not release
        # what the parent holds, and the parent need not wait for it.
        if self._fd >= 0 and self._pid == c_getpid():
            c_flock(self._fd, LOCK_UN)
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
        check_errno(sys_named(OP_OPEN, -1, os.fsencode(self.path)), "open directory", self.path)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __dealloc__(self):
        sys_close(self.fd)

    def __repr__(self):
        return f"Directory({self.path!r})"

    cdef int _check_open(self) except -1:
        if self.fd < 0:
            raise Closed("the directory is closed: open the root again", path=self.path)
        return 0

    cdef void note_sync(self, int error) noexcept nogil:
        # Want of room is no failing device: the half-made file goes and is made again.
        if error and error != ENOSPC and error != EDQUOT and self.sync_failure == 0:
            self.sync_failure = error

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
        # O_NONBLOCK: a pipe planted under the name must not hang the open; it has no effect on
        # files.
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
        cdef bytes raw = os.fsencode(name)
        cdef int error
        cdef bint made
        self._check_open()
        made = create and not self.exists(name)
        if made:
            check_errno(sys_named(OP_MKDIR, self.fd, raw), "mkdir", self.join(name))
            error = c_mkdirat(self.fd, raw, 0o700)
            check_errno(errno if error else 0, "mkdir", self.join(name))
        cdef Directory child = Directory.__new__(Directory)
        child.path = self.join(name)
        check_errno(
            sys_openat(self.fd, raw, O_RDONLY | O_DIRECTORY, &child.fd),
            "open directory", child.path,
        )
        if made:
            if seam_hook != NULL:
                seam_hook(OP_CREATED, child.fd, raw, <uint64_t> self.fd, NULL, 1)
            self.sync()
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
                    self.note_sync(error)
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
        cdef bytes before, after
        cdef const char *source
        cdef const char *destination
        cdef int error
        self._check_open()
        into._check_open()
        before, after = os.fsencode(old), os.fsencode(new)
        error = 0
        if seam_hook != NULL:
            error = seam_hook(OP_RENAME, self.fd, after, <uint64_t> into.fd, <const char *> before,
                              len(before))
        check_errno(max(0, error), "rename", self.join(old))
        source, destination = before, after
        with nogil:
            error = errno if c_renameat(self.fd, source, into.fd, destination) else 0
        check_errno(error, "rename", self.join(old))

    def unlink(self, str name, *, bint missing_ok=False):
        """Remove a file's name."""
        cdef bytes raw = os.fsencode(name)
        cdef const char *entry = raw
        cdef int error
        self._check_open()
        # The system gives back the pages of a large file here, which takes milliseconds.
        with nogil:
            error = sys_unlink(self.fd, entry)
        if not (missing_ok and error == ENOENT):
            check_errno(error, "unlink", self.join(name))

    def rmdir(self, str name):
        """Remove an empty directory."""
        cdef int error
        self._check_open()
        check_errno(sys_named(OP_RMDIR, self.fd, os.fsencode(name)), "rmdir", self.join(name))
        error = c_unlinkat(self.fd, os.fsencode(name), AT_REMOVEDIR)
        check_errno(errno if error else 0, "rmdir", self.join(name))

    def sync(self):
        """Make the names in this directory durable.

        Once a sync in a directory has failed, this always does: the kernel forgets what it could
        not write, so a later success would say nothing.
        """
        cdef int error
        self._check_open()
        check_errno(self.sync_failure, "an earlier sync of the directory", self.path)
        error = sys_named(OP_FSYNC_DIR, self.fd, b".")
        if error == 0:
            with nogil:
                while c_fsync(self.fd) != 0:
                    error = errno
                    if error != EINTR:
                        break
                    error = 0
        # Another thread may have noted a failure meanwhile.
        if self.sync_failure == 0:
            self.sync_failure = error
        check_errno(error, "sync directory", self.path)

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
