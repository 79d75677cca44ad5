"""A manifest goes into a bucket and comes out again: order, requests, takeovers, lost HEADs."""

from __future__ import annotations

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import Fenced, ManifestCorrupt
from aof2.manifest.bucket import current_key, list_current, named_key
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.claims import assert_not_fenced, claim, highest_claim
from aof2.manifest.generation import bury_stream, create_stream, find_stream
from aof2.manifest.notes import Head
from aof2.manifest.publish import HEAD_TRAILS_MAX, Publisher
from aof2.manifest.published import Hint, check_lineage, find_end, read_hint
from aof2.manifest.restore import read_chain
from aof2.objectstore import MemoryStore, open_store
from aof2.torture.bucket_world import (
    IDENTITY,
    KEYS,
    Counting,
    Root,
    chunk,
    contents,
    end_of,
    filled,
    new_nonce,
    overwrite,
    publish_all,
    publish_snapshot,
    read_all,
    read_covers,
    reopen,
    take_over,
)


def test_what_was_published_is_read_back_in_order():
    """Goal: the round trip. Method: five chunks; compare bytes, links and where the stream ends."""
    store, root, publisher = filled(5)
    chain, found = read_all(store)
    assert found == [(n, 1) for n in range(1, 6)]
    assert contents(store) == root.chunks
    assert chain.end is not None
    assert (chain.end.next_chunk, chain.end.previous) == (6, root.ends[-1])
    assert publisher.confirmed == chain.end
    assert (chain.snapshot, chain.unusable) == (None, [])


def test_an_empty_bucket_has_nothing():
    """Goal: no stream is no error. Method: ask an empty store."""
    store = MemoryStore()
    assert find_stream(store, IDENTITY.directory) == (0, None)
    hint = read_hint(store, IDENTITY)
    assert (hint.head, hint.epoch) == (None, 0)
    assert find_end(store, IDENTITY, hint) is None
    chain, found = read_all(store)
    assert (chain.end, chain.snapshot, found) == (None, None, [])


def test_generations_decide_which_stream_a_name_is():
    """Goal: one winner per generation; a tombstone ends it; a new stream may follow.

    Method: two creators, a tombstone, one more stream; then the names are lost.
    """
    store, d = MemoryStore(), IDENTITY.directory
    first, second, third = (bytes([n]) * 16 for n in (1, 2, 3))
    assert create_stream(store, d, first, 1) == first
    assert create_stream(store, d, second, 1) == first
    assert find_stream(store, d) == (1, first)
    bury_stream(store, d, 2)
    bury_stream(store, d, 2)
    assert find_stream(store, d) == (2, None)
    assert create_stream(store, d, second, 2) is None
    assert create_stream(store, d, third, 3) == third
    assert find_stream(store, d) == (3, third)
    for n, uuid in ((1, first), (3, third)):
        store.delete(named_key(d, n, uuid))
    assert find_stream(store, d) == (3, third)
    # Two names for one generation, or a name without the object: the object decides.
    store.put(named_key(d, 3, first), b"", crc64=0)
    store.put(named_key(d, 3, second), b"", crc64=0)
    store.put(named_key(d, 4, second), b"", crc64=0)
    assert find_stream(store, d) == (3, third)
    assert sorted(list_current(store, d)) == [1, 2, 3]


def test_a_restore_needs_five_requests_whatever_the_history():
    """Goal: opening costs the same with 10,000 sealed segments as with one.

    Method: count what is not a write, for a takeover and for a reader, with the newest snapshot
    covering 400 chunks (10,000 segments need fewer), 3 and 1.
    """
    for chunks in (400, 3, 1):
        store, root, publisher = filled(chunks)
        publish_snapshot(publisher, root, 1, chunks)
        publisher.confirm()
        publisher.write_head()
        reading = Counting(store)
        find_stream(reading, IDENTITY.directory)
        chain, found = read_all(reading)
        assert (found, len(reading.calls)) == ([], 5), reading.calls
        assert chain.snapshot is not None
        assert chain.load_page(0, 1, 6, crc64nvme(b"page 1")) == b"page 1"
        taking = Counting(store)
        _, second, _ = take_over(taking, "b")
        before_start = [call[0] for call in taking.calls].index("put", 3)
        assert [call[0] for call in taking.calls[:before_start]] == [
            *("list", "get", "put", "get", "get", "get")
        ]
        # One more look for a higher claim belongs to the new epoch.
        assert len(taking.reads) == 5 + 1
        assert second.epoch == 2


