"""`tests/README.md`: its events, metrics, bounds and commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import aof2

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
MATRIX = PAGE.split("## The crash matrix", 1)[1]
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in MATRIX.split("### Bounds")[0].splitlines()
    if re.match(r"\| (?!Row|-)", line)
]


def events_of_the_tree() -> set[str]:
    """Every event that the library logs."""
    found: set[str] = set()
    for path in (ROOT / "aof2").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r'"event": "(\w+)"', text))
        if path.name == "report.py":
            found.update(re.findall(r'"((?:command|worker|coordinator)_\w+)"', text))
    return found


def test_every_event_of_the_matrix_is_logged_somewhere():
    """Goal: no query for a name that does not exist. Method: look for it in the sources."""
    events = events_of_the_tree()
    told = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[4] if row[4:] else "")}
    told |= set(re.findall(r"`event:(\w+)`", PAGE))
    assert len(told) > 12
    assert told - events == set()


def test_every_metric_of_the_matrix_exists_with_the_bounds_of_the_metrics_page():
    """Goal: one name, one bound. Method: compare with `Metrics` and with docs/metrics.md."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    names = {told.metadata["name"] for told in aof2.Metrics.__dataclass_fields__.values()}
    assert set(re.findall(r"`(aof_\w+)`", PAGE)) - names == set()
    bounds = re.findall(r"^\| `(aof_\w+)` \|([^|]*)\|([^|]*)\|$", PAGE, re.M)
    assert len(bounds) > 6
    for name, warn, critical in bounds:
        row = re.search(rf"^\| `\w+` \| `{name}` \|.*\|([^|]*)\|([^|]*)\|$", page, re.M)
        assert row, name
        assert (row[1].strip(), row[2].strip()) == (warn.strip(), critical.strip()), name


def test_every_command_of_the_matrix_selects_something():
    """Goal: a row can be reproduced. Method: the file is there, and has the step or the tests."""
    steps = (ROOT / "tests" / "crash" / "kill_at.py").read_text(encoding="utf-8")
    assert len(ROWS) == 22
    for row in ROWS:
        program, *arguments = shlex.split(row[1].strip("`"))
        path = ROOT / arguments[0]
        text = path.read_text(encoding="utf-8")
        if program == "python":
            assert f'    "{arguments[1]}": (' in steps
        elif "-k" in arguments:
            tests = re.findall(r"^def (test_\w+)", text, re.M)
            for part in arguments[-1].split(" or "):
                assert any(part in name for name in tests), row[1]


def test_every_directory_of_tests_is_in_the_table():
    """Goal: the page is the map. Method: compare with the directories."""
    table = PAGE.split("## The crash matrix", maxsplit=1)[0]
    told = {
        n for row in re.findall(r"^\| (`.+?) \|", table, re.M) for n in re.findall(r"`(\w+)`", row)
    }
    there = {p.parent.name for p in (ROOT / "tests").glob("*/test_*.py")}
    assert told == there
