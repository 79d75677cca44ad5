"""The one place where time and chance come from; everything else is handed a `Clock`."""

from __future__ import annotations

import random
import time

from aof2._core import posix, timesource


class Clock:
    """Time, pauses and random draws of a process.

    Attributes:
        source: The clock that the core stamps records with.

    Example:
        >>> Clock().now_ns() > 0
        True
    """

    def __init__(self, source: timesource.TimeSource | None = None) -> None:
        self.source = source if source is not None else timesource.TimeSource()
        self._jitter = random.Random()

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return self.source.now_ns()

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Pause this thread."""
        time.sleep(seconds)

    def jitter(self, seconds: float) -> float:
        """A random share of `seconds`: full jitter, so that retries of many do not meet."""
        return self._jitter.uniform(0.0, seconds)

    def random_u64(self) -> int:
        """A random 64-bit number that is not 0."""
        return posix.random_u64()

    def random_bytes(self, n: int) -> bytes:
        """`n` random bytes, fit for identifiers."""
        return posix.random_bytes(n)


class Pauses:
    """The pauses of a loop that polls: each twice as long as the one before, up to a last length.

    Args:
        clock: Whose `sleep` is used.
        first_s, last_s: Shortest and longest pause in seconds.

    Example:
        >>> Pauses(Clock(), 1e-6, 4e-6).next_s()
        1e-06
    """

    def __init__(self, clock: Clock, first_s: float, last_s: float) -> None:
        self._clock = clock
        self._pause_s = first_s
        self._last_s = last_s

    def next_s(self) -> float:
        """The next pause in seconds."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._last_s)
        return pause_s

    def sleep(self) -> None:
        """Pause this thread."""
        self._clock.sleep(self.next_s())