def test_a_reopened_root_goes_on_where_it_stopped():
    """Goal: the same chain over many opens, and few requests for each.

    Method: ten opens, one chunk each; count the requests of the last.
    """
    store, root, _ = filled(1)
    for n in range(2, 12):
        counted = Counting(store)
        publisher = reopen(counted, root.grow())
        assert (publisher.epoch, publisher.next_chunk) == (n, n)
        publish_all(publisher, root)
    assert read_all(store)[1] == [(n, n) for n in range(1, 12)]
    assert contents(store) == root.chunks
    assert len(counted.reads) <= 10, counted.calls


def test_head_never_trails_by_more_than_eight_chunks():
    """Goal: the hint stays near, without a call of the user. Method: 50 chunks in one go."""
    store, root = MemoryStore(), Root("a").grow(50)
    publisher = reopen(store, root)
    for data in root.chunks:
        publisher.publish_chunk(data)
        head = Head.decode(store.get(KEYS.head, 4096), uuid=IDENTITY.uuid, key=KEYS.head)
        assert publisher.next_chunk - head.next_chunk <= HEAD_TRAILS_MAX
    assert contents(store) == root.chunks


@pytest.mark.parametrize("damage", ["lost", "garbage", "large", "another stream", "flipped"])
@pytest.mark.parametrize("snapshot", [True, False])
def test_a_lost_or_damaged_head_costs_one_listing_and_no_data(damage, snapshot):
    """Goal: HEAD is never required. Method: damage it in five ways, then read and take over."""
    store, root, publisher = filled(12)
    if snapshot:
        publish_snapshot(publisher, root, 1, 9)
        publisher.confirm()
    expected = contents(store)
    if damage == "lost":
        store.delete(KEYS.head)
    elif damage == "flipped":
        data = bytearray(store.get(KEYS.head, 4096))
        data[data.index(b'"next_chunk":') + 13] ^= 1
        overwrite(store, KEYS.head, bytes(data))
    else:
        other = Head(1, 1, 1, ChainPoint()).encode(bytes(16))
        wrong = {"garbage": b"\x00{", "large": b" " * 5000, "another stream": other}
        overwrite(store, KEYS.head, wrong[damage])
    counted = Counting(store)
    chain, found = read_all(counted)
    assert [call[0] for call in counted.calls].count("list") == 1
    assert (chain.snapshot is not None) == snapshot
    assert found == [(n, 1) for n in range(10 if snapshot else 1, 13)]
    assert contents(store) == expected == root.chunks
    second = reopen(store, root.grow())
    assert (second.epoch, second.next_chunk) == (2, 13)
    publish_all(second, root)
    assert contents(store) == root.chunks
    assert Head.decode(store.get(KEYS.head, 4096), uuid=IDENTITY.uuid, key=KEYS.head).epoch == 2


@pytest.mark.parametrize("trail", range(9))
def test_a_head_that_trails_loses_nothing(trail):
    """Goal: HEAD may be old. Method: put back the HEAD of up to eight chunks ago, then reopen."""
    store, root, publisher = filled(4)
    old = store.get(KEYS.head, 4096)
    for _ in range(trail):
        root.grow()
        publish_all(publisher, root)
    overwrite(store, KEYS.head, old)
    assert read_all(store)[1] == [(n, 1) for n in range(1, 5 + trail)]
    second = reopen(store, root.grow())
    assert second.next_chunk == 5 + trail
    publish_all(second, root)
    # The HEAD of the first epoch again: the second is found by its claim.
    overwrite(store, KEYS.head, old)
    assert contents(store) == root.chunks


def test_claims_without_a_start_published_nothing():
    """Goal: a writer that died after its claim is no obstacle. Method: three such claims, twice."""
    store, root, _ = filled(2)
    for _ in range(3):
        top = highest_claim(store, IDENTITY, hint=1)
        claim(store, IDENTITY, hint=top, nonce=new_nonce(), claimed_ns=0)
    assert read_all(store)[1] == [(1, 1), (2, 1)]
    publisher = reopen(store, root.grow())
    assert publisher.epoch == 5
    publish_all(publisher, root)
    assert read_all(store)[1] == [(1, 1), (2, 1), (3, 5)]
    store.delete(KEYS.head)
    assert read_all(store)[1] == [(1, 1), (2, 1), (3, 5)]


