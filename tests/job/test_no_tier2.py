"""Without a tier 2: hot and warm only; when both are full, that is said at once."""

from __future__ import annotations

import random
import time

import pytest
from jobhelp import KIB, DiskWatch, check_equal, small_config

import aof2
from aof2 import Tier, WouldBlockKind

SEED = 50
SEGMENT = 128 * KIB
KINDS = {WouldBlockKind.ROLLOVER, WouldBlockKind.ADMISSION, WouldBlockKind.FLUSH}
CONFIG = small_config(None, SEGMENT, 8 * SEGMENT)


def fill(log: aof2.Aof, nowait: bool) -> tuple[list[bytes], aof2.StorageFull]:
    """Append incompressible records until there is no room for ever; a `WouldBlock` before that
    must end by itself, and lets nothing in."""
    rnd, taken = random.Random(SEED), []
    append = log.append_nowait if nowait else log.append
    until = time.monotonic() + 20
    record = rnd.randbytes(5_000)
    while time.monotonic() < until:
        try:
            append(record)
        except aof2.StorageFull as full:
            return taken, full
        except aof2.WouldBlock as block:
            if not (nowait and block.kind in KINDS and block.wait(10)):
                raise
        else:
            taken.append(record)
            record = rnd.randbytes(rnd.randrange(2_000, 9_000))
    raise AssertionError("the tiers should be full by now")


@pytest.mark.parametrize("nowait", [False, True])
def test_full_tiers_say_so_at_once_and_keep_everything(tmp_path, nowait):
    """Goal: no waiting for ever, nothing lost. Method: fill 1 MiB hot and 1 MiB warm; the error
    names the ways out, reading goes on, a reopen finds all; a larger budget is a way out."""
    print(f"seed {SEED}")
    root = tmp_path / "r"
    with DiskWatch(root) as disk:
        with aof2.open(root, config=CONFIG) as manager:
            log = manager.stream("s")
            taken, full = fill(log, nowait)
            for way_out in ("tier0.bytes_max", "tier1.bytes_max", "tier 2"):
                assert way_out in str(full)
            assert full.stream == "s"
            began = time.monotonic()
            with pytest.raises(aof2.StorageFull):
                log.append(bytes(20_000), timeout=None)
            with pytest.raises(aof2.StorageFull):
                log.append_many([bytes(10_000)] * 3, timeout=30)
            assert time.monotonic() - began < 2
            assert log.next_offset == len(taken)
            assert {t for info in log.segments() for t in info.residency} == {Tier.HOT, Tier.WARM}
            log.flush()
            check_equal(log.reader().payloads(), taken)
        with aof2.open(root, config=CONFIG) as manager:
            log = manager.stream("s")
            assert log.recovery.clean
            check_equal(log.reader().payloads(), taken)
            with pytest.raises(aof2.StorageFull):
                log.append(bytes(100_000))
            segments = len(log.segments())
    disk.check(CONFIG, segments)
    with aof2.open(root, config=small_config(None, SEGMENT, 16 * SEGMENT)) as manager:
        log = manager.stream("s")
        log.append(bytes(100_000))
        check_equal(log.reader().payloads(), [*taken, bytes(100_000)])


def test_a_bucket_given_later_takes_what_is_there(tmp_path):
    """Goal: a tier 2 is a way out. Method: fill the tiers, reopen with a directory as tier 2, and
    append as much again."""
    print(f"seed {SEED}")
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        taken, _ = fill(manager.stream("s"), nowait=False)
    tier2 = aof2.Tier2Config(url=str(tmp_path / "cold"))
    with aof2.open(tmp_path / "r", config=small_config(tier2, SEGMENT, 8 * SEGMENT)) as manager:
        log = manager.stream("s")
        for record in taken:
            log.append(record)
        manager.drain("remote", timeout=60)
        assert all(Tier.COLD in info.residency for info in log.segments())
        check_equal(log.reader().payloads(), taken + taken)
