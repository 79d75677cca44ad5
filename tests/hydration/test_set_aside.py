"""What is put out of the way, and when: never what only a damaged copy has."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hydrationhelp import info
from waithelp import until

import aof2


def flip(path: Path, at: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("cold", [False, True], ids=["two copies", "three copies"])
def test_a_copy_is_set_aside_only_beside_a_whole_one(tmp_path, cold):
    """Goal: what only a damaged copy has is not put out of reach because another copy is damaged
    elsewhere.

    Method: damage the hot file near its front and the warm one near its end; read, and let what was
    found be dealt with, twice. Without a tier 2 both stay; with one both are made again.
    """
    root, tier2 = tmp_path / "root", tmp_path / "cold" if cold else None
    chance = random.Random(3)
    wanted = [chance.randbytes(500) for _ in range(2000)]
    with aof2.open(root, tier2=tier2) as manager:
        log = manager.stream("a")
        for payload in wanted:
            log.append(payload)
        log.seal()
        manager.drain("remote" if cold else "local")
        (hot,) = root.glob("*/segments/*1.seg")
        (warm,) = root.glob("*/warm/*1.seg.zst")
        flip(hot, 8192 + 100)
        flip(warm, warm.stat().st_size - 20_000)
        log._instance.drop_open(1)
        for _ in range(2):
            assert list(log.reader().payloads()) == wanted
            until(lambda: not log._instance.hydration.damaged)
        aside = list(root.glob("*/quarantine/*"))
        if cold:
            assert {".zst" in path.name for path in aside} == {True, False}
            until(lambda: aof2.Tier.WARM in info(log, 1).residency)
            assert list(log.reader().payloads()) == wanted
        else:
            assert aside == []
            assert hot.exists()
            assert warm.exists()
    with aof2.open(root, tier2=tier2) as manager:
        assert list(manager.stream("a").reader().payloads()) == wanted
