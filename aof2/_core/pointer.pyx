"""`current.sealed`: what names the newest sealed segment, and says where a clean close ended."""

from typing import NamedTuple

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from aof2._core.checksum cimport crc64
from aof2._core.layout cimport FORMAT_VERSION, SealedPointer


class PointerInfo(NamedTuple):
    """What `current.sealed` says about the newest sealed segment, and about the last clean close.

    All but `closed_offset` are 0 where nothing is sealed yet.
    """

    segment_id: int
    end_offset: int
    durable_bytes: int
    coordinator_watermark: int
    epoch: int
    closed_offset: int = 0


def encode_pointer(bytes stream_uuid not None, info not None):
    """The 96 bytes of `current.sealed`, from a `PointerInfo`."""
    cdef SealedPointer raw
    memset(&raw, 0, sizeof(raw))
    memcpy(raw.magic, <const char *> b"AOF2SEAL", 8)
    raw.version = FORMAT_VERSION
    memcpy(raw.stream_uuid, <const char *> stream_uuid, 16)
    raw.segment_id = info.segment_id
    raw.end_offset = info.end_offset
    raw.durable_bytes = info.durable_bytes
    raw.coordinator_watermark = info.coordinator_watermark
    raw.epoch = info.epoch
    raw.closed_offset = info.closed_offset
    raw.crc64 = crc64(0, &raw, sizeof(raw) - 8)
    return (<char *> &raw)[:sizeof(raw)]


def decode_pointer(bytes data not None, bytes stream_uuid not None):
    """Read `current.sealed`.

    Returns:
        A `PointerInfo`, or None when the bytes are damaged or of another stream: the pointer is a
        hint.
    """
    cdef SealedPointer raw
    if len(data) != sizeof(raw):
        return None
    memcpy(&raw, <const char *> data, sizeof(raw))
    if (memcmp(raw.magic, <const char *> b"AOF2SEAL", 8) != 0 or raw.version > FORMAT_VERSION
            or raw.crc64 != crc64(0, &raw, sizeof(raw) - 8)
            or (<char *> raw.stream_uuid)[:16] != stream_uuid):
        return None
    return PointerInfo(raw.segment_id, raw.end_offset, raw.durable_bytes,
                       raw.coordinator_watermark, raw.epoch, raw.closed_offset)
