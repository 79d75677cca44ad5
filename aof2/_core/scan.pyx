"""Scanning a log file for its valid prefix, from the file and from the landing ring behind it."""

import os

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from aof2._core.frame cimport FRAME_OK, FRAME_SHORT, FRAME_UNKNOWN, FrameView, check_frame
from aof2._core.layout cimport END_BYTES, FRAMES_AT, IndexEntry, KIND_END, START_AT, Slot
from aof2._core.logfile cimport read_header_fd, read_slot, read_start_fd
from aof2._core.lookahead cimport data_bytes, look_ahead, look_ahead_ring
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_fdatasync, sys_pread, sys_pwrite
from aof2._core.ringview cimport RingView, ring_at
from aof2._core.run cimport run_add, run_find, run_find_time, run_free, run_init

from aof2.errors import ManifestCorrupt, SegmentCorrupt, VersionTooNew

cdef enum:
    SCAN_BYTES = 524288          # stays in the processor's cache



cdef class Scan:
    """What a scan of a started file found: its valid prefix, and what the file says about
    itself."""

    def __cinit__(self):
        run_init(&self.run)
        memset(&self.ahead, 0, sizeof(self.ahead))

    def __dealloc__(self):
        if not self.run_taken:
            run_free(&self.run)

    @property
    def records(self):
        """Records in the valid prefix."""
        return self.run.records

    @property
    def end_offset(self):
        """Offset just past the last record of the valid prefix."""
        return (0 if self.start is None else self.start.base_offset) + self.run.records

    @property
    def durable_witness(self):
        """Largest durable position that a frame of the prefix claims."""
        return self.run.durable_witness

    @property
    def durable_low(self):
        """Position below which slots or frames of this very file show that a flush covered it."""
        return max(<uint64_t> FRAMES_AT, self.slot_position, self.run.durable_witness,
                   self.ahead.durable_position)

    @property
    def claims_durable(self):
        """Whether anything in this file shows that a flush happened while it was being written."""
        return self.durable_low > FRAMES_AT

    @property
    def begun_bytes(self):
        """Bytes that were written where frames belong, valid or not."""
        return self.torn_end - FRAMES_AT

    @property
    def clean(self):
        """Whether a close stated the end of the file, and nothing follows it."""
        return self.slot_position == self.end_position and self.torn_end == self.end_position

    @property
    def chain_crc(self):
        """Running crc64 over the checksums of the prefix's frames."""
        return self.run.chain_crc

    def locate(self, uint64_t offset):
        """Position of a frame border at or before a record, as far as the scan saw."""
        cdef const IndexEntry *entry = run_find(
            self.run.entries, self.run.entry_count, offset - self.start.base_offset)
        return FRAMES_AT if entry == NULL else entry.position

    def locate_time(self, int64_t timestamp_ns):
        """Position of a frame border before which every record is older than the time."""
        cdef const IndexEntry *entry = run_find_time(
            self.run.entries, self.run.entry_count, timestamp_ns)
        return FRAMES_AT if entry == NULL else entry.position

    def __repr__(self):
        return f"Scan({self.records} records to {self.end_position}, whole={self.whole})"


cdef object _corrupt_class(Scan scan):
    return ManifestCorrupt if scan.header.kind == "manifest" else SegmentCorrupt


cdef int _take(Scan scan, FrameView *view) except -1:
    """Add a valid frame to the scan; 1 when it was the END."""
    if view.durable_position > scan.run.durable_witness:
        scan.run.durable_witness = view.durable_position
    if view.kind == KIND_END:
        if view.data_bytes != 8 or memcmp(view.data, &scan.run.chain_crc, 8) != 0:
            raise _corrupt_class(scan)(
                "the END does not agree with the frames before it; restore the file from a copy",
                path=scan.header.path, position=scan.end_position,
            )
        scan.whole = True
        return 1
    if run_add(&scan.run, view.position, view.count, view.timestamp_ns, view.crc64):
        raise MemoryError("sparse index")
    scan.end_position += view.total_bytes
    return 0


