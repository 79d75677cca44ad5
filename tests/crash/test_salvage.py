"""`aof2.salvage`: every record that is left, in order, and a gap for each one that is not."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from crashhelp import copy_of, frames, segments
from tailmaker import Tail, into_ring, place, template

import aof2
from aof2.coordinator.commands import Command, Compress

KIB = 1 << 10
CONFIG = aof2.AofManagerConfig(segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB))
RECORDS = 900


def payload(n: int) -> bytes:
    return b"%d," % n * (1 + n * 7 % 60)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[aof2.Record]]:
    """A root whose writer died: sealed segments in the hot tier alone, an active one, a ring."""
    home = tmp_path_factory.mktemp("killed")
    with aof2.open(home / "live", config=CONFIG) as manager:
        manager._coordinator.before = refuse
        log = manager.stream("a")
        for n in range(RECORDS):
            log.append(payload(n), ext_id=n % 3)
            if n % 50 == 0:
                log.flush()
        whole = list(log.reader())
        signals = log._instance.signals
        assert signals.work.wait(lambda: [i.sealed for i in log.segments()].count(False) == 1, None)
        copy_of(home / "live", home / "root")
    return home / "root", whole


def refuse(command: Command) -> None:
    """What is in the hot tier has no other copy."""
    if isinstance(command, Compress):
        raise OSError("planned")


def check(root: Path, report: aof2.SalvageReport, whole: list[aof2.Record]) -> int:
    """Each record of the new stream is the one that it stands for; the others are in the gaps.
    Returns how many are lost."""
    lost = {n for gap in report.gaps for n in range(gap.first, gap.next)}
    left = [r for r in whole[: report.next_offset] if r.offset not in lost]
    with aof2.open(root, readonly=True) as manager:
        found = list(manager.stream(report.into).reader())
    assert report.records == len(found) == len(left)
    for new, (ours, record) in enumerate(zip(found, left, strict=True)):
        assert ours.offset == new
        assert (ours.payload, ours.ext_id) == (record.payload, record.ext_id)
        assert ours.timestamp_ns == record.timestamp_ns
        run = max((old, at) for old, at in report.moved if at <= new)
        assert run[0] + new - run[1] == record.offset
    assert all(gap.reason for gap in report.gaps)
    assert [gap.first for gap in report.gaps] == sorted(gap.first for gap in report.gaps)
    return len(lost)


def test_of_a_whole_stream_nothing_is_missing(tmp_path, killed):
    """Goal: a salvage loses nothing itself. Method: a root that needs none, with a landing ring."""
    root = copy_of(killed[0], tmp_path / "r")
    report = aof2.salvage(root, "a", "b", config=CONFIG)
    assert (report.gaps, report.notes, report.moved) == ((), (), ((0, 0),))
    assert report.next_offset == RECORDS
    assert check(root, report, killed[1]) == 0


@pytest.mark.parametrize("seed", range(25))
def test_what_validates_is_found_and_what_does_not_is_listed(tmp_path, killed, seed):
    """Goal: each damaged frame costs its own records, in sealed segments and in the active one.
    Method: damage one byte of some frames anywhere; only their records may be lost, and all of
    the others are there."""
    chance, root = random.Random(seed), copy_of(killed[0], tmp_path / "r")
    hit = 0
    for path in chance.sample(segments(root), 2):
        data = bytearray(path.read_bytes())
        places = [at for at, _ in frames(path)]
        for at in chance.sample(places, chance.randint(1, min(4, len(places)))):
            data[at + chance.randrange(32)] ^= 1 << chance.randrange(8)
            hit += 1
        path.write_bytes(data)
    report = aof2.salvage(root, "a", "b", config=CONFIG)
    lost = check(root, report, killed[1])
    assert lost <= hit
    assert RECORDS - report.next_offset <= hit
    if lost == 0:
        assert report.next_offset < RECORDS or hit


@pytest.mark.parametrize("what", ["header", "start block", "gone", "footer"])
def test_a_segment_that_lost_its_head_or_is_gone(tmp_path, killed, what):
    """Goal: the rest is not given up for one file. Method: damage or remove a middle segment."""
    root = copy_of(killed[0], tmp_path / "r")
    path = segments(root)[1]
    data = bytearray(path.read_bytes())
    places = {"header": 100, "start block": 2100, "footer": len(data) - 100}
    if what == "gone":
        path.unlink()
    else:
        data[places[what]] ^= 1
        path.write_bytes(data)
    report = aof2.salvage(root, "a", "b", config=CONFIG)
    lost = check(root, report, killed[1])
    assert report.next_offset == RECORDS
    assert (lost > 0) == (what == "gone")
    assert (len(report.gaps) == 1) == (what == "gone")


@pytest.mark.parametrize("written", [8192, 8192 + 256, 16384])
def test_what_only_the_ring_has_is_salvaged_too(tmp_path, written):
    """Goal: a process that died had not written everything. Method: a segment whose end is in the
    ring alone, with a damaged frame in its file."""
    home, uuid, root_id = template(tmp_path / "base")
    tail = Tail(1, 0, uuid, root_id).append(40).flush().append(3)
    ring = into_ring(tail, min(written, tail.at))
    data = bytearray(tail.data[: min(written, tail.at)]).ljust(len(tail.data), b"\0")
    damaged = written > 8192
    if damaged:
        data[8192 + 36] ^= 1
    place(home.parent, tmp_path / "r", [bytes(data)], ring)
    report = aof2.salvage(tmp_path / "r", "a", "rescued")
    assert report.next_offset == 43
    assert report.records == 43 - damaged
    assert [(gap.first, gap.next) for gap in report.gaps] == [(0, 1)] * damaged


def test_refusals_change_nothing(tmp_path, killed):
    """Goal: a wrong name costs nothing. Method: names that are or are not there, a writer."""
    root = copy_of(killed[0], tmp_path / "r")
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(aof2.StreamNotFound):
        aof2.salvage(root, "none", "b")
    with pytest.raises(aof2.ConfigError, match="already"):
        aof2.salvage(root, "a", "a")
    with pytest.raises(aof2.InvalidStreamName):
        aof2.salvage(root, "a", ".b")
    assert {path.name for path in root.iterdir()} <= {*before, "LOCK"}
    with aof2.open(root, config=CONFIG), pytest.raises(aof2.RootLocked):
        aof2.salvage(root, "a", "b")


def test_the_command_lists_each_gap(tmp_path, killed):
    """Goal: what people see. Method: damage one frame; text and JSON say the same."""
    root = copy_of(killed[0], tmp_path / "r")
    path = segments(root)[0]
    at = frames(path)[5][0]
    data = bytearray(path.read_bytes())
    data[at + 40] ^= 1
    path.write_bytes(data)
    run = [sys.executable, "-m", "aof2.cli", "repair", str(root), "a", "--salvage"]
    told = subprocess.run([*run, "b"], capture_output=True, text=True, check=True).stdout
    assert f"salvaged a into b: {RECORDS - 1} records, 1 gaps of 1 records" in told
    assert "lost: offsets 5 to 6: " in told
    assert "offset 6 is offset 5 in b" in told
    done = subprocess.run([*run, "c", "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [(gap["first"], gap["next"]) for gap in found["gaps"]] == [(5, 6)]
    assert Path(found["kept"]).is_dir()
