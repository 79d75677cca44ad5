"""`aof2-admin append` and `cat`: lines in, the same lines out."""

from __future__ import annotations

import base64
import json
import os
import pty
import random
import subprocess
import sys
from contextlib import suppress

import pytest
from admin_process import ADMIN, TIMEOUT_S, admin, admin_json, environment, run_here, start

import aof2

AWKWARD = b"plain\n\nwindows\r\n\xff\xfe not utf-8\n" + b"\0zero\n" + "späße".encode() + b"\n"


def test_lines_of_stdin_come_back_byte_for_byte(tmp_path):
    """Goal: bytes as they are. Method: awkward lines through a pipe, CR, NUL and empty ones too."""
    admin("append", tmp_path / "r", "s", stdin=AWKWARD)
    assert admin("cat", tmp_path / "r", "s").stdout == AWKWARD


def test_files_are_appended_in_order_and_a_last_line_may_lack_its_line_feed(tmp_path):
    """Goal: no record spans files, none is lost. Method: two files and stdin between them."""
    (tmp_path / "a").write_bytes(b"1\n2")
    (tmp_path / "b").write_bytes(b"4\n\n")
    facts = admin_json(
        "append", tmp_path / "r", "s", tmp_path / "a", "-", tmp_path / "b", stdin=b"3\n"
    )
    assert facts["records"] == 5
    assert facts["bytes"] == 4
    assert (facts["first_offset"], facts["last_offset"]) == (0, 4)
    assert facts["records_per_s"] > 0
    assert admin("cat", tmp_path / "r", "s").stdout == b"1\n2\n3\n4\n\n"


def test_long_lines_and_many_pieces_are_put_together(tmp_path):
    """Goal: reading in pieces is invisible. Method: lines of 0 to 3 MiB around every border."""
    rnd = random.Random(5)
    sizes = [0, 1, 262143, 262144, 262145, 3 << 20] + [rnd.randrange(2000) for _ in range(2000)]
    rnd.shuffle(sizes)
    text = b"".join(rnd.randbytes(n).replace(b"\n", b" ") + b"\n" for n in sizes)
    (tmp_path / "in").write_bytes(text)
    admin("append", tmp_path / "r", "s", tmp_path / "in", "--durable")
    assert admin("cat", tmp_path / "r", "s").stdout == text


def test_an_empty_input_appends_nothing_and_says_so(tmp_path):
    """Goal: no record out of nothing. Method: an empty stdin; the stream is there afterwards."""
    facts = admin_json("append", tmp_path / "r", "s")
    assert facts["records"] == 0
    assert facts["first_offset"] is None
    assert admin("cat", tmp_path / "r", "s").stdout == b""
    assert b"appended 0 records" in admin("append", tmp_path / "r", "s").stdout


def test_a_line_that_never_ends_is_refused_and_what_came_before_is_told(tmp_path):
    """Goal: bounded memory, a clear end. Method: a good line, then 17 MiB without a line feed."""
    done = admin("append", tmp_path / "r", "s", stdin=b"good\n" + bytes(17 << 20), code=1)
    assert b"error: RECORD_TOO_LARGE: " in done.stderr
    assert b"note: 1 records were appended before this, offsets 0 to 0" in done.stderr
    assert admin("cat", tmp_path / "r", "s").stdout == b"good\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--start", "3"], "3456789"),
        (["--start", "-2"], "89"),
        (["--start", "3", "--stop", "5"], "34"),
        (["--stop", "-8"], "01"),
        (["--limit", "3"], "012"),
        (["--limit", "0"], ""),
        (["--start", "earliest", "--stop", "latest", "--limit", "99"], "0123456789"),
        (["--start", "latest"], ""),
        (["--start", "2001-01-01T00:00:00Z", "--limit", "1"], "0"),
        (["--start", "2999-01-01T00:00:00+01:00"], ""),
    ],
    ids=" ".join,
)
def test_cat_takes_every_kind_of_place(tmp_path, arguments, expected):
    """Goal: as for a reader's `start` and `stop`. Method: ten records, each its own offset."""
    with aof2.open(tmp_path / "r") as manager:
        manager.stream("s").extend(b"%d" % n for n in range(10))
    assert run_here("cat", tmp_path / "r", "s", *arguments).stdout.split() == list(expected)
    as_json = run_here("cat", tmp_path / "r", "s", *arguments, "--json").stdout.splitlines()
    assert [json.loads(line)["payload"] for line in as_json] == list(expected)


