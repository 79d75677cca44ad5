"""Snapshots of a manifest's index: a head, which has the newest rows in it, and pages of 4,096.

A head is a `SnapshotHeader`, one `PageEntry` per page, the rows behind the pages, and a crc64 of
everything before it. Pages that did not change since they were written are named, not written anew.
"""

from typing import NamedTuple

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64
from aof2._core.manifest_fold cimport Fold
from aof2._core.layout cimport PageEntry, SnapshotHeader
from aof2._core.rowcodec cimport (
    SNAPSHOT_VERSION,
    check_crc,
    check_version,
    decode_rows,
    encode_page,
    encode_rows,
    sealed_with_crc,
)
from aof2._core.manifest_rows cimport PAGE_ROWS, PENDING_COUNT, Page, Row

from aof2.errors import ManifestCorrupt


class PageRef(NamedTuple):
    """A page, as a head names it: its place, the snapshot that wrote it, size and crc64."""

    page_no: int
    number: int
    bytes: int
    crc64: int


class HeadInfo(NamedTuple):
    """What the head of a snapshot says.

    Attributes:
        number: Of the snapshot.
        epoch: Writer epoch when it was taken.
        root_id: Of the root where it was taken.
        created_ns: When.
        covers: `(chunk, END position, end offset, chain crc)` of the last chunk that is in it.
        applied: Manifest records that are in it.
        pages: A `PageRef` for each page.
    """

    number: int
    epoch: int
    root_id: bytes
    created_ns: int
    covers: tuple
    applied: int
    pages: tuple


cdef class Capture:
    """A snapshot in memory: `head`, and `pages` as `(page_no, bytes)`."""


def capture(Fold fold not None, *, uint64_t number, bytes stream_uuid not None,
            bytes root_id not None, uint64_t epoch, int64_t created_ns, covers):
    """The bytes of a snapshot of a fold as it is now.

    Args:
        number: Of the snapshot, above all before it.
        covers: As in `HeadInfo`: the fold is what the chunks up to there say.

    Returns:
        A `Capture`; hand it to `written` once it is on disk.
    """
    cdef SnapshotHeader header
    cdef PageEntry entry
    cdef uint64_t p, full = fold.rows.count // PAGE_ROWS, tail = fold.rows.count % PAGE_ROWS
    cdef Page *page
    cdef Capture made = Capture.__new__(Capture)
    cdef list parts = [], pages = []
    cdef bytes data
    made._written = []
    for p in range(full):
        page = &fold.rows.pages[p]
        memset(&entry, 0, sizeof(entry))
        entry.number, entry.bytes, entry.crc64 = page.number, page.bytes, page.crc64
        if page.number == 0 or page.changes != page.saved_changes:
            data = encode_page(page.rows, p, number, stream_uuid)
            entry.number, entry.bytes = number, len(data)
            entry.crc64 = crc64(0, <const char *> data, len(data))
            pages.append((p, data))
            made._written.append((p, page.changes, number, entry.bytes, entry.crc64))
        entry.first_id = fold.rows.first(p, True)
        entry.first_base = fold.rows.first(p, False)
        memcpy(entry.pending, page.pending, sizeof(entry.pending))
        parts.append((<char *> &entry)[:sizeof(entry)])
    if tail:
        parts.append(encode_rows(fold.rows.at(full * PAGE_ROWS), tail))
    memset(&header, 0, sizeof(header))
    memcpy(header.magic, <const char *> b"AOF2SNAP", 8)
    header.version = SNAPSHOT_VERSION
    memcpy(header.stream_uuid, <const char *> stream_uuid, 16)
    memcpy(header.root_id, <const char *> root_id, 16)
    header.number, header.epoch, header.created_ns = number, epoch, created_ns
    header.chunk_id, header.end_position, header.end_offset, header.chain_crc = covers
    header.applied, header.trimmed = fold.applied, fold.trimmed
    header.cold_rows, header.cold_end = fold.cold_rows, fold.cold_end
    header.page_count, header.tail_rows = full, tail
    made.head = sealed_with_crc((<char *> &header)[:sizeof(header)] + b"".join(parts))
    made.pages = tuple(pages)
    return made