def test_a_claim_is_won_by_its_nonce():
    """Goal: every epoch has one owner. Method: claims with old hints; the same nonce again."""
    store = filled(1)[0]
    mine, theirs = new_nonce(), new_nonce()
    assert claim(store, IDENTITY, hint=0, nonce=mine, claimed_ns=1) == 2
    assert claim(store, IDENTITY, hint=1, nonce=theirs, claimed_ns=2) == 3
    assert claim(store, IDENTITY, hint=0, nonce=mine, claimed_ns=3) == 2
    overwrite(store, KEYS.claim(4), b"no claim, but it takes the epoch")
    assert claim(store, IDENTITY, hint=2, nonce=mine, claimed_ns=4) == 5
    assert highest_claim(store, IDENTITY, hint=0) == 5
    with pytest.raises(Fenced) as caught:
        assert_not_fenced(store, IDENTITY, 3)
    assert caught.value.epoch == 4
    assert_not_fenced(store, IDENTITY, 5)


def test_a_replaced_writer_publishes_into_the_void():
    """Goal: what it puts after the takeover is nobody's, and it is told.

    Method: the first writer goes on with chunk, snapshot and confirmation after a takeover.
    """
    store, root, zombie = filled(3)
    second_root, second, _ = take_over(store, "b")
    zombie.publish_chunk(root.grow().chunks[-1])
    zombie.publish_chunk(root.grow().chunks[-1])
    publish_snapshot(zombie, root, 9, 5)
    with pytest.raises(Fenced) as caught:
        zombie.confirm()
    assert caught.value.epoch == 2
    for call in (zombie.confirm, zombie.write_head, lambda: zombie.publish_chunk(b"")):
        with pytest.raises(Fenced):
            call()
    publish_all(second, second_root.grow(2))
    publish_snapshot(second, second_root, 2, 4)
    second.confirm()
    second.write_head()
    for _ in range(2):
        chain, found = read_all(store)
        assert chain.snapshot is not None
        assert (chain.snapshot.number, chain.snapshot.epoch, found) == (2, 2, [(5, 2)])
        assert contents(store) == second_root.chunks
        store.delete(KEYS.head)
    with pytest.raises(Fenced) as caught:
        reopen(store, root)
    assert caught.value.epoch == 2
    assert highest_claim(store, IDENTITY, hint=1) == 2


def test_a_stale_root_is_fenced_before_it_claims():
    """Goal: an old copy of the root changes nothing. Method: restore one from before two chunks."""
    store, root, publisher = filled(2)
    stale = Root("a", root.chunks)
    publish_all(publisher, root.grow(2))
    before = list(store.list())
    with pytest.raises(Fenced):
        reopen(store, stale)
    # It has grown on its own since.
    with pytest.raises(Fenced):
        reopen(store, Root("stale", stale.chunks).grow(3))
    assert list(store.list()) == before
    assert reopen(store, root).next_chunk == 5


def test_a_root_whose_takeover_published_nothing_fences_only_from_the_start():
    """Goal: a newer start must be on the local chain, and is when it begins at our end.

    Method: another root takes over and stops before its first chunk.
    """
    store, root, _ = filled(3)
    take_over(store, "b")
    publisher = reopen(store, root.grow())
    assert (publisher.epoch, publisher.next_chunk) == (3, 4)
    publish_all(publisher, root)
    assert read_all(store)[1] == [(1, 1), (2, 1), (3, 1), (4, 3)]


def test_a_late_start_of_a_replaced_claimant_is_no_part_of_the_chain():
    """Goal: the newest start decides, whatever appears beside it later.

    Method: epoch 2 reads to chunk 3, sleeps; epoch 1 publishes one more; epoch 3 takes over with
    it and publishes; then epoch 2 wakes up, starts and publishes over it.
    """
    store, root, first = filled(3)
    hint = read_hint(store, IDENTITY)
    sleeper = claim(store, IDENTITY, hint=1, nonce=new_nonce(), claimed_ns=0)
    end = find_end(store, IDENTITY, hint, below=sleeper)
    first.publish_chunk(root.grow().chunks[-1])
    third_root, third, _ = take_over(store, "c")
    assert third_root.chunks == root.chunks
    publish_all(third, third_root.grow(2))
    with pytest.raises(Fenced):
        Publisher.begin(store, IDENTITY, sleeper, end)
    assert contents(store) == third_root.chunks
    overwrite(store, KEYS.chunk(4, 2), Root("x", root.chunks[:3]).grow().chunks[-1])
    for _ in range(2):
        assert contents(store) == third_root.chunks
        fourth_root, _, _ = take_over(store, "d")
        assert fourth_root.chunks == third_root.chunks
        store.delete(KEYS.head)


