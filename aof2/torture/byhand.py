"""Managers whose background work runs on the caller's thread, when the caller says so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from aof2.clock import Clock
from aof2.coordinator.runtime import Coordinator


class SteppedClock(Clock):
    """A clock whose monotonic time moves only when it is told, and whose chance is known."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._jitter = random.Random(seed)
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def step(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@contextmanager
def no_workers() -> Iterator[None]:
    """Managers that are opened inside have no worker threads: commands run in `poll` and `step`."""
    with mock.patch.object(Coordinator, "start", return_value=None):
        yield