cdef int _scan_stretch(
    Scan scan, const uint8_t *data, uint64_t have, uint64_t *used, uint64_t *needed
) except -1:
    """Take every frame that lies whole in a stretch; 1 when the END was among them."""
    cdef FrameView view
    used[0] = 0
    while True:
        scan.status = check_frame(
            data + used[0], have - used[0], scan.end_position, scan.header.salt,
            <int64_t> scan.run.records, &view,
        )
        needed[0] = view.total_bytes
        if scan.status != FRAME_OK:
            return 0
        used[0] += view.total_bytes
        if _take(scan, &view):
            return 1


cdef int _scan_file(int fd, Scan scan, uint64_t size) except -1:
    """Scan what is in the file, in stretches that begin on a frame border."""
    cdef uint64_t wanted = SCAN_BYTES, used = 0, needed = 0
    cdef size_t got = 0
    cdef int error
    cdef uint8_t *buffer = <uint8_t *> malloc(wanted)
    try:
        while True:
            if buffer == NULL:
                raise MemoryError("scan buffer")
            with nogil:
                error = sys_pread(fd, buffer, min(wanted, size - scan.end_position),
                                  scan.end_position, &got)
            check_errno(error, "scan", scan.header.path)
            if _scan_stretch(scan, buffer, got, &used, &needed) or scan.status != FRAME_SHORT:
                return 0
            if used == 0:
                if needed <= wanted or scan.end_position + needed > size:
                    return 0
                # One frame is longer than the buffer.
                free(buffer)
                wanted = needed
                buffer = <uint8_t *> malloc(wanted)
    finally:
        free(buffer)


cdef int _scan_ring(Scan scan, RingView ring) except -1:
    """Go on with frames that only the landing ring has."""
    cdef FrameView view
    cdef const uint8_t *at
    cdef uint64_t available
    while not scan.whole:
        at = ring_at(ring, scan.start.ring_base + scan.end_position, &available)
        if at == NULL or check_frame(at, available, scan.end_position, scan.header.salt,
                                     <int64_t> scan.run.records, &view) != FRAME_OK:
            return 0
        if scan.ring_from == 0:
            scan.ring_from = scan.end_position
        _take(scan, &view)
    return 0


cdef int _find_torn_end(int fd, Scan scan, uint64_t size) except -1:
    """Find the last byte behind the valid prefix that is not zero."""
    cdef uint8_t *buffer = <uint8_t *> malloc(SCAN_BYTES)
    cdef uint64_t at = scan.end_position
    cdef size_t got = 0, i
    if buffer == NULL:
        raise MemoryError("scan buffer")
    scan.torn_end = scan.end_position
    try:
        while at < size:
            check_errno(sys_pread(fd, buffer, min(<uint64_t> SCAN_BYTES, size - at), at, &got),
                        "scan", scan.header.path)
            if got == 0:
                break
            i = data_bytes(buffer, got)
            if i:
                scan.torn_end = at + i
            at += got
    finally:
        free(buffer)
    return 0


cdef int _look_behind(int fd, Scan scan, uint64_t size, RingView ring, bint ahead) except -1:
    """Find the last byte behind the valid prefix that is not zero; with `ahead`, also what valid
    frames there and in the ring say was durable."""
    cdef uint64_t salt = scan.header.salt, ring_base = 0
    cdef int error
    if not ahead:
        return _find_torn_end(fd, scan, size)
    with nogil:
        error = look_ahead(fd, salt, scan.end_position, size, &scan.ahead, &scan.torn_end)
    check_errno(error, "scan", scan.header.path)
    if ring is not None and (scan.start is not None or ring.header.salt == salt):
        # Without a good start block the ring says where its bytes lie, if they are this file's.
        ring_base = ring.header.ring_base if scan.start is None else scan.start.ring_base
        with nogil:
            look_ahead_ring(ring, salt, ring_base, scan.end_position, size, &scan.ahead)
    return 0


