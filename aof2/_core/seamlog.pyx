"""A log of everything that passes the seam and changes something: calls, and stores to mapped
memory, in their order and with their data.

It takes no GIL, so threads of the core are logged where they hold their locks. A hook that was
installed before is asked first, and its answer is logged. One log at a time serves the process.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strlen

from aof2._core cimport posix

from aof2._core.posix import OP_NAMES as _OP_NAMES
from aof2._core.posix cimport (
    OP_CREATED,
    OP_FALLOCATE,
    OP_FDATASYNC,
    OP_FSYNC_DIR,
    OP_FTRUNCATE,
    OP_LOCKED_STORE,
    OP_MAPPED,
    OP_PWRITE,
    OP_RENAME,
    OP_RMDIR,
    OP_STORE,
    OP_UNLINK,
    SeamHook,
)

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <sys/stat.h>

    static pthread_mutex_t aof2_seamlog_lock = PTHREAD_MUTEX_INITIALIZER;

    static uint64_t aof2_inode(int fd) {
        struct stat info;
        return fd >= 0 && fstat(fd, &info) == 0 ? (uint64_t)info.st_ino : 0;
    }
    """
    void *aof2_seamlog_lock
    uint64_t aof2_inode(int fd)
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)

cdef enum:
    OP_MARK = 1000
    FIRST_BYTES = 1048576

cdef SeamHook _before = NULL
cdef uint8_t *_log = NULL
cdef uint64_t _held = 0
cdef uint64_t _room = 0
cdef bint _on = False
cdef bint _lost = False


cdef void _write(const Step *step, const void *name, const void *data) noexcept nogil:
    """Append a step; the names and bytes that it has follow it."""
    global _log, _held, _room, _lost
    cdef uint64_t n = sizeof(Step) + step.name_bytes + step.data_bytes
    cdef void *larger
    pthread_mutex_lock(&aof2_seamlog_lock)
    if _on and _held + n > _room:
        larger = realloc(_log, 2 * (_room + n) + FIRST_BYTES)
        if larger == NULL:
            _lost = True
        else:
            _log = <uint8_t *> larger
            _room = 2 * (_room + n) + FIRST_BYTES
    if _on and _held + n <= _room:
        memcpy(_log + _held, step, sizeof(Step))
        _held += sizeof(Step)
        memcpy(_log + _held, name, step.name_bytes)
        _held += step.name_bytes
        memcpy(_log + _held, data, step.data_bytes)
        _held += step.data_bytes
    pthread_mutex_unlock(&aof2_seamlog_lock)


cdef int _hook(
    int op, int fd, const char *name, uint64_t position, const void *data, size_t n
) noexcept nogil:
    cdef int answer = 0
    cdef Step step
    if _before != NULL:
        answer = _before(op, fd, name, position, data, n)
    if op not in (OP_CREATED, OP_PWRITE, OP_FDATASYNC, OP_FSYNC_DIR, OP_RENAME, OP_UNLINK, OP_RMDIR,
                  OP_FALLOCATE, OP_FTRUNCATE, OP_MAPPED, OP_STORE, OP_LOCKED_STORE):
        return answer
    memset(&step, 0, sizeof(step))
    step.op, step.answer, step.position, step.n = op, answer, position, n
    step.inode = aof2_inode(fd)
    if name != NULL:
        step.name_bytes = <uint32_t> strlen(name)
    if op in (OP_PWRITE, OP_STORE, OP_LOCKED_STORE, OP_RENAME):
        step.data_bytes = <uint32_t> n
    if op in (OP_CREATED, OP_RENAME):
        step.other = aof2_inode(<int> position)
    if op == OP_MAPPED:
        # Where in the file; the address takes the place of the position.
        step.other, step.position = position, <uint64_t> data
    _write(&step, name, data)
    return answer


def start():
    """Begin to log. Nothing may be logged at the moment."""
    global _before, _on, _lost, _held
    if _on:
        raise ValueError("the seam is being logged already")
    _before = posix.seam_hook
    _held, _lost, _on = 0, False, True
    posix.seam_hook = _hook


def mark(bytes what not None, bytes data not None=b""):
    """Put something of one's own between the steps; nothing happens where there is no log."""
    cdef Step step
    memset(&step, 0, sizeof(step))
    step.op = OP_MARK
    step.name_bytes, step.data_bytes = <uint32_t> len(what), <uint32_t> len(data)
    _write(&step, <const char *> what, <const char *> data)


def stop():
    """End the log.

    Returns:
        A list of `(op, answer, inode, other, position, n, name, data)`, in order. `op` is `mark`,
        or one of `created mapped store pwrite fdatasync fsync_dir rename unlink rmdir fallocate
        ftruncate`. `other` is the inode of the directory that a created name is in, or that a
        renamed one goes to, whose former name is `data`; of a mapping, its position in the file.
        `n` is 1 where a directory was created. Stores and mappings have the address as their
        position. `MemoryError` where the log did not fit.
    """
    global _before, _on, _log, _room, _held
    cdef uint64_t at = 0
    cdef Step step
    cdef list steps = []
    if not _on:
        raise ValueError("nothing is being logged")
    posix.seam_hook = _before
    pthread_mutex_lock(&aof2_seamlog_lock)
    _on = False
    pthread_mutex_unlock(&aof2_seamlog_lock)
    while at < _held:
        memcpy(&step, _log + at, sizeof(Step))
        at += sizeof(Step)
        name = PyBytes_FromStringAndSize(<char *> _log + at, step.name_bytes)
        at += step.name_bytes
        data = PyBytes_FromStringAndSize(<char *> _log + at, step.data_bytes)
        at += step.data_bytes
        steps.append((_name_of(step.op), step.answer, step.inode, step.other, step.position, step.n,
                      name, data))
    free(_log)
    _log, _room, _held = NULL, 0, 0
    if _lost:
        raise MemoryError("the log of the seam did not fit")
    return steps


cdef str _name_of(uint32_t op):
    if op == OP_MARK:
        return "mark"
    return {OP_CREATED: "created", OP_MAPPED: "mapped", OP_LOCKED_STORE: "store"}.get(
        op, _OP_NAMES[op] if op < <uint32_t> len(_OP_NAMES) else ""
    )
