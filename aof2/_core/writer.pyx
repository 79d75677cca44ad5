"""The writer of a stream's segments: rollover, landing ring, seal, close.

What the writer cannot decide it asks its host, which has these methods:

* `on_half_full(segment_id)`: prepare the next segment.
* `on_rolled(segment_id)`: a segment got its END and can be sealed.
* `on_started(segment_id)`: a segment became active; its first record follows.
* `on_no_segment(frame_bytes) -> WouldBlockKind`: no spare can take a frame of that size; ask for
  one, and say what the append waits for, or raise `StorageFull`.
* `on_blocked(kind, frame_bytes) -> WouldBlock`: what an append that may not wait raises.
* `on_waits(kind)`: an append begins to wait, or waits for something else from now on.
* `on_late(kind, frame_bytes) -> WaitTimeout`: what an append raises whose time is up.
* `on_waiting(kind, waited_s)`: a blocking call has waited for so long that it is worth a warning.
* `on_admitted(waited_s)`: an append that had to wait found room.
* `on_news(news)`: what `watch` was called for has happened, on this thread.
* `on_no_ring(least_bytes, good_bytes) -> int | WouldBlockKind`: the size of the ring to make now,
  whose room is claimed; or what an append waits for that cannot have one.
* `on_ring_failed(ring_bytes, error) -> WouldBlockKind`: it could not be made; what the append
  waits for.
* `on_ring_growth(good_bytes) -> int`: the size of a larger ring, whose room is claimed; or 0.
* `on_ring(file_bytes)`: the landing ring's file has a new size; 0: there is none, nor is one made.
"""

import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from aof2._core.bell cimport Bell
from aof2._core.direct cimport direct_memory, direct_open
from aof2._core.hotlog cimport (
    HOT_CLOSED,
    HOT_FORKED,
    HOT_OPEN,
    HOT_POISONED,
    HotFile,
    HotLog,
    PUT_OK,
    hot_announce,
    hot_begin_close,
    hot_end_swap,
    hot_free,
    hot_free_file,
    hot_new,
    hot_poison,
    hot_poke,
    hot_refresh,
)
from aof2._core.landing cimport Landing
from aof2._core.hotsync cimport hot_confirm, hot_flush
from aof2._core.hotthreads cimport hot_stop_threads
from aof2._core.layout cimport (
    END_BYTES,
    FRAMES_AT,
    PAGE_BYTES,
    RingHeader,
    START_AT,
    StartBlock,
)
from aof2._core.logfile cimport LogHeader, fill_start_crc, frames_limit, read_header_fd
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_pwrite, tell_locked_store
from aof2._core.timesource cimport TimeSource
from aof2._core.put cimport activate, next_ring_base, put_end
from aof2._core.run cimport run_init
from aof2._core.scan cimport Scan
from aof2._core.seal cimport FooterInfo, footer_position, rewrite_fd, write_seal

from aof2._core.ring import RING_NAME, TEMPORARY_NAME
from aof2.errors import RolloverFailed, WouldBlockKind

cdef extern from "ringwait.h" nogil:
    void ring_wake(uint32_t *word)

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)
    int pthread_cond_wait(void *cond, void *lock)

cdef extern from "<unistd.h>" nogil:
    int c_getpid "getpid"()

cdef enum:
    COORDINATE_FIRST = 1048576   # a ring base must not fall below 0
    SEAL_WAIT_NS = 100000000


