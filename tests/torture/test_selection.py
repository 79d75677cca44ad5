"""A short seeded selection of the rows that run long in `ci/torture`."""

from __future__ import annotations

import os

import pytest

from aof2.torture import controls, kills, power_cuts
from aof2.torture.campaign import Campaign
from aof2.torture.row import CannotRun, Setting


def run_cases(row, tmp_path, cases):
    """Run cases in forked children, as a campaign does; what they came to."""
    campaign = Campaign([row], seed=1)
    tally, ran = campaign._cases(row, row.begin(Setting(1, tmp_path)), range(cases))
    assert tally.violations == []
    assert ran == cases
    return tally


def test_killed_writers_leave_every_record_whose_append_returned(tmp_path):
    """Goal: promises 1 and 4. Method: kill -9 at random instants and at named steps."""
    tally = run_cases(kills.ROW, tmp_path, 4)
    assert tally.units == 4 * kills.KILLS
    assert sum(tally.counts.values()) > tally.units // 3, "too few were killed in time"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")
def test_power_cuts_leave_every_record_that_was_flushed(tmp_path):
    """Goal: promises 2 and 4. Method: shut a mounted ext4 down under a writer."""
    try:
        tally = run_cases(power_cuts.ROW, tmp_path, 2)
    except CannotRun as why:
        pytest.skip(str(why))
    assert tally.units == 2 * power_cuts.CUTS
    assert tally.counts["records promised"] > 1000


@pytest.mark.parametrize("mutant", controls.MUTANTS[:16:4], ids=lambda mutant: mutant.name)
def test_the_harness_finds_what_is_wrong(tmp_path, mutant):
    """Goal: a green run means something. Method: some of the mutants of the row."""
    assert controls.found_by_crashes(mutant, Setting(1, tmp_path), 0)


def test_the_harness_finds_nothing_where_nothing_is_wrong(tmp_path, monkeypatch):
    """Goal: the mutants are found for what is wrong with them. Method: the lives that no other row
    has, as they are."""
    monkeypatch.setattr(controls, "EPISODES_MAX", 2)
    nothing = controls.Mutant("nothing", (controls.EVICTIONS, controls.EVICTED))
    assert controls.found_by_crashes(nothing, Setting(1, tmp_path), 0) == ""
