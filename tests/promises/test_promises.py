"""Promises of the README that hold in this version, each tried on real files and processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aof2
from aof2._core.directory import Directory
from aof2.streamdir import read_identity

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
import aof2

log = aof2.open(sys.argv[1]).stream("a")
n = 0
while True:
    # The payload names its offset, and is told to the parent only once the append has returned.
    if n % 5:
        n = log.append(b"%d" % n * 7) + 1
    else:
        n = log.append_many([b"%d" % k * 7 for k in (n, n + 1, n + 2)]).stop
    print(n, flush=n % 50 < 3)
"""


def killed_writer(root: Path, *, lines: int) -> int:
    """Append in a process that is killed in the middle; the offset below which appends returned."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE, text=True, env=environ
    )
    assert process.stdout is not None
    for _ in range(lines):
        returned = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    told = [int(line) for line in process.stdout.read().splitlines(keepends=True) if "\n" in line]
    process.wait(10)
    process.stdout.close()
    return max([returned, *told])


@pytest.mark.parametrize("lines", [1, 500, 20_000])
def test_a_killed_writer_leaves_an_exact_prefix_with_all_that_returned(tmp_path, lines):
    """Goal: promises 1 and 4 for a killed process. Method: kill -9 in a loop of appends, reopen."""
    returned = killed_writer(tmp_path / "root", lines=lines)
    for _ in range(2):  # The second open finds what the first one has repaired.
        with aof2.open(tmp_path / "root") as manager:
            log = manager.stream("a", create=False)
            payloads = list(log.reader().payloads())
            assert len(payloads) == log.next_offset >= returned
            assert payloads == [b"%d" % n * 7 for n in range(len(payloads))]


def test_damage_in_a_sealed_segment_is_an_error_that_says_where(tmp_path):
    """Goal: promise 5 for sealed segments. Method: flip one bit of a payload, read everything: with
    the other copy, which is whole, and beside it with none."""
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("a")
        for n in range(100):
            log.append(b"%06d" % n)
        log.seal()
        manager.drain()
    (path,) = (tmp_path / "root").glob("*/segments/*.seg")
    data = bytearray(path.read_bytes())
    at = data.index(b"000050")
    data[at] ^= 1
    path.write_bytes(data)
    (warm,) = (tmp_path / "root").glob("*/warm/*.seg.zst")
    packed = warm.read_bytes()
    warm.unlink()
    with aof2.open(tmp_path / "root", readonly=True) as manager:
        reader = manager.stream("a").reader()
        assert [reader.read().offset for _ in range(50)] == list(range(50))
        with pytest.raises(aof2.RecordCorrupt) as caught:
            reader.read()
    error = caught.value
    assert (error.path, error.offset, error.position) == (str(path), 50, at - 32)
    assert error.intact_on == ()
    warm.write_bytes(packed)
    with aof2.open(tmp_path / "root") as manager:
        assert [record.payload for record in manager.stream("a").reader()] == [
            b"%06d" % n for n in range(100)
        ]
        assert manager.metrics().reads_healed == {"hot": 1}


def test_a_second_writer_learns_who_has_the_root(tmp_path):
    """Goal: promise 8 on one host. Method: open twice, the second time in another process too."""
    again = "import sys, aof2\ntry:\n aof2.open(sys.argv[1])\n"
    again += "except aof2.RootLocked as error:\n print(error.pid)"
    with aof2.open(tmp_path / "root"):
        with pytest.raises(aof2.RootLocked):
            aof2.open(tmp_path / "root")
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", again, str(tmp_path / "root")]
        told = subprocess.run(command, capture_output=True, check=True, env=environ).stdout
    assert int(told) == os.getpid()
    with aof2.open(tmp_path / "root"):
        pass


def fill(log: aof2.Aof, accepted: list[bytes]) -> None:
    """Append until that raises."""
    while True:
        payload = os.urandom(8000)
        assert log.append(payload, timeout=30) == len(accepted)
        accepted.append(payload)


def test_without_another_copy_nothing_is_evicted_and_appends_end_in_storage_full(tmp_path):
    """Goal: promises 7 and 9. Method: fill both local tiers without a tier 2, and read all back."""
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
        tier0=aof2.Tier0Config(bytes_max=512 << 10),
        tier1=aof2.Tier1Config(bytes_max=256 << 10),
    )
    with aof2.open(tmp_path / "root", config=config) as manager:
        log = manager.stream("a")
        accepted: list[bytes] = []
        with pytest.raises(aof2.StorageFull):
            fill(log, accepted)
        assert len(accepted) > 50
        assert list(log.reader().payloads()) == accepted
        used = manager.bytes_used
        assert used[0] <= config.tier0.bytes_max
        assert used[1] <= config.tier1.bytes_max
    with aof2.open(tmp_path / "root", config=config) as manager:
        assert list(manager.stream("a").reader().payloads()) == accepted


def test_no_bit_of_a_streams_identity_can_change_unseen(tmp_path):
    """Goal: promise 5 for `stream.json`: with another uuid every file would be a stranger's, and
    the stream empty.

    Method: flip each bit in turn; every open either says so or has the very same identity.
    """
    with aof2.open(tmp_path / "root") as manager:
        log = manager.stream("orders")
        log.append(b"here")
    [path] = (tmp_path / "root").glob("orders-*/stream.json")
    good = path.read_bytes()
    directory = Directory(str(path.parent))
    identity = read_identity(directory, "orders")
    for at, bit in itertools.product(range(len(good)), range(8)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
        try:
            assert read_identity(directory, "orders") == identity
        except aof2.FormatError:
            continue
    path.write_bytes(good)
    directory.close()