def test_json_has_text_where_it_is_utf_8_and_base64_elsewhere(tmp_path):
    """Goal: nothing is lost in JSON. Method: decode both forms and compare with the payloads."""
    admin("append", tmp_path / "r", "s", stdin=AWKWARD)
    lines = admin("cat", tmp_path / "r", "s", "--json").stdout.splitlines()
    payloads = []
    for offset, line in enumerate(lines):
        fields = json.loads(line)
        assert fields["offset"] == offset
        assert fields["timestamp_ns"] > 0
        assert ("payload" in fields) != ("payload_base64" in fields)
        if "payload" in fields:
            payloads.append(fields["payload"].encode())
        else:
            payloads.append(base64.b64decode(fields["payload_base64"]))
    assert payloads == AWKWARD.split(b"\n")[:-1]
    assert sum(b"payload_base64" in line for line in lines) == 1


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["raw", "json"])
def test_a_reader_that_has_seen_enough_ends_cat_quietly(tmp_path, form):
    """Goal: `| head` is no failure. Method: close the pipe after the first bytes of many."""
    with aof2.open(tmp_path / "r") as manager:
        manager.stream("s").extend([b"x" * 1000] * 20000)
    process = start("cat", tmp_path / "r", "s", *form)
    assert process.stdout.read(100)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == 0


def test_a_slow_pipe_is_appended_as_it_comes(tmp_path):
    """Goal: no record waits for the next. Method: a pipe stays open while another process reads."""
    follower = None
    writer = start("append", tmp_path / "r", "s", stdin=subprocess.PIPE)
    try:
        writer.stdin.write(b"first\n")
        writer.stdin.flush()
        while b"s" not in admin_streams(tmp_path / "r"):
            assert writer.poll() is None
        follower = start("tail", tmp_path / "r", "s", "-f")
        assert follower.stdout.readline() == b"first\n"
        writer.stdin.write(b"second\n")
        writer.stdin.flush()
        assert follower.stdout.readline() == b"second\n"
        out, _ = writer.communicate(timeout=TIMEOUT_S)
        assert b"appended 2 records" in out
    finally:
        for process in filter(None, (writer, follower)):
            process.kill()
            process.communicate()


def admin_streams(root):
    """Names of the streams in a root that may not be there yet."""
    code = (
        "import os, sys, aof2\n"
        "if os.path.isdir(sys.argv[1]):\n"
        "    with aof2.open(sys.argv[1], readonly=True) as m:\n"
        "        print(*m.streams())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, check=True)
    return done.stdout.split()


def test_the_tiers_below_are_read_with_the_same_command(tmp_path):
    """Goal: `--tier2` and `--config` count. Method: small budgets, a directory as tier 2."""
    text = b"".join(b"line %06d %s\n" % (n, b"ab" * 40) for n in range(60000))
    (tmp_path / "in").write_bytes(text)
    (tmp_path / "cold").mkdir()
    config = tmp_path / "small.toml"
    config.write_text(
        "[segment]\nsegment_bytes_max = 262144\n"
        "[tier0]\nbytes_max = 1048576\n[tier1]\nbytes_max = 524288\n"
    )
    options = ["--config", config, "--tier2", tmp_path / "cold"]
    admin("append", tmp_path / "r", "s", tmp_path / "in", *options)
    rows = admin_json("dump", tmp_path / "r", "s", *options)
    assert any(row["tiers"] == ["cold"] and row["key"] for row in rows)
    assert admin("cat", tmp_path / "r", "s", *options).stdout == text
    assert b"error: SEGMENT_LOST: " in admin("cat", tmp_path / "r", "s", code=5).stderr


def test_no_bar_is_drawn_where_stderr_is_no_terminal(tmp_path):
    """Goal: logs stay readable. Method: append a file, cat into a file, look at stderr."""
    (tmp_path / "in").write_bytes(b"x\n" * 1000)
    assert admin("append", tmp_path / "r", "s", tmp_path / "in").stderr == b""
    with open(tmp_path / "out", "wb") as out:
        done = subprocess.run(
            [*ADMIN, "cat", str(tmp_path / "r"), "s"],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=True,
            env=environment(),
        )
    assert done.stderr == b""
    assert (tmp_path / "out").read_bytes() == b"x\n" * 1000


def test_a_bar_is_drawn_on_a_terminal_and_only_on_stderr(tmp_path):
    """Goal: people see that it goes on, pipes do not. Method: a terminal as stderr only.

    The bar goes when the work is done, so what is left on the terminal is its trace of moves.
    """
    (tmp_path / "in").write_bytes(b"x" * 99 + b"\n" + b"y\n" * 500_000)
    ours, theirs = pty.openpty()
    try:
        process = start("append", tmp_path / "r", "s", tmp_path / "in", stderr=theirs)
        os.close(theirs)
        drawn = b""
        # Reading a terminal whose other side has gone is an error on Linux.
        with suppress(OSError):
            while part := os.read(ours, 65536):
                drawn += part
        out, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert b"append" in drawn
    assert b"\x1b" in drawn
    assert out.startswith(b"appended 500,001 records")
    assert b"\x1b" not in out
