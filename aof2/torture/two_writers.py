"""Two and three writers on one bucket, their calls in every order: one owner, nothing lost."""

from __future__ import annotations

import functools
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aof2.errors import Fenced
from aof2.manifest.claims import claim
from aof2.manifest.publish import Publisher
from aof2.manifest.published import read_hint
from aof2.manifest.restore import read_chain
from aof2.objectstore import MemoryStore, ObjectStore
from aof2.torture.bucket_world import (
    IDENTITY,
    KEYS,
    Between,
    Root,
    contents,
    end_of,
    filled,
    new_nonce,
    publish_all,
    publish_snapshot,
    read_all,
    read_covers,
    take_over,
)
from aof2.torture.row import Cases, Row, Setting, Tally


class Turns:
    """Runs writers one store call at a time, in the order of a schedule."""

    def __init__(self, store: ObjectStore, writers: list[Callable[[ObjectStore], Any]]) -> None:
        self.turn = [threading.Semaphore(0) for _ in writers]
        self.back = threading.Semaphore(0)
        self.alive = [True] * len(writers)
        self.outcomes: list[Any] = [None] * len(writers)
        self.threads = [
            threading.Thread(target=self._run, args=(n, store, writer))
            for n, writer in enumerate(writers)
        ]

    def _run(self, n: int, store: ObjectStore, writer: Callable[[ObjectStore], Any]) -> None:
        def in_turn(method: str, key: str, call: Callable[[], Any]) -> Any:
            self.back.release()
            self.turn[n].acquire()
            return call()

        self.turn[n].acquire()
        try:
            self.outcomes[n] = writer(Between(store, in_turn))
        except Exception as error:
            self.outcomes[n] = error
        self.alive[n] = False
        self.back.release()

    def play(self, schedule: Iterator[int]) -> list[Any]:
        for thread in self.threads:
            thread.start()
        for n in range(len(self.threads)):
            self._step(n)  # Up to its first store call.
        for n in itertools.chain(schedule, itertools.cycle(range(len(self.threads)))):
            if not any(self.alive):
                break
            if self.alive[n]:
                self._step(n)
        for thread in self.threads:
            thread.join()
        return self.outcomes

    def _step(self, n: int) -> None:
        self.turn[n].release()
        self.back.acquire()


class Writer:
    """Publishes and confirms; remembers what was confirmed, and whether it was replaced."""

    def __init__(self, name: str, *, snapshots: bool = False) -> None:
        self.name = name
        self.snapshots = snapshots
        self.root = Root(name)
        self.publisher: Publisher | None = None
        self.confirmed: list[bytes] = []
        self.fenced = False

    def go_on(self, store: ObjectStore, chunks: int) -> None:
        assert self.publisher is not None
        self.publisher._store = store
        try:
            for _ in range(chunks):
                publish_all(self.publisher, self.root.grow())
                self.confirmed = list(self.root.chunks)
                if self.snapshots:
                    number = len(self.root.chunks)
                    publish_snapshot(self.publisher, self.root, number, number)
                    self.publisher.confirm()
                    self.publisher.write_head()
        except Fenced:
            self.fenced = True

    def take_over(
        self,
        store: ObjectStore,
        chunks: int,
        opening: Callable[..., tuple[Root, Publisher, object]] = take_over,
    ) -> None:
        try:
            self.root, self.publisher, _ = opening(store, self.name)
        except Fenced:
            self.fenced = True
        else:
            self.go_on(store, chunks)


def judge(store: MemoryStore, writers: list[Writer]) -> None:
    """One owner; everything that anybody confirmed is there."""
    for _ in range(2):
        found = contents(store)
        for writer in writers:
            kept = writer.confirmed[: len(found)]
            assert len(kept) == len(writer.confirmed), writer.name
            # A root that was restored has no bytes of what a snapshot covers.
            assert all(ours in (b"", theirs) for ours, theirs in zip(kept, found, strict=False))
        chain, rest = read_all(store)
        assert chain.end is not None
        assert chain.end.previous == end_of(found[-1], len(found))
        assert len(rest) == len(found) - (chain.snapshot.covers.chunk_id if chain.snapshot else 0)
        store.delete(KEYS.head)
    left = [writer for writer in writers if not writer.fenced]
    for writer in left:
        writer.go_on(store, 1)
    owners = [writer for writer in writers if not writer.fenced]
    assert len(owners) == 1
    assert contents(store)[-1] == owners[0].confirmed[-1]
    assert len(contents(store)) == len(owners[0].confirmed)
    assert owners[0].publisher is not None
    assert owners[0].publisher.epoch == max(w.publisher.epoch for w in writers if w.publisher)


def play(
    schedule: Iterator[int],
    newcomers: int,
    *,
    chunks: int = 2,
    snapshots: bool = False,
    opening: Callable[..., tuple[Root, Publisher, object]] = take_over,
) -> None:
    store, root, publisher = filled(2)
    old = Writer("a", snapshots=snapshots)
    old.root, old.publisher, old.confirmed = root, publisher, list(root.chunks)
    fresh = [Writer(f"w{n}", snapshots=snapshots) for n in range(newcomers)]
    jobs: list[Callable[[ObjectStore], Any]] = [lambda store: old.go_on(store, 2)]
    jobs += [functools.partial(w.take_over, chunks=chunks, opening=opening) for w in fresh]
    for outcome in Turns(store, jobs).play(schedule):
        if outcome is not None:
            raise outcome
    judge(store, [old, *fresh])


def orders() -> Iterator[Iterator[int]]:
    """All orders of a writer with 4 calls and a takeover with 15, the first one's calls placed
    among those of the second."""
    for places in itertools.combinations(range(19), 4):
        yield iter([0 if n in places else 1 for n in range(19)])


def read_too_early(store: ObjectStore, name: str) -> tuple[Root, Publisher, object]:
    """A takeover that is wrong: it reads the old chain before it claims."""
    chain = read_chain(store, IDENTITY, read_hint(store, IDENTITY), read_covers)
    root = Root(name, [found.data for found in chain.chunks()])
    epoch = claim(store, IDENTITY, hint=1, nonce=new_nonce(), claimed_ns=0)
    return root, Publisher.begin(store, IDENTITY, epoch, chain.end), chain


def random_order(seed: int) -> Iterator[int]:
    """An order of three writers' calls."""
    chance = random.Random(seed)
    # Stretches of one writer, long and short, find other orders than a coin for each step.
    schedule: list[int] = []
    while len(schedule) < 80:
        schedule += [chance.randrange(3)] * chance.choice([1, 1, 2, 3, 5, 8])
    return iter(schedule)


EVERY = 3876
"""How many orders `orders` gives."""


def _begin(setting: Setting) -> Cases:
    every = list(map(list, orders()))
    assert len(every) == EVERY

    def case(number: int) -> Tally:
        if number < EVERY:
            play(iter(every[number]), 1, chunks=1)
        else:
            play(random_order(setting.seed + number), 2, snapshots=number % 2 == 1)
        return Tally()

    return Cases(case)


ROW = Row(
    "two-writers",
    "two or three writers, 1 bucket",
    "interleavings",
    5_000,
    1,
    _begin,
    batch=100,
)