cdef class SegmentWriter(Landing):
    """Appends to one stream. Everything that waits releases the GIL.

    Args:
        directory: The stream's `segments/`.
        stream: The stream's name, for errors.
        host: See the module's text.
        time: Where time stamps come from.
        stream_uuid, root_id, epoch, ext_id: Written into headers and start blocks.
        next_offset: Offset of the next record.
        previous: `(segment id, END position, end offset, chain crc)` of the last sealed segment.
        segment_bytes_max: Size of the largest segment; no frame may be larger than its room.
        bell: Rung from C threads for what `watch` was called for. The rest is configuration.
    """

    def __init__(
        self, Directory directory not None, *, str stream, host, TimeSource time not None,
        bytes stream_uuid not None, bytes root_id not None, uint64_t epoch, uint64_t ext_id,
        uint64_t next_offset, previous, interval_s, flush_bytes, bint strict,
        double confirm_interval_s, uint64_t unflushed_bytes_max,
        uint64_t record_bytes_max, uint64_t batch_bytes_max, uint64_t segment_bytes_max,
        default_timeout_s, Bell bell=None,
    ):
        self.log = hot_new()
        if self.log == NULL:
            raise MemoryError("writer")
        self.bell = bell
        self.log.bell = NULL if bell is None else bell.state
        self._pid = c_getpid()
        self.directory, self.stream, self.host, self.time = directory, stream, host, time
        self.stream_uuid, self.root_id, self.epoch = stream_uuid, root_id, epoch
        self.ext_id = ext_id
        self.log.dirfd = directory.fd
        memcpy(self.log.stream_uuid, <const char *> stream_uuid, 16)
        self.log.next_offset = self.log.durable_offset = next_offset
        self.log.tail = self.log.written = self.log.durable = COORDINATE_FIRST
        self.log.interval_ns = -1 if interval_s is None else <int64_t> (interval_s * 1e9)
        self.log.flush_bytes = (1 << 62) if flush_bytes is None else flush_bytes
        self.log.strict = strict
        self.log.confirm_ns = <int64_t> (confirm_interval_s * 1e9)
        self.log.unflushed_bytes_max = unflushed_bytes_max
        self.record_bytes_max, self.batch_bytes_max = record_bytes_max, batch_bytes_max
        self.file_room = frames_limit(segment_bytes_max) - FRAMES_AT
        self.default_timeout_s = -1.0 if default_timeout_s is None else default_timeout_s
        if previous is not None:
            (self.previous_id, self.previous_end_position, self.previous_end_offset,
             self.previous_chain_crc) = previous

    def __dealloc__(self):
        if self.log == NULL:
            return
        if self._pid != c_getpid():
            self.log.state = HOT_FORKED
        else:
            with nogil:
                hot_stop_threads(self.log)
        hot_free(self.log)

    def add_spare(self, str name not None, uint64_t file_id, *, bint direct=False):
        """Take a prepared segment as the next one.

        Args:
            direct: Write it past the page cache, where the file system can.
        """
        cdef HotFile *file
        cdef int direct_fd = -1
        cdef int fd = self.directory.open_file(name, True)
        cdef LogHeader header
        try:
            header = read_header_fd(fd, self.directory.join(name))
            if direct:
                direct_fd = direct_open(self.directory, name, True)
            if direct_fd >= 0 and self.log.block == NULL:
                self.log.block = direct_memory(PAGE_BYTES)
            if direct_fd >= 0 and self.log.block == NULL:
                raise MemoryError("block")
            file = <HotFile *> calloc(1, sizeof(HotFile))
            if file == NULL:
                raise MemoryError("segment")
        except BaseException:
            sys_close(fd)
            sys_close(direct_fd)
            raise
        run_init(&file.run)
        file.fd, file.file_id, file.salt = fd, file_id, header.salt
        file.direct_fd = direct_fd
        file.file_bytes, file.ext_id = header.file_bytes, self.ext_id
        pthread_mutex_lock(&self.log.lock)
        old = self.log.spare
        self.log.spare = file
        hot_announce(self.log)
        pthread_mutex_unlock(&self.log.lock)
        hot_free_file(old)

    def give_back_spare(self):
        """Let go of the spare segment; returns its id, or None when there is none."""
        cdef HotFile *file = self.log.spare
        if file == NULL:
            return None
        file_id, self.log.spare = file.file_id, NULL
        hot_free_file(file)
        return file_id

    cdef int _write_start_of_spare(self) except -1:
        """The start block of the next file; it states how this one ends."""
        cdef HotFile *file = self.log.spare
        cdef HotFile *active = self.log.active
        cdef StartBlock block
        memset(&block, 0, sizeof(block))
        if active != NULL:
            self.previous_id = active.file_id
            self.previous_end_position = self.log.tail - active.ring_base
            self.previous_end_offset = self.log.next_offset
            self.previous_chain_crc = active.run.chain_crc
        file.base_offset = block.base_offset = self.log.next_offset
        file.ring_base = block.ring_base = next_ring_base(self.log)
        block.epoch = self.epoch
        file.ext_id = block.ext_id = self.ext_id
        memcpy(block.root_id, <const char *> self.root_id, 16)
        block.previous_id = self.previous_id
        block.previous_end_position = self.previous_end_position
        block.previous_end_offset = self.previous_end_offset
        block.previous_chain_crc = self.previous_chain_crc
        fill_start_crc(&block, file.salt)
        error = sys_pwrite(file.fd, &block, sizeof(block), START_AT)
        if error:
            raise RolloverFailed(
                f"the next segment's start block could not be written ({os.strerror(error)}); "
                "nothing was appended", stream=self.stream, segment=file.file_id,
                path=self.directory.path)
        return 0

    cdef int _roll(self) except -1:
        """Start block of the next, END in this, and the next is active; a PutStatus."""
        cdef HotFile *file
        cdef HotFile *old = self.log.active
        # The next file begins up to a page behind the END; what the ring has there must be out.
        cdef int status = hot_refresh(self.log, END_BYTES + PAGE_BYTES)
        if status != PUT_OK:
            return status
        self._write_start_of_spare()
        if old != NULL:
            status = put_end(self.log, self.time.now(self.time.context))
            if status != PUT_OK:
                return status
        file, self.log.spare = self.log.spare, NULL
        activate(self.log, file)
        self.log.wake_at = 0
        if old != NULL:
            self.host.on_rolled(old.file_id)
        self.host.on_started(file.file_id)
        return PUT_OK

    def end_segment(self, *, bint nowait=False):
        """Put the END into the active segment, so that it can be sealed.

        Args:
            nowait: Raise `WouldBlock` instead of waiting for room in the ring.

        Returns:
            Its id, or None when there is no active segment or it has no records.
        """
        cdef HotFile *file = self.log.active
        cdef int status
        self._check_running()
        if file == NULL or file.run.records == 0:
            return None
        while True:
            # Anew in each round: while it waits, others append.
            self.previous_id = file.file_id
            self.previous_end_position = self.log.tail - file.ring_base
            self.previous_end_offset = self.log.next_offset
            self.previous_chain_crc = file.run.chain_crc
            status = put_end(self.log, self.time.now(self.time.context))
            if status == PUT_OK:
                break
            if nowait:
                hot_poke(self.log)
                raise self.host.on_blocked(WouldBlockKind.FLUSH, END_BYTES)
            with nogil:
                hot_flush(self.log, self.log.tail, 0, SEAL_WAIT_NS)
            self._check_running()
            if self.log.active != file:
                break
        self.host.on_rolled(file.file_id)
        return file.file_id

    def resume(self, str name not None, Scan scan not None):
        """Go on in the segment where a clean close left off."""
        cdef HotFile *file
        cdef HotLog *log = self.log
        self.add_spare(name, scan.header.file_id)
        # The sync of the last slot may have failed. The footer's sum covers it, so it is to be
        # written with the next flush.
        rewrite_fd(log.spare.fd, START_AT, FRAMES_AT, scan.header.path)
        file, log.spare = log.spare, NULL
        file.base_offset = scan.start.base_offset
        file.ring_base = scan.start.ring_base
        file.ext_id = scan.start.ext_id
        file.run = scan.run
        scan.run_taken = True
        file.durable_position = scan.end_position
        file.slot_n, file.slot_position = scan.slot_n, scan.slot_position
        # There is no ring yet: the first append makes one.
        activate(log, file)
        log.tail = log.written = log.durable = file.ring_base + scan.end_position

    def finish_seal(self, uint64_t segment_id, uint64_t coordinator_watermark):
        """Seal a segment that has its END: flush it, write index and footer.

        Returns:
            A `FooterInfo`; None for a segment that was retired already. It stays among `unsealed`
            until `retire`, so that a reader finds it here or in the manifest's index at any moment.
        """
        cdef HotFile *file = self._find(segment_id)
        cdef HotLog *log = self.log
        cdef const uint8_t *uuid = <const uint8_t *> <char *> self.stream_uuid
        cdef int error
        if file == NULL:
            return None
        # A pointer or a record of a segment says nothing once a sync has failed, sealed or not.
        self._check_running()
        if file.end == 0:
            raise RolloverFailed("the segment is still active", stream=self.stream,
                                 segment=segment_id)
        if not file.sealed:
            with nogil:
                error = hot_flush(log, file.end, 0, <int64_t> 3600 * 1000000000)
            self._check_running()
            check_errno(error, "flush before the seal", self.directory.path)
            with nogil:
                error = write_seal(
                    file.fd, uuid, file.file_id, file.salt, file.base_offset, file.ext_id,
                    &file.run, file.end_position, coordinator_watermark, False,
                    &file.summed if file.summed_to == file.end_position + END_BYTES else NULL,
                    &file.footer,
                )
            if error:
                hot_poison(log, error)
                self._check_running()
            file.sealed = True
        info = FooterInfo.__new__(FooterInfo)
        (<FooterInfo> info).footer = file.footer
        (<FooterInfo> info).position = footer_position(
            file.footer.end_position, file.footer.index_count)
        return info

    def retire(self, uint64_t segment_id):
        """Let go of the oldest segment, once it is sealed and found elsewhere."""
        cdef HotFile *file = self.log.oldest
        cdef HotLog *log = self.log
        if file == NULL or file.file_id != segment_id or not file.sealed:
            return
        with nogil:
            pthread_mutex_lock(&log.lock)
            while log.syncing or log.writing:
                pthread_cond_wait(&log.change, &log.lock)
            log.oldest = file.next
            hot_announce(log)
            pthread_mutex_unlock(&log.lock)
        hot_free_file(file)

    def mark_forked(self):
        """In a forked child: every later call raises `ForkedHandle`."""
        self.log.state = HOT_FORKED
        self.log.file_limit = 0
        self.log.header, self.log.ring = NULL, NULL
        self.log.threads = False

    def close(self):
        """Flush, state the durable position in the file, stop the threads; again is harmless.

        A poisoned or forked writer only stops. The ring is removed: the files have everything."""
        cdef HotLog *log = self.log
        cdef int error = 0
        if log.state == HOT_OPEN:
            # An append under way ends before the GIL is here again; later ones find no room.
            with nogil:
                hot_begin_close(log)
            if log.header != NULL:
                with nogil:
                    error = hot_flush(log, log.tail, log.next_offset,
                                      <int64_t> 3600 * 1000000000)
                    if error == 0:
                        error = hot_confirm(log)
            if error == 0:
                log.state = HOT_CLOSED
            hot_end_swap(log)
        log.file_limit = 0
        if log.state != HOT_FORKED:
            with nogil:
                hot_stop_threads(log)
            if log.header != NULL and log.state == HOT_CLOSED:
                log.header.closed = 1
                tell_locked_store(log.header, sizeof(RingHeader))
                ring_wake(&log.header.waiters)
                self.directory.unlink(RING_NAME, missing_ok=True)
                self.directory.unlink(TEMPORARY_NAME, missing_ok=True)
        if log.state == HOT_POISONED:
            self._check_running()

    def stop_appends(self):  # From now on every append asks the host, which then refuses.
        self.log.file_limit = 0
