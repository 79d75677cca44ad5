"""Rows of a manifest's index as bytes: the contents of snapshots.

A row is a `RowImage`, then its key and its etag, zero padded to 8 bytes. A page file is a
`PageHeader`, 4,096 rows, and a crc64 of everything before it.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport PageHeader, RowImage, pad8
from aof2._core.manifest cimport TEXT_BYTES_MAX, check_text
from aof2._core.manifest_rows cimport (
    PAGE_ROWS,
    ROW_COLD,
    ROW_COMPRESSED,
    ROW_DELETE_QUEUED,
    ROW_KEY,
    ROW_FLAGS_END,
    ROW_SEALED,
    ROW_WARM,
    Row,
)

from aof2.errors import ManifestCorrupt, VersionTooNew


cdef void _to_image(Row *row, RowImage *image) noexcept:
    memset(image, 0, sizeof(RowImage))
    image.segment_id, image.base_offset = row.segment_id, row.base_offset
    image.end_offset, image.epoch = row.end_offset, row.epoch
    image.raw_bytes, image.segment_crc64 = row.raw_bytes, row.segment_crc64
    image.ext_id, image.coordinator_watermark = row.ext_id, row.coordinator_watermark
    image.bytes, image.table_bytes = row.bytes, row.table_bytes
    image.crc64, image.raw_crc64 = row.crc64, row.raw_crc64
    image.recency, image.flags = row.recency, row.flags
    image.key_bytes, image.etag_bytes = row.key_bytes, row.etag_bytes


cdef void _from_image(RowImage *image, Row *row) noexcept:
    row.segment_id, row.base_offset = image.segment_id, image.base_offset
    row.end_offset, row.epoch = image.end_offset, image.epoch
    row.raw_bytes, row.segment_crc64 = image.raw_bytes, image.segment_crc64
    row.ext_id, row.coordinator_watermark = image.ext_id, image.coordinator_watermark
    row.bytes, row.table_bytes = image.bytes, image.table_bytes
    row.crc64, row.raw_crc64 = image.crc64, image.raw_crc64
    row.recency, row.flags = image.recency, image.flags
    row.key_bytes, row.etag_bytes = image.key_bytes, image.etag_bytes


cdef bint _is_possible(RowImage *image) noexcept:
    """Whether records can have led to such a row."""
    cdef uint32_t flags = image.flags
    if not flags & ROW_SEALED:
        return flags == 0 and image.end_offset == 0 and image.key_bytes + image.etag_bytes == 0
    return (
        flags < ROW_FLAGS_END
        and image.end_offset > image.base_offset
        and (flags & ROW_KEY != 0) == (image.key_bytes != 0)
        and image.key_bytes <= TEXT_BYTES_MAX and image.etag_bytes <= TEXT_BYTES_MAX
        and (flags & ROW_COLD or not image.etag_bytes)
        and (flags & ROW_COMPRESSED or not flags & (ROW_WARM | ROW_COLD))
        and (flags & ROW_KEY or not flags & (ROW_COLD | ROW_DELETE_QUEUED))
    )


cdef bytes encode_rows(Row *rows, uint64_t n):
    """The bytes of some rows."""
    cdef uint64_t i, texts, size = 0, at = 0
    cdef bytearray out
    cdef char *target
    for i in range(n):
        size += sizeof(RowImage) + pad8(rows[i].key_bytes + rows[i].etag_bytes)
    out = bytearray(size)
    target = out
    for i in range(n):
        _to_image(rows + i, <RowImage *> (target + at))
        at += sizeof(RowImage)
        texts = rows[i].key_bytes + rows[i].etag_bytes
        if texts:
            memcpy(target + at, rows[i].texts, texts)
        at += pad8(texts)
    return bytes(out)


cdef int decode_rows(Row *rows, uint64_t n, const char *data, uint64_t size, str path) except -1:
    """Fill `n` zeroed rows from exactly `size` bytes, whose checksum is good."""
    cdef uint64_t i, texts, at = 0
    cdef RowImage image
    for i in range(n):
        if size - at < sizeof(image):
            raise ManifestCorrupt("a snapshot ends inside a row", path=path, position=at)
        memcpy(&image, data + at, sizeof(image))
        at += sizeof(image)
        texts = image.key_bytes + image.etag_bytes
        if (size - at < pad8(texts) or not _is_possible(&image)
                or i and (image.segment_id <= rows[i - 1].segment_id
                          or image.base_offset < rows[i - 1].base_offset)):
            raise ManifestCorrupt("a row of a snapshot is impossible", path=path, position=at)
        check_text("key", data + at, image.key_bytes)
        check_text("etag", data + at + image.key_bytes, image.etag_bytes)
        if texts:
            rows[i].texts = <char *> malloc(texts)
            if rows[i].texts == NULL:
                raise MemoryError("a key of the index")
            memcpy(rows[i].texts, data + at, texts)
        _from_image(&image, rows + i)
        at += pad8(texts)
    if at != size:
        raise ManifestCorrupt("a snapshot has more bytes than rows", path=path, position=at)
    return 0


cdef bytes sealed_with_crc(bytes body):
    """The bytes with their crc64 behind them."""
    cdef uint64_t crc = crc64(0, <const char *> body, len(body))
    return body + (<char *> &crc)[:8]


cdef int check_crc(bytes data, uint64_t least, str path) except -1:
    """`ManifestCorrupt` unless the last 8 bytes are the crc64 of at least `least` before them."""
    cdef uint64_t n = len(data), crc
    if n < least + 8:
        raise ManifestCorrupt(f"no snapshot has {n} bytes", path=path)
    memcpy(&crc, <const char *> data + n - 8, 8)
    if crc != crc64(0, <const char *> data, n - 8):
        raise ManifestCorrupt("a part of a snapshot is damaged", path=path)
    return 0


cdef int check_version(uint32_t version, uint32_t incompatible, str path) except -1:
    if version > SNAPSHOT_VERSION or incompatible:
        raise VersionTooNew(
            f"snapshot version {version}, features {incompatible:#x}: upgrade aof2", path=path
        )
    return 0


cdef bytes encode_page(Row *rows, uint64_t page_no, uint64_t number, bytes stream_uuid):
    """The bytes of a page file."""
    cdef PageHeader header
    memset(&header, 0, sizeof(header))
    memcpy(header.magic, <const char *> b"AOF2PAGE", 8)
    header.version = SNAPSHOT_VERSION
    memcpy(header.stream_uuid, <const char *> stream_uuid, 16)
    header.page_no, header.number, header.rows = page_no, number, PAGE_ROWS
    return sealed_with_crc((<char *> &header)[:sizeof(header)] + encode_rows(rows, PAGE_ROWS))


cdef int decode_page(Row *rows, uint64_t page_no, uint64_t number, bytes stream_uuid,
                     bytes data) except -1:
    """Fill a page of zeroed rows from the bytes of its file."""
    cdef PageHeader header
    cdef str path = f"index page {page_no} of snapshot {number}"
    check_crc(data, sizeof(header), path)
    memcpy(&header, <const char *> data, sizeof(header))
    check_version(header.version, header.incompatible, path)
    if (memcmp(header.magic, <const char *> b"AOF2PAGE", 8) != 0
            or (<char *> header.stream_uuid)[:16] != stream_uuid
            or header.page_no != page_no or header.number != number or header.rows != PAGE_ROWS):
        raise ManifestCorrupt("an index page is another one's", path=path)
    return decode_rows(rows, PAGE_ROWS, <const char *> data + sizeof(header),
                       len(data) - sizeof(header) - 8, path)
