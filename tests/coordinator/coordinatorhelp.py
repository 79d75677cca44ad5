"""Clocks that stand still, managers without workers, and waits with an end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aof2
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


def until(reached: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    end = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def our_threads() -> set[str]:
    """Names of the library's threads that live now."""
    return {t.name for t in threading.enumerate() if t.name.startswith("aof2")}


@contextmanager
def without_workers(monkeypatch, *arguments: object, **more: object) -> Iterator[aof2.AofManager]:
    """A manager whose commands run only when the test says `poll` or `step`."""
    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "start", lambda self: None)
        manager = aof2.open(*arguments, **more)  # type: ignore[arg-type]
    try:
        yield manager
    finally:
        manager.close()
