"""The object store contract, rule by rule, against every implementation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import ConfigError, FetchFailed, UploadFailed
from aof2.objectstore import (
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
)
from aof2.objectstore.s3 import S3Store

WRITERS = 16
MIB = 1 << 20


def put(store: ObjectStore, key: str, data: bytes) -> ObjectInfo:
    return store.put(key, data, crc64=crc64nvme(data))


def race(store: ObjectStore, key: str, contents: list[bytes]) -> list[ObjectInfo | UploadFailed]:
    """Put all contents under one key at the same instant."""
    start = threading.Barrier(len(contents))

    def one(data: bytes) -> ObjectInfo | UploadFailed:
        start.wait()
        try:
            return put(store, key, data)
        except UploadFailed as error:
            return error

    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(one, contents))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4095, 4096, 4097, 8 * MIB])
def test_what_was_put_is_read_back_with_its_size_and_checksum(store: ObjectStore, size: int):
    """Goal: an object survives the way there and back at every size that borders on something.

    Method: put, then compare the bytes and both infos.
    """
    data = (b"0123456789abcde" * (size // 15 + 1))[:size]
    stored = put(store, "seg/00/a.seg.zst", data)
    assert (stored.key, stored.size, stored.crc64) == ("seg/00/a.seg.zst", size, crc64nvme(data))
    assert store.head("seg/00/a.seg.zst") == stored
    assert store.get_range("seg/00/a.seg.zst", 0, size) == data


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_any_contiguous_buffer_is_taken_and_none_is_kept(
    store: ObjectStore, wrap: Callable[[bytes], bytes | bytearray | memoryview]
):
    """Goal: a mapped file can be put, and unmapped right after, also when the put failed.

    Method: a bytearray that somebody still looks at refuses to change its size.
    """
    data = wrap(b"some bytes")
    store.put("k", data, crc64=crc64nvme(b"some bytes"))
    with pytest.raises(UploadFailed) as caught:
        store.put("k", wrap(b"other"), crc64=crc64nvme(b"other"))
    if isinstance(data, bytearray):
        data.append(0)
    failing = bytearray(b"wrong")
    with pytest.raises(UploadFailed):
        store.put("k", failing, crc64=crc64nvme(b"wrong"))
    failing.append(0)
    assert caught.value.path == "k"


def test_elements_wider_than_a_byte_count_as_their_bytes(store: ObjectStore):
    """Goal: a view of integers is stored as the bytes it covers.

    Method: put a memoryview of 64-bit items.
    """
    data = bytes(range(64))
    store.put("wide", memoryview(data).cast("Q"), crc64=crc64nvme(data))
    assert store.get_range("wide", 0, 64) == data


def test_ranges_are_absolute_half_open_and_exact(store: ObjectStore):
    """Goal: exactly the bytes asked for, at every border.

    Method: all pairs of border positions of one object.
    """
    data = bytes(i % 251 for i in range(4097))
    put(store, "k", data)
    borders = [0, 1, 7, 8, 9, 4095, 4096, 4097]
    for start in borders:
        for end in (end for end in borders if end >= start):
            assert store.get_range("k", start, end) == data[start:end]


@pytest.mark.parametrize(
    ("start", "end"), [(0, 11), (9, 11), (10, 11), (50, 60), (0, 1 << 60), (-1, 5), (5, 4)]
)
def test_a_range_not_wholly_inside_the_object_is_an_error(store: ObjectStore, start: int, end: int):
    """Goal: never fewer bytes than asked for, and no memory for absurd ranges.

    Method: ranges past, across and before the borders of ten bytes.
    """
    put(store, "k", b"0123456789")
    with pytest.raises(FetchFailed) as caught:
        store.get_range("k", start, end)
    assert not isinstance(caught.value, ObjectNotFound)
    assert caught.value.path == "k"


def test_a_missing_object_is_none_an_error_or_fine_by_method(store: ObjectStore):
    """Goal: rule 7. Method: ask each method for a key that never was, and for one deleted."""
    put(store, "gone/a", b"x")
    store.delete("gone/a")
    store.delete("gone/a")
    for key in ("never", "never/was/there", "gone/a", "gone"):
        assert store.head(key) is None
        with pytest.raises(ObjectNotFound):
            store.get_range(key, 0, 1)
        with pytest.raises(ObjectNotFound):
            store.get(key, 1)
        store.delete(key)
    assert list(store.list()) == []


def test_a_deleted_key_can_be_used_again(store: ObjectStore):
    """Goal: create-only looks at what is there now. Method: put, delete, put other content."""
    put(store, "k", b"first")
    store.delete("k")
    put(store, "k", b"second")
    assert store.get_range("k", 0, 6) == b"second"


def test_other_content_never_replaces_an_object(store: ObjectStore):
    """Goal: rule 2. Method: other contents of the same and of another size, then read back."""
    put(store, "k", b"first")
    for other in (b"again", b"longer than it", b""):
        with pytest.raises(UploadFailed, match="other content"):
            put(store, "k", other)
    assert store.get_range("k", 0, 5) == b"first"


def test_of_racing_writers_with_different_contents_one_wins(store: ObjectStore):
    """Goal: create-only is atomic. Method: 16 threads, one key; the winner's bytes are there.

    The local stores' windows are short, so they get more rounds than the server.
    """
    contents = [f"writer {i:02}".encode() for i in range(WRITERS)]
    keys = [f"claim/{i:02}" for i in range(2 if isinstance(store, S3Store) else 40)]
    for key in keys:
        outcomes = race(store, key, contents)
        winners = [
            data
            for data, outcome in zip(contents, outcomes, strict=True)
            if isinstance(outcome, ObjectInfo)
        ]
        assert winners == [store.get_range(key, 0, 9)]
    assert [info.key for info in store.list()] == keys


def test_racing_writers_with_the_same_content_all_succeed(store: ObjectStore):
    """Goal: retries and restarts end in success, whoever was first. Method: 16 threads."""
    outcomes = race(store, "claim", [b"the same bytes"] * WRITERS)
    assert {type(outcome) for outcome in outcomes} == {ObjectInfo}
    assert {(info.size, info.crc64) for info in outcomes if isinstance(info, ObjectInfo)} == {
        (14, crc64nvme(b"the same bytes"))
    }


@pytest.mark.parametrize("exists", [False, True])
def test_a_wrong_checksum_stores_nothing(store: ObjectStore, exists: bool):
    """Goal: rule 4. Method: put with a crc64 one bit off, on a new key and on one that exists."""
    if exists:
        put(store, "k", b"data")
    with pytest.raises(UploadFailed, match="crc64"):
        store.put("k", b"data", crc64=crc64nvme(b"data") ^ 1)
    assert (store.head("k") is not None) == exists


def test_replacing_overwrites_whatever_was_there(store: ObjectStore):
    """Goal: the one way to change an object. Method: longer, shorter, empty, and what put made."""
    put(store, "a/k", b"put")
    for data in (b"longer than before", b"short", b"", b"last"):
        stored = store.replace("a/k", data, crc64=crc64nvme(data))
        assert (stored.key, stored.size, stored.crc64) == ("a/k", len(data), crc64nvme(data))
        assert store.head("a/k") == stored
        assert store.get("a/k", 100) == data
    store.replace("a/new", memoryview(b"new"), crc64=crc64nvme(b"new"))
    assert [info.key for info in store.list()] == ["a/k", "a/new"]
    with pytest.raises(UploadFailed, match="other content"):
        put(store, "a/k", b"put")


@pytest.mark.parametrize("exists", [False, True])
def test_replacing_with_a_wrong_checksum_changes_nothing(store: ObjectStore, exists: bool):
    """Goal: rule 4. Method: a crc64 one bit off, on a new key and on one that exists."""
    if exists:
        put(store, "k", b"first")
    with pytest.raises(UploadFailed, match="crc64"):
        store.replace("k", b"other", crc64=crc64nvme(b"other") ^ 1)
    assert (store.head("k") is not None) == exists
    assert not exists or store.get("k", 5) == b"first"


def test_of_racing_replacements_one_is_there_whole_at_any_time(store: ObjectStore):
    """Goal: last writer wins, and a reader never sees a mixture.

    Method: 16 threads replace one object with contents of different sizes, and read after that.
    """
    contents = [bytes([65 + i]) * (1 + i * 4001) for i in range(WRITERS)]
    put(store, "k", contents[0])
    start = threading.Barrier(WRITERS)

    def one(data: bytes) -> bytes:
        start.wait()
        store.replace("k", data, crc64=crc64nvme(data))
        return store.get("k", MIB)

    with ThreadPoolExecutor(WRITERS) as pool:
        seen = list(pool.map(one, contents))
    assert set(seen) | {store.get("k", MIB)} <= set(contents)
    assert [info.key for info in store.list()] == ["k"]


def test_a_whole_object_is_read_up_to_a_limit(store: ObjectStore):
    """Goal: rule 6; a hostile object costs no memory. Method: limits around the size."""
    put(store, "k", b"0123456789")
    put(store, "empty", b"")
    assert store.get("k", 10) == store.get("k", 1 << 60) == b"0123456789"
    assert store.get("empty", 0) == b""
    for bytes_max in (9, 0):
        with pytest.raises(ObjectTooLarge) as caught:
            store.get("k", bytes_max)
        assert caught.value.path == "k"


def test_listing_is_in_key_order_and_by_prefix(store: ObjectStore):
    """Goal: rule 8, with characters that sort around the slash. Method: compare with sorted()."""
    keys = ["k/x", "k/y/z", "k-b", "k.c", "k0", "kA", "k_", "ka", "A/b.c-d_e/0", "k/x.1/a", "z"]
    for key in keys:
        put(store, key, key.encode())
    for prefix in ("", "k", "k/", "k/x", "k/y/", "k/y/z", "k.", "A/b.c-d_e/", "no", "no/where/"):
        found = list(store.list(prefix))
        assert [info.key for info in found] == sorted(k for k in keys if k.startswith(prefix))
        assert all(info.size == len(info.key) and info.etag for info in found)


def test_listing_goes_on_over_many_pages(store: ObjectStore):
    """Goal: nothing is left out after the first 1,000, S3's page. Method: 1,003 objects."""
    keys = [f"p/{i:04}" for i in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(store, key, b""), keys))
    assert [info.key for info in store.list("p/")] == keys


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b", ".put-1-1"),
        *("a b", "a\0b", "é", "a\n", "a\\b", "x/" * 256 + "x", "x" * 256),
    ],
    ids=lambda key: repr(key)[:12],
)
def test_a_key_that_could_reach_elsewhere_is_refused_by_every_method(store: ObjectStore, key: str):
    """Goal: rule 1 holds before the store is asked. Method: hostile and malformed keys."""
    calls = [
        lambda: put(store, key, b""),
        lambda: store.replace(key, b"", crc64=0),
        lambda: store.get(key, 0),
        lambda: store.get_range(key, 0, 0),
        lambda: store.head(key),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(ConfigError):
            call()


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", ".", "a b"])
def test_a_listing_prefix_that_no_key_has_is_refused(store: ObjectStore, prefix: str):
    """Goal: no listing outside. Method: prefixes that a key cannot begin with."""
    with pytest.raises(ConfigError):
        store.list(prefix)


def test_a_usable_store_passes_its_check_and_tells_where_it_is(store: ObjectStore):
    """Goal: `check` is quiet when all is well, and `repr` has the place without a secret.

    Method: call them; the test server's secret must not show.
    """
    store.check()
    assert store.describe() in repr(store)
    assert "secret" not in repr(store)
