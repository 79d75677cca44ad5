# The one seam between the library and the operating system.
#
# Every file call, every store to mapped memory and every random draw of the core goes through these
# functions. Each asks `seam_hook` first where one is installed: a test sees the call, can fail it,
# or cut it short. In production the cost is one predictable branch.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<fcntl.h>" nogil:
    int O_RDWR, O_CREAT, O_EXCL

cdef enum SeamOp:
    OP_OPEN
    OP_PREAD
    OP_PWRITE
    OP_FDATASYNC
    OP_FSYNC_DIR
    OP_RENAME
    OP_UNLINK
    OP_MKDIR
    OP_RMDIR
    OP_FALLOCATE
    OP_FTRUNCATE
    OP_MMAP
    OP_MADVISE
    OP_STORE
    OP_RANDOM
    OP_WRITEBACK
    # Told after they were done, and only to hooks that do not take the GIL.
    OP_CREATED
    OP_MAPPED
    OP_LOCKED_STORE

# The answer of a hook: 0 = go on, > 0 = fail with that errno, < 0 = do only -answer bytes of it.
ctypedef int (*SeamHook)(int op, int fd, const char *name, uint64_t position, const void *data,
                         size_t n) noexcept nogil

cdef SeamHook seam_hook

# All of these return 0 or an errno.
cdef int sys_pwrite(int fd, const void *data, size_t n, uint64_t position) noexcept nogil
cdef int sys_pread(int fd, void *data, size_t n, uint64_t position, size_t *got) noexcept nogil
# fdatasync, then a zero-length write, which finds out that the file system shut down meanwhile.
cdef int sys_fdatasync(int fd) noexcept nogil
# Have the kernel begin to write dirty pages of a range, without waiting; a hint.
cdef int sys_start_writeback(int fd, uint64_t position, uint64_t n) noexcept nogil
cdef int sys_fallocate(int fd, uint64_t n) noexcept nogil
cdef int sys_ftruncate(int fd, uint64_t n) noexcept nogil
cdef int sys_map(int fd, uint64_t n, uint64_t position, bint writable, void *at,
                 void **address) noexcept nogil
cdef int sys_populate(void *address, size_t n, bint writable) noexcept nogil
cdef int sys_random(void *data, size_t n) noexcept nogil
# Nanoseconds since 1970; the context is for the clocks of tests, which stand in for it.
cdef int64_t sys_now(void *context) noexcept nogil
cdef int sys_openat(int dirfd, const char *name, int flags, int *fd) noexcept nogil
# Ask the hook about a call on a name; the errno it wants, or 0.
cdef int sys_named(int op, int dirfd, const char *name) noexcept nogil
cdef int sys_unlink(int dirfd, const char *name) noexcept nogil
cdef void sys_unmap(void *address, size_t n) noexcept nogil
cdef void sys_close(int fd) noexcept nogil

# One function turns an errno into an exception: `check_errno(error, doing, path)`.
cdef int check_errno(int error, str doing, object path) except -1

# Tell the hook of a store to mapped memory that was just made; the position is its address.
cdef inline void tell_store(const void *target, size_t n) noexcept nogil:
    if seam_hook != NULL:
        seam_hook(OP_STORE, -1, NULL, <uint64_t> target, target, n)

# The same for a caller that holds a lock, who must not wait for the GIL.
cdef inline void tell_locked_store(const void *target, size_t n) noexcept nogil:
    if seam_hook != NULL:
        seam_hook(OP_LOCKED_STORE, -1, NULL, <uint64_t> target, target, n)

cdef inline void mapped_store(void *target, const void *source, size_t n) noexcept nogil:
    memcpy(target, source, n)
    tell_store(target, n)
