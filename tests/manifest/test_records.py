"""The codec of manifest records: golden bytes, round trips, damage."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aof2._core.manifest import ManifestRecord, RecordType, decode, encode, field_names, sizes
from aof2.errors import ManifestCorrupt, VersionTooNew
from aof2.types import Tier

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first draw of a text loads tables, which takes long on a busy machine."""

U64 = st.integers(0, 2**64 - 1)
KINDS = {
    "key": st.text(max_size=60),
    "etag": st.text(max_size=60),
    "text": st.text(max_size=60),
    "reason": st.text(max_size=60),
    "tier": st.sampled_from(Tier),
    "copy_tier": st.sampled_from(Tier),
    "source_tier": st.sampled_from(Tier),
    "flush_failure": st.booleans(),
}
RECORDS = st.sampled_from(RecordType).flatmap(
    lambda kind: st.builds(
        ManifestRecord,
        st.just(kind),
        U64,
        U64,
        st.fixed_dictionaries({name: KINDS.get(name, U64) for name in field_names(kind)}),
    )
)


def word(value: int) -> str:
    return value.to_bytes(8, "little").hex()


def text(value: str) -> str:
    return len(value).to_bytes(2, "little").hex() + value.encode().hex()


VALUES = {
    "base_offset": 100,
    "epoch": 1,
    "durable_bytes": 4096,
    "segment_crc64": 0x1122334455667788,
    "ext_id": 9,
    "coordinator_watermark": 12,
    "flush_failure": True,
    "bytes": 500,
    "table_bytes": 96,
    "crc64": 0xAE8B14860A799888,
    "raw_crc64": 3,
    "reason": "no room",
    "key": "seg/00/a",
    "size": 500,
    "etag": '"e"',
    "source_tier": Tier.COLD,
    "tier": Tier.HOT,
    "copy_tier": Tier.WARM,
    "before_offset": 64,
    "snapshot_number": 2,
    "covers": 77,
    "text": "hello",
}
CRC, KEY, ETAG, REASON = word(0xAE8B14860A799888), text("seg/00/a"), text('"e"'), text("no room")
BODIES = {
    RecordType.SEGMENT_OPENED: word(100) + word(1),
    RecordType.SEAL_SEGMENT: word(4096) + word(0x1122334455667788) + word(9) + word(12) + word(1),
    RecordType.COMPRESSION_STARTED: "",
    RecordType.COMPRESSION_DONE: word(500) + word(96) + CRC + word(3),
    RecordType.COMPRESSION_FAILED: REASON,
    RecordType.UPLOAD_STARTED: KEY,
    RecordType.UPLOAD_DONE: KEY + word(500) + CRC + ETAG,
    RecordType.UPLOAD_FAILED: KEY + REASON,
    RecordType.HYDRATION_STARTED: word(2),
    RecordType.HYDRATION_DONE: word(2) + word(500),
    RecordType.HYDRATION_FAILED: word(2) + REASON,
    RecordType.LOCAL_EVICTED: word(0) + word(500) + word(1),
    RecordType.TIER2_DELETE_QUEUED: KEY + REASON,
    RecordType.TIER2_DELETED: KEY + REASON,
    RecordType.TRIMMED: word(64),
    RecordType.FETCH_QUEUED: "",
    RecordType.FETCH_DONE: "",
    RecordType.SNAPSHOT_MARKER: word(2) + word(77),
    RecordType.CUSTOM_EVENT: text("hello"),
}
GOLDEN_UPLOAD_DONE = (
    "0700000000000000030000000000000064000000000000000800"
    "7365672f30302f61f4010000000000008898790a86148bae03002265" + "22"
)


@pytest.mark.parametrize("kind", RecordType, ids=lambda kind: kind.name)
def test_every_type_has_its_golden_bytes(kind):
    """Goal: the format does not drift. Method: compare each type's bytes with written-out ones."""
    fields = {name: VALUES[name] for name in field_names(kind)}
    head = int(kind).to_bytes(2, "little").hex() + "0000" + "00000000" + word(3) + word(100)
    assert encode(kind, 3, 100, **fields).hex() == head + BODIES[kind]
    assert decode(bytes.fromhex(head + BODIES[kind])) == (kind, 3, 100, fields)


