"""Gathering a caller's payloads into the shape that a batch frame is written from.

Everything is looked at before anything is written, so that an iterable that raises half way, or a
payload of the wrong type, leaves the log as it was.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef enum:
    BATCH_DATA_MAX = 0x7FFFFFFF


cdef class Gathered:
    def __dealloc__(self):
        free(self._ends)
        free(self._ext_ids)
        free(self._pieces)
        PyBuffer_Release(&self._data)

    cdef int _reserve(self, uint64_t count, bint pieces, bint ext_ids) except -1:
        self._ends = <uint32_t *> malloc((count + 1) * sizeof(uint32_t))
        if pieces:
            self._pieces = <const unsigned char **> malloc((count + 1) * sizeof(void *))
        if ext_ids:
            self._ext_ids = <uint64_t *> malloc((count + 1) * sizeof(uint64_t))
        if self._ends == NULL or (pieces and self._pieces == NULL) or (
            ext_ids and self._ext_ids == NULL
        ):
            raise MemoryError("batch")
        self._ends[0] = 0
        self.source.count = <uint32_t> count
        self.source.ends = self._ends
        self.source.pieces = self._pieces
        self.source.ext_ids = self._ext_ids
        return 0

    cdef int _take_ext_ids(self, object ext_ids, uint64_t count) except -1:
        cdef uint64_t i = 0
        for ext_id in ext_ids:
            if i == count:
                raise ValueError(f"more ext_ids than payloads ({count})")
            self._ext_ids[i] = ext_id
            i += 1
        if i != count:
            raise ValueError(f"{i} ext_ids for {count} payloads")
        return 0


cdef bytes _as_bytes(object payload, uint64_t index):
    """The payload as bytes, or a `TypeError` that says what to pass."""
    if isinstance(payload, str):
        raise TypeError(f"payload {index} is a str: encode it first, e.g. text.encode()")
    if not PyObject_CheckBuffer(payload):
        raise TypeError(f"payload {index} must be bytes-like, not {type(payload).__name__}")
    view = memoryview(payload)
    if not view.c_contiguous:
        raise TypeError(f"payload {index} must be a C-contiguous buffer")
    return view.tobytes()


cdef Gathered gather_many(object payloads, object ext_ids):
    cdef Gathered out = Gathered.__new__(Gathered)
    cdef list items
    cdef uint64_t count, i, total = 0
    cdef object item
    if isinstance(payloads, (bytes, bytearray, memoryview, str)):
        raise TypeError(
            f"append_many takes an iterable of payloads, not one {type(payloads).__name__}: "
            "use append, or put it into a list"
        )
    # A copy: another thread may change the caller's list while this call waits for room.
    items = list(payloads)
    count = PyList_GET_SIZE(items)
    out.owners = items
    out._reserve(count, True, ext_ids is not None)
    for i in range(count):
        item = <object> PyList_GET_ITEM(items, i)
        if not PyBytes_CheckExact(item):
            item = _as_bytes(item, i)
            items[i] = item
        out._pieces[i] = <const unsigned char *> PyBytes_AS_STRING(item)
        total += PyBytes_GET_SIZE(item)
        if total > BATCH_DATA_MAX:
            break
        out._ends[i + 1] = <uint32_t> total
    out.source.data_bytes = total
    if ext_ids is not None:
        out._take_ext_ids(ext_ids, count)
    return out


cdef int _copy_ends(
    Gathered out, const void *raw, str code, uint64_t count, uint64_t length
) except -1:
    cdef int64_t end, before = 0
    cdef uint64_t i
    cdef bint narrow = code == "i"
    for i in range(count):
        end = (<const int32_t *> raw)[i] if narrow else (<const int64_t *> raw)[i]
        if end < before or end > <int64_t> length:
            raise ValueError(f"ends must ascend within the data: ends[{i}] is {end} after {before}")
        out._ends[i + 1] = <uint32_t> end
        before = end
    if before != <int64_t> length:
        raise ValueError(f"ends stop at {before}, but the data has {length} bytes")
    return 0


cdef Gathered gather_packed(object data, object ends, object ext_ids):
    cdef Gathered out = Gathered.__new__(Gathered)
    cdef Py_buffer view
    cdef uint64_t count
    if isinstance(data, str):
        raise TypeError("data is a str: encode it first, e.g. text.encode()")
    try:
        PyObject_GetBuffer(data, &out._data, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        raise TypeError("data must be a C-contiguous buffer") from error
    if not PyObject_CheckBuffer(ends):
        raise TypeError("ends must be a one-dimensional int32 or int64 array")
    try:
        PyObject_GetBuffer(ends, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (BufferError, ValueError) as error:
        raise TypeError("ends must be a C-contiguous array") from error
    try:
        code = (<bytes> view.format).decode() if view.format != NULL else "B"
        if view.ndim != 1 or code not in ("i", "l", "q") or view.itemsize not in (4, 8):
            raise TypeError("ends must be a one-dimensional int32 or int64 array")
        count = view.shape[0]
        if out._data.len > BATCH_DATA_MAX:
            out.source.data_bytes = out._data.len
            return out
        out._reserve(count, False, ext_ids is not None)
        _copy_ends(out, view.buf, "i" if view.itemsize == 4 else "q", count, out._data.len)
    finally:
        PyBuffer_Release(&view)
    out.source.packed = <const unsigned char *> out._data.buf
    out.source.data_bytes = out._data.len
    if ext_ids is not None:
        out._take_ext_ids(ext_ids, count)
    return out