def written(Fold fold not None, Capture capture not None):
    """The pages of a capture are on disk: the next one names them as long as they do not change."""
    cdef Page *page
    for p, changes, number, size, crc in capture._written:
        if <uint64_t> p < fold.rows.count // PAGE_ROWS:
            page = &fold.rows.pages[<uint64_t> p]
            page.saved_changes, page.number, page.bytes, page.crc64 = changes, number, size, crc


cdef int _read_header(bytes data, bytes stream_uuid, str path, SnapshotHeader *out) except -1:
    check_crc(data, sizeof(SnapshotHeader), path)
    memcpy(out, <const char *> data, sizeof(SnapshotHeader))
    check_version(out.version, out.incompatible, path)
    if memcmp(out.magic, <const char *> b"AOF2SNAP", 8) != 0:
        raise ManifestCorrupt("this is no snapshot", path=path, position=0)
    if stream_uuid is not None and (<char *> out.stream_uuid)[:16] != stream_uuid:
        raise ManifestCorrupt("the snapshot belongs to another stream", path=path, position=0)
    if (out.tail_rows >= PAGE_ROWS or out.number == 0
            or out.page_count > (len(data) - sizeof(SnapshotHeader) - 8) // sizeof(PageEntry)
            or out.cold_rows > out.page_count * PAGE_ROWS + out.tail_rows):
        raise ManifestCorrupt("the head of a snapshot is impossible", path=path, position=0)
    return 0


cdef int _check_entry(SnapshotHeader *header, PageEntry *entry, str path) except -1:
    # A page without a number would be one that only memory has.
    if not 0 < entry.number <= header.number:
        raise ManifestCorrupt("the head of a snapshot names an impossible page", path=path,
                              position=sizeof(SnapshotHeader))
    return 0


def read_head(bytes data not None, *, bytes stream_uuid not None, str path not None):
    """Check the bytes of a head and say what they are.

    Returns:
        A `HeadInfo`. `ManifestCorrupt` when any byte is not what was written, or another stream's.
    """
    cdef SnapshotHeader header
    cdef PageEntry entry
    cdef uint64_t p
    cdef list pages = []
    _read_header(data, stream_uuid, path, &header)
    for p in range(header.page_count):
        memcpy(&entry, <const char *> data + sizeof(header) + p * sizeof(entry), sizeof(entry))
        _check_entry(&header, &entry, path)
        pages.append(PageRef(p, entry.number, entry.bytes, entry.crc64))
    return HeadInfo(
        header.number, header.epoch, (<char *> header.root_id)[:16], header.created_ns,
        (header.chunk_id, header.end_position, header.end_offset, header.chain_crc),
        header.applied, tuple(pages),
    )


def restore(Fold fold not None, bytes data not None, loader, *, str path not None):
    """Fill an empty fold from the bytes of a head that `read_head` has found good.

    Args:
        loader: `(page_no, number) -> bytes`; called when a page is needed for the first time.
    """
    cdef SnapshotHeader header
    cdef PageEntry entry
    cdef uint64_t p, at = sizeof(header), end = len(data) - 8
    cdef Page *page
    cdef Row *rows
    _read_header(data, None, path, &header)
    if fold.rows.count:
        raise ValueError("the fold is not empty")
    fold.rows.add_pages(header.page_count + 1)
    fold.rows.loader = loader
    fold.rows.stream_uuid = (<char *> header.stream_uuid)[:16]
    for p in range(header.page_count):
        memcpy(&entry, <const char *> data + at, sizeof(entry))
        _check_entry(&header, &entry, path)
        at += sizeof(entry)
        page = &fold.rows.pages[p]
        page.first_id, page.first_base = entry.first_id, entry.first_base
        page.number, page.bytes, page.crc64 = entry.number, entry.bytes, entry.crc64
        memcpy(page.pending, entry.pending, sizeof(page.pending))
    fold.rows.count = header.page_count * PAGE_ROWS
    fold.applied, fold.trimmed = header.applied, header.trimmed
    fold.cold_rows, fold.cold_end = header.cold_rows, header.cold_end
    if header.tail_rows:
        fold.rows.take_tail(header.tail_rows, <const char *> data + at, end - at, path)
    elif at != end:
        raise ManifestCorrupt("a snapshot has more bytes than rows", path=path, position=at)
