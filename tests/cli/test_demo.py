"""`python -m aof2.testing.demo`: the main job, small, with each kind of tier 2."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from aof2.testing import demo
from aof2.testing.demo_input import read_text, repeat, take_readable

LINES = b"".join(b"%06d some log line with a number %d\r\n" % (n, n * n) for n in range(6000))


def run_demo(*arguments):
    """Run the demo in a process of its own and return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "aof2.testing.demo", *map(str, arguments)],
        capture_output=True,
        timeout=120,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_demo_moves_a_file_through_all_tiers_and_gets_it_back(tmp_path):
    """Goal: the main job by one command. Method: a small file; look at figures and leftovers."""
    (tmp_path / "in.log").write_bytes(LINES)
    out = run_demo(tmp_path / "in.log", "--bytes", "12M", "--dir", tmp_path)
    assert re.search(r"EQUAL: [\d,]+ records, 1[12]\.\d MB of payload, read back from tier 2", out)
    found = re.search(r"taken over .* (\d+) segments only in tier 2, 0 with a local copy", out)
    assert int(found[1]) >= 10
    assert re.search(r"the root is lost, all \d+ files", out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.log"]


def test_the_demo_runs_against_a_real_server(tmp_path):
    """Goal: `--s3`. Method: as above; the demo starts a server of its own."""
    (tmp_path / "in.log").write_bytes(LINES)
    out = run_demo(tmp_path / "in.log", "--bytes", "6M", "--dir", tmp_path, "--s3")
    assert "SeaweedFS at http://127.0.0.1:" in out
    assert "EQUAL: " in out


def test_the_demo_keeps_its_root_when_asked(tmp_path):
    """Goal: `--keep`. Method: look for the segments that only tier 2 has."""
    (tmp_path / "in.log").write_bytes(LINES)
    run_demo(tmp_path / "in.log", "--bytes", "3M", "--dir", tmp_path, "--keep")
    (kept,) = tmp_path.glob("aof2-demo-*")
    assert list(kept.glob("tier2/**/*.seg.zst"))
    assert (kept / "root").is_dir()


def test_the_demo_does_not_call_a_difference_equal(tmp_path, monkeypatch, capsys):
    """Goal: its verdict means something. Method: what is expected differs in one late record."""
    (tmp_path / "in.log").write_bytes(LINES)
    read_back = demo.read_back

    def other_input(place, config, source):
        lines = [*source.lines[:-1], b"not what was appended"]
        return read_back(place, config, repeat([b"\n".join(lines)], 10**6, "changed"))

    monkeypatch.setattr(demo, "read_back", other_input)
    arguments = [str(tmp_path / "in.log"), "--bytes", "1000000", "--dir", str(tmp_path)]
    assert demo.main(arguments) == 1
    assert "DIFFERENT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "total_bytes", "count"),
    [(b"a\nb\n", 4, 2), (b"a\nb", 4, 2), (b"a\nb\n", 5, 3), (b"a\n\nb\n", 1, 1), (b"a", 8, 4)],
)
def test_input_is_repeated_to_its_size(text, total_bytes, count):
    """Goal: the figures of the input are right. Method: compare them with the records."""
    found = repeat([text], total_bytes, "text")
    records = list(found.records())
    assert len(records) == found.count == count
    assert sum(map(len, records)) == found.payload_bytes


def test_only_text_is_taken_from_the_machine(tmp_path):
    """Goal: no binary logs. Method: zero bytes, gzip, a directory, an empty file and a good one."""
    (tmp_path / "a.bin").write_bytes(b"text\0more\n")
    (tmp_path / "b.gz").write_bytes(b"\x1f\x8b\x08rest\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "d").write_bytes(b"")
    (tmp_path / "e.log").write_bytes(b"one\ntwo\n")
    assert take_readable(sorted(tmp_path.iterdir())) == [b"one\ntwo\n"]
    assert read_text(tmp_path / "e.log", 6) == b"one\n"
    with pytest.raises(RuntimeError, match="no text"):
        repeat([b"\n\n"], 100, "empty file")


def test_a_wrong_file_is_one_clear_error(tmp_path, capsys):
    """Goal: no traceback. Method: a file that is not there."""
    assert demo.main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: FileNotFoundError: ")
