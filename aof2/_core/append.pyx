"""Appending to a stream: the calls that users make, and what they do when there is no room.

The hot path is one call: checks, one copy and one checksum pass into the landing ring. Everything
that waits releases the GIL, and looks at signals a few times a second.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint8_t, uint64_t

from aof2._core.frame cimport batch_prefix_bytes
from aof2._core.gather cimport Gathered, gather_many, gather_packed
from aof2._core.hotlog cimport (
    HOT_CLOSED,
    HOT_FORKED,
    HOT_OPEN,
    HotFile,
    HotLog,
    PUT_NO_FILE,
    PUT_NO_MEMORY,
    PUT_OK,
    PUT_RING_FULL,
    hot_announce,
    hot_poke,
    hot_want_ring,
)
from aof2._core.hotsync cimport hot_flush, hot_wait_change
from aof2._core.layout cimport FRAME_HEADER_BYTES, FRAMES_AT, pad8
from aof2._core.logfile cimport frames_limit
from aof2._core.put cimport put_batch, put_record

from aof2.errors import (
    Closed,
    DurabilityLost,
    ForkedHandle,
    NotYetDurable,
    RecordTooLarge,
    WaitTimeout,
    WouldBlock,
    WouldBlockKind,
)

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)

cdef enum:
    WAIT_SLICE_NS = 100000000    # signals are looked at this often
    LEAD_LIMIT_S = 10            # a wait that may take so long may do the sync itself


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


cdef class Appender:
    """What a stream's writer does for appends and for those who wait for durability."""

    cdef int _roll(self) except -1:
        raise NotImplementedError("the segment writer rolls over")

    cdef int _new_ring(self, uint64_t wanted) except -1:
        raise NotImplementedError("the segment writer makes the ring")

    cdef int _swap_ring(self) except -1:
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
                return 0
            self._remedy(status, pad8(total), nowait, began, timeout, seen)

    cdef int _remedy(
        self, int status, uint64_t total, bint nowait, int64_t began, object timeout, uint64_t seen
    ) except -1:
        """Do what a put lacked, or wait for it for a slice of time, or raise."""
        cdef int64_t waited, slice_ns = WAIT_SLICE_NS
        cdef double limit_s
        cdef HotLog *log = self.log
        self._check_running()
        kind = WouldBlockKind.FLUSH
        if status == PUT_NO_MEMORY:
            raise MemoryError("sparse index")
        if log.swapping:
            # Another thread takes a larger ring into use; the old one must not be touched.
            pass
        elif log.header == NULL or 2 * total > log.ring_bytes:
            # Half of the ring, so that one such record is written out while the next one lands.
            self._new_ring(2 * (total + 64))
            return 0
        elif status == PUT_NO_FILE:
            if log.spare != NULL and total <= frames_limit(log.spare.file_bytes) - FRAMES_AT:
                if self._roll() == PUT_OK:
                    return 0
            else:
                kind = self.host.on_no_segment(total)
        elif status == PUT_RING_FULL and log.ring_bytes < self.ring_bytes_max and not nowait:
            if log.next_header != NULL:
                self._swap_ring()
                return 0
            # The pace is high: a larger ring is made beside the appends.
            hot_want_ring(log, self.ring_bytes_max)
        hot_poke(log)
        if nowait:
            raise self._blocked(kind, 0.01)
        waited = monotonic_ns() - began
        limit_s = self._limit(timeout)
        if limit_s >= 0:
            if waited * 1e-9 >= limit_s:
                raise WaitTimeout(
                    f"no room for {waited * 1e-9:.1f} s, waiting for {kind.value}; nothing was "
                    "appended, try again", kind=kind, stream=self.stream)
            slice_ns = min(slice_ns, <int64_t> (limit_s * 1e9) - waited + 1)
        self.host.on_waiting(kind, waited * 1e-9)
        with nogil:
            hot_wait_change(log, seen, slice_ns)
        PyErr_CheckSignals()
        return 0

    def _limit(self, timeout):
        """The seconds a call may wait; below 0: for ever."""
        if timeout is ...:
            return self.default_timeout_s
        return -1.0 if timeout is None else float(timeout)

    cdef object _blocked(self, object kind, double retry_after_s):
        seen = self.log.changes
        return WouldBlock(
            f"the stream waits for {kind.value}; nothing was accepted, try again", kind=kind,
            retry_after_s=retry_after_s, stream=self.stream,
            waiter=lambda timeout: self.wait_change(seen, timeout),
        )

    def wait_change(self, uint64_t seen, timeout):
        """Wait until something changed since `changes` was `seen`; False when `timeout` s ran
        out."""
        cdef int64_t began = monotonic_ns()
        while self.log.changes == seen and self.log.state == HOT_OPEN:
            if timeout is not None and (monotonic_ns() - began) * 1e-9 >= timeout:
                return False
            with nogil:
                hot_wait_change(self.log, seen, WAIT_SLICE_NS if timeout is None
                                else min(WAIT_SLICE_NS, <int64_t> 10000000))
            PyErr_CheckSignals()
        return True

    cdef int _poke(self) except -1:
        """Wake the threads; ask for the next segment once the active one is half full."""
        cdef HotFile *file = self.log.active
        hot_poke(self.log)
        if self.log.tail >= file.half:
            file.half = <uint64_t> -1
            self.host.on_half_full(file.file_id)
        elif file.half < self.log.wake_at:
            self.log.wake_at = file.half
        return 0

    cdef int _check_running(self) except -1:
        if self.log.state == HOT_OPEN:
            return 0
        if self.log.state == HOT_FORKED:
            raise ForkedHandle("this handle belongs to the parent process: open the root with "
                               "readonly=True", stream=self.stream)
        if self.log.state == HOT_CLOSED:
            raise Closed("the stream is closed: open it again", stream=self.stream)
        raise DurabilityLost(
            f"a write or sync failed ({os.strerror(self.log.failure)}), the writer has stopped; "
            f"records below offset {self.log.durable_offset} are durable: look at the device, then "
            "reopen the stream", stream=self.stream, path=self.directory.path,
            offset=self.log.durable_offset,
        )

    # --- durability ----------------------------------------------------------------------------

    cdef int _wait_durable(self, uint64_t next_offset, object timeout) except -1:
        """Wait until everything below `next_offset` is durable; flushes if nobody does."""
        cdef int64_t began = monotonic_ns(), left = WAIT_SLICE_NS
        cdef double limit_s = self._limit(timeout)
        # Nobody can leave a sync of a device that hangs, so a short limit has the thread do it.
        cdef bint lead = limit_s < 0 or limit_s >= LEAD_LIMIT_S
        cdef int error
        while self.log.durable_offset < next_offset:
            self._check_running()
            if limit_s >= 0:
                left = <int64_t> (limit_s * 1e9) - (monotonic_ns() - began)
                if left <= 0:
                    raise NotYetDurable(
                        f"accepted, but not durable after {limit_s} s: do not append it again, "
                        "wait for it", offset=next_offset - 1, level="local", stream=self.stream)
            with nogil:
                error = hot_flush(self.log, 0, next_offset, min(left, WAIT_SLICE_NS), lead)
            if error and error != ETIMEDOUT:
                self._check_running()
            PyErr_CheckSignals()
        return 0

    def wait_local(self, uint64_t next_offset, *, timeout=...):
        """Wait until every record below `next_offset` is durable on the local disk.

        Raises:
            NotYetDurable: `timeout` seconds ran out.
            DurabilityLost: a sync failed; it never will be.
        """
        self._wait_durable(next_offset, timeout)

    def is_durable(self, uint64_t next_offset):
        """Whether every record below `next_offset` is durable; raises when it can never be."""
        if self.log.durable_offset >= next_offset:
            return True
        self._check_running()
        hot_poke(self.log)
        return False

    @property
    def next_offset(self):
        """Offset that the next record gets."""
        return self.log.next_offset

    @property
    def durable_offset(self):
        """Offset below which records are durable."""
        return self.log.durable_offset

    @property
    def changes(self):
        """Counts changes that a waiter may wait for, see `wait_change`."""
        return self.log.changes

    def announce(self):
        """Wake everyone who waits for a change."""
        pthread_mutex_lock(&self.log.lock)
        hot_announce(self.log)
        pthread_mutex_unlock(&self.log.lock)
