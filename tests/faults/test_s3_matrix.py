"""A short selection of the S3 fault matrix; `aof2/torture/s3_faults.py` has all of it."""

from __future__ import annotations

import pytest

from aof2.testing.proxy import FaultProxy
from aof2.torture.order import drawn
from aof2.torture.s3_faults import cells, run_cell

SEED = 5


@pytest.mark.parametrize("cell", [cells()[drawn(SEED, n, len(cells()))] for n in range(3)], ids=str)
def test_a_job_goes_on_by_itself_after_a_fault_of_its_bucket(seaweedfs, tmp_path, cell):
    """Goal: local copies until verified, one owner, typed errors, and an end to it.

    Method: a small job behind a proxy that harms one kind of request; see the module.
    """
    with FaultProxy.before(seaweedfs) as proxy:
        verdict = run_cell(cell, seaweedfs, proxy, tmp_path, f"matrix-{cells().index(cell)}")
    assert verdict.violations == []
    assert verdict.applied


def test_the_matrix_has_every_place_once():
    """Goal: the count that is told is the count that there is. Method: look for doubles."""
    assert len({str(cell) for cell in cells()}) == len(cells()) >= 400
