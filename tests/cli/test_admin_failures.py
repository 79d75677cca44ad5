"""`aof2-admin`: errors are one line, exit codes are by remedy, and extras may be missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from admin_process import admin, run_here
from click.testing import CliRunner

import aof2
from aof2.cli.failure import failure_of
from aof2.cli.group import admin as group

WHERE = {"stream": "s"}
EXAMPLES = [
    (aof2.AofError("x"), 1),
    (aof2.RecordTooLarge("x"), 1),
    (aof2.NotYetDurable("x", offset=1), 1),
    (aof2.DurabilityLost("x"), 1),
    (aof2.VersionTooNew("x"), 1),
    (aof2.ConfigError("x"), 2),
    (aof2.InvalidStreamName("x"), 2),
    (aof2.OffsetOutOfRange("x"), 3),
    (aof2.StreamNotFound("x"), 3),
    (aof2.RootLocked("x"), 4),
    (aof2.RecordCorrupt("x"), 5),
    (aof2.SegmentLost("x"), 5),
    (aof2.StorageFull("x"), 6),
    (aof2.WouldBlock("x", kind=aof2.WouldBlockKind.ADMISSION), 6),
    (aof2.WaitTimeout("x", kind=aof2.WouldBlockKind.ADMISSION), 6),
    (aof2.Tier2Unavailable("x"), 7),
    (aof2.FetchFailed("x"), 7),
]


@pytest.mark.parametrize(
    ("error", "code"), EXAMPLES, ids=[type(error).__name__ for error, _ in EXAMPLES]
)
def test_exit_codes_follow_what_the_caller_can_do(error, code):
    """Goal: scripts can tell failures apart. Method: one example of each class."""
    failure = failure_of(error)
    assert (failure.exit_code, failure.code) == (code, error.code)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("cat {r} nothere", 3, "error: STREAM_NOT_FOUND: there is no stream 'nothere'"),
        ("cat {r}/missing s", 3, "error: ROOT_NOT_FOUND: "),
        ("cat {r} s --start 99", 3, "error: OFFSET_OUT_OF_RANGE: "),
        ("append {r} ../up", 2, "error: INVALID_STREAM_NAME: "),
        ("append {r} s --config {r}/none.toml", 2, "error: CONFIG: "),
        ("append {r} s --tier2 ftp://x", 2, "error: CONFIG: "),
        ("append {r} s {r}/none.txt", 2, "does not exist"),
        ("append {r}", 2, "Missing argument 'STREAM'"),
        ("cat {r} s --start soon", 2, "is no place"),
        ("cat {r} s --start 2024-01-01T00:00:00", 2, "has no time zone"),
        ("cat {r} s --limit -1", 2, "--limit"),
        ("cut {r} s", 2, "No such command"),
    ],
)
def test_a_wrong_call_is_one_clear_error(tmp_path, arguments, code, says):
    """Goal: no traceback, the right exit code. Method: one wrong call after the other."""
    run_here("append", tmp_path / "r", "s", stdin=b"x\n")
    words = [word.format(r=tmp_path / "r") for word in arguments.split()]
    done = run_here(*words, code=code)
    assert says in done.stderr
    assert done.stdout == ""
    if says.startswith("error"):
        assert done.stderr.count("\n") == 1


def test_a_tier_that_cannot_be_reached_is_told_from_other_errors(tmp_path):
    """Goal: exit code 7, nothing left behind. Method: an address where nobody listens."""
    config = tmp_path / "c.toml"
    config.write_text(
        '[tier2]\nurl = "s3://bucket/x"\nendpoint_url = "http://127.0.0.1:9"\n'
        'access_key_id = "a"\nsecret_access_key = "b"\nrequest_timeout_s = 1\n'
    )
    done = admin("append", tmp_path / "r", "s", "--config", config, stdin=b"x\n", code=7)
    assert b"error: TIER2_UNAVAILABLE: " in done.stderr
    assert not (tmp_path / "r").exists()


def test_damage_is_told_from_other_errors(tmp_path):
    """Goal: exit code 5, nothing damaged on stdout. Method: change a byte of a sealed record."""
    with aof2.open(tmp_path / "r") as manager:
        log = manager.stream("s")
        log.append(b"A" * 100)
        log.seal()
    for path in tmp_path.glob("r/*/warm/*"):
        path.unlink()
    (path,) = [p for p in tmp_path.glob("r/*/segments/*.seg") if b"A" * 100 in p.read_bytes()]
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"B"))
    done = admin("cat", tmp_path / "r", "s", code=5)
    *warnings, error = done.stderr.splitlines()
    assert all(line.startswith(b"warning: ") for line in warnings)
    assert error.startswith(b"error: ")
    assert b"CORRUPT: " in error
    assert done.stdout == b""


@pytest.mark.parametrize("module", ["click", "rich"])
def test_a_missing_extra_is_named(tmp_path, module):
    """Goal: a newcomer knows what to install. Method: hide the module, and run a command."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from aof2.cli.main import main\n"
        f"sys.argv = ['aof2-admin', 'append', {str(tmp_path / 'r')!r}, 's']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"x\n", capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.decode().strip() == (
        f"error: the command line needs {module}: pip install 'aof2[cli]'"
    )


def test_the_library_does_not_import_the_command_line():
    """Goal: users who embed aof2 pay nothing. Method: look at what an import has loaded."""
    code = "import sys, aof2; print([m for m in ('aof2.cli', 'click', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_every_command_has_help_and_all_have_the_common_options():
    """Goal: `--help` is enough to begin. Method: run it for each command."""
    runner = CliRunner()
    names = {"append", "cat", "tail", "dump", "info", "explain-block", "manifest", "repair"}
    names |= {"scrub", "verify"}
    # It opens no root of the user's.
    assert set(group.commands) == names | {"torture"}
    under = group.commands["manifest"].commands
    assert set(under) == {"inspect", "check", "export"}
    alone = [[name] for name in names - {"manifest"}]
    for words in [*alone, *(["manifest", name] for name in under)]:
        result = runner.invoke(group, [*words, "--help"])
        assert result.exit_code == 0
        for option in ("--json", "--config", "--tier2"):
            assert option in result.output
    version = runner.invoke(group, ["--version"])
    assert aof2.__version__ in version.output
