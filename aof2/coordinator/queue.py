"""The command queue: bounded, without duplicates, in lanes; what frees most for least is first."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from aof2.coordinator.commands import Command, Lane

COMMANDS_MAX = 1024
ALL_LANES = frozenset(Lane)


@dataclass(slots=True)
class Entry:
    """A command in the queue, and how it fares.

    Attributes:
        queued_s: When it came.
        order: Rank among commands of the same priority: first come, first run.
        failures: How often it has failed in a row.
        failing_since_s: When the first of these failures was; None for none.
        started_s: When it began to run; None while it waits.
        paused: It failed and waits for its next try.
        error: What the newest of these failures was.
    """

    command: Command
    queued_s: float
    order: int
    failures: int = 0
    failing_since_s: float | None = None
    started_s: float | None = None
    paused: bool = False
    error: BaseException | None = None

    def is_overdue(self, now_s: float, attempts_max: int) -> bool:
        """Whether it has failed too often, or failed or run for too long."""
        since = [at for at in (self.failing_since_s, self.started_s) if at is not None]
        late = bool(since) and now_s - min(since) > self.command.deadline_s
        return late or self.failures > attempts_max


class CommandQueue:
    """Commands that wait, that run, and that pause after a failure.

    The same work is in it at most once, whichever of the three it is. Not safe for threads: the
    runtime has the lock.

    Args:
        commands_max: So many commands of one type at most. What finds no place is planned again
            when one of them has ended.

    Example:
        >>> from aof2.coordinator.commands import Rollover
        >>> queue = CommandQueue()
        >>> queue.put(Rollover("orders", 1), 0.0), queue.put(Rollover("orders", 1), 0.0)
        (True, False)
    """

    def __init__(self, commands_max: int = COMMANDS_MAX) -> None:
        self._commands_max = commands_max
        # By lane and by whether tier 2 is written to, so that an open breaker hides no other work.
        self._ready: dict[tuple[Lane, bool], list[tuple[int, int, Command]]] = {
            (lane, writes): [] for lane in Lane for writes in (False, True)
        }
        self._paused: list[tuple[float, int, Command]] = []
        self._entries: dict[Hashable, Entry] = {}
        self._types: Counter[type[Command]] = Counter()
        self._counter = itertools.count()

    def put(self, command: Command, now_s: float) -> bool:
        """Add a command; False when it is there already, or when there are too many of its type."""
        if command.identity in self._entries or self._types[type(command)] >= self._commands_max:
            return False
        self._types[type(command)] += 1
        entry = Entry(command, now_s, next(self._counter))
        self._entries[command.identity] = entry
        self._push(entry)
        return True

    def _push(self, entry: Entry) -> None:
        command = entry.command
        entry.started_s, entry.paused = None, False
        heap = self._ready[command.lane, command.needs_tier2]
        heapq.heappush(heap, (command.priority, entry.order, command))

    def take(
        self,
        now_s: float,
        lanes: Collection[Lane] = ALL_LANES,
        *,
        tier2: bool = True,
        tier2_first: bool = False,
    ) -> Command | None:
        """The next command that may run now; it counts as running until `done` or `pause`.

        Args:
            lanes: Only from these; the most urgent first.
            tier2: Whether commands that write to tier 2 may run.
            tier2_first: Of background work, those come before all others.
        """
        while self._paused and self._paused[0][0] <= now_s:
            self._push(self._entries[heapq.heappop(self._paused)[2].identity])
        for lane in sorted(lanes):
            heaps = [self._ready[lane, writes] for writes in ((False, True) if tier2 else (False,))]
            if tier2_first and lane is Lane.BACKGROUND and heaps[-1]:
                heaps = heaps[-1:]
            heap = min(filter(None, heaps), key=lambda found: found[0][:2], default=None)
            if heap is not None:
                command = heapq.heappop(heap)[2]
                self._entries[command.identity].started_s = now_s
                return command
        return None

    def done(self, command: Command) -> Entry:
        """A command has ended well; what it was."""
        self._types[type(command)] -= 1
        return self._entries.pop(command.identity)

    def pause(self, command: Command, now_s: float, pause_s: float, error: BaseException) -> Entry:
        """A command failed; it runs again after the pause."""
        entry = self._entries[command.identity]
        entry.failures += 1
        entry.started_s, entry.paused, entry.error = None, True, error
        if entry.failing_since_s is None:
            entry.failing_since_s = now_s
        heapq.heappush(self._paused, (now_s + pause_s, entry.order, command))
        return entry

    def put_back(self, command: Command) -> None:
        """The worker that ran a command died: it runs again at once, unless it had just ended."""
        entry = self._entries.get(command.identity)
        if entry is not None and entry.started_s is not None:
            self._push(entry)

    def hasten(self, only: Callable[[Entry], bool] = lambda _: True) -> None:
        """Let paused commands run at once, all or those that `only` picks."""
        rest = []
        for item in self._paused:
            entry = self._entries[item[2].identity]
            if only(entry):
                self._push(entry)
            else:
                rest.append(item)
        self._paused = rest
        heapq.heapify(rest)

    def failures(self, command: Command) -> int:
        """How often a command has failed in a row so far."""
        return self._entries[command.identity].failures

    def next_pause_s(self) -> float | None:
        """When the first paused command may run, None when none is paused."""
        return self._paused[0][0] if self._paused else None

    def waits_for_tier2(self) -> bool:
        """Whether a command that writes to tier 2 could run if it may."""
        return any(heap for (_, writes), heap in self._ready.items() if writes)

    def entries(self) -> list[Entry]:
        """Everything that is in the queue."""
        return list(self._entries.values())

    @property
    def running(self) -> frozenset[Command]:
        """Commands that run now."""
        return frozenset(e.command for e in self._entries.values() if e.started_s is not None)

    def __len__(self) -> int:
        return len(self._entries)
