"""Snapshots of a manifest's index: written, read back, chosen at open, and removed when two newer
ones stand.

A snapshot is a head, which carries the newest rows itself, and pages of older rows that did not
change since. It covers the chunks up to one, so opening costs a head and the chunks after it.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass

from aof2._core.checksum import crc64nvme
from aof2._core.directory import Directory
from aof2._core.snapshot import Capture, HeadInfo, PageRef, read_head
from aof2.errors import FormatError, ManifestCorrupt
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.index import Index
from aof2.types import StreamIdentity

LOGGER = logging.getLogger("aof2.tiered")
SNAPSHOTS_KEPT = 2
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Far beyond any head or page; more is not read."""

_HEAD_NAME = re.compile(r"(\d{20})\.snap")
_PAGE_NAME = re.compile(r"(\d{20})\.(\d{20})\.page")


def head_name(number: int) -> str:
    """File name of a snapshot's head.

    Example:
        >>> head_name(3)
        '00000000000000000003.snap'
    """
    return f"{number:020d}.snap"


def page_name(page_no: int, number: int) -> str:
    """File name of an index page, by its place and by the snapshot that wrote it.

    Example:
        >>> page_name(0, 3)
        '00000000000000000000.00000000000000000003.page'
    """
    return f"{page_no:020d}.{number:020d}.page"


def snapshot_numbers(directory: Directory) -> list[int]:
    """Numbers of the snapshots in a directory, newest first."""
    found = (_HEAD_NAME.fullmatch(name) for name in directory.names())
    return sorted((int(match[1]) for match in found if match), reverse=True)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A good snapshot, as an index to go on with.

    Attributes:
        index: What the covered chunks said.
        head: The head's own figures.
    """

    index: Index
    head: HeadInfo

    @property
    def covers(self) -> ChainPoint:
        """Where the covered part of the log ends."""
        return ChainPoint(*self.head.covers)


def load(directory: Directory, identity: StreamIdentity, number: int) -> Loaded:
    """Read one snapshot and check all of its bytes, those of its pages too.

    Raises:
        ManifestCorrupt: a byte is wrong, or a page is missing.
        FileNotFoundError: the snapshot is gone; a live writer has newer ones.
    """
    name = head_name(number)
    data = directory.read(name, limit=FILE_BYTES_MAX)
    path = directory.join(name)
    head = read_head(data, stream_uuid=identity.uuid, path=path)
    if head.number != number:
        raise ManifestCorrupt(f"the snapshot says it is number {head.number}", path=path)
    for page in head.pages:
        _check_page(directory, number, page)
    return Loaded(Index.from_head(data, functools.partial(read_page, directory), path=path), head)


def _check_page(directory: Directory, number: int, page: PageRef) -> None:
    name = page_name(page.page_no, page.number)
    try:
        data = directory.read(name, limit=FILE_BYTES_MAX)
    except FileNotFoundError:
        path = directory.join(name)
        if not directory.exists(head_name(number)):
            raise
        raise ManifestCorrupt("a page of a snapshot is missing", path=path) from None
    if len(data) != page.bytes or crc64nvme(data) != page.crc64:
        raise ManifestCorrupt("a page of a snapshot is damaged", path=directory.join(name))


def newest(
    directory: Directory, identity: StreamIdentity, numbers: list[int]
) -> tuple[Loaded | None, int]:
    """The first good one of some snapshots, None when there is none, and how many damaged ones came
    before.

    A damaged one is logged; the chunks behind the older one are still there.
    """
    damaged = 0
    for number in numbers:
        try:
            return load(directory, identity, number), damaged
        except (ManifestCorrupt, FormatError) as error:
            damaged += 1
            LOGGER.error(
                "snapshot %d is passed over, an older one serves: %s",
                number,
                error,
                extra={"event": "snapshot_damaged", "stream": identity.name, "path": error.path},
            )
    return None, damaged


def write(directory: Directory, identity: StreamIdentity, number: int, capture: Capture) -> Loaded:
    """Write a snapshot and read it back.

    Order: pages, each temp → fsync → rename → fsync of the directory; then the head the same way;
    then all of it is read and checked. Only after this may anything older go.
    """
    for page_no, data in capture.pages:
        directory.replace(page_name(page_no, number), data)
    directory.replace(head_name(number), capture.head)
    return load(directory, identity, number)


def read(directory: Directory, identity: StreamIdentity, number: int) -> tuple[bytes, HeadInfo]:
    """The bytes of a head, checked, and what it says; for publication."""
    data = directory.read(head_name(number), limit=FILE_BYTES_MAX)
    return data, read_head(data, stream_uuid=identity.uuid, path=directory.join(head_name(number)))


def read_page(directory: Directory, page_no: int, number: int) -> bytes:
    """The bytes of a page."""
    return directory.read(page_name(page_no, number), limit=FILE_BYTES_MAX)


def prune(directory: Directory, kept: list[HeadInfo]) -> None:
    """Remove heads and pages that the kept snapshots do not need."""
    heads = {head.number for head in kept}
    pages = {(page.page_no, page.number) for head in kept for page in head.pages}
    for name in directory.names():
        head, page = _HEAD_NAME.fullmatch(name), _PAGE_NAME.fullmatch(name)
        if head and int(head[1]) not in heads:
            directory.unlink(name, missing_ok=True)
        if page and (int(page[1]), int(page[2])) not in pages:
            directory.unlink(name, missing_ok=True)
