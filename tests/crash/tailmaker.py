"""Makes started segments in plain Python, and judges them by the rule as docs/format.md tells it.

It shares no code with the library: layouts and rule are written here a second time, on purpose.
"""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

from awscrt.checksums import crc64nvme

import aof2

FRAMES_AT = 8192
FILE_BYTES = 16384
RING_BYTES = 16384
SALT = 0x1122334455667788
TIME_NS = 1_700_000_000_000_000_000
RECORD, END = 1, 3


def payload(offset: int) -> bytes:
    """The payload of an offset."""
    return b"%d," % offset * (1 + offset * 5 % 9)


def pad8(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


@dataclass
class Tail:
    """One started segment in the making.

    Attributes:
        data: The file's bytes.
        at: Position behind the last frame.
        records: Records so far.
        durable: The position that frames from now on claim to be durable.
    """

    segment_id: int
    base_offset: int
    uuid: bytes
    root_id: bytes
    previous: tuple[int, int, int, int] = (0, 0, 0, 0)
    data: bytearray = field(default_factory=lambda: bytearray(FILE_BYTES))
    at: int = FRAMES_AT
    records: int = 0
    durable: int = 0
    chain: int = 0

    @property
    def salt(self) -> int:
        return SALT + self.segment_id

    def __post_init__(self) -> None:
        head = struct.pack(
            "<8sIIII16sQQQq",
            *(b"AOF2SEGM", 1, 0, 0, 0, self.uuid, self.segment_id, FILE_BYTES, self.salt, TIME_NS),
        ).ljust(2040, b"\0")
        start = struct.pack(
            "<QQQQ16sQQQQ", self.base_offset, 0, 1, 0, self.root_id, *self.previous
        ).ljust(2040, b"\0")
        salt = struct.pack("<Q", self.salt)
        self.data[:2048] = head + struct.pack("<Q", crc64nvme(head))
        self.data[2048:4096] = start + struct.pack("<Q", crc64nvme(salt + start))

    def _frame(self, kind: int, body: bytes) -> None:
        head = struct.pack(
            "<IIqIBBH", 32 + len(body), self.records, TIME_NS, self.durable // 8, kind, 0, 0
        )
        crc = crc64nvme(struct.pack("<QQ", self.salt, self.at) + head + pad8(body))
        frame = head + struct.pack("<Q", crc) + pad8(body)
        self.data[self.at : self.at + len(frame)] = frame
        if kind != END:
            self.at += len(frame)
            self.records += 1
            self.chain = crc64nvme(struct.pack("<Q", crc), self.chain)

    def append(self, count: int) -> Tail:
        for _ in range(count):
            self._frame(RECORD, payload(self.base_offset + self.records))
        return self

    def flush(self) -> Tail:
        self.durable = self.at
        return self

    def slot(self, n: int) -> Tail:
        facts = struct.pack("<QQQ", n, self.durable, self.base_offset + self.records)
        crc = crc64nvme(struct.pack("<Q", self.salt) + facts)
        at = 4096 + n % 2 * 512
        self.data[at : at + 32] = facts + struct.pack("<Q", crc)
        return self

    def end(self) -> Tail:
        """Put the END; returns the segment that follows."""
        self._frame(END, struct.pack("<Q", self.chain))
        following = self.base_offset + self.records
        return Tail(
            self.segment_id + 1,
            following,
            self.uuid,
            self.root_id,
            (self.segment_id, self.at, following, self.chain),
        )


def into_ring(tail: Tail, written: int) -> bytes:
    """A ring that holds all of a segment; in its file only what is below `written` stays."""
    header = struct.pack(
        "<8sII16s11QII",
        *(b"AOF2RING", 1, 0, tail.uuid, RING_BYTES, tail.segment_id, tail.salt, 0),
        *(tail.at, 0, written, tail.durable, tail.base_offset + tail.records, 0, 0, 0, 0),
    )[:120]
    ring = bytearray(4096 + RING_BYTES)
    ring[: len(header)] = header
    for at in range(FRAMES_AT, FILE_BYTES):
        ring[4096 + at % RING_BYTES] = tail.data[at]
    tail.data[written:] = bytes(FILE_BYTES - written)
    return bytes(ring)


def template(path: Path) -> tuple[Path, bytes, bytes]:
    """A root with an empty stream `a`; its directory, uuid and root id."""
    with aof2.open(path) as manager:
        manager.stream("a")
    home = next(path.glob("a-*"))
    for name in (home / "segments").iterdir():
        name.unlink()
    said = json.loads((home / "stream.json").read_text())
    return home, bytes.fromhex(said["uuid"]), bytes.fromhex(said["root_id"])


def place(root: Path, to: Path, files: list[bytes], ring: bytes | None) -> Path:
    """A copy of the template with these segments, numbered from 1."""
    shutil.copytree(root, to)
    home = next(to.glob("a-*")) / "segments"
    for number, data in enumerate(files, 1):
        (home / f"{number:020d}.seg").write_bytes(data)
    if ring is not None:
        (home / "landing.ring").write_bytes(ring)
    return to


# --- the rule ------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the rule sees in one file."""

    started: bool
    damaged: bool
    whole: bool = False
    end: int = FRAMES_AT
    records: list[bytes] = field(default_factory=list)
    low: int = FRAMES_AT
    slot_offset: int = 0
    claims: bool = False
    torn: bool = False
    lost: bool = False
    clean: bool = False
    start: tuple[int, ...] = ()
    chain: int = 0


def frame_at(data: bytes, at: int, salt: int, size: int) -> tuple[int, int, int, bytes] | None:
    """`(ordinal, durable, kind, body)` of a frame that validates there, None otherwise."""
    if at + 32 > len(data):
        return None
    length, ordinal, _, durable, kind, _, _, crc = struct.unpack_from("<IIqIBBHQ", data, at)
    total = length + 7 & ~7
    if length < 32 or at + total > min(size, len(data)):
        return None
    covered = data[at : at + 24] + data[at + 32 : at + total]
    if crc64nvme(struct.pack("<QQ", salt, at) + covered) != crc:
        return None
    return ordinal, 8 * durable, kind, data[at + 32 : at + length]


def look(data: bytes, ring: bytes | None, segment_id: int, uuid: bytes) -> Seen:
    """Steps 1 to 3 of the rule."""
    if len(data) < 4096 or crc64nvme(data[:2040]) != struct.unpack_from("<Q", data, 2040)[0]:
        return Seen(False, True)
    _, _, _, _, _, who, number, size, salt, _ = struct.unpack_from("<8sIIII16sQQQq", data)
    if who != uuid or number != segment_id:
        return Seen(False, True)
    word = struct.pack("<Q", salt)
    good_start = crc64nvme(word + data[2048:4088]) == struct.unpack_from("<Q", data, 4088)[0]
    fields = struct.unpack_from("<QQQQ16sQQQQ", data, 2048)
    found = Seen(good_start, False, start=(fields[0], *fields[5:9]))
    newest = 0
    for at in (4096, 4608):
        if len(data) < at + 32:
            continue
        n, position, offset, crc = struct.unpack_from("<QQQQ", data, at)
        if crc64nvme(word + data[at : at + 24]) == crc and n > newest:
            newest, found.low, found.slot_offset = n, max(FRAMES_AT, position), offset
            found.claims = position > FRAMES_AT
    slot = found.low if newest else 0
    # In the ring the same position lies at position mod ring_bytes, as the ring base is 0.
    image = None
    ring_salt = None
    if ring is not None:
        ring_salt = struct.unpack_from("<Q", ring, 48)[0]
        image = bytes(ring[4096 + at % RING_BYTES] for at in range(size))
    while True:
        frame = frame_at(data, found.end, salt, size)
        if (frame is None or frame[0] != len(found.records)) and image is not None and good_start:
            frame = frame_at(image, found.end, salt, size)
        if frame is None or frame[0] != len(found.records):
            break
        found.low, found.claims = max(found.low, frame[1]), found.claims or frame[1] > 0
        if frame[2] == END:
            found.whole = True
            found.damaged |= frame[3] != struct.pack("<Q", found.chain)
            break
        source = data if frame_at(data, found.end, salt, size) == frame else image
        assert source is not None
        found.chain = crc64nvme(source[found.end + 24 : found.end + 32], found.chain)
        found.records.append(frame[3])
        found.end += 32 + len(frame[3]) + 7 & ~7
    if found.whole and good_start:
        return found
    found.damaged |= len(data) < size and not found.whole
    for at in range(found.end, size, 8):
        for image_of in (data, image if good_start or ring_salt == salt else None):
            frame = None if image_of is None else frame_at(image_of, at, salt, size)
            if frame is not None:
                found.low, found.claims = max(found.low, frame[1]), found.claims or frame[1] > 0
    found.torn = any(data[found.end :])
    found.clean = slot == found.end and not found.torn
    found.started = good_start or found.torn
    # The first flush syncs the start block with the first frames; it may not have come.
    found.lost = not good_start and bool(found.torn or found.records)
    found.started |= found.lost
    found.damaged |= not good_start and found.claims
    if not found.records and not found.torn and not found.claims and not found.damaged:
        found.started = False
    return found


def judge(files: list[bytes], ring: bytes | None, uuid: bytes) -> list[bytes] | None:
    """The records that a recovery must come to; None where it must refuse."""
    seen = [look(data, ring, number, uuid) for number, data in enumerate(files, 1)]
    if any(one.damaged for one in seen):
        return None
    records: list[bytes] = []
    ends: tuple[int, ...] = (0, 0, 0, 0)
    started = [(number, one) for number, one in enumerate(seen, 1) if one.started]
    for at, (number, one) in enumerate(started):
        later = any(other.claims for _, other in started[at + 1 :])
        if one.lost:
            return None if later else records
        if (one.start[0] != len(records) or (one.start[1] and one.start[1:] != ends)):
            return None
        first = len(records)
        if one.whole:
            records += one.records
            ends = (number, one.end, len(records), one.chain)
            continue
        if one.low > one.end or one.slot_offset > first + len(one.records) or later:
            return None
        return records + one.records
    return records
