"""The frame cache: decompressed zstd frames of all streams, and the reads that bring them.

Each thing is read once, however many ask: the first one's read is a *flight*, which the others
join. Nobody owns a flight, so whoever stops waiting takes nothing from anybody. What failed is not
kept: who asks again has it read again.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor

from aof2._core.window import Window
from aof2.errors import Closed
from aof2.signals import Signal

CACHE_BYTES_MAX = 64 << 20
"""Decompressed bytes that a manager keeps for later reads of warm and cold records."""

Read = Callable[[int], Sequence[object]]
"""`read(n)`: the first `n` of the things that were asked for; a value or an error for each."""


class Flight:
    """One read that waits for a thread, is under way, or is over.

    Attributes:
        keys: What it brings.
        over: Set once it has ended, one way or the other.
    """

    def __init__(self, keys: Sequence[Hashable], read: Read, signal: Signal) -> None:
        self.keys = keys
        self.over = threading.Event()
        self.signal = signal
        self.begun = False
        self.wanted = False
        self._read = read
        self._outcomes: dict[Hashable, object] = {}

    def run(self) -> None:
        """Do it; on whichever thread took it."""
        try:
            self._outcomes = dict(zip(self.keys, self._read(len(self.keys)), strict=True))
        except Exception as error:
            self._outcomes = dict.fromkeys(self.keys, error)

    def fail(self, error: Exception) -> None:
        """It can never begin."""
        self._outcomes = dict.fromkeys(self.keys, error)

    def outcome(self, key: Hashable) -> object:
        """The value, or the error; None when its thread was interrupted."""
        return self._outcomes.get(key)


class Ticket:
    """What one reader asked for; it holds the outcome until the reader has used it.

    Attributes:
        late: Others had begun the read before this reader asked, so that its failure is theirs.
    """

    __slots__ = ("_flight", "_found", "key", "late")

    def __init__(
        self, key: Hashable, flight: Flight | None, found: object = None, *, late: bool = False
    ) -> None:
        self.key = key
        self.late = late
        self._flight = flight
        self._found = found

    def is_over(self) -> bool:
        """Whether there is an outcome."""
        return self._flight is None or self._flight.over.is_set()

    @property
    def is_lost(self) -> bool:
        """Whether it is over and somebody else's failure: ask again."""
        found = self.outcome
        return found is None or (self.late and isinstance(found, Exception))

    @property
    def outcome(self) -> object:
        """The value, or the error."""
        return self._found if self._flight is None else self._flight.outcome(self.key)


class FrameCache:
    """What readers of all streams of a manager share; safe for threads.

    Args:
        pool: Threads for the reads of those who may not block.
        bytes_max: Decompressed bytes that are kept, the least recently used go first. A single run
            that is larger is kept until the next one comes.

    Attributes:
        bytes: Kept now.
    """

    def __init__(self, pool: Callable[[], Executor], bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.bytes = 0
        self.bytes_max = bytes_max
        self._scans: weakref.WeakSet[object] = weakref.WeakSet()
        self._pool = pool
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Window] = OrderedDict()
        self._flying: dict[Hashable, Flight] = {}
        self._wanted: deque[Flight] = deque()
        self._ahead: deque[Flight] = deque()

    # --- for whoever may block --------------------------------------------------------------------

    def bring(self, keys: Sequence[Hashable], read: Read, signal: Signal) -> object:
        """The first of some neighbouring things, which is read on this thread unless somebody else
        reads it already; the next ones come along as far as nobody has or reads them.

        Raises:
            Exception: whatever `read` raised, or returned in its place.
        """
        asked_again = False
        while True:
            with self._lock:
                found: object = self._find(keys[0])
                if found is not None:
                    return found
                flight = self._flying.get(keys[0]) or self._plan(keys, read, signal)
                mine, flight.begun = not flight.begun, True
            if mine:
                self._fly(flight)
            else:
                flight.over.wait()
            found = flight.outcome(keys[0])
            if not isinstance(found, Exception):
                if found is not None:
                    return found
            elif mine or asked_again:
                raise found
            # What failed was begun before this call: it gets a read of its own.
            asked_again = not mine

    # --- for whoever may not ----------------------------------------------------------------------

    def ask(
        self, keys: Sequence[Hashable], read: Read, signal: Signal, *, ahead: bool = False
    ) -> Ticket:
        """Have the first of some neighbouring things read on another thread, unless it is here or
        on its way; the next ones come along as far as nobody has or reads them.

        Args:
            keys: What.
            read: Reads them.
            signal: Woken by the end.
            ahead: Nobody waits for it yet: everything that somebody waits for goes first.
        """
        pool = self._pool()
        with self._lock:
            found = self._find(keys[0])
            if found is not None:
                return Ticket(keys[0], None, found)
            flight = self._flying.get(keys[0])
            late = flight is not None and flight.begun
            if flight is None:
                flight = self._plan(keys, read, signal)
                queue = self._ahead if ahead else self._wanted
            elif flight.begun or flight.wanted or ahead:
                return Ticket(keys[0], flight, late=late)
            else:
                queue = self._wanted
            flight.wanted = not ahead
            queue.append(flight)
        try:
            pool.submit(self._fly_next)
        except RuntimeError:
            # The threads ended between the two: so has the manager.
            flight.fail(Closed("the manager was closed: open the root again"))
            self._land(flight)
        return Ticket(keys[0], flight, late=late)

    # --- flights ----------------------------------------------------------------------------------

    def _find(self, key: Hashable) -> Window | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def _plan(self, keys: Sequence[Hashable], read: Read, signal: Signal) -> Flight:
        n = 1
        while n < len(keys) and keys[n] not in self._kept and keys[n] not in self._flying:
            n += 1
        flight = Flight(keys[:n], read, signal)
        self._flying.update(dict.fromkeys(flight.keys, flight))
        return flight

    def _fly_next(self) -> None:
        with self._lock:
            for queue in (self._wanted, self._ahead):
                while queue and queue[0].begun:
                    queue.popleft()
            queue = self._wanted or self._ahead
            if not queue:
                return
            flight = queue.popleft()
            flight.begun = True
        self._fly(flight)

    def _fly(self, flight: Flight) -> None:
        try:
            flight.run()
        finally:
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        with self._lock:
            for key in flight.keys:
                del self._flying[key]
                found = flight.outcome(key)
                if isinstance(found, Window):
                    self._keep(key, found)
        flight.over.set()
        flight.signal.wake()

    def _keep(self, key: Hashable, window: Window) -> None:
        self._kept[key] = window
        self.bytes += len(window)
        while self.bytes > self.bytes_max and len(self._kept) > 1:
            self.bytes -= len(self._kept.popitem(last=False)[1])

    # --- room -------------------------------------------------------------------------------------

    def share(self, scan: object) -> int:
        """Bytes that a scan may have asked for ahead of it: all scans together half of what is
        kept, so that nothing goes before it is used."""
        with self._lock:
            self._scans.add(scan)
            return self.bytes_max // 2 // len(self._scans)

    def leave(self, scan: object) -> None:
        """A scan has ended."""
        with self._lock:
            self._scans.discard(scan)
