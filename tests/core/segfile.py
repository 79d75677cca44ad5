"""Makes valid sealed segments in plain Python: an oracle of the format that shares no code with the
core.

Layouts are written here a second time, on purpose, from the format's text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from awscrt.checksums import crc64nvme

PAGE_BYTES = 4096
FRAMES_AT = 8192
FOOTER_BYTES = 168
KIND_RECORD, KIND_BATCH, KIND_END = 1, 2, 3
FLAG_EXT_ID = 1
UUID = bytes(range(16))
ROOT_ID = bytes(range(16, 32))
TIME_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Item:
    """One frame to write: one payload makes a RECORD, several a BATCH."""

    payloads: tuple[bytes, ...]
    timestamp_ns: int
    ext_id: int | None = None
    batch: bool = False


@dataclass(frozen=True)
class Segment:
    """A sealed segment and where its frames are."""

    data: bytes
    base_offset: int
    end_offset: int
    end_position: int
    frames_end: int
    salt: int
    places: list[tuple[int, int, int, int]]
    """`(position, bytes with padding, first ordinal, timestamp)` of each frame but END."""


def pad8(data: bytes) -> bytes:
    """`data` with zeros to a multiple of 8 bytes."""
    return data + bytes(-len(data) % 8)


def items_of(
    payloads: Sequence[bytes], *, start_ns: int = TIME_NS, step_ns: int = 1000
) -> list[Item]:
    """One RECORD for each payload, with rising time stamps."""
    return [Item((p,), start_ns + i * step_ns) for i, p in enumerate(payloads)]


def frame(
    kind: int,
    body: bytes,
    *,
    position: int,
    ordinal: int,
    timestamp_ns: int,
    salt: int,
    flags: int = 0,
) -> bytes:
    """One frame with its padding."""
    head = struct.pack("<IIqIBBH", 32 + len(body), ordinal, timestamp_ns, 0, kind, flags, 0)
    crc = crc64nvme(struct.pack("<QQ", salt, position) + head + pad8(body))
    return head + struct.pack("<Q", crc) + pad8(body)


def body_of(item: Item) -> bytes:
    """Body of a RECORD or BATCH frame."""
    prefix = b"" if item.ext_id is None else struct.pack("<Q", item.ext_id)
    if not item.batch:
        return prefix + item.payloads[0]
    ends, total = [0], 0
    for payload in item.payloads:
        total += len(payload)
        ends.append(total)
    columns = struct.pack("<II", len(item.payloads), 0) + struct.pack(f"<{len(ends)}I", *ends)
    return prefix + pad8(columns) + b"".join(item.payloads)


def header_pages(
    *, base_offset: int, segment_id: int, salt: int, epoch: int, ext_id: int, size: int
) -> bytes:
    """Pages 0 and 1: static header, start block, no confirmation slot."""
    head = struct.pack(
        "<8sIIII16sQQQq", b"AOF2SEGM", 1, 0, 0, 0, UUID, segment_id, size, salt, TIME_NS
    )
    head = head.ljust(2040, b"\0")
    start = struct.pack("<QQQQ16sQQQQ", base_offset, 0, epoch, ext_id, ROOT_ID, 0, 0, 0, 0)
    start = start.ljust(2040, b"\0")
    return (
        head
        + struct.pack("<Q", crc64nvme(head))
        + start
        + struct.pack("<Q", crc64nvme(struct.pack("<Q", salt) + start))
        + bytes(PAGE_BYTES)
    )


def all_frames(
    items: Sequence[Item], position: int, salt: int
) -> tuple[bytes, bytes, int, list[tuple[int, int, int, int]]]:
    """`(frames, index, chain crc, places)` of `items`, from `position` on; without END."""
    ordinal, latest, chain, index_at = 0, -(1 << 63), 0, 0
    out, index = bytearray(), bytearray()
    places: list[tuple[int, int, int, int]] = []
    for item in items:
        at = position + len(out)
        made = frame(
            KIND_BATCH if item.batch else KIND_RECORD,
            body_of(item),
            position=at,
            ordinal=ordinal,
            timestamp_ns=item.timestamp_ns,
            salt=salt,
            flags=0 if item.ext_id is None else FLAG_EXT_ID,
        )
        latest = max(latest, item.timestamp_ns)
        chain = crc64nvme(made[24:32], chain)
        if not places or at >= index_at + 4096:
            index += struct.pack("<IIq", at, ordinal, latest)
            index_at = at
        places.append((at, len(made), ordinal, item.timestamp_ns))
        out += made
        ordinal += len(item.payloads)
    return bytes(out), bytes(index), chain, places


def sealed_segment(
    items: Sequence[Item],
    *,
    base_offset: int = 0,
    segment_id: int = 1,
    salt: int = 0x1122334455667788,
    epoch: int = 1,
    ext_id: int = 0,
) -> Segment:
    """A sealed segment that holds `items`."""
    out = header_pages(
        base_offset=base_offset,
        segment_id=segment_id,
        salt=salt,
        epoch=epoch,
        ext_id=ext_id,
        size=1 << 20,
    )
    frames, index, chain, places = all_frames(items, len(out), salt)
    out += frames
    times = [item.timestamp_ns for item in items]
    first, last, latest = (times[0], times[-1], max(times)) if times else (0, 0, -(1 << 63))
    count = sum(len(item.payloads) for item in items)
    end_position = len(out)
    chained = struct.pack("<Q", chain)
    out += frame(
        KIND_END, chained, position=end_position, ordinal=count, timestamp_ns=last, salt=salt
    )
    frames_end = len(out)
    out += index
    out += bytes(-len(out) % PAGE_BYTES)
    offsets = (count, base_offset, base_offset + count)
    positions = (end_position, frames_end, 0, frames_end, len(index) // 16)
    footer = struct.pack("<8sII16sQQ", b"AOF2FOOT", 1, 0, UUID, segment_id, salt)
    footer += struct.pack("<QQQqqqQ", *offsets, first, last, latest, ext_id)
    footer += struct.pack("<QQQQQQQ", *positions, chain, crc64nvme(out))
    out += footer + struct.pack("<Q", crc64nvme(footer))
    assert len(footer) + 8 == FOOTER_BYTES
    return Segment(out, base_offset, base_offset + count, end_position, frames_end, salt, places)
