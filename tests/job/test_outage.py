"""Tier 2 is away for a while: appends go on as far as the local tiers reach, reads never fail, few
requests are made, and everything goes on by itself when it is back."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time

import pytest
from jobhelp import KIB, check_equal, small_config

import aof2
from aof2 import WouldBlockKind
from aof2.objectstore import BytesLike, Contents, MemoryStore, ObjectInfo

CONFIG = small_config(
    aof2.Tier2Config(url="memory://away"),
    256 * KIB,
    1024 * KIB,
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.05),
)
NOISE = random.Random(70).randbytes(40_000)
HANGS_S = 0.3


def payload(n: int) -> bytes:
    """A record that its number tells."""
    return b"%d." % n + NOISE[n % 20_000 : n % 20_000 + 9000]


class Away(MemoryStore):
    """A store that goes away: refusing at once, or after a time without an answer.

    Attributes:
        away: Whether it is.
        hangs: Whether requests then hang for a while.
        tries: Requests that were made while it was away.
    """

    def __init__(self) -> None:
        super().__init__("away")
        self.away = self.hangs = False
        self.tries = 0

    def _ask(self, key: str) -> None:
        if self.away:
            self.tries += 1
            if self.hangs:
                time.sleep(HANGS_S)
            raise aof2.Tier2Unavailable("connection refused", path=key)

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        self._ask(key)
        return super().put(key, data, crc64=crc64)

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        self._ask(key)
        return super().replace(key, data, crc64=crc64)

    def get(self, key: str, bytes_max: int) -> bytes:
        self._ask(key)
        return super().get(key, bytes_max)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self._ask(key)
        return super().get_range(key, start, end)

    def head(self, key: str) -> ObjectInfo | None:
        self._ask(key)
        return super().head(key)


class LocalReads:
    """A thread that reads, again and again, what was appended since the outage began."""

    def __init__(self, log: aof2.Aof, first: int) -> None:
        self.count, self.failures = 0, list[BaseException]()
        self._log, self._first = log, first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        rnd = random.Random(71)
        while not self._stop.wait(0.001):
            end = self._log.next_offset
            if end == self._first:
                continue
            n = rnd.randrange(self._first, end)
            try:
                assert self._log.get(n).payload == payload(n)
            except BaseException as error:
                self.failures.append(error)
            self.count += 1

    def __enter__(self) -> LocalReads:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def append_until_backlog(log: aof2.Aof) -> aof2.WouldBlock:
    """Append until nothing but tier 2 can make room."""
    for n in itertools.count(log.next_offset):
        while True:
            try:
                assert log.append_nowait(payload(n)) == n
                break
            except aof2.WouldBlock as blocked:
                if blocked.kind is WouldBlockKind.TIER2_BACKLOG:
                    return blocked
                blocked.wait(0.05)
    raise AssertionError


def outage(root, store: Away, lasts_s: float) -> None:
    """Go through an outage that lasts so long."""
    with aof2.open(root, config=CONFIG) as manager:
        log = manager.stream("s")
        log.extend([payload(n) for n in range(50)])
        manager.drain("remote", timeout=30)
        first, ended = log.next_offset, list[object]()
        store.away = True
        until_s = time.monotonic() + lasts_s
        with LocalReads(log, first) as reads:
            blocked = append_until_backlog(log)
            held = sum(manager.bytes_used)
            assert blocked.retry_after_s > 0
            assert manager.bytes_used[1] > CONFIG.tier1.bytes_max - 256 * KIB
            works = (
                lambda: blocked.wait(120),
                lambda: asyncio.run(blocked.wait_async(120)),
                lambda: log.append(payload(log.next_offset), timeout=120),
            )
            threads = [threading.Thread(target=lambda w=work: ended.append(w())) for work in works]
            for thread in threads:
                thread.start()
            time.sleep(max(0.0, until_s - time.monotonic()))
            assert not ended, "nobody is woken for nothing"
            # Five failures open the breaker, each worker may have begun one; then there are single
            # probes, in pauses that double up to three seconds.
            assert store.tries <= 5 + 4 + 8 + lasts_s
            assert sum(manager.bytes_used) == held
            store.away = False
            for thread in threads:
                thread.join(60)
            assert len(ended) == 3
            manager.drain("remote", timeout=60)
        assert reads.count > 20
        assert reads.failures == []
        assert log.watermarks.remote == log.next_offset
        check_equal(log.reader().payloads(), [payload(n) for n in range(log.next_offset)])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Away:
    made = Away()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    return made


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "hanging"])
def test_an_outage_of_tier_2_is_ridden_out(tmp_path, store, hangs):
    """Goal: appends up to the budgets, then TIER2_BACKLOG; local reads never fail; no storm of
    requests; all drains by itself. Method: two seconds without a tier 2, while a thread reads and
    others wait; none of them is woken before it is back."""
    store.hangs = hangs
    outage(tmp_path / "r", store, 2.0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_outage_of_a_minute(tmp_path, store):
    """Goal: the same for a minute."""
    outage(tmp_path / "r", store, 60.0)
