"""Bringing an object's bytes into a file, in pieces of 4 MiB, so that memory stays bounded."""

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.directory cimport Directory
from aof2._core.posix cimport (
    check_errno,
    sys_close,
    sys_fallocate,
    sys_fdatasync,
    sys_pwrite,
)
from aof2.errors import FetchFailed, ObjectCorrupt

cdef enum:
    PIECE_BYTES = 4194304


def download(fetch, uint64_t file_bytes, Directory target not None, str name not None, *,
             str key not None, stop=None):
    """Write an object into a file and sync it. Nothing of it is believed yet: verify the file.

    Args:
        fetch: `fetch(start, end)` returns exactly the bytes `[start, end)` of the object. What it
            raises passes through.
        file_bytes: The object's size. All blocks are allocated before the first request.
        target, name: The file to make; one of that name is replaced.
        key: The object's, for messages.
        stop: Asked before each request; True gives up.

    `ObjectCorrupt` when an answer is short or long, `FetchFailed` when it was stopped, `OSError`
    when the file cannot be written. A failure leaves no file behind.

    Example:
        >>> download(store_range, 1180226, warm, ".tmp-a", key="seg/a")  # doctest: +SKIP
    """
    cdef str path = target.join(name)
    cdef uint64_t position = 0, end
    cdef const uint8_t[::1] data
    cdef int error, fd
    target.unlink(name, missing_ok=True)
    fd = target.open_file(name, True, True)
    try:
        with nogil:
            error = sys_fallocate(fd, file_bytes)
        check_errno(error, "allocate", path)
        while position < file_bytes:
            if stop is not None and stop():
                raise FetchFailed("stopped", path=key)
            end = min(position + <uint64_t> PIECE_BYTES, file_bytes)
            data = fetch(position, end)
            if <uint64_t> data.shape[0] != end - position:
                raise ObjectCorrupt(
                    f"{data.shape[0]} bytes came where {end - position} were asked for", path=key,
                    position=position,
                )
            with nogil:
                error = sys_pwrite(fd, &data[0], end - position, position)
            check_errno(error, "write", path)
            position = end
        with nogil:
            error = sys_fdatasync(fd)
        check_errno(error, "sync", path)
    except BaseException:
        target.unlink(name, missing_ok=True)
        raise
    finally:
        sys_close(fd)
