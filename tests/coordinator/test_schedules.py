"""Random schedules under the test scheduler; `aof2.torture.schedules` says what each must show."""

from __future__ import annotations

import logging
from collections import Counter

from aof2.torture.schedules import run_schedule

COUNT = 300


def test_random_schedules_end_and_lose_nothing(tmp_path):
    """Goal: every wait ends, no deadlock, every record is there. Method: seeded schedules with
    failures and deaths at every durable step, and commands between the steps of others."""
    told: Counter[str] = Counter()
    logging.disable(logging.CRITICAL)
    try:
        for number in range(1, 1 + COUNT):
            print(f"schedule {number}")
            run_schedule(number, tmp_path, told)
    finally:
        logging.disable(logging.NOTSET)
    for what in ("Rollover", "Upload", "Evict", "failures", "deaths", "blocked appends"):
        assert told[what] > COUNT / 10, f"too little of {what} to show anything"
    assert told["given up"] > 0