cdef bint _lost_start(
    int fd, Scan scan, uint64_t size, RingView ring, bint ahead
) except -1:
    """Judge a file without a good start block: False when nothing was ever written behind it.

    The first flush syncs the block together with the first frames, and may not have come.
    """
    _look_behind(fd, scan, size, ring, ahead)
    if scan.claims_durable:
        raise _corrupt_class(scan)(
            "the start block is damaged, but what follows it was durable",
            path=scan.header.path, position=START_AT,
        )
    scan.torn_end = max(scan.torn_end, scan.end_position)
    scan.end_position = FRAMES_AT
    return scan.torn_end > FRAMES_AT


def scan(Directory directory not None, str name not None, *, RingView ring=None,
         bint look_ahead=False):
    """Find the valid prefix of a file that was started and may not be sealed.

    Args:
        directory, name: The file.
        ring: The stream's landing ring, for frames that were not written out when the process died.
        look_ahead: Look behind the prefix for valid frames that say what was durable. A live writer
            may have written them since the prefix was read: beside one, scan again before that is
            believed.

    Returns:
        A `Scan`; None for a file that was prepared but never started (no start block, or no valid
        frame). Its `start` is None where the start block is lost and no flush is known to have
        covered it. A file whose header is damaged raises `SegmentCorrupt` or `ManifestCorrupt`.

    One pass of `pread`; O(bytes written).
    """
    cdef int fd = directory.open_file(name)
    cdef Scan scan = Scan.__new__(Scan)
    cdef uint64_t size
    cdef Slot slot
    try:
        size = os.fstat(fd).st_size
        scan.header = read_header_fd(fd, directory.join(name))
        scan.start = read_start_fd(fd, scan.header)
        scan.end_position = FRAMES_AT
        read_slot(fd, scan.header.salt, &slot)
        scan.slot_n = slot.n
        scan.slot_position = slot.durable_position
        scan.slot_offset = slot.next_offset
        _scan_file(fd, scan, size)
        if scan.start is None and (scan.records or scan.slot_n):
            # A live writer may have started the file between the two looks.
            scan.start = read_start_fd(fd, scan.header)
        if not scan.whole and size < scan.header.file_bytes:
            # Preallocated and synced before it is used; only a seal shortens it, after the END.
            raise _corrupt_class(scan)(
                f"the file has {size} bytes, but its header says {scan.header.file_bytes}: "
                "restore it from a backup",
                path=scan.header.path, position=scan.end_position,
            )
        if scan.start is None:
            return scan if _lost_start(fd, scan, size, ring, look_ahead) else None
        if scan.status == FRAME_UNKNOWN:
            raise VersionTooNew("a frame of an unknown kind: upgrade aof2", path=scan.header.path,
                                position=scan.end_position)
        if ring is not None and not scan.whole:
            _scan_ring(scan, ring)
        if not scan.whole:
            _look_behind(fd, scan, size, ring, look_ahead)
            if scan.records == 0 and scan.torn_end <= FRAMES_AT and not scan.claims_durable:
                return None
        return scan
    finally:
        sys_close(fd)


def write_out_ring(Directory directory not None, str name not None, Scan scan not None,
                   RingView ring not None):
    """Write the frames that only the ring had into their file, and sync them."""
    cdef int fd = directory.open_file(name, True)
    cdef const uint8_t *at
    cdef uint64_t position = scan.ring_from, available, n
    cdef uint64_t end = scan.end_position + (END_BYTES if scan.whole else 0)
    try:
        while position < end:
            at = ring_at(ring, scan.start.ring_base + position, &available)
            n = min(available, end - position)
            check_errno(sys_pwrite(fd, at, n, position), "write out the ring", scan.header.path)
            position += n
        check_errno(sys_fdatasync(fd), "write out the ring", scan.header.path)
    finally:
        sys_close(fd)


def read_bytes(Directory directory not None, str name not None, uint64_t start, uint64_t end):
    """Bytes `[start, end)` of a file, to keep what a recovery cuts off."""
    cdef int fd = directory.open_file(name)
    cdef size_t got = 0
    cdef bytearray out = bytearray(end - start)
    try:
        check_errno(sys_pread(fd, <char *> out, end - start, start, &got), "read",
                    directory.join(name))
        return bytes(out[:got])
    finally:
        sys_close(fd)
