"""Offered load against accepted rate: what a log does when it is asked for more than it can take.

Records of 1 KiB are offered at a steady rate, by `append_nowait` or by `append_async`, into small
budgets above a tier 2 that takes 50 ms for an upload. Printed for each rate: what was accepted, how
often the answer was `WouldBlock` and of which kind, and how long calls took.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aof2
from aof2.objectstore.memory import MemoryStore

RECORD = (b"%0128d" % 7) * 8
TICK_S = 0.005
UPLOAD_S = 0.05
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=1 << 20),
    tier0=aof2.Tier0Config(bytes_max=8 << 20),
    tier1=aof2.Tier1Config(bytes_max=4 << 20),
)


@dataclass
class Outcome:
    """What came of one offered rate."""

    accepted: int = 0
    offered: int = 0
    blocked: collections.Counter[str] = field(default_factory=collections.Counter)
    times_s: list[float] = field(default_factory=list)

    def row(self, label: str, rate_mb: float, seconds: float) -> str:
        """A line of the table."""
        times = sorted(self.times_s) or [0.0]
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in self.blocked.most_common())
        got = self.accepted * len(RECORD) / seconds / 1e6
        return (
            f"| {label} | {rate_mb:,.0f} | {got:,.1f} | {self.accepted / max(self.offered, 1):.0%} "
            f"| {kinds} | {times[len(times) // 2] * 1e6:,.1f} "
            f"| {times[int(len(times) * 0.999)] * 1e6:,.0f} |"
        )


def slow_store() -> str:
    """The address of a fresh store whose uploads take `UPLOAD_S`."""
    name = uuid.uuid4().hex
    store, put = MemoryStore.named(name), MemoryStore.named(name).put

    def slow_put(*arguments: Any, **options: Any) -> Any:
        time.sleep(UPLOAD_S)
        return put(*arguments, **options)

    store.put = slow_put  # type: ignore[method-assign]
    return f"memory://{name}"


def offer_sync(log: aof2.Aof, rate_mb: float, seconds: float) -> Outcome:
    """Offer at a rate; what is refused is dropped, as a collector with its own clients would."""
    out, per_tick = Outcome(), rate_mb * 1e6 * TICK_S / len(RECORD)
    began = time.perf_counter()
    ticks = 0
    while (now := time.perf_counter()) < began + seconds:
        due = int((now - began) / TICK_S * per_tick)
        while out.offered < due:
            called = time.perf_counter()
            try:
                log.append_nowait(RECORD)
                out.accepted += 1
            except aof2.WouldBlock as blocked:
                out.blocked[blocked.kind.value] += 1
            out.times_s.append(time.perf_counter() - called)
            out.offered += 1
        ticks += 1
        time.sleep(max(0.0, began + ticks * TICK_S - time.perf_counter()))
    return out


async def offer_async(log: aof2.Aof, rate_mb: float, seconds: float) -> Outcome:
    """Offer at a rate from one task, which waits where it must: the load falls behind instead."""
    out, per_tick = Outcome(), rate_mb * 1e6 * TICK_S / len(RECORD)
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        due = int((now - began) / TICK_S * per_tick)
        while out.accepted < due and time.perf_counter() < began + seconds:
            called = time.perf_counter()
            await log.append_async(RECORD, timeout=None)
            out.times_s.append(time.perf_counter() - called)
            out.accepted += 1
        await asyncio.sleep(TICK_S)
    out.offered = int(seconds / TICK_S * per_tick)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench backpressure", description=__doc__)
    parser.add_argument("--rates", default="5,20,80,320,1280", help="offered MB/s")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(f"{len(RECORD)} bytes a record, tier 0 of {CONFIG.tier0.bytes_max >> 20} MiB, tier 1 of ")
    print(f"{CONFIG.tier1.bytes_max >> 20} MiB, {UPLOAD_S * 1e3:.0f} ms an upload\n")
    print("| Form | Offered MB/s | Accepted MB/s | | Refused, by kind | p50 us | p99.9 us |")
    print("|---|--:|--:|--:|---|--:|--:|")
    for form in ("append_nowait", "append_async"):
        for rate_mb in map(float, options.rates.split(",")):
            with (
                tempfile.TemporaryDirectory(dir=options.dir) as folder,
                aof2.open(folder, tier2=slow_store(), config=CONFIG) as manager,
            ):
                log = manager.stream("bench")
                if form == "append_nowait":
                    found = offer_sync(log, rate_mb, options.seconds)
                else:
                    found = asyncio.run(offer_async(log, rate_mb, options.seconds))
                print(found.row(form, rate_mb, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
