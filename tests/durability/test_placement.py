"""Where the flush thread runs: what is quicker stays, and nothing stays held."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from durablehelp import Seam, settings
from waithelp import until

import aof2
from aof2._core.placement import places

FREE = -1


def after(counts: list[int], skip: int) -> Counter[int]:
    """How often each place was taken from flush `skip` on."""
    return Counter(counts[skip:])


@pytest.mark.parametrize(
    ("took_ns", "best"),
    [
        ({FREE: 140_000, 0: 90_000}, 0),
        ({FREE: 90_000, 0: 140_000}, FREE),
        ({FREE: 100_000, 0: 95_000}, FREE),
    ],
    ids=["beside the asker", "where the system likes", "all the same"],
)
def test_what_is_quicker_stays(took_ns, best):
    """Goal: either place can win, and a small gain is noise. Method: one asker on processor 0; the
    other place is tried now and then, in a small part of all flushes."""
    found = after(places(took_ns, [0] * 10_000), 100)
    assert found[best] > 0.95 * found.total()
    assert len(found) == 2


def test_it_follows_what_changes():
    """Goal: no choice is for ever. Method: the asker moves from the processor where syncs are quick
    to one where they are slow, and then they get quick nowhere."""
    took_ns = {FREE: 140_000, 0: 140_000, 1: 90_000}
    askers = [0] * 3000 + [1] * 3000 + [0] * 3000
    found = places(took_ns, askers)
    assert after(found[:3000], 100).most_common(1)[0][0] == FREE
    assert after(found[3000:6000], 1000)[1] > 1900
    # Held on the quick one, although nobody asks from there any more.
    assert after(found[6000:], 100)[1] > 2500


def test_noise_does_not_keep_it_from_the_quick_place():
    """Goal: medians, not means. Method: one wait in ten is fifty times as long at either place."""

    class Noisy(dict[int, int]):
        def __missing__(self, place: int) -> int:
            base = 90_000 if place == 3 else 140_000
            return base * (50 if chance.random() < 0.1 else 1)

    chance = random.Random(7)
    assert after(places(Noisy(), [3] * 20_000), 1000)[3] > 17_000


def test_without_a_known_processor_nothing_is_held():
    """Goal: systems that do not tell. Method: askers on -1."""
    assert set(places({FREE: 5}, [FREE] * 1000)) == {FREE}


@pytest.fixture
def memory():
    """A directory whose syncs take no time, where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.exists() else None) as folder:
        yield Path(folder)


def allowed_of_all_threads() -> set[str]:
    """Where this process' threads may run: one entry where it is the same for all."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found |= {line for line in lines if line.startswith("Cpus_allowed_list")}
    return found


class Slow(Seam):
    """Makes syncs slow wherever the flush thread may run on several processors."""

    def __init__(self) -> None:
        self.held = 0

    def see(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> int | None:
        if op == "fdatasync":
            if len(os.sched_getaffinity(0)) == 1:
                self.held += 1
            else:
                time.sleep(100e-6)
        return None


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="no thread is held here: it takes Linux and two processors",
)
def test_no_thread_stays_held(memory):
    """Goal: the flush thread is held for a series of waits and not for longer. Method: syncs that
    are quicker where it is held, until it is most of the time; then it may run everywhere, and does
    so while others wait with it."""
    with aof2.open(memory / "r", config=settings(confirm_interval_s=3600)) as manager:
        log = manager.stream("a")

        def append_until_held() -> bool:
            with Slow() as slow:
                for _ in range(100):
                    log.append(b"x", durable=True)
            return slow.held > 80

        until(append_until_held, 60)
        until(lambda: len(allowed_of_all_threads()) == 1)
        until(append_until_held, 60)

        async def many() -> None:
            await asyncio.gather(*(log.append_async(b"z", durable=True) for _ in range(1000)))

        with Slow() as slow:
            asyncio.run(many())
        assert slow.held == 0
        until(lambda: len(allowed_of_all_threads()) == 1)
        assert log.watermarks.local == log.next_offset
