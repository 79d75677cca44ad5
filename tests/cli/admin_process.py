"""`aof2-admin` as a user runs it: a process of its own, with its streams and exit code."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

import aof2
from aof2.cli.group import admin as group

ADMIN = [sys.executable, "-W", "error", "-m", "aof2.cli"]
TIMEOUT_S = 60


def environment() -> dict[str, str]:
    """This process's variables without those that would configure aof2.

    The package is found from any directory, also when it is not installed but lies in a checkout.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AOF2_")}
    return {**kept, "PYTHONPATH": str(Path(aof2.__file__).parents[1])}


def admin(
    *arguments: str | Path, stdin: bytes = b"", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end and check its exit code."""
    done = subprocess.run(
        [*ADMIN, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment(),
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def admin_json(*arguments: str | Path, stdin: bytes = b"") -> Any:
    """What a command with `--json` says, for those that write one document."""
    return json.loads(admin(*arguments, "--json", stdin=stdin).stdout)


def run_here(*arguments: str | Path, stdin: bytes = b"", code: int = 0) -> Result:
    """Run a command in this process, which is quicker where no stream or signal is looked at."""
    result = CliRunner().invoke(group, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, result.output
    return result


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command and leave it running; it can be interrupted, also where a shell started the
    tests in the background, which makes them ignore that."""
    return subprocess.Popen(
        [*ADMIN, *map(str, arguments)],
        env=environment(),
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
