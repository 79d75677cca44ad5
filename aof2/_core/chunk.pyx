"""Writing a manifest chunk: mapped and appended in place; one manifest record is one frame.

A frame becomes visible in this order: body, header without its length, the zero length of the next
frame, then this frame's length with release order. Confirmation slots are written when a chunk is
closed and before it is sealed, so that what a finished file lost is told from an unfinished write.
"""

import os

from libc.errno cimport EOVERFLOW
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from aof2._core.chunk_read cimport BODY_BYTES_MAX, CHUNK_BYTES_HIGHEST, CHUNK_BYTES_LOWEST
from aof2._core.frame cimport frame_crc
from aof2._core.layout cimport (
    END_BYTES,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    Footer,
    FrameHeader,
    IndexEntry,
    KIND_RECORD,
    PAGE_BYTES,
    START_AT,
    StartBlock,
    pad8,
)
from aof2._core.logfile cimport fill_start_crc, read_header_fd, write_slot
from aof2._core.posix cimport (
    check_errno,
    mapped_store,
    sys_close,
    sys_fallocate,
    sys_fdatasync,
    sys_map,
    sys_populate,
    sys_pwrite,
    sys_unmap,
    tell_store,
)
from aof2._core.run cimport run_add, run_free, run_init
from aof2._core.seal cimport encode_end, footer_position, rewrite_fd, write_seal

from aof2.errors import Closed, DurabilityLost, ManifestCorrupt

cdef extern from "atomics.h" nogil:
    void store_release32(void *at, uint32_t value)


def restore_size(Directory directory not None, str name not None):
    """Give a chunk that was cut short its full size again, so that it can be sealed.

    Every block is allocated; what was cut reads as zeros, so a frame that only lacked its padding
    is whole again.

    Returns:
        False when the size was right. `OSError` (ENOSPC) when there is no room.
    """
    cdef int fd = directory.open_file(name, True)
    cdef uint64_t file_bytes
    cdef int error
    try:
        header = read_header_fd(fd, directory.join(name))
        file_bytes = header.file_bytes
        if os.fstat(fd).st_size >= file_bytes:
            return False
        with nogil:
            error = sys_fallocate(fd, file_bytes)
        check_errno(error, "allocate a manifest chunk", directory.join(name))
        return True
    finally:
        sys_close(fd)


def sync_chunk(Directory directory not None, str name not None):
    """Sync a chunk that an earlier process wrote: its contents and its length."""
    cdef int fd = directory.open_file(name, True)
    cdef int error
    try:
        with nogil:
            error = sys_fdatasync(fd)
        check_errno(error, "sync a manifest chunk", directory.join(name))
    finally:
        sys_close(fd)


