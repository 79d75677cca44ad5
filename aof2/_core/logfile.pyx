"""The one log-file format: preparing a file, its static header, start block and confirmation slots.

Segments and manifest chunks are the same format, so one scanner (`scan`) and one seal (`seal`)
serve both. `docs/format.md` is the normative text.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport (
    END_BYTES,
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    Footer,
    INCOMPATIBLE_KNOWN,
    IndexEntry,
    PAGE_BYTES,
    SLOT_FIRST_AT,
    SLOT_STEP,
    START_AT,
    Slot,
    StartBlock,
    StaticHeader,
)
from aof2._core.directory cimport Directory
from aof2._core.posix cimport (
    check_errno,
    sys_close,
    sys_fallocate,
    sys_fdatasync,
    sys_pread,
    sys_pwrite,
    sys_random,
)

from aof2.errors import ManifestCorrupt, SegmentCorrupt, VersionTooNew

_MAGICS = {"segment": b"AOF2SEGM", "manifest": b"AOF2MLOG"}


# --- places in a file --------------------------------------------------------------------------


cdef uint64_t frames_limit(uint64_t file_bytes) noexcept nogil:
    # END, index and footer must fit behind the last frame: 16 bytes of index per 4096 of frames,
    # and up to one page of padding before the footer.
    cdef uint64_t reserve = END_BYTES + 2 * sizeof(IndexEntry) + PAGE_BYTES + sizeof(Footer)
    if file_bytes < FRAMES_AT + reserve:
        return FRAMES_AT
    return FRAMES_AT + (file_bytes - FRAMES_AT - reserve) // (4096 + 16) * 4096


def frames_end(uint64_t file_bytes):
    """Position at or before which the last frame of a file of `file_bytes` ends."""
    return frames_limit(file_bytes)


def record_room(uint64_t file_bytes):
    """Largest payload in bytes that fits a file of `file_bytes` as its only record."""
    return max(0, <int64_t> frames_limit(file_bytes) - FRAMES_AT - FRAME_HEADER_BYTES - 8)


# --- preparing ---------------------------------------------------------------------------------


def prepare(Directory directory not None, str name not None, *, str kind, bytes stream_uuid,
            uint64_t file_id, uint64_t file_bytes, int64_t created_ns):
    """Make a preallocated, empty log file that is ready to become active.

    Args:
        directory: Where it lies.
        name: Its final name. A file of that name gives way in one step; it must never have begun.
        kind: `"segment"` or `"manifest"`.
        stream_uuid: 16 bytes.
        file_id: Segment or chunk id.
        file_bytes: Size; every block is allocated now, so that no later write can find the disk
            full.
        created_ns: Time stamp of the header.

    Order: temporary name, allocate, static header, fdatasync, rename, sync of the directory. A
    failure removes the temporary file and raises `OSError` (ENOSPC where there is no room).
    """
    cdef StaticHeader header
    cdef bytes magic = _MAGICS[kind]
    cdef str temporary = f".tmp-{name}"
    cdef int fd, error
    memset(&header, 0, sizeof(header))
    memcpy(header.magic, <const char *> magic, 8)
    header.version = FORMAT_VERSION
    memcpy(header.stream_uuid, <const char *> stream_uuid, 16)
    header.file_id = file_id
    header.file_bytes = file_bytes
    header.created_ns = created_ns
    check_errno(sys_random(&header.salt, 8), "draw a salt", None)
    header.crc64 = crc64(0, &header, sizeof(header) - 8)
    directory.unlink(temporary, missing_ok=True)
    fd = directory.open_file(temporary, True, True)
    with nogil:
        error = sys_fallocate(fd, file_bytes)
        if error == 0:
            error = sys_pwrite(fd, &header, sizeof(header), 0)
        if error == 0:
            error = sys_fdatasync(fd)
            directory.note_sync(error)
        sys_close(fd)
    if error:
        directory.unlink(temporary)
        check_errno(error, "prepare a log file", directory.join(name))
    directory.rename(temporary, name)
    directory.sync()


# --- headers -----------------------------------------------------------------------------------


cdef class LogHeader:
    """The static header of a log file (bytes 0-2047), checked."""

    def __repr__(self):
        return f"LogHeader({self.kind} {self.file_id}, {self.file_bytes} bytes)"


cdef LogHeader read_header_fd(int fd, str path):
    cdef StaticHeader raw
    cdef size_t got = 0
    cdef LogHeader header = LogHeader.__new__(LogHeader)
    check_errno(sys_pread(fd, &raw, sizeof(raw), 0, &got), "read header", path)
    header.path = path
    header.kind = ""
    for kind, magic in _MAGICS.items():
        if got == sizeof(raw) and memcmp(raw.magic, <const char *> <bytes> magic, 8) == 0:
            header.kind = kind
    corrupt = ManifestCorrupt if path.endswith(".mlog") else SegmentCorrupt
    if not header.kind:
        raise corrupt("the static header has no known magic; restore the file from another copy",
                      path=path, position=0)
    if raw.crc64 != crc64(0, &raw, sizeof(raw) - 8):
        raise corrupt("the static header fails its checksum; restore the file from another copy",
                      path=path, position=0)
    if raw.version > FORMAT_VERSION or raw.incompatible & ~(<uint32_t> INCOMPATIBLE_KNOWN):
        raise VersionTooNew(
            f"format version {raw.version}, features {raw.incompatible:#x}: upgrade aof2", path=path
        )
    header.stream_uuid = (<char *> raw.stream_uuid)[:16]
    header.file_id = raw.file_id
    header.file_bytes = raw.file_bytes
    header.salt = raw.salt
    header.created_ns = raw.created_ns
    return header


def read_header(Directory directory not None, str name not None):
    """Read and check a file's static header.

    Returns:
        A `LogHeader`. `SegmentCorrupt` or `ManifestCorrupt` when it does not check.
    """
    cdef int fd = directory.open_file(name)
    try:
        return read_header_fd(fd, directory.join(name))
    finally:
        sys_close(fd)


cdef class StartInfo:
    """The start block of a log file: what became true when the file became active.

    Args are the block's fields, in the order of the format; bytes for `root_id`.
    """

    def __init__(self, *, uint64_t base_offset, uint64_t epoch, bytes root_id not None,
                 uint64_t ring_base=0, uint64_t ext_id=0, uint64_t previous_id=0,
                 uint64_t previous_end_position=0, uint64_t previous_end_offset=0,
                 uint64_t previous_chain_crc=0):
        memset(&self.block, 0, sizeof(self.block))
        self.base_offset = self.block.base_offset = base_offset
        self.ring_base = self.block.ring_base = ring_base
        self.epoch = self.block.epoch = epoch
        self.ext_id = self.block.ext_id = ext_id
        self.root_id = root_id
        memcpy(self.block.root_id, <const char *> root_id, 16)
        self.previous_id = self.block.previous_id = previous_id
        self.previous_end_position = self.block.previous_end_position = previous_end_position
        self.previous_end_offset = self.block.previous_end_offset = previous_end_offset
        self.previous_chain_crc = self.block.previous_chain_crc = previous_chain_crc

    def __repr__(self):
        return f"StartInfo(base_offset={self.base_offset}, epoch={self.epoch})"


cdef void fill_start_crc(StartBlock *block, uint64_t salt) noexcept nogil:
    block.crc64 = crc64(crc64(0, &salt, 8), block, sizeof(StartBlock) - 8)


cdef StartInfo read_start_fd(int fd, LogHeader header):
    cdef StartBlock raw
    cdef size_t got = 0
    cdef uint64_t crc
    check_errno(sys_pread(fd, &raw, sizeof(raw), START_AT, &got), "read start block", header.path)
    crc = raw.crc64
    fill_start_crc(&raw, header.salt)
    if got != sizeof(raw) or crc != raw.crc64:
        return None
    return StartInfo(
        base_offset=raw.base_offset, epoch=raw.epoch, root_id=(<char *> raw.root_id)[:16],
        ring_base=raw.ring_base, ext_id=raw.ext_id, previous_id=raw.previous_id,
        previous_end_position=raw.previous_end_position,
        previous_end_offset=raw.previous_end_offset, previous_chain_crc=raw.previous_chain_crc,
    )


def write_start(Directory directory not None, str name not None, StartInfo start not None):
    """Write the start block that makes a prepared file active; not synced by itself."""
    cdef int fd = directory.open_file(name, True)
    try:
        header = read_header_fd(fd, directory.join(name))
        fill_start_crc(&start.block, header.salt)
        check_errno(sys_pwrite(fd, &start.block, sizeof(StartBlock), START_AT), "write",
                    header.path)
    finally:
        sys_close(fd)


# --- confirmation slots ------------------------------------------------------------------------


cdef int write_slot(
    int fd, uint64_t salt, uint64_t n, uint64_t durable_position, uint64_t next_offset
) noexcept nogil:
    cdef uint64_t words[5]
    cdef Slot slot
    words[0] = salt
    words[1] = slot.n = n
    words[2] = slot.durable_position = durable_position
    words[3] = slot.next_offset = next_offset
    slot.crc64 = crc64(0, words, 32)
    return sys_pwrite(fd, &slot, sizeof(slot), SLOT_FIRST_AT + (n & 1) * SLOT_STEP)


cdef int read_slot(int fd, uint64_t salt, Slot *newest) except -1:
    cdef Slot slot
    cdef uint64_t words[4]
    cdef size_t got = 0
    cdef int i
    memset(newest, 0, sizeof(Slot))
    for i in range(2):
        check_errno(
            sys_pread(fd, &slot, sizeof(slot), SLOT_FIRST_AT + i * SLOT_STEP, &got), "read", None
        )
        words[0] = salt
        memcpy(&words[1], &slot, 24)
        if got == sizeof(slot) and slot.crc64 == crc64(0, words, 32) and slot.n > newest.n:
            newest[0] = slot
    return 0
