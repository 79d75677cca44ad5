"""Damaged, missing and hostile objects of a manifest in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aof2._core.checksum import crc64nvme
from aof2._core.chunk_link import chunk_link
from aof2.errors import AofError, ManifestCorrupt, VersionTooNew
from aof2.manifest.bucket import current_key, named_key
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.generation import create_stream, find_stream
from aof2.manifest.notes import Claim, Head, Start, decode_current, encode_current
from aof2.manifest.published import read_hint
from aof2.manifest.restore import read_chain
from aof2.objectstore import MemoryStore
from aof2.torture.bucket_world import (
    IDENTITY,
    KEYS,
    Root,
    chunk,
    contents,
    filled,
    overwrite,
    publish_all,
    publish_snapshot,
    read_all,
    read_covers,
    reopen,
    take_over,
)

UUID = IDENTITY.uuid
POINT = ChainPoint(4, 8232, 17, 1 << 63)
NOTES = {
    "claim": (Claim(3, bytes(16), bytes(range(16)), 17).encode(UUID), Claim.decode),
    "start": (Start(3, 5, 2, POINT).encode(UUID), Start.decode),
    "root": (Start(3, 5, 0, ChainPoint()).encode(UUID), Start.decode),
    "head": (Head(3, 5, 5, POINT).encode(UUID), Head.decode),
    "current": (encode_current(UUID), lambda data, uuid, key: decode_current(data, key=key)),
    "tombstone": (encode_current(None), lambda data, uuid, key: decode_current(data, key=key)),
}


def signed(fields: dict[str, object]) -> bytes:
    """A note with a good checksum, whatever it says."""

    def canonical(values: dict[str, object]) -> bytes:
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    return canonical({**fields, "crc64": f"{crc64nvme(canonical(fields)):016x}"})


@pytest.mark.parametrize("kind", NOTES)
def test_every_flipped_bit_and_every_truncation_of_a_note_is_refused(kind):
    """Goal: nothing damaged is believed. Method: all of both, and trailing bytes."""
    data, decode = NOTES[kind]
    decode(data, uuid=UUID, key="k")
    damaged = [data[:n] for n in range(len(data))] + [data + b" ", data + b"\0", b" " + data]
    for at in range(len(data)):
        damaged += [data[:at] + bytes([data[at] ^ (1 << b)]) + data[at + 1 :] for b in range(8)]
    for bad in damaged:
        with pytest.raises(ManifestCorrupt) as caught:
            decode(bad, uuid=UUID, key="k")
        assert caught.value.path == "k"


@pytest.mark.parametrize(
    "data",
    [
        *(b"[" * 4000, b'{"a":' * 800, b"9" * 4000, b"{}", b"[]", b"null", b'"x"', b"NaN"),
        *(b"\xff\xfe", b'{"crc64":"0"}', b'{"version":1e999}', b'{"version":"\\ud800"}'),
    ],
)
@pytest.mark.parametrize("kind", NOTES)
def test_hostile_json_is_refused(kind, data):
    """Goal: no crash, no recursion, no huge number. Method: what JSON parsers stumble over."""
    with pytest.raises(ManifestCorrupt):
        NOTES[kind][1](data, uuid=UUID, key="k")


@pytest.mark.parametrize("kind", NOTES)
@pytest.mark.parametrize("value", [None, True, -1, 1 << 64, 0.5, "1", [], {}, "00" * 16])
def test_a_field_of_another_type_or_range_is_refused_under_a_good_checksum(kind, value):
    """Goal: hostile values go no further. Method: each field in turn, nested ones too, signed."""
    data, decode = NOTES[kind]
    good = {name: found for name, found in json.loads(data).items() if name != "crc64"}
    for name, was in good.items():
        variants = [{**good, name: value}]
        if isinstance(was, dict):
            variants += [{**good, name: {**was, inner: value}} for inner in was]
        for fields in variants:
            fits = name == "snapshot" and value is None
            fits |= name in ("nonce", "root_id", "uuid") and value == "00" * 16
            fits |= name == "tombstone" and value is True
            if not fits:
                with pytest.raises(ManifestCorrupt):
                    decode(signed(fields), uuid=UUID, key="k")
        without = {field: found for field, found in good.items() if field != name}
        with pytest.raises(ManifestCorrupt):
            decode(signed(without), uuid=UUID, key="k")


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": 3},
        {"parent": 9},
        {"first_chunk": 0},
        {"first_chunk": 6},
        {"previous": dict.fromkeys(("chunk_id", "end_position", "end_offset", "chain_crc"), 0)},
        {"epoch": 1 << 32},
        {"uuid": "00" * 16},
        {"kind": "claim"},
    ],
)
def test_a_start_that_contradicts_itself_is_refused(changes):
    """Goal: no loops and no gaps in the chain of epochs. Method: impossible combinations."""
    fields = {name: v for name, v in json.loads(NOTES["start"][0]).items() if name != "crc64"}
    with pytest.raises(ManifestCorrupt):
        Start.decode(signed({**fields, **changes}), uuid=UUID, key="k")


@pytest.mark.parametrize("kind", NOTES)
def test_a_newer_version_is_said_to_be_one_and_unknown_fields_are_ignored(kind):
    """Goal: the way to the next version is open. Method: a version 2, and a field more."""
    data, decode = NOTES[kind]
    fields = {name: found for name, found in json.loads(data).items() if name != "crc64"}
    with pytest.raises(VersionTooNew):
        decode(signed({**fields, "version": 2}), uuid=UUID, key="k")
    assert decode(signed({**fields, "zzz": [1]}), uuid=UUID, key="k") == decode(
        data, uuid=UUID, key="k"
    )


def test_the_example_notes_of_the_format_page_are_notes():
    """Goal: the page is true. Method: decode its example, put together again from its lines."""
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    examples = page.partition("(each is one line; they are broken here):\n\n```\n")[2]
    start, head = examples.partition("\n```")[0].replace("\n\n", "|").replace("\n", "").split("|")
    found = Start.decode(start.encode(), uuid=UUID, key="k")
    assert found == Start(3, 18, 2, ChainPoint(17, 131880, 2051, 0xAE8B14860A799888))
    assert Head.decode(head.encode(), uuid=UUID, key="k").snapshot == (3, 3)


def test_every_flipped_byte_and_truncation_of_a_chunk_is_found():
    """Goal: the link vouches for each byte. Method: every byte flipped, every 7th length."""
    data = chunk("a", 3, ChainPoint(2, 8232, 17, 1 << 63))
    chunk_link(data, stream_uuid=UUID, chunk_id=3, path="k.mlog")
    for at in range(len(data)):
        bad = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises((ManifestCorrupt, VersionTooNew)):
            chunk_link(bad, stream_uuid=UUID, chunk_id=3, path="k.mlog")
    for size in (*range(0, len(data), 7), len(data) + 8, 1 << 20, (1 << 20) + 1):
        bad = (data + bytes(1 << 20))[:size]
        with pytest.raises(ManifestCorrupt) as caught:
            chunk_link(bad, stream_uuid=UUID, chunk_id=3, path="k.mlog")
        assert caught.value.path == "k.mlog"
    for uuid, chunk_id in ((bytes(16), 3), (UUID, 4)):
        with pytest.raises(ManifestCorrupt):
            chunk_link(data, stream_uuid=uuid, chunk_id=chunk_id, path="k.mlog")


@pytest.mark.parametrize("missing", range(1, 7))
@pytest.mark.parametrize("head", ["there", "lost"])
def test_a_chunk_missing_in_front_of_others_is_named(missing, head):
    """Goal: a hole is damage, never the end. Method: remove each of six chunks in two epochs."""
    store, root, _ = filled(3)
    second = reopen(store, root.grow(3))
    publish_all(second, root)
    second.write_head()
    key = KEYS.chunk(missing, 1 if missing < 4 else 2)
    store.delete(key)
    if head == "lost":
        if missing == 6:
            return  # Nothing is left that knows of the last one.
        store.delete(KEYS.head)
    with pytest.raises(ManifestCorrupt) as caught:
        read_all(store)
    assert caught.value.path == key


@pytest.mark.parametrize("how", ["swapped", "of another chain", "too large", "cut", "empty"])
def test_a_chunk_that_is_not_the_one_published_is_named(how):
    """Goal: no foreign chunk is taken. Method: replace the third of five."""
    store, root, _ = filled(5)
    key = KEYS.chunk(3, 1)
    wrong = {
        "swapped": root.chunks[3],
        "of another chain": Root("x").grow(3).chunks[-1],
        "too large": bytes((1 << 20) + 1),
        "cut": root.chunks[2][:-200],
        "empty": b"",
    }[how]
    overwrite(store, key, wrong)
    with pytest.raises(ManifestCorrupt) as caught:
        read_all(store)
    assert caught.value.path == key


@pytest.mark.parametrize("damage", ["missing", "garbage", "too far", "large"])
def test_a_bad_snapshot_gives_way_to_the_older_one_and_that_to_the_first_chunk(
    damage, monkeypatch: pytest.MonkeyPatch
):
    """Goal: snapshots only save time. Method: damage the newest, then the older one too."""
    monkeypatch.setattr("aof2.manifest.restore.SNAPSHOT_BYTES_MAX", 500)
    store, root, publisher = filled(6)
    for number, chunk_id in ((1, 2), (2, 5)):
        publish_snapshot(publisher, root, number, chunk_id)
    publisher.confirm()
    publisher.write_head()
    taken, second, _ = take_over(store, "b")
    assert taken.chunks[5:] == root.chunks[5:]
    publish_all(second, Root("b", root.chunks).grow())
    second.write_head()
    expected = contents(store)
    # What a replaced writer might say: more than the chain has of its epoch.
    far = b"SNAP" + json.dumps([7, *[1, 2, 3]]).encode()
    for number, first in ((2, 3), (1, 1)):
        key = KEYS.snapshot(number, 1)
        if damage == "missing":
            store.delete(key)
        else:
            bad = {"garbage": b"SNAP[", "too far": far, "large": bytes(501)}[damage]
            overwrite(store, key, bad)
        chain, found = read_all(store)
        assert [n for n, _ in found] == list(range(first, 8))
        assert KEYS.snapshot(2, 1) in chain.unusable
        assert contents(store) == expected


def test_a_damaged_index_page_is_named_and_the_snapshot_can_be_skipped():
    """Goal: pages are verified by what the head says. Method: change, lose and enlarge one."""
    store, root, publisher = filled(4)
    for number in (1, 2):
        publish_snapshot(publisher, root, number, number)
    publisher.confirm()
    publisher.write_head()
    chain, _ = read_all(store)
    crc64 = crc64nvme(b"page 2")
    assert chain.load_page(0, 2, 6, crc64) == b"page 2"
    for wrong in (b"page 3", b"page 22", b"", None):
        if wrong is None:
            store.delete(KEYS.page(0, 2, crc64))
        else:
            overwrite(store, KEYS.page(0, 2, crc64), wrong)
        with pytest.raises(ManifestCorrupt) as caught:
            chain.load_page(0, 2, 6, crc64)
        assert caught.value.path == KEYS.page(0, 2, crc64)
    assert chain.snapshot is not None
    older = read_chain(
        store, IDENTITY, read_hint(store, IDENTITY), read_covers, skip=[chain.snapshot.key]
    )
    assert older.snapshot is not None
    assert older.snapshot.number == 1


@pytest.mark.parametrize("what", ["current", "start", "claim"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"x" * 5000])
def test_damage_of_a_required_object_is_named(what, damage):
    """Goal: what is required and damaged stops the opening, by name. Method: each in turn."""
    store, root, _ = filled(2)
    publish_all(reopen(store, root.grow()), root)
    if what == "current":
        key = current_key(IDENTITY.directory, 1)
        store.delete(named_key(IDENTITY.directory, 1, UUID))
    else:
        key = KEYS.start(2) if what == "start" else KEYS.claim(2)
    overwrite(store, key, damage)
    if what == "claim":
        # An unreadable claim takes its epoch all the same, and nothing else is asked of it.
        publish_all(reopen(store, root.grow()), root)
        assert contents(store) == root.chunks
        return
    with pytest.raises(ManifestCorrupt) as caught:
        find_stream(store, IDENTITY.directory) if what == "current" else contents(store)
    assert caught.value.path == key


def test_objects_that_nobody_of_us_wrote_are_left_out():
    """Goal: foreign names do no harm. Method: plant some everywhere, and an absurd epoch."""
    store, root, _ = filled(3)
    stream = f"{IDENTITY.directory}/{UUID.hex()}"
    for key in (
        f"{IDENTITY.directory}/current/x",
        f"{IDENTITY.directory}/current/0000000000000000000x",
        f"{stream}/manifest/0",
        f"{stream}/manifest/00000000000000000009.1.mlog",
        f"{stream}/manifest/00000000000000000009.00000001.mlog.bak",
        f"{stream}/epoch/zz",
    ):
        store.put(key, b"x", crc64=crc64nvme(b"x"))
    store.delete(KEYS.head)
    assert find_stream(store, IDENTITY.directory) == (1, UUID)
    assert contents(store) == root.chunks
    store.put(KEYS.chunk(9, 0xFFFFFFFF), b"x", crc64=crc64nvme(b"x"))
    with pytest.raises(AofError):
        read_all(store)


def test_a_first_generation_may_be_lost_to_another_creator():
    """Goal: whoever loses joins, also after a crash between the two objects of a generation.

    Method: lose the name, then create again with another uuid.
    """
    store = MemoryStore()
    create_stream(store, IDENTITY.directory, UUID, 1)
    store.delete(named_key(IDENTITY.directory, 1, UUID))
    assert create_stream(store, IDENTITY.directory, bytes(16), 1) == UUID
    assert store.head(named_key(IDENTITY.directory, 1, UUID)) is not None
