"""Waiting in tests: until something holds, and no longer than any machine needs."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(reached: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    end = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
