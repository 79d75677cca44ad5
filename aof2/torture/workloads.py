"""The lives that are cut: together they take every durable step, in many orders."""

from __future__ import annotations

from aof2.torture.life import KIB, Workload

_COLD = "some*4 seal some*4 seal work"

WORKLOADS: tuple[Workload, ...] = (
    Workload("first records", "one some flush some close"),
    Workload("singles and flushes", "some*3 flush some*3 flush some flush one*5"),
    Workload("batches and flushes", "batch*3 flush batch*3 flush batch close"),
    Workload("every record durable", "durable*12"),
    Workload("nothing flushed", "some*6 batch*4"),
    Workload("empty and tiny records", "some*8 flush some*8", bytes_max=1),
    Workload("large records", "one*6 flush one*4 flush one", bytes_max=20 * KIB),
    Workload(
        "a flush thread in a hurry", "some pause*3 some*2 pause*2 some pause", interval_s=0.001
    ),
    Workload("idle, confirmed", "some flush pause*2 some flush pause*2", interval_s=0.001),
    Workload("rollovers", "fill fill fill flush"),
    Workload("rollovers of large records", "one*12 flush one*8", bytes_max=16 * KIB),
    Workload("rollover and flush", "fill flush some flush fill flush some"),
    Workload("seals", "some seal some*2 seal one seal flush"),
    Workload("seals by steps", "some end some step*3 end some step*6 flush"),
    Workload("two ended, none sealed", "some end some flush end some flush"),
    Workload("seal and compress", "some*3 seal work some*3 seal work"),
    Workload("closed and resumed", "some flush close some flush close some close", before="some*3"),
    Workload("closed empty", "close one close close"),
    Workload("killed and resumed", "some flush some", before="some flush some", after="killed"),
    Workload("killed at a rollover", "some", before="fill end some", after="killed"),
    Workload("killed, not flushed", "close some close", before="batch*8", after="killed"),
    Workload("two streams", "some other some flush other some flush other some*2 seal other some"),
    Workload("two streams that roll", "fill other fill flush other fill flush"),
    Workload("trims", "some seal some seal some trim flush some trim work some"),
    Workload("trims of all", "some*2 seal trim*3 some flush"),
    Workload(
        "a larger ring", "one*3 flush one*3 flush", bytes_max=48 * KIB, segment_bytes=256 * KIB
    ),
    Workload("a failed sync", "some flush some*2 break some flush some", fails=True),
    Workload("a failed sync after a rollover", "fill some break batch flush", fails=True),
    Workload("two failed syncs", "some break some break some flush", fails=True),
    Workload(
        "failed syncs of closes",
        "some break_second some flush seal work some break_second some seal work",
        fails=True,
    ),
    Workload("strict, every record durable", "durable*8 close durable*4", strict=True),
    Workload(
        "strict over rollovers", "fill flush some flush fill some end flush seal some", strict=True
    ),
    Workload("strict by the timer", "some pause*2 fill pause", interval_s=0.001, strict=True),
    Workload(
        "strict, killed and resumed",
        "some flush some",
        before="some flush fill some",
        after="killed",
        strict=True,
    ),
    Workload(
        "strict, failed syncs",
        "some flush some break some flush some break_second batch flush",
        fails=True,
        strict=True,
    ),
    Workload(
        "direct writes",
        "some*3 flush some flush batch*2 fill flush some end flush some seal",
        direct=True,
    ),
    Workload(
        "direct writes of large records",
        "one*6 flush one*4 flush one",
        bytes_max=20 * KIB,
        direct=True,
    ),
    Workload("direct writes, every record durable", "durable*8 close durable*4", direct=True),
    Workload(
        "direct writes, strict, killed and resumed",
        "some flush some",
        before="some flush fill some",
        after="killed",
        strict=True,
        direct=True,
    ),
    Workload(
        "direct writes, failed syncs", "some flush some break some flush", fails=True, direct=True
    ),
    Workload("uploads", f"{_COLD} some flush", tier2=True),
    Workload("uploads by steps", "some*3 seal some*3 seal step*14 some", tier2=True),
    Workload("publications", f"{_COLD} {_COLD}", tier2=True),
    Workload("evictions", "fill fill fill fill fill fill fill fill work", tier2=True),
    Workload("snapshots", "some seal work " * 5, tier2=True),
    Workload("trims and deletions", f"{_COLD} trim work*2 some seal trim work*2", tier2=True),
    Workload("a takeover", "some flush seal work", before=_COLD, after="lost", tier2=True),
    Workload("a takeover of much", "one close", before=f"{_COLD} " * 3, after="lost", tier2=True),
    Workload("a restart with uploads due", "work some", before="some seal some", tier2=True),
    Workload(
        "killed with uploads due",
        "work some*2 seal work",
        before="some seal some",
        after="killed",
        tier2=True,
    ),
    Workload("a manifest that rolls", "some seal work some seal work trim " * 4),
)
"""Fifty-one of them."""
