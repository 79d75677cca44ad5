"""Reading a manifest chunk: its records, and by evidence what its end is worth.

The frames are scanned to the first position X without a valid one. What lies behind X is an
unfinished last write, unless something says that it was durable: a confirmation slot, the `durable`
of a frame before or behind X, or a footer.
"""

import os

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from aof2._core.checksum cimport crc64
from aof2._core.manifest_fold cimport Fold
from aof2._core.frame cimport FRAME_OK, FRAME_UNKNOWN, FrameView, check_frame
from aof2._core.layout cimport (
    FRAMES_AT,
    Footer,
    KIND_END,
    KIND_RECORD,
    SLOT_FIRST_AT,
    START_AT,
    Slot,
)
from aof2._core.logfile cimport read_header_fd, read_slot, read_start_fd
from aof2._core.lookahead cimport Ahead, look_ahead
from aof2._core.posix cimport check_errno, sys_close, sys_pread
from aof2._core.run cimport run_add, run_free, run_init
from aof2._core.seal cimport footer_position, read_footer_fd

from aof2.errors import ManifestCorrupt, VersionTooNew

CHUNK_BYTES_MIN = CHUNK_BYTES_LOWEST
CHUNK_BYTES_MAX = CHUNK_BYTES_HIGHEST

# What `ChunkReader.state` answers.
ABSENT = "absent"
CLEAN = "clean"
TORN = "torn"
UNSEALED = "unsealed"
SEALED = "sealed"


