"""A writer that is killed at each durable step, with everything small and tier 2 a directory."""

from __future__ import annotations

import pytest
from kill_at import STEPS, run


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_a_durable_step_keeps_what_it_promised(tmp_path, step, after):
    """Goal: promises 1 to 4 in every kind of work. Method: kill a child at the step, reopen twice,
    read everything, bring it to tier 2."""
    run(step, tmp_path, after=after)


@pytest.mark.long
@pytest.mark.parametrize("nth", range(2, 22))
@pytest.mark.parametrize("step", ["prepare", "flush", "seal", "compress", "upload", "publish"])
def test_the_same_at_later_times(tmp_path, step, nth):
    """Goal: the first time is nothing special. Method: as above, at the n-th time."""
    run(step, tmp_path, nth=nth)
