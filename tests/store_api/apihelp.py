"""What the tests of the store's interface share: a small configuration, and counts of what is
held.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path

import aof2

KIB = 1024
MIB = 1024 * KIB


def small(segment_bytes: int = 64 * KIB, **fields: object) -> aof2.AofManagerConfig:
    """A configuration whose segments are small, so that rollovers happen by themselves."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        tier0=aof2.Tier0Config(bytes_max=64 * segment_bytes),
        **fields,  # type: ignore[arg-type]
    )


def held() -> dict[str, int]:
    """Threads, descriptors and mappings of files that this process has now."""
    gc.collect()
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line]
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "maps": len([line for line in maps if ".so" not in line]),
    }


def left_over(before: dict[str, int], within_s: float = 5.0) -> dict[str, int]:
    """What is held beyond what was held before; empty as soon as nothing is.

    A joined thread stays in `/proc` for a moment after its join.
    """
    until = time.monotonic() + within_s
    while True:
        now = held()
        more = {name: count for name, count in now.items() if count > before[name]}
        if not more or time.monotonic() > until:
            return more
        time.sleep(0.01)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of last change of every file and directory below a root."""
    found = {}
    for path in sorted(root.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            found[str(path.relative_to(root))] = (facts.st_size, facts.st_mtime_ns)
    return found
