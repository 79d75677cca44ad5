"""The manifest's codec: one record of the log of tier moves, as the payload of one frame.

The frame carries the checksum, so a record that contradicts itself was written so, and is
corruption; a type or flag that is not known was written by a newer version.
"""

import enum
from typing import NamedTuple

from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy, memset

from aof2.errors import ManifestCorrupt, VersionTooNew
from aof2.types import Tier


class RecordType(enum.IntEnum):
    """Kinds of manifest records; the numbers are the format's.

    State depends on SEAL_SEGMENT, COMPRESSION_DONE, UPLOAD_STARTED, UPLOAD_DONE, LOCAL_EVICTED,
    TRIMMED, TIER2_DELETE_QUEUED and TIER2_DELETED; the others are events for tools and metrics.
    """

    SEGMENT_OPENED = 1
    SEAL_SEGMENT = 2
    COMPRESSION_STARTED = 3
    COMPRESSION_DONE = 4
    COMPRESSION_FAILED = 5
    UPLOAD_STARTED = 6
    UPLOAD_DONE = 7
    UPLOAD_FAILED = 8
    HYDRATION_STARTED = 9
    HYDRATION_DONE = 10
    HYDRATION_FAILED = 11
    LOCAL_EVICTED = 12
    TIER2_DELETE_QUEUED = 13
    TIER2_DELETED = 14
    TRIMMED = 15
    FETCH_QUEUED = 16
    FETCH_DONE = 17
    SNAPSHOT_MARKER = 18
    CUSTOM_EVENT = 19


class ManifestRecord(NamedTuple):
    """One record of the manifest.

    Attributes:
        type: What happened.
        segment_id: The segment it happened to; 0 where it is about the whole stream.
        offset: End offset of a sealed segment, else the offset that the record is about.
        fields: What the type adds, by name; sizes in bytes, checksums as unsigned integers.
    """

    type: RecordType
    segment_id: int
    offset: int
    fields: dict


cdef enum FieldKind:
    WORD = 0
    FLAG = 1
    TIER = 2
    TEXT = 3
    REASON = 4

cdef dict _KINDS = {"": WORD, "flag": FLAG, "tier": TIER, "text": TEXT, "reason": REASON}


cdef tuple _parse_fields(int type):
    """`(name, kind, may be left out)` of each field, from the table."""
    cdef list fields = []
    for item in (<bytes> manifest_fields[type]).decode().split():
        name, _, kind = item.partition(":")
        fields.append((name, _KINDS[kind.rstrip("?")], kind.endswith("?")))
    return tuple(fields)


cdef tuple _FIELDS = tuple(_parse_fields(i) for i in range(TYPE_COUNT + 1))
cdef enum:
    TIER_COUNT = 3
cdef int _field_counts[TYPE_COUNT + 1]
cdef int _field_kinds[TYPE_COUNT + 1][WORDS_MAX + TEXTS_MAX]


cdef int _fill_kinds() except -1:
    """The kinds of `_FIELDS` again, for `parse_record`."""
    cdef int type, i
    for type in range(TYPE_COUNT + 1):
        _field_counts[type] = len(_FIELDS[type])
        for i in range(_field_counts[type]):
            _field_kinds[type][i] = _FIELDS[type][i][1]
    return 0


_fill_kinds()
cdef tuple _TYPES = (None, *RecordType)
cdef tuple _TIERS = tuple(Tier)


def field_names(type):
    """Names of the fields of a record type, in the order of the format.

    Example:
        >>> field_names(RecordType.UPLOAD_DONE)
        ('key', 'size', 'crc64', 'etag')
    """
    return tuple(name for name, _, _ in _FIELDS[RecordType(type)])


def sizes():
    """Bytes of a record of each type with empty texts, as `docs/format.md` lists them.

    Example:
        >>> sizes()["SEAL_SEGMENT"]
        64
    """
    return {
        kind.name: sizeof(RecordHead) + sum(2 if k >= TEXT else 8 for _, k, _ in _FIELDS[kind])
        for kind in RecordType
    }


cdef bytes _encode_field(str name, int kind, value):
    cdef uint64_t word
    cdef bytes raw
    if kind < TEXT:
        word = Tier(value) if kind == TIER else bool(value) if kind == FLAG else value
        return (<char *> &word)[:8]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if kind == TEXT:
        raw = value.encode()
        if len(raw) > TEXT_BYTES_MAX:
            raise ValueError(f"{name} of {len(raw)} bytes, at most {TEXT_BYTES_MAX} fit a record")
    else:
        # A reason may come from anywhere, so it is cut, on a border between characters.
        raw = value.encode("utf-8", "backslashreplace")[:TEXT_BYTES_MAX]
        raw = raw.decode("utf-8", "ignore").encode()
    return len(raw).to_bytes(2, "little") + raw


