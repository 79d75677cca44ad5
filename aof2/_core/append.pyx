"""Appending to a stream: the calls that users make, and what they do when there is no room.

The hot path is one call: checks, one copy and one checksum pass into the landing ring. Everything
that waits releases the GIL, and looks at signals a few times a second.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint64_t

from aof2._core.frame cimport batch_prefix_bytes
from aof2._core.durability cimport Durability, WAIT_SLICE_NS
from aof2._core.gather cimport Gathered, gather_many, gather_packed
from aof2._core.hotlog cimport (
    HOT_OPEN,
    HotFile,
    HotLog,
    NEWS_TAIL,
    PUT_NO_FILE,
    PUT_NO_MEMORY,
    PUT_OK,
    PUT_RING_FULL,
    PUT_UNFLUSHED,
    hot_ask,
    hot_poke,
    hot_refresh,
)
from aof2._core.hotsync cimport hot_wait_change
from aof2._core.layout cimport END_BYTES, FRAME_HEADER_BYTES, FRAMES_AT, PAGE_BYTES, pad8
from aof2._core.logfile cimport frames_limit
from aof2._core.put cimport put_batch, put_record

from aof2.errors import Closed, RecordTooLarge, WouldBlockKind

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()


cdef inline bint _put_at_once(
    Appender self, object payload, object ext_id, uint64_t *offset
) except -1:
    """The hot path: plain bytes for which there is room. False: go the way that can wait."""
    cdef HotLog *log = self.log
    if ext_id is not None or not PyBytes_CheckExact(payload):
        return False
    if PyBytes_GET_SIZE(payload) > <Py_ssize_t> self.record_bytes_max or put_record(
        log, <const uint8_t *> PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
        False, 0, self.time.now(self.time.context),
    ) != PUT_OK:
        return False
    offset[0] = log.next_offset - 1
    if log.tail >= log.wake_at:
        self._poke()
    return True


cdef class Appender(Durability):
    """What a stream's writer does for appends."""

    cdef int _roll(self) except -1:
        raise NotImplementedError("the segment writer rolls over")

    cdef object _claim_ring(self, uint64_t total):
        raise NotImplementedError("the segment writer makes the ring")

    cdef object _make_ring(self, uint64_t ring_bytes):
        raise NotImplementedError("the segment writer makes the ring")

    cdef bint _grow_ring(self, uint64_t total) except -1:
        raise NotImplementedError("the segment writer changes the ring")

    def append(self, payload, *, ext_id=None, bint durable=False, timeout=...):
        """Append one record and return its offset.

        Args:
            payload: Any C-contiguous bytes-like object; may be empty.
            ext_id: 64-bit number to store with the record; None takes the stream's.
            durable: Wait until the local disk has it.
            timeout: Seconds to wait, for room or for the disk; None waits for ever, left out the
                configuration's `wait_timeout_s`.

        Returns:
            The record's offset. The record now survives the death of this process.

        Raises:
            RecordTooLarge, StorageFull, DurabilityLost, Closed, WaitTimeout: nothing was appended.
            NotYetDurable: appended, but not durable in time.
        """
        cdef uint64_t offset
        if not _put_at_once(self, payload, ext_id, &offset):
            offset = self._append(payload, ext_id, False, timeout)
        if durable:
            self._wait_durable(offset + 1, timeout)
        return offset

    def append_nowait(self, payload, *, ext_id=None):
        """Like `append`, but raises `WouldBlock` instead of waiting for room."""
        cdef uint64_t offset
        if _put_at_once(self, payload, ext_id, &offset):
            return offset
        return self._append(payload, ext_id, True, None)

    def append_many(self, payloads, *, ext_ids=None, bint durable=False, timeout=...):
        """Append records as one atomic batch: all or nothing, one frame.

        Args:
            payloads: Iterable of bytes-like objects; it is read to its end before anything is
                written.
            ext_ids: One 64-bit number per record, or None for the stream's.
            durable, timeout: As for `append`.

        Returns:
            The `range` of their offsets; empty for an empty iterable, which writes nothing.
        """
        return self._append_batch(gather_many(payloads, ext_ids), durable, False, timeout)

    def append_many_nowait(self, payloads, *, ext_ids=None):
        """Like `append_many`, but raises `WouldBlock` instead of waiting for room."""
        return self._append_batch(gather_many(payloads, ext_ids), False, True, None)

    def append_packed(self, data, ends, *, ext_ids=None, bint durable=False, timeout=...):
        """Append records that lie back to back in one buffer, as one atomic batch.

        Args:
            data: Bytes-like: the payloads one after the other.
            ends: int32 or int64 array of n ascending end positions in `data`; the last is its
                length.
            ext_ids, durable, timeout: As for `append_many`.

        Returns:
            The `range` of their offsets.
        """
        return self._append_batch(gather_packed(data, ends, ext_ids), durable, False, timeout)

    def append_packed_nowait(self, data, ends, *, ext_ids=None):
        """Like `append_packed`, but raises `WouldBlock` instead of waiting for room."""
        return self._append_batch(gather_packed(data, ends, ext_ids), False, True, None)

    cdef object _append(self, object payload, object ext_id, bint nowait, object timeout):
        """Append one record by the way that can wait; any buffer, any reason."""
        cdef Py_buffer view
        cdef uint64_t after
        if isinstance(payload, str):
            raise TypeError("payload is a str: encode it first, e.g. text.encode()")
        try:
            PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        except (BufferError, ValueError) as error:  # numpy raises the latter
            raise TypeError("payload must be a C-contiguous buffer") from error
        try:
            if <uint64_t> view.len > self.record_bytes_max:
                raise RecordTooLarge(
                    f"the record has {view.len} bytes, at most {self.record_bytes_max} are "
                    "allowed: "
                    "raise segment.record_bytes_max (and segment_bytes_max), or split it",
                    stream=self.stream,
                )
            self._retry_until_put(<const uint8_t *> view.buf, view.len, None, ext_id, nowait,
                                  timeout, &after)
            return after - 1
        finally:
            PyBuffer_Release(&view)

    cdef object _append_batch(self, Gathered batch, bint durable, bint nowait, object timeout):
        cdef uint64_t total, after
        cdef bint ids = batch.source.ext_ids != NULL
        if batch.source.data_bytes > self.batch_bytes_max:
            raise RecordTooLarge(
                f"the batch has more than {self.batch_bytes_max} bytes: raise "
                "segment.batch_bytes_max, or use extend, which cuts it into batches",
                stream=self.stream,
            )
        total = FRAME_HEADER_BYTES + batch_prefix_bytes(batch.source.count, False, ids)
        if total + batch.source.data_bytes > self.file_room:
            raise RecordTooLarge(
                f"a batch of {batch.source.count} records and {batch.source.data_bytes} bytes does "
                "not fit a segment: raise segment.segment_bytes_max, or use extend",
                stream=self.stream,
            )
        if batch.source.count == 0:
            self._check_running()
            return range(self.log.next_offset, self.log.next_offset)
        self._retry_until_put(NULL, 0, batch, None, nowait, timeout, &after)
        if durable:
            self._wait_durable(after, timeout)
        return range(after - batch.source.count, after)

    cdef int _put(
        self, const uint8_t *data, uint64_t n, Gathered batch, object ext_id, uint64_t *after
    ) except -1:
        cdef int status
        cdef bint has_ext_id = ext_id is not None
        cdef uint64_t number = ext_id if has_ext_id else 0
        cdef int64_t now_ns = self.time.now(self.time.context)
        if batch is None:
            status = put_record(self.log, data, n, has_ext_id, number, now_ns)
        else:
            status = put_batch(self.log, &batch.source, has_ext_id, number, now_ns)
        # Before the host is called, which lets other threads append.
        after[0] = self.log.next_offset
        if status == PUT_OK and self.log.tail >= self.log.wake_at:
            self._poke()
        return status

    cdef int _retry_until_put(
        self, const uint8_t *data, uint64_t n, Gathered batch, object ext_id, bint nowait,
        object timeout, uint64_t *after,
    ) except -1:
        """Put the frame, doing or waiting for whatever is missing in between."""
        cdef uint64_t total, seen
        cdef int64_t began = monotonic_ns()
        cdef int status
        cdef bint told = False
        waits = None
        if batch is None:
            total = FRAME_HEADER_BYTES + (8 if ext_id is not None else 0) + n
        else:
            total = FRAME_HEADER_BYTES + batch.source.data_bytes + batch_prefix_bytes(
                batch.source.count, ext_id is not None, batch.source.ext_ids != NULL)
        while True:
            # Noted before the attempt, so that a change between it and the wait is not missed.
            seen = self.log.changes
            status = self._put(data, n, batch, ext_id, after)
            if status == PUT_OK:
                if waits is not None:
                    self.host.on_admitted((monotonic_ns() - began) * 1e-9)
                return 0
            kind = self._remedy(status, pad8(total), nowait)
            if kind is None:
                continue
            if nowait:
                raise self.host.on_blocked(kind, pad8(total))
            if kind is not waits:
                self.host.on_waits(kind)
                waits = kind
            self._pause(kind, pad8(total), began, timeout, seen, &told)

    cdef object _remedy(self, int status, uint64_t total, bint nowait):
        """Do what a put lacked; if that cannot be done now, the kind of what it waits for."""
        cdef HotLog *log = self.log
        self._check_running()
        if self.intake_ended:
            raise Closed("the stream is being closed: open the root again", stream=self.stream)
        kind = WouldBlockKind.FLUSH
        if status == PUT_NO_MEMORY:
            raise MemoryError("sparse index")
        if log.swapping:
            # Another thread takes a larger ring into use; the old one must not be touched.
            pass
        elif log.header == NULL or total + 8 > log.ring_bytes:
            self.claiming += 1
            try:
                kind = self._claim_ring(total)
                if isinstance(kind, int):
                    kind = self._make_ring(kind)
                    if kind is None:
                        return None
            finally:
                self.claiming -= 1
        elif status == PUT_NO_FILE:
            if total <= self._spare_room():
                if self._roll() == PUT_OK:
                    return None
            else:
                kind = self.host.on_no_segment(total)
        elif status == PUT_UNFLUSHED:
            hot_ask(log, log.next_offset)
        elif status == PUT_RING_FULL and not nowait and self._grow_ring(total):
            return None
        hot_poke(log)
        return kind

    cdef uint64_t _spare_room(self) noexcept:
        """Largest frame that the spare segment can take; 0 when there is none."""
        if self.log.spare == NULL:
            return 0
        return frames_limit(self.log.spare.file_bytes) - FRAMES_AT

    cdef int _pause(
        self, object kind, uint64_t total, int64_t began, object timeout, uint64_t seen,
        bint *told,
    ) except -1:
        """Wait for a change, in slices that let signals through, or raise because the time is
        up."""
        cdef int64_t waited, slice_ns
        cdef double limit_s = self._limit(timeout)
        while True:
            waited, slice_ns = monotonic_ns() - began, WAIT_SLICE_NS
            if limit_s >= 0:
                if waited * 1e-9 >= limit_s:
                    raise self.host.on_late(kind, total)
                slice_ns = min(slice_ns, <int64_t> (limit_s * 1e9) - waited + 1)
            self._tell(kind, waited, told)
            with nogil:
                hot_wait_change(self.log, seen, slice_ns)
            PyErr_CheckSignals()
            if self.log.changes != seen:
                return 0

    def end_intake(self):
        """For a close: appends are refused from now on, with `Closed`, and those that wait are told
        so at once. Flushes and seals go on."""
        # Set before the limit, which only the thread of an append that rolls over could lift again.
        self.intake_ended = True
        self.log.file_limit = 0
        self.announce()

    def has_room(self, uint64_t frame_bytes):
        """Whether trying again to append a frame of that size is worth while now.

        It asks for what is missing. True for a writer that has stopped, or that takes nothing more:
        trying says why.

        Raises:
            StorageFull: nothing under way can make room.
        """
        cdef HotLog *log = self.log
        if log.state != HOT_OPEN or self.intake_ended:
            return True
        if log.swapping:
            return False
        if log.header == NULL or frame_bytes + 8 > log.ring_bytes:
            return isinstance(self._claim_ring(frame_bytes), int)
        if log.tail + frame_bytes <= log.file_limit:
            return hot_refresh(log, frame_bytes) == PUT_OK
        if frame_bytes > self._spare_room():
            self.host.on_no_segment(frame_bytes)
            return False
        # A rollover takes the END frame and at most a page up to the next file's first frame.
        frame_bytes = min(frame_bytes + END_BYTES + PAGE_BYTES, log.ring_bytes - 8)
        return hot_refresh(log, frame_bytes) == PUT_OK

    @property
    def spare_bytes(self):
        """Largest frame that the spare segment can take; 0 when there is none."""
        return self._spare_room()

    @property
    def ring_bytes(self):
        """Size of the landing ring's file; 0 when there is none."""
        return self.log.ring_bytes + 4096 if self.log.header != NULL else 0

    cdef int _poke(self) except -1:
        """Wake the threads and whoever waits for a record; ask for the next segment once the active
        one is half full."""
        cdef HotFile *file = self.log.active
        cdef bint tail_wanted = self.log.tail_wanted
        self.log.tail_wanted = False
        hot_poke(self.log)
        if self.log.tail >= file.half:
            file.half = <uint64_t> -1
            self.host.on_half_full(file.file_id)
        elif file.half < self.log.wake_at:
            self.log.wake_at = file.half
        if tail_wanted:
            self.host.on_news(NEWS_TAIL)
        return 0
