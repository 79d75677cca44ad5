"""A short selection of the n-th-call row; `aof2/torture/nth_call.py` has all of it."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from aof2._core.posix import set_seam_hook
from aof2.torture.nth_call import Case, begin, cases_of, run_case
from aof2.torture.row import Setting

SEED = 3


@pytest.fixture(autouse=True)
def quiet():
    """No hook outlives a test; no captured log record keeps a traceback, and with it a file."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    set_seam_hook(None)


@pytest.mark.parametrize(
    "case",
    [
        Case("ftruncate s-043a7187/manifest/N.mlog", 2, "EIO", True),
        Case("pwrite s-043a7187/segments/N.seg", 9, "ENOSPC", False),
        Case("pwrite s-043a7187/warm/.tmp-N.seg.zst", 3, "short write", True),
        Case("fdatasync s-043a7187/segments/N.seg", 4, "EIO", True),
        Case("open s-043a7187/manifest/N.mlog", 3, "EMFILE", True),
        Case("rename s-043a7187/warm/N.seg.zst", 1, "EDQUOT", True),
        Case("store put seg", 1, "after", True),
        Case("store get N/epoch/N", 1, "before", False),
    ],
    ids=str,
)
def test_a_job_survives_the_failure_of_a_call(tmp_path, case):
    """Goal: typed errors, nothing accepted is lost, nothing leaks. Method: one case each of places
    that matter; see the module."""
    result = run_case(case, tmp_path, "case", SEED)
    assert result["violations"] == []
    assert result["failed"]


def test_a_dry_run_finds_the_places(tmp_path):
    """Goal: no call site is left out by hand. Method: begin the row, and count its cases."""
    cases = begin(Setting(SEED, tmp_path))
    assert cases.full is not None
    assert cases.full > 3000


def test_every_place_gets_every_error_that_it_can_have():
    """Goal: the enumeration is right. Method: two made-up places."""
    cases = cases_of(Counter({"pwrite a": 2, "store put seg": 1}))
    assert len(cases) == 2 * (3 * 2 + 1) + 4
    errors = {"EIO", "ENOSPC", "EDQUOT", "short write", "before", "after"}
    assert {case.error for case in cases} == errors
