"""Building `.seg.zst` files, proving that one is whole, and turning one back into a segment.

All three work in groups of about 4 MiB of raw bytes, one call into zstd each, so memory stays
bounded and the GIL is free for all but the bookkeeping. None of them trusts a name: a file gets its
own only after everything in it was synced and read back.
"""

import os

import xxhash
import zstandard

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from aof2._core.checksum cimport crc64
from aof2._core.compressed_cut cimport SealedSource, check_footer
from aof2._core.compressed_pack cimport Packer, make_info
from aof2._core.compressed_file cimport file_size, read_range, read_table
from aof2._core.compressed_table cimport SEEK_ENTRY_BYTES, WarmTable
from aof2._core.layout cimport Footer
from aof2._core.directory cimport Directory
from aof2._core.posix cimport (
    check_errno,
    sys_close,
    sys_fallocate,
    sys_fdatasync,
    sys_pwrite,
)

from aof2._core.compressed_pack import CompressedInfo
from aof2.errors import AofError, CompressionFailed, HydrationFailed, ObjectCorrupt

cdef enum:
    GROUP_BYTES = 4194304


class _Stopped(Exception):
    """`stop` answered True."""


cdef int _poll(object stop) except -1:
    if stop is not None and stop():
        raise _Stopped("stopped")
    return 0


cdef int _write(int fd, const uint8_t[::1] data, uint64_t position, str path) except -1:
    cdef int error
    with nogil:
        error = sys_pwrite(fd, &data[0], data.shape[0], position)
    return check_errno(error, "write", path)


cdef int _sync(int fd, str path) except -1:
    cdef int error
    with nogil:
        error = sys_fdatasync(fd)
    return check_errno(error, "sync", path)


