"""The table of kinds in `docs/sync-async.md` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocked_states import STATES

import aof2
from aof2.waiting import RETRY_AFTER_S

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sync-async.md"
APPENDS = ("append", "append_many", "append_packed")
SHORT = {"append*": APPENDS, "read*": ("read", "read_batch")}


def rows() -> dict[str, list[str]]:
    """The table's cells, by kind."""
    lines = PAGE.read_text().split("| Kind | Raised by |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def names(cell: str) -> list[str]:
    return [part for name in re.findall(r"`([^`]+)`", cell) for part in SHORT.get(name, (name,))]


def test_every_kind_has_its_row():
    """Goal: no kind without an answer. Method: compare with the enum; no cell is empty."""
    found = rows()
    assert set(found) == {kind.name for kind in aof2.WouldBlockKind}
    assert all(len(cells) == 5 and all(cells) for cells in found.values())


@pytest.mark.parametrize("kind", aof2.WouldBlockKind, ids=lambda kind: kind.name)
def test_a_row_says_what_the_code_does(kind, tmp_path):
    """Goal: kind → operations → notifier is true. Method: operations by the states in which they
    really block, notifiers by the signals, the pause by the constant."""
    raised_by, notifier, _, _, pause = rows()[kind.name]
    blocking = {row[0].partition(".")[2] for row in STATES if row[3] is kind}
    assert set(names(raised_by)) == blocking
    assert float(pause) == RETRY_AFTER_S[kind]
    with aof2.open(tmp_path) as manager:
        signals = manager.stream("a")._instance.signals
        named = {getattr(signals, name) for name in names(notifier)}
        assert set(signals.of_kind(kind)) == named
