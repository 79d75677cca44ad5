"""A stretch of one log file's bytes: of a mapping, of the landing ring, or decompressed."""

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uint8_t, uint64_t


cdef class Window:
    """Bytes `[start, end)` of a log file, held for as long as this object lives.

    Args:
        data: Bytes-like; held, not copied.
        start: Position of its first byte in the file.

    It exports the bytes read-only through the buffer protocol.

    Example:
        >>> window = Window(b"abc", 8192)
        >>> window.end, bytes(window)
        (8195, b'abc')
    """

    def __init__(self, data=None, uint64_t start=0):
        if data is not None:
            PyObject_GetBuffer(data, &self._view, PyBUF_SIMPLE)
            self.data = <const uint8_t *> self._view.buf
            self.owner = data
            self.start = start
            self.end = start + <uint64_t> self._view.len

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, <void *> self.data, <Py_ssize_t> (self.end - self.start), 1, flags
        )

    def __len__(self):
        return self.end - self.start

    def __repr__(self):
        return f"Window({self.start}..{self.end})"


cdef Window make_window(const uint8_t *data, uint64_t start, uint64_t n, object owner):
    cdef Window window = Window.__new__(Window)
    window.data = data
    window.start = start
    window.end = start + n
    window.owner = owner
    return window