cdef int _drop_cache(int fd, str path) except -1:
    """Let what is read next come from the device; a hint, and not to be had on every system."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return 0


def build(Directory source not None, str source_name not None, Directory target not None,
          str target_name not None, *, int level=1, uint64_t frame_bytes=262144, stop=None):
    """Compress a sealed segment and prove the result, before it gets its name.

    Args:
        source, source_name: The sealed segment.
        target, target_name: The file to make; one of that name is replaced.
        level: zstd's, 1 to 19.
        frame_bytes: Raw bytes of one zstd frame, 4096 to 4194304, a multiple of 8. Larger
            compresses better, but every read of one record costs so much.
        stop: Asked about every 4 MiB; True gives up.

    Returns:
        The `CompressedInfo` of the new file.

    `SegmentCorrupt` when the segment itself does not check, `VersionTooNew` when it is of a newer
    version, `CompressionFailed` for everything else. A failure leaves no temporary file behind.

    Example:
        >>> build(segments, "00000000000000000001.seg",
        ...       warm, "00000000000000000001.seg.zst").bytes  # doctest: +SKIP
        1180226
    """
    cdef str temporary = f".tmp-{target_name}"
    cdef str path = target.join(target_name)

    def act():
        sealed = SealedSource(source, source_name, frame_bytes=frame_bytes)
        # Durable order: contents, fdatasync, read back from the device and proven, then the name,
        # then the directory. Only after that may the caller record the copy and drop another.
        written = _compress(sealed, target, temporary, level, stop)
        proven = _verify(target, temporary, stop, False)
        if proven != written:
            raise ObjectCorrupt("read back other than it was written", path=path)
        target.rename(temporary, target_name)
        target.sync()
        return written

    return _guarded(act, target, temporary, CompressionFailed, "compression", path)


def verify(Directory directory not None, str name not None, *, expect=None, stop=None):
    """Read a whole `.seg.zst` file and check everything that it says about itself and its segment.

    Args:
        directory, name: The file.
        expect: What it must be; fields that are left at their default are not compared.
        stop: Asked about every 4 MiB; True ends with `CompressionFailed`.

    Returns:
        Its `CompressedInfo`.

    `ObjectCorrupt` with path and position on damage or when it is not as expected, `VersionTooNew`
    when a newer version wrote it, `OSError` when it cannot be read.
    """
    info = _verify(directory, name, stop, True)
    _compare(info, expect, directory.join(name))
    return info


cdef object _verify(Directory directory, str name, object stop, bint hashes):
    """Read a file from the device and check it.

    Args:
        hashes: Also the seek table's. They need not be where the file's checksum is compared with
            that of the bytes that were just made, of which the hashes are a part.
    """
    cdef str path = directory.join(name)
    cdef int fd = directory.open_file(name)
    try:
        _drop_cache(fd, path)
        return _unpack(fd, path, stop, -1, None, hashes)
    except _Stopped as error:
        raise CompressionFailed("stopped", path=path) from error
    finally:
        sys_close(fd)


def restore(Directory source not None, str source_name not None, Directory target not None,
            str target_name not None, *, expect=None, stop=None):
    """Decompress a `.seg.zst` file into the sealed segment that it was made from, byte for byte.

    Args:
        source, source_name: The `.seg.zst` file.
        target, target_name: The segment file to make; one of that name is replaced.
        expect, stop: As for `verify`.

    Returns:
        The `CompressedInfo` of the source, which was checked as by `verify` on the way.

    `ObjectCorrupt` or `VersionTooNew` as for `verify`, `HydrationFailed` for everything else. A
    failure leaves no temporary file behind.
    """
    cdef str temporary = f".tmp-{target_name}"
    cdef str path = target.join(target_name)

    def act():
        cdef int reading = source.open_file(source_name), writing = -1
        try:
            target.unlink(temporary, missing_ok=True)
            writing = target.open_file(temporary, True, True)
            if expect is not None:
                _allocate(reading, source.join(source_name), writing, expect.raw_bytes, path)
            # Durable order: contents, compared on the way with the table's and the footer's
            # checksums, fdatasync, then the name, then the directory.
            info = _unpack(reading, source.join(source_name), stop, writing, path, True)
            _compare(info, expect, source.join(source_name))
            _sync(writing, path)
        finally:
            sys_close(reading)
            sys_close(writing)
        target.rename(temporary, target_name)
        target.sync()
        return info

    return _guarded(act, target, temporary, HydrationFailed, "decompression", path)


cdef int _allocate(int reading, str read_path, int writing, uint64_t raw_bytes,
                   str path) except -1:
    """Have all blocks of a segment that has so many bytes; what claims more is not unpacked."""
    cdef WarmTable table = read_table(reading, read_path, file_size(reading), 0)
    cdef int error
    if raw_bytes == 0:
        return 0
    if table.header.raw_bytes != raw_bytes:
        table.corrupt(f"it holds {table.header.raw_bytes} raw bytes, expected {raw_bytes}", 0)
    with nogil:
        error = sys_fallocate(writing, raw_bytes)
    return check_errno(error, "allocate", path)


def _guarded(act, target, temporary, failure, doing, path):
    """Run `act`; when it fails remove the temporary file and raise a typed error."""
    try:
        return act()
    except BaseException as error:
        try:
            target.unlink(temporary, missing_ok=True)
        except OSError as second:
            raise failure(
                f"{doing} failed ({error}), and so did removing {temporary}: {second}", path=path
            ) from error
        if isinstance(error, _Stopped):
            raise failure("stopped", path=path) from error
        # Damage of the caller's input is its own kind of news; of our output, one of ours.
        ours = isinstance(error, ObjectCorrupt) and failure is CompressionFailed
        if ours or isinstance(error, (OSError, zstandard.ZstdError, MemoryError)) and not (
            isinstance(error, AofError)
        ):
            raise failure(f"{doing} failed: {error}", path=path) from error
        raise


def _compare(info, expect, path):
    """Raise when `info` differs from what was expected, in a field that was given."""
    if expect is None:
        return
    for field, wanted, actual in zip(info._fields, expect, info, strict=True):
        if wanted and wanted != actual:
            raise ObjectCorrupt(f"its {field} is {actual!r}, expected {wanted!r}", path=path)


cdef object _compress(SealedSource sealed, Directory target, str temporary, int level, stop):
    """Write the file under its temporary name and sync it."""
    cdef Packer packer = Packer(sealed, level)
    cdef uint64_t position = 0
    cdef str path = target.join(temporary)
    cdef bytes packed
    cdef int fd
    target.unlink(temporary, missing_ok=True)
    fd = target.open_file(temporary, True, True)
    try:
        while True:
            _poll(stop)
            packed = packer.next()
            if packed is None:
                break
            _write(fd, packed, position, path)
            position += len(packed)
        _sync(fd, path)
    finally:
        sys_close(fd)
    return packer.info


cdef object check_whole(int fd, str path, object stop):
    return _unpack(fd, path, stop, -1, None, True)


cdef object _unpack(int fd, str path, stop, int writing, str written_path, bint hashes):
    """Read and check a whole file, with the seek table's `hashes` if they are wanted; with a
    descriptor in `writing`, write its raw bytes there."""
    cdef uint64_t n = file_size(fd)
    cdef WarmTable table = read_table(fd, path, n, 0)
    cdef uint64_t crc = 0, raw_crc = 0, before_crc = 0, body
    cdef uint32_t first = 0, last
    cdef const uint8_t[::1] packed, raw
    while first < table.count:
        _poll(stop)
        # The last data frame, which ends with the footer, is a group of its own.
        last = first + 1
        while last < table.count - 1 and (
            table.raw_end(last + 1) - table.entries[first].raw_position <= GROUP_BYTES
        ):
            last += 1
        data = read_range(fd, path, table.at[first], table.at[last])
        buffer = table.decompress(data, first, last)
        if hashes:
            _check_hashes(table, buffer, first, last)
        packed, raw = data, buffer
        body = raw.shape[0] - (sizeof(Footer) if last == table.count else 0)
        with nogil:
            crc = crc64(crc, &packed[0], packed.shape[0])
            raw_crc = crc64(raw_crc, &raw[0], body)
            before_crc = raw_crc
            raw_crc = crc64(raw_crc, &raw[0] + body, raw.shape[0] - body)
        if last == table.count:
            _check_footer(table, &raw[0] + body, before_crc, raw_crc)
        if writing >= 0:
            _write(writing, buffer, table.entries[first].raw_position, written_path)
        first = last
    crc = crc64(crc, PyBytes_AS_STRING(table._tail), len(table._tail))
    return make_info(&table.header, n, len(table._tail), crc)


cdef int _check_hashes(WarmTable table, object raw, uint32_t first, uint32_t last) except -1:
    """Compare the seek table's checksums, which other readers of the format rely on."""
    cdef uint32_t i, hash
    cdef uint64_t base = table.entries[first].raw_position
    view = memoryview(raw)
    for i in range(first, last):
        memcpy(&hash, table.seek + SEEK_ENTRY_BYTES * i + 8, 4)
        part = view[table.entries[i].raw_position - base:][:table.entries[i].raw_bytes]
        if xxhash.xxh64_intdigest(part) & 0xFFFFFFFF != hash:
            table.corrupt("raw bytes do not match the seek table's checksum", table.at[i])
    return 0


cdef int _check_footer(WarmTable table, const uint8_t *at, uint64_t before_crc,
                       uint64_t raw_crc) except -1:
    """The segment's own footer must agree with the bytes and with the table."""
    cdef Footer footer
    cdef uint64_t position = table.at[table.count - 1]
    memcpy(&footer, at, sizeof(Footer))
    if check_footer(&footer) != 0 or footer.before_crc64 != before_crc:
        table.corrupt("the segment in it does not match its footer", position)
    if (
        raw_crc != table.header.raw_crc64
        or memcmp(footer.stream_uuid, table.header.stream_uuid, 16) != 0
        or footer.file_id != table.header.segment_id or footer.salt != table.header.salt
        or footer.base_offset != table.header.base_offset
        or footer.end_offset != table.header.end_offset or footer.ext_id != table.header.ext_id
    ):
        table.corrupt("the table does not match the segment's footer", position)
    return 0