def test_one_record_in_plain_hex():
    """Goal: the helper of the golden test is no part of the format. Method: one literal."""
    fields = {name: VALUES[name] for name in field_names(RecordType.UPLOAD_DONE)}
    assert encode(RecordType.UPLOAD_DONE, 3, 100, **fields).hex() == GOLDEN_UPLOAD_DONE


def test_the_numbers_of_the_types_are_the_formats():
    """Goal: numbers never move. Method: 1 to 19 in the order of the format's text."""
    assert [int(kind) for kind in RecordType] == list(range(1, 20))
    assert RecordType.SEGMENT_OPENED == 1
    assert RecordType.CUSTOM_EVENT == 19


@patient
@given(RECORDS)
def test_every_record_comes_back_as_it_went_in(record):
    """Goal: nothing is lost in the codec. Method: random records of every type."""
    payload = encode(record.type, record.segment_id, record.offset, **record.fields)
    texts = sum(len(value.encode()) for value in record.fields.values() if isinstance(value, str))
    assert decode(payload) == record
    assert len(payload) == sizes()[record.type.name] + texts


@patient
@given(RECORDS, st.data())
def test_every_other_length_is_refused(record, data):
    """Goal: a wrong size is corruption, never a short read. Method: cut and lengthen records."""
    payload = encode(record.type, record.segment_id, record.offset, **record.fields)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ManifestCorrupt):
        decode(payload[:cut])
    with pytest.raises(ManifestCorrupt):
        decode(payload + b"\0")


@patient
@given(st.binary(max_size=200))
def test_random_bytes_never_crash(payload):
    """Goal: hostile bytes are an error. Method: random payloads."""
    with contextlib.suppress(ManifestCorrupt, VersionTooNew):
        decode(payload)


@pytest.mark.parametrize(("at", "value"), [(0, 20), (1, 1), (2, 1), (3, 128)])
def test_unknown_types_and_flags_ask_for_an_upgrade(at, value):
    """Goal: a newer format is told from damage. Method: change type and flags of a good record."""
    payload = bytearray(encode(RecordType.FETCH_DONE, 1, 2))
    payload[at] = value
    with pytest.raises(VersionTooNew):
        decode(bytes(payload))


@pytest.mark.parametrize(
    ("kind", "fields", "at"),
    [
        (RecordType.LOCAL_EVICTED, {"tier": 0, "bytes": 1, "copy_tier": 1}, 24),
        (RecordType.HYDRATION_STARTED, {"source_tier": 1}, 24),
        (RecordType.FETCH_DONE, {}, 4),
        (RecordType.FETCH_DONE, {}, 0),
    ],
)
def test_impossible_values_are_corruption(kind, fields, at):
    """Goal: no value without a meaning gets through. Method: put one at each guarded place."""
    payload = bytearray(encode(kind, 1, 2, **fields))
    payload[at] = 0 if at == 0 else 77
    with pytest.raises(ManifestCorrupt):
        decode(bytes(payload))


def test_long_reasons_are_cut_on_a_character_and_long_keys_refused():
    """Goal: a failure can always be recorded, a key never changes. Method: texts over the limit."""
    payload = encode(RecordType.COMPRESSION_FAILED, 1, 2, reason="x" + "é" * 1024)
    assert decode(payload).fields["reason"] == "x" + "é" * 511
    assert decode(encode(RecordType.COMPRESSION_FAILED, 1, 2, reason="\ud800")).fields
    with pytest.raises(ValueError, match="1025 bytes"):
        encode(RecordType.UPLOAD_STARTED, 1, 2, key="k" * 1025)


def test_missing_and_strange_fields_are_refused():
    """Goal: a caller's slip shows at once. Method: leave one out, add one, use a wrong type."""
    with pytest.raises(TypeError, match="needs the field key"):
        encode(RecordType.UPLOAD_STARTED, 1, 2)
    with pytest.raises(TypeError, match="no field color"):
        encode(RecordType.FETCH_DONE, 1, 2, color=3)
    with pytest.raises(TypeError, match="must be str"):
        encode(RecordType.UPLOAD_STARTED, 1, 2, key=b"k")
    with pytest.raises(OverflowError):
        encode(RecordType.TRIMMED, 1, 2, before_offset=-1)
    assert decode(encode(RecordType.UPLOAD_FAILED, 1, 2, reason="r")).fields["key"] == ""
