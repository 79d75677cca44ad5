"""`docs/cli.md`: its examples do what it says, and it leaves nothing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from admin_process import environment

from aof2.cli import failure
from aof2.cli.group import admin

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
VARYING = (
    (re.compile(r"(?:/[\w.-]+)+/data\b"), "<root>"),
    (re.compile(r"\d+(?:[,.]\d+)*"), "#"),
    (re.compile(r"  +#"), " #"),
    (re.compile(r"# (?:[KMG]i)?B/s"), "# /s"),
)
"""Numbers, rates and the place of the root differ from run to run."""


def examples():
    """`(command, expected output)` of all console blocks, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            found.append((command, expected))
    return found


def settled(text):
    """Text without what differs from run to run."""
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


@pytest.fixture
def path(tmp_path):
    """A PATH with `aof2-admin`, wherever this interpreter is installed."""
    program = tmp_path / "bin" / "aof2-admin"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aof2.cli "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_the_examples_of_the_page_run_and_say_what_is_shown(tmp_path, path):
    """Goal: the page is true. Method: run its commands in order, compare all but the numbers."""
    for command, expected in examples():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**environment(), "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, command + done.stdout
        assert settled(done.stdout) == settled(expected), command
    assert len(examples()) >= 10


def test_the_page_names_every_command_option_and_exit_code():
    """Goal: nothing is missing. Method: take the commands and options from the program itself."""
    names = [f"## {name}\n" for name in admin.commands]
    for command in admin.commands.values():
        for each in (command, *getattr(command, "commands", {}).values()):
            for parameter in each.params:
                names += [o for o in parameter.opts if o.startswith("-")]
        names += [f"`{command.name} {name}`" for name in getattr(command, "commands", {})]
    codes = [v for k, v in vars(failure).items() if k.isupper() and isinstance(v, int)]
    names += [f"\n| {code} | " for code in (0, *codes)]
    assert [name for name in names if name not in PAGE] == []
    assert len(codes) == 8
