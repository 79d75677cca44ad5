"""Two writers in every order, and every step failing in between: one owner, nothing lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from aof2.errors import AofError, Fenced, ManifestCorrupt
from aof2.manifest.generation import create_stream, find_stream
from aof2.manifest.publish import Publisher
from aof2.objectstore import MemoryStore, ObjectStore
from aof2.torture.bucket_world import (
    IDENTITY,
    KEYS,
    Failing,
    Lost,
    Root,
    contents,
    filled,
    new_nonce,
    publish_all,
    publish_snapshot,
    read_all,
    reopen,
    take_over,
)
from aof2.torture.two_writers import (
    EVERY,
    Turns,
    Writer,
    orders,
    play,
    random_order,
    read_too_early,
)


def open_and_publish(store: ObjectStore, root: Root, nonce: bytes | None = None) -> Publisher:
    """All that a root with a local chain does: open, chunks, snapshot, confirm, HEAD."""
    publisher = reopen(store, root, nonce)
    publish_all(publisher, root)
    publish_snapshot(publisher, root, len(root.chunks), len(root.chunks) - 1)
    publisher.confirm()
    publisher.write_head()
    return publisher


def calls_of(make: Callable[[], ObjectStore], run: Callable[[ObjectStore], object]) -> int:
    counted = Failing(make(), -1, after=False, always=False)
    run(counted)
    return counted.count + 1


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("always", [True, False], ids=["for ever", "once"])
@pytest.mark.parametrize("published", [0, 2])
def test_killed_at_any_step_and_repeated_it_ends_the_same(same_process, after, always, published):
    """Goal: no step leaves anything behind that the next open stumbles over.

    Method: fail each store call in turn, before or after it took effect; then open again, with the
    same nonce (a retry) or another (a restart). The whole chain and the snapshot must be there.
    """

    def make() -> MemoryStore:
        return filled(published)[0] if published else MemoryStore()

    root = Root("a").grow(4)
    steps = calls_of(make, lambda store: open_and_publish(store, root))
    assert steps >= 12
    for at in range(steps):
        store, nonce = make(), new_nonce()
        # A single lost reply is settled by some steps themselves.
        with suppress(Lost) if after and not always else pytest.raises(Lost):
            open_and_publish(Failing(store, at, after=after, always=always), root, nonce)
        last = open_and_publish(store, root, nonce if same_process else new_nonce())
        assert last.confirmed.next_chunk == 5
        assert contents(store) == root.chunks
        chain, found = read_all(store)
        assert chain.snapshot is not None
        assert (chain.snapshot.covers, [n for n, _ in found]) == (root.ends[2], [4])
        store.delete(KEYS.head)
        assert contents(store) == root.chunks


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
def test_a_takeover_killed_at_any_step_and_repeated_ends_the_same(after):
    """Goal: the same for a root that had to restore. Method: as above, with a live old writer.

    The old writer puts one more chunk after each failure; it must not be confirmed.
    """

    def make() -> MemoryStore:
        return filled(3)[0]

    def run(store: ObjectStore, nonce: bytes) -> Root:
        root, publisher, _ = take_over(store, "b", nonce)
        publish_all(publisher, root.grow())
        return root

    steps = calls_of(make, lambda store: run(store, new_nonce()))
    for at, same_nonce in itertools.product(range(steps), (True, False)):
        store, zombie_root, zombie = filled(3)
        nonce = new_nonce()
        with pytest.raises(Lost):
            run(Failing(store, at, after=after, always=True), nonce)
        zombie.publish_chunk(zombie_root.grow().chunks[-1])
        try:
            zombie.confirm()
        except Fenced:
            confirmed = 3
        else:
            confirmed = 4
        root = run(store, nonce if same_nonce else new_nonce())
        assert contents(store) == root.chunks
        assert root.chunks[:confirmed] == zombie_root.chunks[:confirmed]
        with pytest.raises(Fenced):
            zombie.confirm()


# --- two writers ----------------------------------------------------------------------------------


def test_two_writers_interleaved_in_every_order_end_with_one_owner():
    """Goal: exactly one may publish, and nothing that was confirmed is lost.

    Method: a publishing writer (put, look, put, look) against a whole takeover with a chunk of its
    own, in all orders of their store calls.
    """
    steps = calls_of(lambda: filled(4)[0], lambda store: Writer("b").take_over(store, 1))
    assert steps == 15
    played = [play(order, 1, chunks=1) for order in orders()]
    assert len(played) == EVERY


@pytest.mark.parametrize("mutant", ["reads before it claims", "does not look before it confirms"])
def test_the_harness_finds_a_protocol_that_loses_chunks(mutant, monkeypatch: pytest.MonkeyPatch):
    """Goal: a green run means something. Method: break the order of steps; some run must fail."""
    opening = read_too_early if mutant == "reads before it claims" else take_over
    if opening is take_over:
        monkeypatch.setattr("aof2.manifest.publish.assert_not_fenced", lambda *_: None)
    with pytest.raises((AssertionError, ManifestCorrupt)):
        all(play(order, 1, chunks=1, opening=opening) is None for order in orders())


@pytest.mark.parametrize("seed", range(8))
def test_a_writer_and_two_takeovers_in_random_orders_end_with_one_owner(seed):
    """Goal: claims, starts, chunks, snapshots and HEADs of three writers at a time.

    Method: 60 random orders each.
    """
    for number in range(60):
        play(random_order(60 * seed + number), 2, snapshots=seed % 2 == 1)


def test_two_roots_that_create_the_stream_at_once_end_with_one_uuid_and_owner():
    """Goal: the beginning is no exception. Method: random orders over an empty store."""
    for seed in range(60):
        chance, store = random.Random(seed), MemoryStore()

        def create(store: ObjectStore, n: int) -> bytes | None:
            generation, uuid = find_stream(store, IDENTITY.directory)
            if uuid is None:
                uuid = create_stream(store, IDENTITY.directory, bytes([n]) * 16, generation + 1)
            return uuid

        jobs: list[Callable[[ObjectStore], Any]] = [
            lambda store, n=n: create(store, n) for n in (1, 2, 3)
        ]
        schedule = iter([chance.randrange(3) for _ in range(20)])
        outcomes = Turns(store, jobs).play(schedule)
        assert not [one for one in outcomes if isinstance(one, AofError)]
        # Who came late may have found a generation that was made a moment before.
        assert len({*outcomes, find_stream(store, IDENTITY.directory)[1]}) == 1
