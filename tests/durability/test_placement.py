"""Where the flush thread runs: what is quicker stays, and nothing stays held."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from durablehelp import settings
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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are not held here")
def test_no_thread_stays_held(tmp_path):
    """Goal: the flush thread is held for a series of waits and not for longer. Method: enough
    durable appends for both places, then threads and coroutines; then all may run everywhere."""
    with aof2.open(tmp_path / "r", config=settings(confirm_interval_s=0.05)) as manager:
        log = manager.stream("a")
        for _ in range(300):
            log.append(b"x", durable=True)
        threads = [
            threading.Thread(target=lambda: [log.append(b"y", durable=True) for _ in range(20)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        async def many() -> None:
            await asyncio.gather(*(log.append_async(b"z", durable=True) for _ in range(1000)))

        asyncio.run(many())
        for _ in range(300):
            log.append(b"x", durable=True)
        until(lambda: len(allowed_of_all_threads()) == 1)
        assert log.watermarks.local == 300 + 160 + 1000 + 300
