"""`aof2-admin verify` and `scrub`, `aof2.verify` behind them: no damaged copy goes unseen."""

from __future__ import annotations

import json
import random

import pytest
from admin_process import run_here

import aof2
from aof2.clock import Clock

CONFIG = aof2.AofManagerConfig(
    tier0=aof2.Tier0Config(bytes_max=1 << 20),
    segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A closed root with segments in all three tiers, and its tier 2 beside it."""
    made = tmp_path_factory.mktemp("verify") / "r"
    chance = random.Random(2)
    with aof2.open(made, config=CONFIG, tier2=made.parent / "cold") as manager:
        log = manager.stream("orders")
        for _ in range(30):
            log.append(chance.randbytes(5000))
        manager.drain("remote")
        log.append(chance.randbytes(2000), durable=True)
    return made


def flip(path, at):
    """Another bit at a place of a file; what was there."""
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    return data


def copies(root):
    """Every local and remote copy of a segment."""
    local = [*root.glob("*/segments/*.seg"), *root.glob("*/warm/*.zst")]
    return [*sorted(local), *sorted((root.parent / "cold").rglob("*.zst"))]


def test_a_good_root_is_good_and_wholly_read(root):
    """Goal: no false alarm. Method: verify and scrub; compare the bytes that were read."""
    local = aof2.verify(root)
    everything = aof2.verify(root, tier2=root.parent / "cold", medium=True)
    assert local.is_good
    assert everything.is_good
    assert (local.streams, local.damage, local.findings) == (1, (), ())
    assert everything.copies > local.copies > 5
    assert everything.bytes >= sum(path.stat().st_size for path in copies(root))


@pytest.mark.parametrize("medium", [False, True], ids=["verify", "scrub"])
def test_damage_of_any_copy_is_named_with_the_good_ones(root, medium):
    """Goal: who reads the report knows what to do. Method: flip a bit of each copy in turn."""
    tier2 = root.parent / "cold" if medium else None
    seen = set()
    for path in copies(root):
        if "cold" in path.parts and not medium:
            continue
        before = flip(path, 8600 if path.suffix == ".seg" else 600)
        found = aof2.verify(root, tier2=tier2, medium=medium)
        path.write_bytes(before)
        assert not found.is_good
        (damage,) = found.damage
        assert path.name == damage.place.rpartition("/")[2]
        assert damage.tier not in damage.good_on
        seen.add(damage.tier)
        if medium and damage.tier is aof2.Tier.WARM:
            assert aof2.Tier.COLD in damage.good_on
    assert seen == set(aof2.Tier) if medium else {aof2.Tier.HOT, aof2.Tier.WARM}


def test_a_copy_that_went_missing_is_a_finding(root):
    """Goal: a missing file is not a file without damage. Method: take one away."""
    path = copies(root)[0]
    data = path.read_bytes()
    path.unlink()
    found = aof2.verify(root)
    path.write_bytes(data)
    assert [finding.place for finding in found.findings] == [str(path)]


def test_a_live_root_is_verified_beside_its_writer(tmp_path):
    """Goal: no false alarm there either. Method: verify again and again while records come."""
    with aof2.open(tmp_path / "r", config=CONFIG, tier2=tmp_path / "cold") as manager:
        log = manager.stream("orders")
        for _ in range(8):
            log.extend([bytes(3000)] * 40)
            found = aof2.verify(tmp_path / "r", tier2=tmp_path / "cold", medium=True)
            assert found.is_good, found


def test_a_scrub_keeps_its_pace(root):
    """Goal: it leaves the disk to others. Method: a clock that only its pauses move."""

    class Paused(Clock):
        now_s = 0.0

        def monotonic_s(self):
            return self.now_s

        def sleep(self, seconds):
            self.now_s += seconds

    clock = Paused()
    found = aof2.verify(root, medium=True, bytes_per_s=1000, clock=clock)
    assert clock.now_s == pytest.approx(found.bytes / 1000)


def test_commands_tell_damage_by_their_exit_code(root):
    """Goal: scripts notice. Method: both commands on a good and a damaged root, text and JSON."""
    assert "0 damaged, 0 findings" in run_here("verify", root).output
    assert "0 damaged" in run_here("scrub", root, "--tier2", root.parent / "cold").output
    path = copies(root)[0]
    before = flip(path, 8600)
    text = run_here("verify", root, "orders", code=5).output
    found = json.loads(run_here("scrub", root, "--json", code=5).output)
    path.write_bytes(before)
    assert f"damaged: orders segment 1, hot copy {path}: " in text
    assert not found["is_good"]
    assert found["damage"][0]["tier"] == "hot"
    assert found["damage"][0]["good_on"] == ["warm"]


def test_what_is_not_there_is_not_verified(root):
    """Goal: a typing error is no success. Method: a wrong stream and a wrong root."""
    with pytest.raises(aof2.StreamNotFound):
        aof2.verify(root, "order")
    with pytest.raises(aof2.StreamNotFound):
        aof2.verify(root / "none")
    assert "ROOT_NOT_FOUND" in run_here("verify", root / "none", code=3).output


def test_the_loss_of_the_newest_segment_is_a_finding(root):
    """Goal: a file that is not there is noticed, though nothing names it. Method: take the segment
    away that was not sealed when the root was closed; give it back."""
    newest = max(root.glob("*/segments/*.seg"))
    away = newest.rename(root.parent / "away")
    report = aof2.verify(root)
    assert not report.is_good
    assert [f.text for f in report.findings if "31 were durable" in f.text]
    away.rename(newest)
    assert aof2.verify(root).is_good
