"""Cancelled at any moment, a coroutine leaves records whole and nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import aof2

KIB = 1024
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=512 * KIB),
    tier1=aof2.Tier1Config(bytes_max=512 * KIB),
    flush=aof2.FlushConfig(ring_bytes=64 * KIB, interval_s=0.005),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01),
)
CANCELS = 1000


class Program:
    """Calls of every form that is a coroutine, each cancelled after a random number of turns.

    Attributes:
        batches: What each append was given, by its number.
        ended: What an append that was not cancelled in time returned.
    """

    def __init__(self, seed: int, manager: aof2.AofManager, log: aof2.Aof) -> None:
        self.rnd = random.Random(seed)
        self.manager, self.log = manager, log
        self.batches: dict[int, list[bytes]] = {}
        self.ended: dict[int, Any] = {}
        self.names = 0

    def _payloads(self, n: int, count: int) -> list[bytes]:
        size = self.rnd.choice((1, 100, 3000))
        self.batches[n] = [b"%d.%d;" % (n, k) + b"x" * size for k in range(count)]
        return self.batches[n]

    def append(self, n: int) -> Awaitable[Any]:
        (payload,) = self._payloads(n, 1)
        return self.log.append_async(payload, durable=self.rnd.random() < 0.2)

    def append_many(self, n: int) -> Awaitable[Any]:
        durable = self.rnd.random() < 0.2
        return self.log.append_many_async(self._payloads(n, 7), durable=durable)

    def append_packed(self, n: int) -> Awaitable[Any]:
        payloads = self._payloads(n, 5)
        ends = np.cumsum([len(p) for p in payloads]).astype(np.int32)
        return self.log.append_packed_async(b"".join(payloads), ends)

    def flush(self, n: int) -> Awaitable[Any]:
        return self.log.flush_async()

    def wait(self, n: int) -> Awaitable[Any]:
        return self.log.wait_async(level=self.rnd.choice(("local", "remote")))

    def seal(self, n: int) -> Awaitable[Any]:
        return self.log.seal_async()

    def read(self, n: int) -> Awaitable[Any]:
        place = self.rnd.choice(("earliest", "latest"))
        return self.log.reader(start=place, follow=True).read_async(timeout=None)

    def read_batch(self, n: int) -> Awaitable[Any]:
        return self.log.reader(start="latest", follow=True).read_batch_async(timeout=None)

    def get(self, n: int) -> Awaitable[Any]:
        return self.log.get_async(self.rnd.randrange(max(1, self.log.next_offset)))

    def trim(self, n: int) -> Awaitable[Any]:
        return self.log.trim_async(0)

    def stream(self, n: int) -> Awaitable[Any]:
        self.names += 1
        return self.manager.stream_async(f"other{self.names % 5}")

    def drain(self, n: int) -> Awaitable[Any]:
        return self.manager.drain_async(self.rnd.choice(("local", "remote")))

    async def run(self, calls: list[Callable[[int], Awaitable[Any]]]) -> int:
        """How many of the calls were cancelled before their end."""
        cancelled = 0
        for n in range(CANCELS):
            task = asyncio.ensure_future(self.rnd.choice(calls)(n))
            for _ in range(self.rnd.randrange(6)):
                await asyncio.sleep(0 if self.rnd.random() < 0.8 else 0.002)
            task.cancel()
            try:
                self.ended[n] = await task
            except asyncio.CancelledError:
                cancelled += 1
            except aof2.OffsetOutOfRange:
                if self.log.next_offset:
                    raise
        return cancelled

    def check(self) -> None:
        """Batches are whole and in one piece, or not there; what was acknowledged is where it was
        said to be; nobody waits."""
        found = list(self.log.reader().payloads())
        numbers = [int(p.split(b".")[0]) for p in found]
        at = 0
        while at < len(found):
            n = numbers[at]
            batch = self.batches[n]
            assert found[at : at + len(batch)] == batch, f"append {n} is there in part"
            at += len(batch)
            assert n not in numbers[at:], f"append {n} is there twice"
        for n, result in self.ended.items():
            if n in self.batches:
                first = result if isinstance(result, int) else result.start
                assert found[first : first + len(self.batches[n])] == self.batches[n]
        waiting = {
            stream.name: [signal.waiters for signal in stream.signals._all()]
            for stream in self.manager._instances.values()
        }
        assert all(not any(counts) for counts in waiting.values()), waiting
        assert self.manager._context.announcer.work.waiters == 0


APPENDS = ("append", "append_many", "append_packed")
OTHERS = (
    "flush", "wait", "seal", "read", "read_batch", "get", "trim", "stream", "drain",
)  # fmt: skip


@pytest.mark.parametrize(
    "names", [APPENDS, OTHERS, APPENDS + OTHERS], ids=["appends", "others", "all"]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_cancelled_calls_leave_nothing_in_part_and_nobody_waiting(tmp_path, names, seed):
    """Goal: cancelling is safe at every await. Method: 1,000 calls under small budgets, cancelled
    after random turns, while commands are slow at random; then look at records, waiters, tasks, and
    close."""
    print(f"seed {seed}")

    async def program() -> None:
        manager = await aof2.open_async(
            tmp_path / "r", tier2=f"memory://{tmp_path.name}", config=CONFIG
        )
        log = await manager.stream_async("s")
        await log.append_async(b"-1.0;")
        pause, chance = threading.Event(), random.Random(seed)
        manager._coordinator.before = lambda _: pause.wait(chance.choice((0, 0, 0.003)))
        mine = Program(seed, manager, log)
        mine.batches[-1] = [b"-1.0;"]
        calls = [getattr(mine, name) for name in names]
        cancelled = await mine.run(calls)
        assert cancelled > CANCELS / 10
        # Beside this one.
        assert len(asyncio.all_tasks()) == 1
        pause.set()
        await log.flush_async()
        await asyncio.to_thread(mine.check)
        await asyncio.wait_for(manager.close_async(), 30)

    asyncio.run(program())
    with contextlib.closing(aof2.open(tmp_path / "r")) as manager:
        assert manager.stream("s").recovery.clean


def test_every_coroutine_of_a_trio_is_cancelled_here():
    """Goal: a new operation is not forgotten. Method: compare with the interface."""
    found = {
        name.removesuffix("_nowait")
        for cls in (aof2.Aof, aof2.AofReader, aof2.AofManager)
        for name in dir(cls)
        if name.endswith("_nowait")
    }
    # `seek` is a `get` of a time; it is cancelled in `test_trios.py`.
    assert found - {"seek"} == set(APPENDS + OTHERS)