cdef class ChunkReader:
    """Reads one chunk: once when a stream is opened, or again and again behind a live writer.

    Args:
        directory, name: The file.
        stream_uuid, chunk_id: What its header must say; `ManifestCorrupt` otherwise.

    Example: `reader.read()` gives the records, then `reader.state()` says what their end is worth.
    """

    def __cinit__(self):
        run_init(&self.run)
        self._fd = -1

    def __init__(self, Directory directory not None, str name not None, *,
                 bytes stream_uuid not None, uint64_t chunk_id):
        self._directory = directory
        self.name = name
        self.path = directory.join(name)
        self._fd = directory.open_file(name)
        self.position = self.torn_end = FRAMES_AT
        self.header = read_header_fd(self._fd, self.path)
        self._size = os.fstat(self._fd).st_size
        if self.header.kind != "manifest" or self.header.stream_uuid != stream_uuid:
            raise ManifestCorrupt("the chunk belongs to another stream", path=self.path, position=0)
        if self.header.file_id != chunk_id:
            raise ManifestCorrupt(f"the chunk says it is number {self.header.file_id}",
                                  path=self.path, position=0)
        if max(self._size, self.header.file_bytes) > CHUNK_BYTES_HIGHEST or self._size < FRAMES_AT:
            raise ManifestCorrupt(f"no chunk has {self._size} bytes", path=self.path, position=0)

    def __dealloc__(self):
        run_free(&self.run)
        sys_close(self._fd)

    def close(self):
        """Give the descriptor back; again is harmless."""
        sys_close(self._fd)
        self._fd = -1

    @property
    def records(self):
        """Records read so far."""
        return self.run.records

    @property
    def end_offset(self):
        """Offset just past the last manifest record that was read."""
        return (0 if self.start is None else self.start.base_offset) + self.run.records

    @property
    def chain_crc(self):
        """Running crc64 over the checksums of the frames that were read."""
        return self.run.chain_crc

    @property
    def first_timestamp_ns(self):
        """Time stamp of the first record; 0 when there is none."""
        return self.run.first_timestamp_ns

    @property
    def last_timestamp_ns(self):
        """Time stamp of the last record that was read; 0 when there is none."""
        return self.run.last_timestamp_ns

    def __repr__(self):
        return f"ChunkReader({self.path!r}, {self.records} records to {self.position})"

    cdef int _read_file(self, uint64_t at, uint64_t n, uint8_t *target, size_t *got) except -1:
        cdef int error
        with nogil:
            error = sys_pread(self._fd, target, n, at, got)
        check_errno(error, "read a manifest chunk", self.path)
        return 0

    cdef int _scan(self, const uint8_t *data, uint64_t n, list found, Fold fold) except -1:
        """Take every whole frame of a stretch that begins at `position`, as a record of a list or
        into a fold."""
        cdef FrameView view
        cdef uint64_t at = 0, chain
        cdef int status
        while True:
            status = check_frame(data + at, n - at, self.position, self.header.salt,
                                 <int64_t> self.run.records, &view)
            if status == FRAME_UNKNOWN:
                raise VersionTooNew("a manifest frame of an unknown kind: upgrade aof2",
                                    path=self.path, position=self.position)
            if status != FRAME_OK:
                return 0
            self.low = max(self.low, view.durable_position)
            if view.kind == KIND_END:
                memcpy(&chain, view.data, 8 if view.data_bytes == 8 else 0)
                if view.data_bytes != 8 or chain != self.run.chain_crc:
                    raise ManifestCorrupt("the END frame does not continue the chain",
                                          path=self.path, position=self.position)
                self.whole = True
                return 0
            if view.kind != KIND_RECORD or view.has_ext_id or view.data_bytes > BODY_BYTES_MAX:
                raise ManifestCorrupt("not a frame of a manifest",
                                      path=self.path, position=self.position)
            if fold is not None:
                fold.fold(<const char *> view.data, view.data_bytes, True)
            else:
                found.append((self.position, (<const char *> view.data)[:view.data_bytes]))
            if run_add(&self.run, self.position, 1, view.timestamp_ns, view.crc64):
                raise MemoryError("sparse index")
            self.position += view.total_bytes
            at += view.total_bytes

    def read(self):
        """Records that were appended since the last call.

        Returns:
            `[(position, payload)]`. An unfinished or damaged frame ends the list: `state` judges.
        """
        cdef list found = []
        self._read_on(found, None)
        return found

    def replay(self, Fold fold not None):
        """Like `read`, but folds the records, without an object for any.

        Returns:
            How many there were. `ManifestCorrupt` or `VersionTooNew` for one that cannot be taken;
            `position` is then where it stands, and those before it were taken.
        """
        cdef uint64_t records = self.run.records
        self._read_on(None, fold)
        return self.run.records - records

    cdef int _read_on(self, list found, Fold fold) except -1:
        cdef uint8_t *buffer = NULL
        cdef uint8_t first[4]
        cdef size_t got = 0
        cdef Slot slot
        if self.whole:
            return 0
        if self.start is None:
            self.start = read_start_fd(self._fd, self.header)
        # The slots come before the frames: a writer that is at work only ever makes frames more.
        read_slot(self._fd, self.header.salt, &slot)
        if slot.n:
            self.slot_n, self.slot_position = slot.n, slot.durable_position
            self.low = max(self.low, slot.durable_position)
        self._read_file(self.position, 4, first, &got)
        if got < 4 or first[0] | first[1] | first[2] | first[3] == 0:
            return 0
        if self.start is None:
            # Written before the first frame, and synced with it.
            self.start = read_start_fd(self._fd, self.header)
            if self.start is None:
                # Without it nothing is believed; `state` judges whether a flush had covered it.
                return 0
        self._size = os.fstat(self._fd).st_size
        buffer = <uint8_t *> malloc(CHUNK_BYTES_HIGHEST)
        if buffer == NULL:
            raise MemoryError("scan buffer")
        try:
            self._read_file(self.position, CHUNK_BYTES_HIGHEST - self.position, buffer, &got)
            self._scan(buffer, got, found, fold)
        finally:
            free(buffer)
        return 0

    cdef int _look_ahead(self) except -1:
        """Look behind X for bytes, and for a frame that says X was durable."""
        cdef Ahead ahead
        cdef int error
        ahead.durable_position = 0
        with nogil:
            error = look_ahead(self._fd, self.header.salt, self.position, self._size, &ahead,
                               &self.torn_end)
        check_errno(error, "read a manifest chunk", self.path)
        if ahead.durable_position > self.position:
            self.low = max(self.low, ahead.durable_position)
        return 0

    cdef bint _footer_agrees(self) except -1:
        """Compare the footer with the scan and with the bytes before it."""
        cdef size_t got = 0
        cdef uint8_t *buffer = <uint8_t *> malloc(CHUNK_BYTES_HIGHEST)
        if buffer == NULL:
            raise MemoryError("scan buffer")
        try:
            self._read_file(0, self.footer.position, buffer, &got)
            return (
                self.whole
                and got == self.footer.position
                and crc64(0, buffer, got) == self.footer.footer.before_crc64
                and self.footer.footer.end_position == self.position
                and self.footer.footer.record_count == self.run.records
                and self.footer.footer.base_offset == self.start.base_offset
                and self.footer.footer.chain_crc == self.run.chain_crc
            )
        finally:
            free(buffer)

    def pristine(self):
        """True when nothing was ever written behind the start block, so that it can begin (again).

        Ask after `state` said ABSENT.
        """
        cdef uint8_t page[FRAMES_AT - SLOT_FIRST_AT]
        cdef size_t got = 0
        self._read_file(SLOT_FIRST_AT, sizeof(page), page, &got)
        return (
            self.position == self.torn_end == FRAMES_AT
            and self._size == self.header.file_bytes
            and got == sizeof(page)
            and (<const char *> page)[:got].count(b"\0") == got
        )

    def state(self):
        """Judge, by evidence, what was found after `read`.

        Returns:
            ABSENT: prepared, but without a valid frame. CLEAN: zeros follow the last frame. TORN:
            something else does, and nothing shows that it was durable. UNSEALED: the END stands,
            the footer does not, or the file was not cut behind it. SEALED: all of it agrees with
            the footer.

        `ManifestCorrupt` where something says that more was durable than is valid.
        """
        cdef uint64_t at
        self._size = os.fstat(self._fd).st_size
        if not FRAMES_AT <= self._size <= CHUNK_BYTES_HIGHEST:
            raise ManifestCorrupt(f"no chunk has {self._size} bytes", path=self.path, position=0)
        at = self._size - sizeof(Footer)
        self.footer = read_footer_fd(self._fd, self.header, at)
        if self.footer is None and self.whole:
            at = footer_position(self.position, self.run.entry_count)
            self.footer = read_footer_fd(self._fd, self.header, at)
        if self.footer is not None:
            if not self._footer_agrees():
                if self.whole and self._size == self.header.file_bytes:
                    # A power cut may keep the footer and lose the index: no sync had come yet.
                    self.footer = None
                    return UNSEALED
                raise ManifestCorrupt("the contents do not agree with the footer",
                                      path=self.path, position=self.position)
            # A file that is not cut to its footer's end shows a seal that did not come to its last
            # sync: the footer may be in the cache only, and nobody else reads such a file.
            cut = self._size != self.header.file_bytes or at + sizeof(Footer) == self._size
            return SEALED if cut else UNSEALED
        if self.whole:
            # The file is cut to its footer's end only after the footer is durable.
            if self._size != self.header.file_bytes:
                raise ManifestCorrupt("the footer of a sealed chunk is damaged",
                                      path=self.path, position=at)
            return UNSEALED
        self._look_ahead()
        if self.low > self.position:
            raise ManifestCorrupt(
                f"damaged: it was durable up to {self.low}; repair the manifest",
                path=self.path, position=self.position, offset=self.end_offset,
            )
        if self.run.records == 0:
            return ABSENT
        clean = self.torn_end == self.position and self._size == self.header.file_bytes
        return CLEAN if clean else TORN