cdef class ChunkWriter:
    """Appends to one chunk through a mapping.

    One thread at a time, but `sync` may run beside `append`.

    Args:
        directory, name: A chunk that `logfile.prepare` made.
        time: Clock of the frames.
        start: Start block for a chunk that begins now.
        reader: Instead: a CLEAN chunk to go on with. What no flush is known to have covered is
            written again and synced first: after a process kill it may be in the page cache only,
            and after a failed sync the cache may lie.

    Any failing sync poisons the writer for good: from then on every call raises `DurabilityLost`.
    """

    def __cinit__(self):
        run_init(&self.run)
        self._fd = -1

    def __init__(self, Directory directory not None, str name not None, TimeSource time not None,
                 *, StartInfo start=None, ChunkReader reader=None):
        cdef void *address = NULL
        cdef int error
        self.name = name
        self.path = directory.join(name)
        self._time = time
        self._fd = directory.open_file(name, True)
        self.header = read_header_fd(self._fd, self.path)
        self.position = FRAMES_AT
        if not CHUNK_BYTES_LOWEST <= self.header.file_bytes <= CHUNK_BYTES_HIGHEST:
            raise ValueError(f"a chunk of {self.header.file_bytes} bytes")
        # Touching a page behind the end of the file would be a signal.
        if os.fstat(self._fd).st_size != self.header.file_bytes:
            raise ManifestCorrupt("the chunk has not its full size", path=self.path)
        if reader is not None:
            self._resume(reader)
        else:
            self._begin(start)
        with nogil:
            error = sys_map(self._fd, self.header.file_bytes, 0, True, NULL, &address)
        check_errno(error, "map a manifest chunk", self.path)
        self._map = <uint8_t *> address
        with nogil:
            error = sys_populate(address, self.header.file_bytes, True)
        check_errno(error, "map a manifest chunk", self.path)

    def __dealloc__(self):
        self._release()
        run_free(&self.run)

    cdef int _begin(self, StartInfo start) except -1:
        cdef StartBlock block = start.block
        self.start = start
        # Not synced here: the first flush covers it together with the first frames.
        fill_start_crc(&block, self.header.salt)
        check_errno(sys_pwrite(self._fd, &block, sizeof(block), START_AT),
                    "start a manifest chunk", self.path)
        return 0

    cdef int _resume(self, ChunkReader reader) except -1:
        cdef int error
        self.start = reader.start
        self.position = reader.position
        self._slot_n = reader.slot_n
        self._slot_position = reader.slot_position
        if reader.low < reader.position:
            # Before the first flush that is known of, the start block is unproven as well.
            rewrite_fd(self._fd, START_AT if reader.low <= FRAMES_AT else reader.low,
                       reader.position, self.path)
            with nogil:
                error = sys_fdatasync(self._fd)
            if error:
                self._poison(error, "prove the end of a manifest chunk")
        self.durable_position = reader.position
        # The reader gives its sparse index away.
        run_free(&self.run)
        self.run = reader.run
        run_init(&reader.run)
        return 0

    @property
    def records(self):
        """Records in the chunk."""
        return self.run.records

    @property
    def end_offset(self):
        """Offset that the next manifest record gets."""
        return self.start.base_offset + self.run.records

    @property
    def chain_crc(self):
        """Running crc64 over the checksums of all frames."""
        return self.run.chain_crc

    @property
    def room_bytes(self):
        """Bytes of frames that the chunk still takes, beside its END, index and footer."""
        cdef int64_t behind = (
            PAGE_BYTES + END_BYTES + self.header.file_bytes // PAGE_BYTES * sizeof(IndexEntry)
        )
        return max(0, <int64_t> (self.header.file_bytes - self.position) - behind)

    def __repr__(self):
        return f"ChunkWriter({self.path!r}, {self.records} records to {self.position})"

    cdef int _poison(self, int error, str doing) except -1:
        self.failure = error
        raise DurabilityLost(
            f"{doing}: {os.strerror(error)}; what the disk holds is unknown. Look at the "
            "device, then reopen the stream", path=self.path,
        )

    cdef int _usable(self) except -1:
        if self.failure:
            self._poison(self.failure, "an earlier sync of the manifest failed")
        if self._map == NULL:
            raise Closed("the manifest chunk is closed", path=self.path)
        return 0

    cdef int _store(self, const uint8_t *payload, uint64_t n) noexcept nogil:
        """Put one frame behind the last; 0, EOVERFLOW when it does not fit, or another errno."""
        cdef uint64_t total = pad8(FRAME_HEADER_BYTES + n), zero = 0
        cdef uint64_t entries = self.run.entry_count + (self.position >= self.run.next_entry_at)
        cdef uint8_t body[BODY_BYTES_MAX]
        cdef uint8_t *at = self._map + self.position
        cdef FrameHeader header
        cdef int error
        # END, index and footer must find their place in the blocks that are allocated already.
        if (footer_position(self.position + total, entries) + sizeof(Footer)
                > self.header.file_bytes):
            return EOVERFLOW
        memset(body, 0, total - FRAME_HEADER_BYTES)
        memcpy(body, payload, n)
        memset(&header, 0, sizeof(header))
        header.frame_bytes = <uint32_t> (FRAME_HEADER_BYTES + n)
        header.ordinal = <uint32_t> self.run.records
        header.timestamp_ns = self._time.now(self._time.context)
        header.durable = <uint32_t> (self.durable_position >> 3)
        header.kind = KIND_RECORD
        header.crc64 = frame_crc(self.header.salt, self.position, &header, body,
                                 total - FRAME_HEADER_BYTES)
        error = run_add(&self.run, self.position, 1, header.timestamp_ns, header.crc64)
        if error:
            return error
        mapped_store(at + FRAME_HEADER_BYTES, body, total - FRAME_HEADER_BYTES)
        mapped_store(at + 4, <uint8_t *> &header + 4, FRAME_HEADER_BYTES - 4)
        mapped_store(at + total, &zero, 8)
        store_release32(at, header.frame_bytes)
        tell_store(at, 4)
        self.position += total
        return 0

    def append(self, bytes payload not None):
        """Store one record.

        Returns:
            False when it does not fit any more (then nothing has changed), else True. It is durable
            after the next `sync`.
        """
        cdef const uint8_t *data = <const uint8_t *> <const char *> payload
        cdef uint64_t n = len(payload)
        cdef int error
        self._usable()
        if n > BODY_BYTES_MAX:
            raise ValueError(f"a manifest record of {n} bytes, at most {BODY_BYTES_MAX} fit")
        with nogil:
            error = self._store(data, n)
        if error == EOVERFLOW:
            return False
        check_errno(error, "append to the manifest", self.path)
        return True

    def sync(self, position=None):
        """Make everything below `position` (None: everything) durable.

        `DurabilityLost` when the sync fails, and from every later call.
        """
        cdef uint64_t target
        cdef int error
        self._usable()
        target = self.position if position is None else position
        if target <= self.durable_position:
            return
        with nogil:
            error = sys_fdatasync(self._fd)
        if error:
            self._poison(error, "a sync of the manifest failed")
        if target > self.durable_position:
            self.durable_position = target

    cdef int _slot(self) noexcept nogil:
        """State the durable position in the next slot; 0 or an errno."""
        cdef int error
        if self._slot_position == self.durable_position:
            return 0
        error = write_slot(self._fd, self.header.salt, self._slot_n + 1, self.durable_position,
                           self.start.base_offset + self.run.records)
        if error == 0:
            self._slot_n += 1
            self._slot_position = self.durable_position
        return error

    def seal(self):
        """Make the chunk immutable and close it.

        Order: sync, slot, END, index, footer, fdatasync, cut to the footer's end, fdatasync.
        Whatever fails poisons the writer; a reopen finishes the seal.
        """
        cdef uint8_t end[END_BYTES]
        cdef uint8_t uuid[16]
        cdef Footer footer
        cdef int error
        self.sync()
        memcpy(uuid, <const char *> <bytes> self.header.stream_uuid, 16)
        with nogil:
            error = self._slot()
            if error == 0:
                encode_end(end, self.header.salt, self.position, <uint32_t> self.run.records,
                           self._time.now(self._time.context), self.durable_position,
                           self.run.chain_crc)
                mapped_store(self._map + self.position + 4, end + 4, END_BYTES - 4)
                store_release32(self._map + self.position, END_BYTES)
                tell_store(self._map + self.position, 4)
                error = write_seal(
                    self._fd, uuid, self.header.file_id, self.header.salt, self.start.base_offset,
                    self.start.ext_id, &self.run, self.position, 0, False, NULL, &footer,
                )
        if error:
            self._poison(error, "a seal of the manifest failed")
        self._release()

    def close(self):
        """Make everything durable, say so in a slot, and give map and descriptor back.

        Again is harmless. After a failed sync it only gives them back.
        """
        cdef int error = 0
        if self._map == NULL:
            return
        try:
            if self.failure == 0 and self.run.records:
                self.sync()
                with nogil:
                    if self._slot_position != self.durable_position:
                        error = self._slot()
                        if error == 0:
                            error = sys_fdatasync(self._fd)
                if error:
                    self._poison(error, "closing the manifest failed")
        finally:
            self._release()

    def fail(self, int error):
        """Poison the writer for a failure elsewhere that its records need; `error` is the errno."""
        self.failure = error

    def abandon(self):
        """Give map and descriptor back without a sync, as the end of the process would."""
        self._release()

    cdef void _release(self) noexcept:
        if self._map != NULL:
            sys_unmap(self._map, self.header.file_bytes)
            self._map = NULL
        sys_close(self._fd)
        self._fd = -1
