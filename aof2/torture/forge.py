"""Files that are wrong in a way that their checksums do not show.

A hostile or a badly broken writer could make them: after bytes were changed, every checksum that
covers them is worked out anew, so that a decoder gets to see what it would never see by accident.
Layouts are written here a second time, from the text of `docs/format.md`.
"""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from aof2._core.checksum import crc64nvme

FRAMES_AT = 8192
FOOTER_BYTES = 168
FRAME_HEADER_BYTES = 32
KIND_END = 3
NUMBERS = [0, 1, 2, 7, 8, 31, 32, 255, 4095, 4096, 65535, 65536, 1 << 31, (1 << 32) - 1, 1 << 32]
NUMBERS += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 8]


def mutate(data: bytes, chance: random.Random) -> bytearray:
    """A few changes: numbers, bits, stretches copied, removed, or filled."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            out += chance.randbytes(16)
        # Most of a file is payload or zeros: its ends, and the pages of headers, decide more.
        where = chance.random()
        if where < 0.4:
            at = chance.randrange(min(len(out), 512))
        elif where < 0.6:
            at = len(out) - 1 - chance.randrange(min(len(out), 400))
        elif where < 0.8 and len(out) > FRAMES_AT:
            at = min(len(out) - 1, FRAMES_AT + chance.randrange(1024))
        else:
            at = chance.randrange(len(out))
        _change(out, at, chance)
    return out


def _change(out: bytearray, at: int, chance: random.Random) -> None:
    way = chance.randrange(8)
    if way < 3:
        width = chance.choice((1, 2, 4, 8))
        at -= at % width
        number = chance.choice(NUMBERS) + chance.choice((0, 0, 0, -1, 1))
        out[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    elif way == 3:
        out[at] ^= 1 << chance.randrange(8)
    elif way == 4:
        n = chance.choice((1, 8, 16, 40, 512))
        source = chance.randrange(len(out))
        out[at : at + n] = out[source : source + n]
    elif way == 5:
        del out[at : at + chance.choice((1, 4, 8, 512, 4096))]
    elif way == 6:
        n = chance.choice((4, 8, 32, 512))
        out[at : at + n] = bytes([chance.choice((0, 255))]) * len(out[at : at + n])
    else:
        out[at:at] = chance.randbytes(chance.choice((1, 8, 32)))


def _put(out: bytearray, at: int, value: int) -> None:
    if 0 <= at <= len(out) - 8:
        struct.pack_into("<Q", out, at, value)


def forge_log_file(out: bytearray, chance: random.Random) -> None:
    """Checksums of a segment or a chunk: header, start block, slots, frames, footer."""
    if len(out) < FRAMES_AT:
        return
    _put(out, 2040, crc64nvme(out[:2040]))
    salt = bytes(out[56:64])
    _put(out, 4088, crc64nvme(salt + out[2048:4088]))
    for slot in (4096, 4608):
        if any(out[slot : slot + 32]):
            _put(out, slot + 24, crc64nvme(salt + out[slot : slot + 24]))
    chain, at = 0, FRAMES_AT
    while at + FRAME_HEADER_BYTES <= len(out):
        (size,) = struct.unpack_from("<I", out, at)
        total = size + -size % 8
        if size < FRAME_HEADER_BYTES or at + total > len(out):
            break
        if out[at + 20] == KIND_END and chance.random() < 0.8:
            _put(out, at + FRAME_HEADER_BYTES, chain)
        covered = salt + struct.pack("<Q", at) + out[at : at + 24] + out[at + 32 : at + total]
        _put(out, at + 24, crc64nvme(covered))
        chain = crc64nvme(out[at + 24 : at + 32], chain)
        if out[at + 20] == KIND_END:
            break
        at += total
    foot = len(out) - FOOTER_BYTES
    if out[foot : foot + 8] == b"AOF2FOOT":
        if chance.random() < 0.7:
            _put(out, foot + 144, chain)
        _put(out, foot + 152, crc64nvme(out[:foot]))
        _put(out, foot + 160, crc64nvme(out[foot : foot + 160]))


def forge_tail(out: bytearray, chance: random.Random) -> None:
    """A checksum in the last 8 bytes, over all before it: pointers, snapshot heads, index pages."""
    del chance
    _put(out, len(out) - 8, crc64nvme(out[:-8]))


def forge_warm(out: bytearray, chance: random.Random) -> None:
    """The table of a compressed segment: its own checksum, and those of the compressed frames."""
    at = out.rfind(b"AOF2WARM") - 8
    if at < 0 or at + 116 > len(out):
        return
    body = at + 8
    (size,) = struct.unpack_from("<I", out, at + 4)
    (count,) = struct.unpack_from("<I", out, body + 20)
    position = 0
    for n in range(min(count, 64)):
        entry = body + 104 + 40 * n
        if entry + 40 > len(out) or chance.random() < 0.2:
            break
        (packed,) = struct.unpack_from("<I", out, entry + 8)
        _put(out, entry + 16, crc64nvme(out[position : position + packed]))
        position += packed
    if 16 <= size <= len(out) - body:
        _put(out, body + size - 8, crc64nvme(out[body : body + size - 8]))


def forge_nothing(out: bytearray, chance: random.Random) -> None:
    """What has no checksum: manifest records, landing rings."""
    del out, chance


def mutate_note(data: bytes, chance: random.Random) -> bytes:
    """A note of the bucket with other values, in canonical form, under a good checksum."""
    fields: dict[str, Any] = json.loads(data)
    fields.pop("crc64")
    odd: tuple[Any, ...] = (None, True, -1, 0, 1 << 64, 1.5, "", "0" * 32, "g" * 32, [], {})
    odd += ({"chunk_id": 1}, "\ud800")
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice([*fields, "more"])
        way = chance.randrange(4)
        if way == 0:
            fields.pop(name, None)
        elif way == 1 and isinstance(fields.get(name), int):
            fields[name] = fields[name] + chance.choice((-1, 1, 1 << 32))
        else:
            fields[name] = chance.choice(odd)

    def canonical() -> bytes:
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    fields["crc64"] = f"{crc64nvme(canonical()):016x}"
    return canonical()