def test_a_repaired_manifest_begins_a_chain_of_its_own():
    """Goal: after a repair, numbers go on and the old chunks do not count.

    Method: begin at chunk 7 as a root, with a snapshot of the old chain left behind.
    """
    store, root, publisher = filled(5)
    publish_snapshot(publisher, root, 1, 5)
    publisher.confirm()
    publisher.write_head()
    old = store.get(KEYS.head, 4096)
    epoch = claim(store, IDENTITY, hint=1, nonce=new_nonce(), claimed_ns=0)
    repaired = Publisher.begin(store, IDENTITY, epoch, publisher.confirmed, root=7)
    with pytest.raises(ManifestCorrupt, match="number 6"):
        repaired.publish_chunk(Root("a", root.chunks).grow().chunks[-1])
    chain, found = read_all(store)
    assert (chain.snapshot, found) == (None, [])
    with pytest.raises(Fenced):
        check_lineage(store, IDENTITY, read_hint(store, IDENTITY), root.has)
    first = chunk("r", 7)
    second = chunk("r", 8, end_of(first, 7))
    repaired.publish_chunk(first)
    repaired.publish_chunk(second)
    repaired.confirm()
    overwrite(store, KEYS.head, old)
    assert read_all(store)[1] == [(7, 2), (8, 2)]
    assert read_chain(store, IDENTITY, read_hint(store, IDENTITY), read_covers).snapshot is None


def test_snapshots_must_be_of_published_chunks():
    """Goal: nobody is left with a snapshot whose chunks are lost. Method: one too early."""
    _, root, publisher = filled(2)
    with pytest.raises(ValueError, match="chunk 3"):
        publish_snapshot(publisher, root.grow(), 1, 3)


def test_a_chunk_that_is_not_the_next_is_not_uploaded():
    """Goal: a bug above cannot break the published chain. Method: wrong, foreign, damaged ones."""
    store, root, publisher = filled(2)
    before = list(store.list())
    foreign = Root("x").grow(3).chunks[-1]
    third = root.grow().chunks[-1]
    for wrong in (root.chunks[1], foreign, third[:-1], third + b"\0", b"", bytes(20000)):
        with pytest.raises(ManifestCorrupt):
            publisher.publish_chunk(wrong)
    assert list(store.list()) == before
    publisher.publish_chunk(third)


def test_the_same_works_on_a_real_server(tier2_s3):
    """Goal: nothing rests on the memory store. Method: publish, take over, fence, restore."""
    with open_store(**tier2_s3) as store:
        root = Root("a").grow(3)
        zombie = reopen(store, root)
        publish_all(zombie, root)
        publish_snapshot(zombie, root, 1, 2)
        zombie.confirm()
        zombie.write_head()
        reading = Counting(store)
        assert find_stream(reading, IDENTITY.directory) == (1, IDENTITY.uuid)
        chain, found = read_all(reading)
        assert (found, len(reading.calls)) == ([(3, 1)], 6)
        assert chain.snapshot is not None
        second_root, second, _ = take_over(store, "b")
        publish_all(second, second_root.grow())
        zombie.publish_chunk(root.grow().chunks[-1])
        with pytest.raises(Fenced):
            zombie.confirm()
        store.delete(KEYS.head)
        assert read_all(store)[1] == [(3, 1), (4, 2)]
        assert contents(store) == [*root.chunks[:3], second_root.chunks[3]]
        assert store.head(current_key(IDENTITY.directory, 1)) is not None


def test_an_answer_is_a_hint_for_the_next_question():
    """Goal: looking twice costs only what is new. Method: count the second look."""
    store, root, publisher = filled(6)
    end = find_end(store, IDENTITY, read_hint(store, IDENTITY))
    counted = Counting(store)
    assert find_end(counted, IDENTITY, Hint(end)) == end
    assert len(counted.calls) == 2
    publish_all(publisher, root.grow())
    assert find_end(store, IDENTITY, Hint(end)) == publisher.confirmed
