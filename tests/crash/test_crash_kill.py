"""kill -9 at random instants: every record whose append had returned is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from crashhelp import python, reopen

SEED = int(os.environ.get("AOF2_TEST_SEED", "20260722"))
CHILD = str(Path(__file__).with_name("crash_child.py"))


def told_upto(lines: bytes) -> int:
    """The largest next offset in whole lines of a child's output."""
    whole = lines[: lines.rfind(b"\n") + 1].split()
    return max((int(word) for word in whole if word.isdigit()), default=0)


def kill_once(root: Path, seed: int, how: str) -> tuple[int, bool]:
    """Run a writer on the root and kill it; `(records whose append had returned, killed in
    time)`."""
    chance = random.Random(seed)
    child = python(CHILD, str(root), str(seed), how, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    head = b""
    wanted = b"open" if how == "append" else b"closing"
    while wanted not in head:
        more = os.read(child.stdout.fileno(), 65536)
        assert more, child.stderr.read().decode()
        head += more
    pause_s = chance.uniform(0, 0.15) if how == "append" else chance.uniform(0, 0.012)
    until = time.monotonic() + pause_s
    os.set_blocking(child.stdout.fileno(), False)
    while time.monotonic() < until:
        try:
            head += os.read(child.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            time.sleep(0.0005)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    os.set_blocking(child.stdout.fileno(), True)
    head += child.stdout.read()
    errors = child.stderr.read().decode()
    child.stdout.close()
    child.stderr.close()
    assert "Error" not in errors, errors
    return told_upto(head), b"closed" not in head


def campaign(tmp_path: Path, seed: int, kills: int, how: str) -> None:
    """Kill, reopen and check again and again; the root lives for ten kills."""
    print(f"AOF2_TEST_SEED={SEED}, seed {seed}, {kills} kills, {how}")
    in_time = records = 0
    for turn in range(kills):
        root = tmp_path / f"root{turn // 10}"
        returned, killed = kill_once(root, seed * 1000 + turn, how)
        count, _ = reopen(root, returned)
        in_time += killed
        records = max(records, count)
    print(f"{in_time} of {kills} were killed in time, up to {records} records")
    assert in_time > kills // 10


@pytest.mark.parametrize("part", range(4))
def test_a_killed_process_leaves_every_record_whose_append_returned(tmp_path, part):
    """Goal: promises 1 and 4. Method: 15 kills each at random instants, singles, batches,
    rollovers."""
    campaign(tmp_path, SEED + part, 15, "append")


def test_a_process_killed_while_it_closes_leaves_every_record(tmp_path):
    """Goal: `close` is no weak moment. Method: kill within the first 12 ms of a close."""
    campaign(tmp_path, SEED + 50, 12, "close")


@pytest.mark.long
@pytest.mark.parametrize("part", range(40))
def test_many_killed_processes(tmp_path, part):
    """Goal: as above, in the long campaign. Method: 100 kills each, of appends and closes."""
    campaign(tmp_path, SEED + 100 + part, 75, "append")
    campaign(tmp_path / "close", SEED + 500 + part, 25, "close")
