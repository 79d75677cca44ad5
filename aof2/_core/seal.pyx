"""Sealing a log file: END, index, footer; reading footers."""

import os

from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64, crc64_combine
from aof2._core.frame cimport frame_crc
from aof2._core.layout cimport (
    END_BYTES,
    FORMAT_VERSION,
    FRAMES_AT,
    Footer,
    FrameHeader,
    IndexEntry,
    KIND_END,
    PAGE_BYTES,
    START_AT,
)
from aof2._core.logfile cimport LogHeader, read_header_fd
from aof2._core.directory cimport Directory
from aof2._core.posix cimport (
    check_errno, sys_close, sys_fallocate, sys_fdatasync, sys_ftruncate, sys_pread, sys_pwrite,
)
from aof2._core.run cimport Run
from aof2._core.scan cimport Scan

from aof2.errors import ManifestCorrupt, SegmentCorrupt, VersionTooNew

cdef enum:
    COPY_BYTES = 4194304


cdef uint64_t footer_position(uint64_t end_position, uint64_t index_count) noexcept nogil:
    cdef uint64_t index_end = end_position + END_BYTES + index_count * sizeof(IndexEntry)
    return (index_end + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


cdef uint64_t encode_end(
    uint8_t *target, uint64_t salt, uint64_t position, uint32_t ordinal, int64_t timestamp_ns,
    uint64_t durable_position, uint64_t chain_crc,
) noexcept nogil:
    cdef FrameHeader header
    memset(&header, 0, sizeof(header))
    header.frame_bytes = END_BYTES
    header.ordinal = ordinal
    header.timestamp_ns = timestamp_ns
    header.durable = <uint32_t> (durable_position // 8)
    header.kind = KIND_END
    header.crc64 = frame_crc(salt, position, &header, <uint8_t *> &chain_crc, 8)
    memcpy(target, &header, sizeof(header))
    memcpy(target + sizeof(header), &chain_crc, 8)
    return END_BYTES


cdef int _crc_of_file(int fd, uint64_t end, uint64_t *crc) noexcept nogil:
    cdef size_t got = 0
    cdef uint64_t at = 0
    cdef int error = 0
    cdef uint8_t *buffer = <uint8_t *> malloc(262144)
    if buffer == NULL:
        return EIO
    crc[0] = 0
    while at < end and error == 0:
        error = sys_pread(fd, buffer, min(<uint64_t> 262144, end - at), at, &got)
        if error == 0 and got == 0:
            error = EIO
        crc[0] = crc64(crc[0], buffer, got)
        at += got
    free(buffer)
    return error


cdef int _crc_by_parts(
    int fd, uint64_t end, Run *run, uint64_t index_position, uint64_t frames_crc64, uint64_t *crc
) noexcept nogil:
    """The same where the frames' part is known: what lies before them is read, the index is in
    memory, and nothing was ever written behind it."""
    cdef uint8_t[PAGE_BYTES] zeros
    cdef uint64_t index_bytes = run.entry_count * sizeof(IndexEntry)
    cdef int error = _crc_of_file(fd, FRAMES_AT, crc)
    memset(zeros, 0, PAGE_BYTES)
    crc[0] = crc64_combine(crc[0], frames_crc64, index_position - FRAMES_AT)
    crc[0] = crc64(crc[0], run.entries, index_bytes)
    crc[0] = crc64(crc[0], zeros, end - index_position - index_bytes)
    return error


cdef int write_seal(
    int fd, const uint8_t *stream_uuid, uint64_t file_id, uint64_t salt, uint64_t base_offset,
    uint64_t ext_id, Run *run, uint64_t end_position, uint64_t coordinator_watermark,
    bint flush_failure, const uint64_t *frames_crc64, Footer *out,
) noexcept nogil:
    cdef uint64_t at = footer_position(end_position, run.entry_count)
    cdef uint64_t before_crc64 = 0
    cdef int error
    memset(out, 0, sizeof(Footer))
    memcpy(out.magic, <const char *> b"AOF2FOOT", 8)
    out.version = FORMAT_VERSION
    out.flush_failure = flush_failure
    memcpy(out.stream_uuid, stream_uuid, 16)
    out.file_id = file_id
    out.salt = salt
    out.record_count = run.records
    out.base_offset = base_offset
    out.end_offset = base_offset + run.records
    out.first_timestamp_ns = run.first_timestamp_ns
    out.last_timestamp_ns = run.last_timestamp_ns
    out.max_timestamp_ns = run.max_timestamp_ns
    out.ext_id = ext_id
    out.end_position = end_position
    out.durable_position = end_position + END_BYTES
    out.coordinator_watermark = coordinator_watermark
    out.index_position = end_position + END_BYTES
    out.index_count = run.entry_count
    out.chain_crc = run.chain_crc
    # Index, footer, fdatasync, truncate, fdatasync: a crash before the first sync leaves an END
    # without a footer, which a reopen finishes; after it, the footer is found at either size.
    error = sys_pwrite(fd, run.entries, run.entry_count * sizeof(IndexEntry), out.index_position)
    if error == 0 and frames_crc64 == NULL:
        error = _crc_of_file(fd, at, &before_crc64)
    elif error == 0:
        error = _crc_by_parts(fd, at, run, out.index_position, frames_crc64[0], &before_crc64)
    if error == 0:
        out.before_crc64 = before_crc64
        out.crc64 = crc64(0, out, sizeof(Footer) - 8)
        error = sys_pwrite(fd, out, sizeof(Footer), at)
    if error == 0:
        error = sys_fdatasync(fd)
    if error == 0:
        error = sys_ftruncate(fd, at + sizeof(Footer))
    if error == 0:
        error = sys_fdatasync(fd)
    return error


cdef class FooterInfo:
    """The footer of a sealed file: its totals, and where its index lies."""

    @property
    def record_count(self):
        """Records in the file."""
        return self.footer.record_count

    @property
    def base_offset(self):
        """Offset of the first record."""
        return self.footer.base_offset

    @property
    def end_offset(self):
        """Offset just past the last record."""
        return self.footer.end_offset

    @property
    def end_position(self):
        """Position of the END frame."""
        return self.footer.end_position

    @property
    def ext_id(self):
        """Default ext_id of the records."""
        return self.footer.ext_id

    @property
    def chain_crc(self):
        """Running crc64 over the checksums of all frames before END."""
        return self.footer.chain_crc

    @property
    def before_crc64(self):
        """crc64 of the file's bytes before the footer."""
        return self.footer.before_crc64

    @property
    def durable_position(self):
        """Position just past the END frame."""
        return self.footer.durable_position

    @property
    def coordinator_watermark(self):
        """Manifest records that were applied when the file was sealed."""
        return self.footer.coordinator_watermark

    @property
    def max_timestamp_ns(self):
        """Largest time stamp of a record."""
        return self.footer.max_timestamp_ns

    @property
    def file_bytes(self):
        """Size of the sealed file."""
        return self.position + sizeof(Footer)

    @property
    def flush_failure(self):
        """True when a reopen after a failed flush sealed the file."""
        return bool(self.footer.flush_failure)


cdef FooterInfo read_footer_fd(int fd, LogHeader header, uint64_t at):
    cdef FooterInfo info = FooterInfo.__new__(FooterInfo)
    cdef Footer *raw = &info.footer
    cdef size_t got = 0
    check_errno(sys_pread(fd, raw, sizeof(Footer), at, &got), "read footer", header.path)
    if (got != sizeof(Footer) or memcmp(raw.magic, <const char *> b"AOF2FOOT", 8) != 0
            or raw.crc64 != crc64(0, raw, sizeof(Footer) - 8)):
        return None
    if raw.version > FORMAT_VERSION:
        raise VersionTooNew(f"footer version {raw.version}: upgrade aof2", path=header.path)
    # The first two bounds keep the sums behind them from wrapping around.
    if (raw.end_position > at or raw.index_count > at // sizeof(IndexEntry)
            or raw.salt != header.salt or raw.file_id != header.file_id
            or footer_position(raw.end_position, raw.index_count) != at
            or raw.index_position != raw.end_position + END_BYTES
            or raw.end_offset - raw.base_offset != raw.record_count):
        raise (ManifestCorrupt if header.kind == "manifest" else SegmentCorrupt)(
                        "the footer belongs to another file or contradicts itself",
                                    path=header.path, position=at)
    info.position = at
    return info


def read_footer(Directory directory not None, str name not None, Scan scan=None):
    """Read the footer of a sealed file.

    Args:
        directory, name: The file.
        scan: A scan that found an END: the footer is then also looked for behind it, at the file's
            full size (a crash came between the footer and the truncation).

    Returns:
        A `FooterInfo`, or None when there is no good footer.
    """
    cdef int fd = directory.open_file(name)
    cdef uint64_t size
    cdef FooterInfo info = None
    try:
        header = read_header_fd(fd, directory.join(name))
        size = os.fstat(fd).st_size
        if size >= FRAMES_AT + sizeof(Footer):
            info = read_footer_fd(fd, header, size - sizeof(Footer))
        if info is None and scan is not None and scan.whole:
            info = read_footer_fd(fd, header,
                                  footer_position(scan.end_position, scan.run.entry_count))
        return info
    finally:
        sys_close(fd)


def finish(Directory directory not None, str name not None, Scan scan not None, *,
           int64_t now_ns, uint64_t coordinator_watermark=0, bint flush_failure=False):
    """Seal a scanned file where its valid prefix ends.

    The range that no flush is known to have covered is written again with the same bytes and synced
    first: after a process kill it may be in the page cache only, and after a failed sync the cache
        may lie.

    Returns:
        The new `FooterInfo`. Doing it again, or after being cut itself, ends the same.
    """
    cdef int fd = directory.open_file(name, True)
    cdef uint8_t end[48]
    cdef uint64_t size, low
    cdef Footer footer
    cdef int error
    cdef const uint8_t *uuid = <const uint8_t *> <char *> scan.header.stream_uuid
    try:
        size = footer_position(scan.end_position, scan.run.entry_count) + sizeof(Footer)
        if <uint64_t> os.fstat(fd).st_size < size:
            # Somebody cut it behind its END; all of its frames are there.
            with nogil:
                error = sys_fallocate(fd, size)
            check_errno(error, "allocate", scan.header.path)
        # The sync of a start block or of a slot may be the one that failed; the footer's sum covers
        # them, and END.
        rewrite_fd(fd, START_AT, FRAMES_AT, scan.header.path)
        low = max(<uint64_t> FRAMES_AT, scan.slot_position)
        rewrite_fd(fd, low, scan.end_position + (END_BYTES if scan.whole else 0), scan.header.path)
        if scan.torn_end > scan.end_position:
            _zero_fd(fd, scan.end_position, scan.torn_end, scan.header.path)
        if not scan.whole:
            memset(end, 0, sizeof(end))
            encode_end(end, scan.header.salt, scan.end_position, <uint32_t> scan.run.records,
                       now_ns, 0, scan.run.chain_crc)
            check_errno(sys_pwrite(fd, end, END_BYTES, scan.end_position), "seal", scan.header.path)
        with nogil:
            error = write_seal(
                fd, uuid, scan.header.file_id, scan.header.salt,
                scan.start.base_offset, scan.start.ext_id, &scan.run, scan.end_position,
                coordinator_watermark, flush_failure, NULL, &footer,
            )
        check_errno(error, "seal", scan.header.path)
        return read_footer_fd(fd, scan.header,
                              footer_position(scan.end_position, scan.run.entry_count))
    finally:
        sys_close(fd)


def prove(Directory directory not None, str name not None):
    """Write a sealed file again with the same bytes, and sync it.

    A process that died may have left footer and length in the page cache only, and the cache may
    lie after a failed sync. Nothing may count on the file before this.
    """
    cdef int error, fd = directory.open_file(name, True)
    try:
        rewrite_fd(fd, START_AT, os.fstat(fd).st_size, directory.join(name))
        with nogil:
            error = sys_fdatasync(fd)
        check_errno(error, "prove a sealed segment", directory.join(name))
    finally:
        sys_close(fd)


cdef int rewrite_fd(int fd, uint64_t low, uint64_t high, str path) except -1:
    """Read `[low, high)` and write the same bytes again, so that the device sees them."""
    cdef uint8_t *buffer = <uint8_t *> malloc(COPY_BYTES)
    cdef size_t got = 0
    if buffer == NULL:
        raise MemoryError("rewrite buffer")
    try:
        while low < high:
            check_errno(sys_pread(fd, buffer, min(<uint64_t> COPY_BYTES, high - low), low, &got),
                        "read", path)
            if got == 0:
                break
            check_errno(sys_pwrite(fd, buffer, got, low), "rewrite", path)
            low += got
    finally:
        free(buffer)
    return 0


cdef int _zero_fd(int fd, uint64_t low, uint64_t high, str path) except -1:
    """Write zeros over cut bytes, so that nothing behind the END looks like a frame."""
    cdef bytes zeros = bytes(min(<uint64_t> COPY_BYTES, high - low))
    cdef uint64_t part
    while low < high:
        part = min(<uint64_t> len(zeros), high - low)
        check_errno(sys_pwrite(fd, <const char *> zeros, part, low), "clear", path)
        low += part
    return 0


def verify_sealed(Directory directory not None, str name not None, FooterInfo footer not None):
    """Read a sealed file whole and compare it with its footer's checksum.

    Raises `SegmentCorrupt` when they differ.
    """
    cdef int fd = directory.open_file(name)
    cdef uint64_t crc = 0
    cdef int error
    try:
        with nogil:
            error = _crc_of_file(fd, footer.position, &crc)
        check_errno(error, "verify", directory.join(name))
        if crc != footer.footer.before_crc64:
            raise SegmentCorrupt("the contents do not agree with the footer's checksum; "
                                 "restore the segment from another copy", path=directory.join(name))
    finally:
        sys_close(fd)
