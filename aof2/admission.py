"""Admission: every allocated byte of a local tier is claimed here before it is there, over all
streams."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

BLOCK_BYTES = 4096


def on_disk(file_bytes: int) -> int:
    """Bytes that a file takes on disk: whole blocks, which counts where files are many and small.

    Example:
        >>> on_disk(1), on_disk(4096)
        (4096, 4096)
    """
    return -(-file_bytes // BLOCK_BYTES) * BLOCK_BYTES


class AdmissionGuard:
    """A claim on bytes of a budget; made by `Budget.claim`.

    As a context manager it gives the bytes back at the end, unless a file stands behind it by then
    (`keep`). Whoever gives bytes back wakes those who wait for room.

    Attributes:
        bytes: What is claimed now.

    Example:
        >>> budget = Budget(10)
        >>> with budget.claim(8) as guard:
        ...     budget.used, budget.claim(3)
        (8, None)
        >>> budget.used
        0
    """

    __slots__ = ("_budget", "_kept", "bytes")

    def __init__(self, budget: Budget, n: int) -> None:
        self.bytes = n
        self._budget = budget
        self._kept = False

    def keep(self) -> AdmissionGuard:
        """A file has the bytes from now on: they stay claimed until `drop`."""
        self._budget.settle(0 if self._kept else self.bytes)
        self._kept = True
        return self

    def resize(self, n: int) -> None:
        """The file has another size now; what is over goes back."""
        before, self.bytes = self.bytes, n
        self._budget.change(n - before, passing=not self._kept)

    def drop(self) -> None:
        """Give everything back; again is harmless."""
        self.resize(0)

    def __enter__(self) -> AdmissionGuard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if not self._kept:
            self.drop()


class EvictionOrder:
    """Copies in one tier that may be dropped, as another tier has a verified one: the least
    recently used first, over all streams. Every step takes the same time, however many there are.

    Example:
        >>> order = EvictionOrder()
        >>> order.put("a", 1, 10), order.put("b", 1, 20), order.touch("a", 1)
        (None, None, None)
        >>> order.first(1)
        [('b', 1, 20)]
    """

    def __init__(self) -> None:
        self.bytes = 0
        """Of all of them together."""
        self._copies: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        self._stamp = 0
        self._lock = threading.Lock()

    @property
    def stamp(self) -> int:
        """This moment in the order: copies that are put or used from now on have higher ones."""
        return self._stamp

    def put(self, stream: str, segment: int, n: int) -> None:
        """A copy of `n` bytes may be dropped now; one that is known keeps its place."""
        with self._lock:
            before, stamp = self._copies.get((stream, segment), (0, self._next()))
            self.bytes += n - before
            self._copies[stream, segment] = n, stamp

    def discard(self, stream: str, segment: int) -> None:
        """A copy is gone, or must stay."""
        with self._lock:
            self.bytes -= self._copies.pop((stream, segment), (0, 0))[0]

    def touch(self, stream: str, segment: int) -> None:
        """A copy was used just now."""
        with self._lock:
            copy = self._copies.get((stream, segment))
            if copy is not None:
                self._copies[stream, segment] = copy[0], self._next()
                self._copies.move_to_end((stream, segment))

    def _next(self) -> int:
        self._stamp += 1
        return self._stamp

    def first(self, most: int) -> list[tuple[str, int, int]]:
        """`(stream, segment, bytes)` of those to drop first, at most so many."""
        with self._lock:
            head = list(itertools.islice(self._copies.items(), most))
        return [(stream, segment, n) for (stream, segment), (n, _) in head]

    def colder(self, stamp: int, most: int) -> list[tuple[str, int, int]]:
        """Like `first`, but only those that were neither put nor used after `stamp` was read."""
        with self._lock:
            head = list(itertools.islice(self._copies.items(), most))
        return [(stream, segment, n) for (stream, segment), (n, at) in head if at <= stamp]


class Budget:
    """Bytes of one tier that all streams of a manager share.

    Args:
        bytes_max: What `claim` never lets usage pass.

    Attributes:
        on_room: Called after bytes went back, on the thread that gave them back.
        order: Which files may go, and which of them first.

    Example:
        >>> budget = Budget(10)
        >>> guard = budget.claim(8)
        >>> budget.claim(3) is None, budget.used
        (True, 8)
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.on_room: Callable[[], None] = _nothing
        self.order = EvictionOrder()
        self._used = 0
        self._passing = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes claimed now."""
        return self._used

    @property
    def passing(self) -> int:
        """Of these, bytes that no file has yet: whoever claimed them keeps or drops them soon."""
        return self._passing

    @property
    def room(self) -> int:
        """Bytes that may still be claimed; below 0 when files that were found are too many."""
        return self.bytes_max - self._used

    def claim(self, n: int, below: int | None = None) -> AdmissionGuard | None:
        """Claim `n` bytes if they fit (`below`: and leave room above that usage); None, and nothing
        claimed, if they do not."""
        with self._lock:
            if self._used + n > (self.bytes_max if below is None else below):
                return None
            self._used += n
            self._passing += n
        return AdmissionGuard(self, n)

    def charge(self, n: int) -> AdmissionGuard:
        """A kept claim for a file that is there already, fit or not."""
        with self._lock:
            self._used += n
            self._passing += n
        return AdmissionGuard(self, n).keep()

    def settle(self, n: int) -> None:
        """`n` claimed bytes became a file's; for guards."""
        with self._lock:
            self._passing -= n

    def change(self, n: int, *, passing: bool) -> None:
        """A claim grew by `n` bytes, or shrank by `-n`; for guards."""
        with self._lock:
            self._used += n
            if passing:
                self._passing += n
        if n < 0:
            self.on_room()


def _nothing() -> None:
    """Nobody waits."""
