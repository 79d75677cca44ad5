"""Kills a writer at one durable step, reopens, and checks what is left.

`python tests/crash/kill_at.py upload` kills it right before the first object is stored;
`--after` right after that step, `--nth 5` at the fifth time, `--keep DIR` leaves everything there
to look at. Without a step it goes through all of them.
"""

from __future__ import annotations

import argparse
import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from crashhelp import KIB, PROJECT, payload

import aof2
from aof2._core.posix import set_seam_hook
from aof2.manifest.keeper import SnapshotKeeper
from aof2.manifest.publish import Publisher
from aof2.objectstore.local import LocalStore
from aof2.tiers.cold import ColdTier
from aof2.tiers.hot import HotTier
from aof2.tiers.warm import WarmTier

KILLED = 9
RECORDS = 6000
STEPS = {
    "prepare": (HotTier, "prepare", ""),
    "flush": (None, "fdatasync", ""),
    "seal": (HotTier, "write_pointer", ""),
    "compress": (WarmTier, "build", ""),
    "upload": (LocalStore, "put", "/seg/"),
    "straight": (ColdTier, "upload", ""),
    "publish": (LocalStore, "put", "/manifest/"),
    "snapshot": (SnapshotKeeper, "write", ""),
    "evict": (HotTier, "evict", ""),
    "hydrate": (HotTier, "restore", ""),
    "set_aside": (WarmTier, "set_aside", ""),
    "fetch": (WarmTier, "fetch", ""),
    "delete": (LocalStore, "delete", "/seg/"),
    "takeover": (Publisher, "begin", ""),
    "repair": (None, "rename", ""),
}
"""Where each row of the crash matrix is cut: a call of the library, or of the system (None)."""


def config(tier2: Path) -> aof2.AofManagerConfig:
    """Small enough that a few thousand records do all kinds of work."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=256 * KIB),
        tier2=aof2.Tier2Config(url=str(tier2)),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 * KIB, snapshot_chunks=1, publish_interval_s=0.01
        ),
        retention=aof2.RetentionConfig(delete_grace_s=0),
    )


def arm(step: str, nth: int, *, after: bool) -> None:
    """Let this process die at a step."""
    place, name, part = STEPS[step]
    if step == "straight":
        # No warm file can be made, so segments are compressed on their way into tier 2.
        full = OSError(errno.ENOSPC, "planned want of room")
        mock.patch.object(WarmTier, "build", side_effect=full).start()
    seen = [0]

    def count() -> None:
        seen[0] += 1
        if seen[0] == nth:
            os._exit(KILLED)

    if place is None:

        def hook(op: str, *_: object) -> None:
            if op == name:
                count()

        set_seam_hook(hook)
        return
    original = getattr(place, name)

    @functools.wraps(original)
    def call(*arguments: object, **more: object) -> object:
        mine = part in str(arguments[1]) if part else True
        if mine and not after:
            count()
        result = original(*arguments, **more)
        if mine and after:
            count()
        return result

    mock.patch.object(place, name, call).start()


def work(home: Path, *, repair: bool) -> None:
    """The job that is killed: everything that a stream can go through. Tells what is durable."""
    if repair:
        aof2.repair(home / "root", "a", config=config(home / "tier2"))
        return
    with aof2.open(home / "root", config=config(home / "tier2")) as manager:
        log = manager.stream("a")
        while log.next_offset < RECORDS:
            n = log.next_offset
            log.append_many([payload(k) for k in range(n, n + 100)])
            log.flush()
            print("local", log.next_offset, flush=True)
        manager.drain("remote")
        print("remote", log.next_offset, flush=True)
        bring_back(log)
        log.trim(RECORDS // 2)
        # The objects below are gone once nothing is left to delete.
        stream = log._instance
        while stream.remote.deletes:
            manager.drain("remote")


def bring_back(log: aof2.Aof) -> None:
    """One segment becomes hot again, and the warm file of another is replaced from tier 2."""
    stream = log._instance
    cold = [i for i in log.segments() if i.sealed and aof2.Tier.HOT not in i.residency]
    stream.hydration.hydrate(cold[0].segment_id).block(None)
    damaged = cold[1].segment_id
    stream.hydration.needs_recovery(damaged, aof2.Tier.WARM, aof2.ObjectCorrupt("planned"))
    stream.signals.hydration.wait(lambda: not stream.hydration.is_pending(damaged), None)


def told(output: str) -> int:
    """The highest offset that the dead process was promised; half a line promises nothing."""
    whole = [line for line in output.splitlines(keepends=True) if line.endswith("\n")]
    return max([0, *(int(line.split()[1]) for line in whole)])


def check(home: Path, at_least: int) -> None:
    """An exact prefix with all that was durable, and it goes on up to tier 2; twice."""
    for _ in range(2):
        with aof2.open(home / "root", config=config(home / "tier2")) as manager:
            log = manager.stream("a")
            end = log.next_offset
            assert end >= at_least, (end, at_least)
            assert log.first_offset in (0, RECORDS // 2)
            wanted = [payload(n) for n in range(log.first_offset, end)]
            assert list(log.reader().payloads()) == wanted
            assert log.append(payload(end)) == end
            manager.drain("remote")
            assert log.watermarks.remote == end + 1


def child(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, *arguments, "--child", str(home)]
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT}:{Path(__file__).parent}"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def run(step: str, home: Path, *, nth: int = 1, after: bool = False) -> None:
    """Kill, reopen, check. The files of `home` stay."""
    promised = 0
    if step in ("takeover", "repair"):
        done = child(home, "prepare", "--nth", "0")
        assert done.returncode == 0, done.stderr
        promised = told(done.stdout)
        if step == "takeover":
            shutil.rmtree(home / "root")
        else:
            chunk = next((home / "root").glob("*/manifest/*.mlog"))
            data = bytearray(chunk.read_bytes())
            data[8200] ^= 1
            chunk.write_bytes(data)
    done = child(home, step, "--nth", str(nth), *(["--after"] if after else []))
    assert done.returncode == KILLED, f"{step} was not reached: {done.stderr}"
    promised = max(promised, told(done.stdout))
    if step == "repair":
        work(home, repair=True)
    check(home, promised)
    print(f"{step}: killed {'after' if after else 'before'} it; {promised} records promised, kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", nargs="?", choices=sorted(STEPS))
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--after", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        arm(chosen.step, chosen.nth, after=chosen.after)
        work(chosen.child, repair=chosen.step == "repair")
        return
    for step in [chosen.step] if chosen.step else STEPS:
        home = chosen.keep or Path(tempfile.mkdtemp(prefix="aof2-kill-"))
        home.mkdir(exist_ok=True)
        run(step, home, nth=chosen.nth, after=chosen.after)
        if not chosen.keep:
            shutil.rmtree(home)


if __name__ == "__main__":
    main()
