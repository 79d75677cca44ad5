"""The campaign: shares of the time, resuming, violations, deaths, and the rows themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waithelp import until

from aof2.torture.campaign import Campaign, share
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally
from aof2.torture.rows import ROWS


def row(name, run, *, full=10, minutes=1.0, **more):
    return Row(name, "something", "things", full, minutes, lambda _: Cases(run), **more)


def test_a_row_runs_each_case_once_until_its_full_count():
    """Goal: counts are true. Method: a row whose cases name themselves."""

    def run(number):
        tally = Tally()
        tally.counts[f"case {number}"] += 1
        return tally

    campaign = Campaign([row("a", run, full=25, batch=4)], seed=1)
    campaign.run()
    reached = campaign.reached["a"]
    assert reached.tally.units == reached.next_case >= 25
    assert dict(reached.tally.counts) == {f"case {n}": 1 for n in range(reached.next_case)}
    assert campaign.violations == 0


def test_a_run_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    """Goal: SIGTERM is an ordinary end. Method: a long row in a process of its own; once it has
    written down what it reached, end it; its directories and children are gone."""
    resume = tmp_path / "reached.json"
    command = [sys.executable, "-m", "aof2.cli", "torture", "--row", "random-cuts"]
    work = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    before = set(work.glob("aof2-torture-*"))
    process = subprocess.Popen(
        [*command, "--resume", str(resume)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until(resume.exists, 120)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert set(work.glob("aof2-torture-*")) <= before
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_page_has_every_row():
    """Goal: whoever reads a table of counts finds what they mean. Method: compare the names."""
    page = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
    text = page.read_text(encoding="utf-8").split("## How the library itself is proven")[1]
    told = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert told == [row.name for row in ROWS]


@pytest.mark.parametrize("how", ["raises", "tells", "dies", "hangs"])
def test_a_case_that_fails_is_a_violation_and_tells_its_replay(how):
    """Goal: nothing that goes wrong is lost. Method: the third case fails in one of four ways."""

    def run(number):
        if number != 3:
            return Tally()
        if how == "raises":
            raise AssertionError("wrong")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "hangs":
            time.sleep(60)
        return Tally(violations=["wrong"])

    lines = []
    limit_s = 1.0 if how == "hangs" else 60.0
    campaign = Campaign([row("a", run, case_timeout_s=limit_s)], seed=7, tell=lines.append)
    campaign.run()
    reached = campaign.reached["a"]
    assert reached.tally.units >= 10
    assert [text[:7] for text in reached.tally.violations] == ["case 3:"]
    assert "  replay: aof2-admin torture --row a --seed 7 --case 3" in lines


def test_a_run_goes_on_from_where_another_ended(tmp_path):
    """Goal: hours can be spread over days. Method: a run that ends early, then one to the end."""
    state = tmp_path / "state.json"

    def run(number):
        time.sleep(0.05)
        return Tally(counts={f"case {number}": 1})

    rows = [row("a", run, full=30, batch=1), row("b", run, full=4, batch=1)]
    first = Campaign(rows, seed=5, resume=state)
    first.run(minutes=0.01)
    assert 0 < first.reached["a"].tally.units < 30
    told = json.loads(state.read_text())
    assert (told["seed"], set(told["rows"])) == (5, {"a", "b"})
    second = Campaign(rows[:1], seed=99, resume=state)
    second.run()
    assert second.seed == 5
    assert set(second.reached["a"].tally.counts.values()) == {1}
    assert second.reached["a"].tally.units >= 30
    assert set(json.loads(state.read_text())["rows"]) == {"a", "b"}


def test_every_row_has_a_share_and_all_shares_are_the_whole():
    """Goal: a short run shows something of every row. Method: one row that needs most of a day."""
    rows = [row(str(n), lambda _: Tally(), minutes=m) for n, m in enumerate((1000, 1, 1, 10))]
    left, shares = 1.0, []
    for at in range(len(rows)):
        shares.append(left * share(rows, at))
        left -= shares[-1]
    assert left == pytest.approx(0)
    assert min(shares) > 0.04
    assert shares[0] > 0.7


def test_a_row_that_cannot_run_here_says_why():
    """Goal: no failure where a machine lacks something. Method: a row that refuses."""

    def begin(setting: Setting) -> Cases:
        raise CannotRun("no loop devices")

    campaign = Campaign([Row("a", "x", "things", 1, 1.0, begin)], seed=1)
    campaign.run()
    assert campaign.reached["a"].skipped == "no loop devices"
    assert campaign.violations == 0


def test_names_of_rows_are_unique_and_every_full_run_is_possible():
    """Goal: the table is sound. Method: look at all rows."""
    assert len({each.name for each in ROWS}) == len(ROWS)
    assert all(each.full > 0 and each.minutes > 0 and each.tries for each in ROWS)


def test_the_command_tells_counts_as_json():
    """Goal: machines can read it. Method: two cases of a row through the command line."""
    command = [sys.executable, "-m", "aof2.cli", "torture", "--json", "--row", "two-writers"]
    done = subprocess.run([*command, "--case", "1"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["rows"]["two-writers"]["units"] == 1
    assert told["rows"]["two-writers"]["violations"] == []
    wrong = [sys.executable, "-m", "aof2.cli", "torture", "--row", "nothing"]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode == 2
