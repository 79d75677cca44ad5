"""`aof2-admin tail`, `dump` and `info`, beside a process that writes and on a closed root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from admin_process import TIMEOUT_S, admin, admin_json, environment, start

import aof2
from aof2.cli.inspect import config_fields

WRITER = """
import sys, aof2
with aof2.open(sys.argv[1]) as manager:
    log = manager.stream("s")
    for line in sys.stdin.buffer:
        print(log.append(line.rstrip(b"\\n")), flush=True)
"""


class Writer:
    """A process that appends the lines it is told to and has the root open."""

    def __init__(self, root):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    def append(self, payload):
        self.process.stdin.write(payload + b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def writer(tmp_path):
    """A live writer of the root `r`."""
    writer = Writer(tmp_path / "r")
    yield writer
    writer.close()


def test_reading_commands_work_beside_a_writer(tmp_path, writer):
    """Goal: no lock is needed to look. Method: every reading command while a process writes."""
    for n in range(20):
        writer.append(b"record %d" % n)
    root = tmp_path / "r"
    assert admin("cat", root, "s").stdout.count(b"\n") == 20
    assert admin("tail", root, "s", "-n", "2").stdout == b"record 18\nrecord 19\n"
    assert admin_json("dump", root)[0]["end_offset"] == 20
    assert admin_json("info", root)["streams"][0]["watermarks"]["appended"] == 20
    assert b"error: ROOT_LOCKED: " in admin("append", root, "s", stdin=b"x\n", code=4).stderr
    assert writer.append(b"still writing") == 20


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["raw", "json"])
def test_tail_follows_a_writer_until_it_is_interrupted(tmp_path, writer, form):
    """Goal: `tail -f`. Method: append one at a time, see each one come; then Ctrl-C."""
    writer.append(b"old")
    writer.append(b"seen")
    follower = start("tail", tmp_path / "r", "s", "-n", "1", "-f", *form)
    try:
        for payload in (b"seen", b"one", b"two", b"three"):
            if payload != b"seen":
                writer.append(payload)
            line = follower.stdout.readline()
            found = json.loads(line)["payload"].encode() + b"\n" if form else line
            assert found == payload + b"\n"
        follower.send_signal(signal.SIGINT)
        out, err = follower.communicate(timeout=TIMEOUT_S)
        assert (follower.returncode, out, err) == (130, b"", b"")
    finally:
        follower.kill()
        follower.communicate()


def test_tail_goes_on_when_the_writer_ends_and_another_comes(tmp_path):
    """Goal: a follower outlives a writer. Method: close the root, open it elsewhere, append."""
    first = Writer(tmp_path / "r")
    first.append(b"one")
    follower = start("tail", tmp_path / "r", "s", "-f")
    try:
        assert follower.stdout.readline() == b"one\n"
        first.close()
        second = Writer(tmp_path / "r")
        second.append(b"two")
        assert follower.stdout.readline() == b"two\n"
        second.close()
    finally:
        follower.kill()
        follower.communicate()


def test_tail_shows_the_last_records_and_none_when_asked_for_none(tmp_path):
    """Goal: `-n`. Method: fewer, exactly and more than there are."""
    admin("append", tmp_path / "r", "s", stdin=b"1\n2\n3\n")
    for count, expected in ((0, b""), (2, b"2\n3\n"), (3, b"1\n2\n3\n"), (99, b"1\n2\n3\n")):
        assert admin("tail", tmp_path / "r", "s", "-n", str(count)).stdout == expected


def tiered_root(tmp_path):
    """A root with a closed stream of several segments in all tiers, and an idle one."""
    (tmp_path / "cold").mkdir()
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=65536),
        tier0=aof2.Tier0Config(bytes_max=1 << 20),
        tier2=aof2.Tier2Config(url=str(tmp_path / "cold")),
    )
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("orders")
        for n in range(3000):
            log.append(b"%06d" % n * 20)
        manager.stream("idle")
        manager.drain("remote")
        return log.segments(), log.watermarks


def test_dump_is_the_residency_map(tmp_path):
    """Goal: the map of `segments()`. Method: compare JSON and text with what the library said."""
    segments, _ = tiered_root(tmp_path)
    options = ["--tier2", tmp_path / "cold"]
    rows = admin_json("dump", tmp_path / "r", "orders", *options)
    told = [(r["segment_id"], r["base_offset"], r["end_offset"], r["bytes"]) for r in rows]
    sealed = [s for s in segments if s.sealed]
    assert told[: len(sealed)] == [
        (s.segment_id, s.base_offset, s.end_offset, s.bytes) for s in sealed
    ]
    for row, segment in zip(rows, sealed, strict=False):
        assert row["stream"] == "orders"
        assert row["tiers"] == ["hot", "warm", "cold"]
        assert (row["state"], row["key"]) == (segment.state.value, segment.key)
    lines = admin("dump", tmp_path / "r", *options).stdout.decode().splitlines()
    assert lines[0].split() == [
        "STREAM",
        "SEGMENT",
        "BASE",
        "END",
        "BYTES",
        "TIERS",
        "STATE",
        "KEY",
    ]
    assert sum(" HWC " in line for line in lines) == len(sealed) >= 4


def test_info_tells_streams_watermarks_bytes_and_configuration(tmp_path):
    """Goal: one look at a root. Method: compare JSON with the library, and look into the text."""
    segments, marks = tiered_root(tmp_path)
    options = ["--tier2", tmp_path / "cold"]
    facts = admin_json("info", tmp_path / "r", *options)
    assert facts["versions"]["aof2"] == aof2.__version__
    idle, orders = facts["streams"]
    assert (idle["name"], idle["next_offset"]) == ("idle", 0)
    assert orders["next_offset"] == marks.appended == orders["watermarks"]["appended"]
    assert orders["watermarks"]["remote"] == marks.remote == 3000
    assert orders["tiers"]["cold"]["segments"] == sum(s.sealed for s in segments)
    assert 0 < orders["disk_bytes"]["warm"] < orders["tiers"]["warm"]["bytes"]
    assert facts["config"]["tier2"]["url"] == str(tmp_path / "cold")
    text = admin("info", tmp_path / "r", *options).stdout.decode()
    assert "remote 3000" in text
    assert "stream orders" in text
    assert "tier0.bytes_max = " in text


def test_info_never_shows_a_secret():
    """Goal: output can be pasted anywhere. Method: credentials in a configuration."""
    tier2 = aof2.Tier2Config(
        url="s3://bucket/x", access_key_id="AKIDSECRET", secret_access_key="verysecret"
    )
    fields = config_fields(aof2.AofManagerConfig(tier2=tier2))
    assert fields["tier2"]["url"] == "s3://bucket/x"
    assert fields["tier2"]["secret_access_key"] == "***"
    assert "SECRET" not in str(fields).upper().replace("SECRET_ACCESS_KEY", "")


def test_reading_changes_nothing_on_disk(tmp_path):
    """Goal: looking is harmless. Method: names, sizes and times of all files before and after."""
    admin("append", tmp_path / "r", "s", stdin=b"x\n" * 100)

    def listing():
        return {
            entry.path: (entry.stat().st_size, entry.stat().st_mtime_ns)
            for folder, _, _ in os.walk(tmp_path / "r")
            for entry in os.scandir(folder)
        }

    before = listing()
    admin("cat", tmp_path / "r", "s")
    admin("tail", tmp_path / "r", "s")
    admin("dump", tmp_path / "r")
    admin("info", tmp_path / "r")
    assert listing() == before
