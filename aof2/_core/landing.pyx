"""A writer's landing ring: made at the first append, exchanged for a larger one, given back when
the stream is idle.

Its room is claimed from the host first. While two rings are there, in an exchange, both are
claimed.
"""

from libc.stdint cimport int64_t, uint64_t

from aof2._core.hotlog cimport (
    HotFile,
    HotLog,
    hot_begin_swap,
    hot_build_ring,
    hot_drop_ring,
    hot_end_swap,
    hot_swap_ring,
    hot_want_ring,
    hot_write_out,
)
from aof2._core.hotsync cimport hot_confirm, hot_flush
from aof2._core.hotthreads cimport hot_start_threads, hot_stop_threads
from aof2._core.layout cimport IndexEntry, PAGE_BYTES
from aof2._core.posix cimport check_errno
from aof2._core.ring cimport ring_bytes_for

from aof2._core.ring import RING_NAME, TEMPORARY_NAME
from aof2.errors import AofError

cdef enum:
    RECORD_EXTRA_BYTES = 64      # END and the zero word behind a frame
    DROP_WAIT_NS = 10000000000


cdef class Landing(WriterGauges):
    """What a stream's writer does about its landing ring."""

    @property
    def spare_id(self):
        """Id of the segment that comes next; None when none is ready."""
        return None if self.log.spare == NULL else self.log.spare.file_id

    @property
    def last_append_ns(self):
        """Time stamp of the newest record of the active segment; 0 when there is none."""
        return 0 if self.log.active == NULL else self.log.active.run.last_timestamp_ns

    @property
    def active_bytes(self):
        """Size of the active segment's file; 0 when there is none, or when it has no records."""
        if self.log.active == NULL or self.log.active.run.records == 0:
            return 0
        return self.log.active.file_bytes

    @property
    def slack_bytes(self):
        """Of these, bytes behind the last record, nearly all of which the seal gives back."""
        cdef HotFile *file = self.log.active
        if self.active_bytes == 0:
            return 0
        used = self.log.tail - file.ring_base + sizeof(IndexEntry) * file.run.entry_count
        return max(0, <int64_t> (file.file_bytes - used) - 4 * PAGE_BYTES)

    cdef object _claim_ring(self, uint64_t total):
        """Claim room for a ring that takes a frame of `total` bytes: its size, or what that waits
        for."""
        # Twice the frame, so that one such record is written out while the next one lands.
        return self.host.on_no_ring(
            ring_bytes_for(total + RECORD_EXTRA_BYTES),
            ring_bytes_for(2 * (total + RECORD_EXTRA_BYTES)),
        )

    cdef bint _grow_ring(self, uint64_t total) except -1:
        """The ring is full: take a larger one into use or have it made; True when it was taken."""
        cdef HotLog *log = self.log
        cdef uint64_t wanted
        if log.next_header != NULL:
            self._swap_ring()
            return True
        if log.ring_failed:
            # No room on the disk: what was claimed goes back, and the ring that there is has to do.
            log.ring_failed = False
            self.host.on_ring(log.ring_bytes + PAGE_BYTES)
        elif log.ring_wanted == 0:
            # The pace is high: a larger ring is made beside the appends.
            wanted = self.host.on_ring_growth(ring_bytes_for(2 * (total + RECORD_EXTRA_BYTES)))
            if wanted > log.ring_bytes:
                hot_want_ring(log, wanted)
        return False

    def prepare_ring(self, uint64_t ring_bytes):
        """Make a ring of that size and leave it for the append that waits for one.

        `OSError` (ENOSPC where there is no room); then nothing is left of it.
        """
        cdef int error
        with nogil:
            error = hot_build_ring(self.log, ring_bytes)
        check_errno(error, "make the landing ring", self.directory.join(RING_NAME))

    cdef object _make_ring(self, uint64_t ring_bytes):
        """Have a ring of that size now, unless somebody else has its turn: then try again. None, or
        what an append waits for that cannot have one."""
        if self.log.header == NULL or self.log.ring_bytes < ring_bytes:
            try:
                self.prepare_ring(ring_bytes)
                self._swap_ring()
            except AofError:
                raise
            except OSError as error:
                return self.host.on_ring_failed(ring_bytes, error)
        if self.log.header == NULL or self.log.swapping:
            return None  # The ring was given back meanwhile, and the claim with it.
        check_errno(hot_start_threads(self.log), "start the write-out threads", self.directory.path)
        return None

    cdef int _swap_ring(self) except -1:
        """Take the next ring into use, once everything in the old one is written out."""
        cdef HotLog *log = self.log
        cdef uint64_t tail
        cdef bint begun
        with nogil:
            begun = hot_begin_swap(log, False)
        if not begun:
            return 0
        # Puts that still fit go on until here; from now on they ask and are told to wait.
        log.ring_limit = 0
        try:
            while log.header != NULL and log.written < log.tail:
                tail = log.tail
                with nogil:
                    hot_write_out(log, tail, True)
                self._check_running()
            # A crash before the rename finds the old ring, whose frames are all written out; after
            # it an empty one.
            self.directory.rename(TEMPORARY_NAME, RING_NAME)
        except BaseException:
            hot_end_swap(log)
            raise
        with nogil:
            hot_swap_ring(log)
        self.host.on_ring(log.ring_bytes + PAGE_BYTES)
        return 0

    def drop_ring(self):
        """Give the ring back; the active segment stays, and the next append makes a ring again.

        Returns:
            True when there is none any more; False when somebody else was faster to use it.

        Raises:
            DurabilityLost: a flush failed on the way.
        """
        cdef HotLog *log = self.log
        cdef bint begun
        cdef int error
        self._check_running()
        with nogil:
            begun = hot_begin_swap(log, True)
        if not begun:
            if self.claiming == 0 and log.header == NULL and log.next_header == NULL:
                # Room may be claimed for an append that gave up before it made a ring of it.
                self.host.on_ring(0)
            return True
        # From now on puts are told to wait until the turn ends.
        log.ring_limit = 0
        try:
            with nogil:
                # Like a clean close: all is durable and a slot says so, before the name goes.
                error = hot_flush(log, log.tail, log.next_offset, DROP_WAIT_NS)
                if error == 0:
                    error = hot_confirm(log)
            self._check_running()
            if error or log.written < log.tail or log.durable < log.tail:
                hot_end_swap(log)
                return False
            self.directory.unlink(RING_NAME, missing_ok=True)
            self.directory.unlink(TEMPORARY_NAME, missing_ok=True)
            with nogil:
                hot_stop_threads(log)
            # Before an append may claim room for the next ring: that claim must stay.
            self.host.on_ring(0)
        except BaseException:
            hot_end_swap(log)
            raise
        with nogil:
            hot_drop_ring(log)
        return True
