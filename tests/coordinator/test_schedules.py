"""Random schedules under the test scheduler; `schedules.py` says what each must show."""

from __future__ import annotations

import logging

import pytest
from schedules import run_schedules

COUNT = 300
LONG_COUNT = 50_000


def run(count: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        told = run_schedules(count, seed=1)
    finally:
        logging.disable(logging.NOTSET)
    print(dict(told))
    for what in ("Rollover", "Upload", "Evict", "failures", "deaths", "blocked appends"):
        assert told[what] > count / 10, f"too little of {what} to show anything"
    assert told["given up"] > 0


def test_random_schedules_end_and_lose_nothing():
    """Goal: every wait ends, no deadlock, every record is there. Method: seeded schedules with
    failures and deaths at every durable step, and commands between the steps of others."""
    run(COUNT)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_many_random_schedules_end_and_lose_nothing():
    """Goal and method: as above, for the long campaign."""
    run(LONG_COUNT)