def encode(type, uint64_t segment_id, uint64_t offset, **fields):
    """The bytes of one manifest record.

    Args:
        type: A `RecordType`, or its number.
        segment_id, offset: As in `ManifestRecord`.
        fields: Exactly those of the type (`field_names`); `key` of UPLOAD_FAILED may be left out.

    Returns:
        The payload of one frame. A reason of more than 1024 bytes is cut; any other text of that
        length is a `ValueError`, a missing or strange field a `TypeError`.

    Example:
        >>> len(encode(RecordType.TRIMMED, 0, 7, before_offset=7))
        32
    """
    cdef RecordHead head
    cdef list parts
    kind = RecordType(type)
    memset(&head, 0, sizeof(head))
    head.type = kind
    head.segment_id = segment_id
    head.offset = offset
    parts = [(<char *> &head)[:sizeof(head)]]
    for name, field_kind, optional in _FIELDS[kind]:
        if name not in fields and not optional:
            raise TypeError(f"{kind.name} needs the field {name}")
        parts.append(_encode_field(name, field_kind, fields.pop(name, "")))
    if fields:
        raise TypeError(f"{kind.name} has no field {', '.join(sorted(fields))}")
    return b"".join(parts)


cdef int check_text(str name, const char *at, uint16_t n) except -1:
    """`ManifestCorrupt` unless the bytes are UTF-8; plain ASCII is told at a glance."""
    cdef uint16_t i
    for i in range(n):
        if at[i] & 0x80:
            try:
                at[:n].decode("utf-8")
            except UnicodeDecodeError:
                raise ManifestCorrupt(f"the {name} of a record is no text") from None
            return 0
    return 0


cdef int _refuse_head(RecordHead *head) except -1:
    if head.type > TYPE_COUNT or head.flags:
        raise VersionTooNew(
            f"manifest record of type {head.type}, flags {head.flags:#x}: upgrade aof2"
        )
    raise ManifestCorrupt("the head of a record is impossible")


cdef int _refuse_word(str name, int kind, uint64_t word) except -1:
    what = "no tier" if kind == TIER else "neither 0 nor 1"
    raise ManifestCorrupt(f"{name} {word} is {what}")


cdef int parse_record(const char *data, uint64_t n, ParsedRecord *out) except -1:
    """Read one record without making an object of it; raises as `decode` does.

    The texts stay where they are, in `data`.
    """
    cdef uint64_t at = sizeof(RecordHead), word
    cdef uint16_t length
    cdef int kind, i, words = 0, texts = 0, type
    cdef RecordHead head
    if n < at:
        raise ManifestCorrupt(f"a record of {n} bytes is too short")
    memcpy(&head, data, sizeof(head))
    type = head.type
    if type == 0 or type > TYPE_COUNT or head.flags or head.zero:
        _refuse_head(&head)
    out.type, out.segment_id, out.offset = head.type, head.segment_id, head.offset
    for i in range(_field_counts[type]):
        kind = _field_kinds[type][i]
        if n - at < <uint64_t> (2 if kind >= TEXT else 8):
            raise ManifestCorrupt(
                f"a record of type {type} has no room for {_FIELDS[type][i][0]}"
            )
        if kind < TEXT:
            memcpy(&word, data + at, 8)
            if (kind == FLAG and word > 1) or (kind == TIER and word >= TIER_COUNT):
                _refuse_word(_FIELDS[type][i][0], kind, word)
            out.words[words] = word
            words += 1
            at += 8
            continue
        memcpy(&length, data + at, 2)
        at += 2
        if length > n - at or length > TEXT_BYTES_MAX:
            raise ManifestCorrupt(
                f"{_FIELDS[type][i][0]} of a record of type {type} does not fit"
            )
        check_text(_FIELDS[type][i][0], data + at, length)
        out.texts[texts], out.text_bytes[texts] = data + at, length
        texts += 1
        at += length
    if at != n:
        raise ManifestCorrupt(f"a record of type {type} has {n - at} bytes too many")
    return 0


def decode(bytes payload not None):
    """Read one manifest record.

    Args:
        payload: What `encode` made, from a frame whose checksum is good.

    Returns:
        A `ManifestRecord`. `VersionTooNew` for a type or flag that is not known, `ManifestCorrupt`
        for a wrong size or an impossible value.

    Example:
        >>> decode(encode(RecordType.FETCH_DONE, 3, 40)).segment_id
        3
    """
    cdef ParsedRecord parsed
    cdef dict fields = {}
    cdef int words = 0, texts = 0, kind
    parse_record(payload, len(payload), &parsed)
    for name, kind, _ in <tuple> _FIELDS[parsed.type]:
        if kind >= TEXT:
            fields[name] = parsed.texts[texts][:parsed.text_bytes[texts]].decode("utf-8")
            texts += 1
            continue
        word = parsed.words[words]
        fields[name] = _TIERS[word] if kind == TIER else word == 1 if kind == FLAG else word
        words += 1
    return ManifestRecord(_TYPES[parsed.type], parsed.segment_id, parsed.offset, fields)
