"""The command queue: explicit, de-duplicating, ordered by what frees the most for the least."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable

from aof2.coordinator.commands import Command, Compress, Evict, Prepare, Rollover, Upload

PRIORITIES: dict[type[Command], int] = {Prepare: 0, Rollover: 1, Evict: 2, Compress: 3, Upload: 4}
"""Lower runs first: an append that waits for its segment comes before everything else."""
QUICK_MAX = 2
"""Priorities up to this one take milliseconds."""


def identity(command: Command) -> Hashable:
    """What makes a command the same work: of one stream's preparations and seals only one runs at a
    time.

    What a second one would have done is planned again when the first has ended.
    """
    if isinstance(command, (Prepare, Rollover)):
        return type(command), command.stream
    return command


class CommandQueue:
    """Commands that wait, that run, and that pause after a failure.

    The same work is in it at most once, whichever of the three it is. Not safe for threads: the
    runtime has the lock.

    Example:
        >>> queue = CommandQueue()
        >>> queue.put(Rollover("orders", 1)), queue.put(Rollover("orders", 1))
        (True, False)
    """

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, Command]] = []
        self._paused: list[tuple[float, int, Command]] = []
        self._known: set[Hashable] = set()
        self._running: set[Command] = set()
        self._failures: dict[Command, int] = {}
        self._counter = itertools.count()

    def put(self, command: Command) -> bool:
        """Add a command; False when it is there already."""
        if identity(command) in self._known:
            return False
        self._known.add(identity(command))
        self._push(command)
        return True

    def _push(self, command: Command) -> None:
        heapq.heappush(
            self._ready, (PRIORITIES[type(command)], next(self._counter), command)
        )

    def take(self, now_s: float, *, quick: bool = False) -> Command | None:
        """The next command that may run now; it counts as running until `done` or `pause`.

        Args:
            quick: Only one that takes milliseconds: an append may be waiting for it.
        """
        while self._paused and self._paused[0][0] <= now_s:
            self._push(heapq.heappop(self._paused)[2])
        if not self._ready or (quick and self._ready[0][0] > QUICK_MAX):
            return None
        command = heapq.heappop(self._ready)[2]
        self._running.add(command)
        return command

    def done(self, command: Command) -> None:
        """A command has ended well, or is given up."""
        self._running.discard(command)
        self._known.discard(identity(command))
        self._failures.pop(command, None)

    def pause(self, command: Command, until_s: float) -> None:
        """A command failed; it runs again at `until_s`."""
        self._running.discard(command)
        heapq.heappush(self._paused, (until_s, next(self._counter), command))

    def count_failure(self, command: Command) -> int:
        """How often the command has failed in a row, this time included."""
        self._failures[command] = self._failures.get(command, 0) + 1
        return self._failures[command]

    def hasten(self) -> None:
        """Let every paused command run at once."""
        while self._paused:
            self._push(heapq.heappop(self._paused)[2])

    def next_pause_s(self) -> float | None:
        """When the first paused command may run, None when none is paused."""
        return self._paused[0][0] if self._paused else None

    @property
    def running(self) -> frozenset[Command]:
        """Commands that run now."""
        return frozenset(self._running)

    @property
    def paused(self) -> int:
        """Commands that failed and wait."""
        return len(self._paused)

    def __len__(self) -> int:
        return len(self._known)
