"""One record as the user gets it: detached from the log, hashable, pickles."""

cimport cython
from libc.stdint cimport int64_t, uint64_t


@cython.freelist(256)
@cython.no_gc
cdef class Record:
    """One record of a stream; a value that outlives the log it came from.

    Attributes:
        offset: Ordinal in the stream, from 0.
        timestamp_ns: When it was appended, nanoseconds since 1970 UTC.
        ext_id: The 64-bit number stored with it, else the stream's.
        payload: Its bytes.

    Example:
        >>> Record(7, 0, 0, b"x").payload
        b'x'
    """

    def __init__(self, uint64_t offset, int64_t timestamp_ns, uint64_t ext_id, bytes payload):
        self.offset = offset
        self.timestamp_ns = timestamp_ns
        self.ext_id = ext_id
        self.payload = payload

    def __reduce__(self):
        return Record, (self.offset, self.timestamp_ns, self.ext_id, self.payload)

    def __eq__(self, other):
        if not isinstance(other, Record):
            return NotImplemented
        cdef Record that = other
        return (self.offset == that.offset and self.timestamp_ns == that.timestamp_ns
                and self.ext_id == that.ext_id and self.payload == that.payload)

    def __hash__(self):
        return hash((self.offset, self.timestamp_ns, self.payload))

    def __repr__(self):
        shown = self.payload if len(self.payload) <= 40 else self.payload[:37] + b"..."
        return (f"Record(offset={self.offset}, timestamp_ns={self.timestamp_ns}, "
                f"ext_id={self.ext_id}, payload={shown!r})")


cdef Record make_record(uint64_t offset, int64_t timestamp_ns, uint64_t ext_id, bytes payload):
    cdef Record record = Record.__new__(Record)
    record.offset = offset
    record.timestamp_ns = timestamp_ns
    record.ext_id = ext_id
    record.payload = payload
    return record
