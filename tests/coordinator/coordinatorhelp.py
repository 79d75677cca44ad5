"""Clocks that stand still, managers without workers, and waits with an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import aof2
from aof2.coordinator.runtime import Coordinator
from aof2.torture.byhand import SteppedClock as SteppedClock


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
