"""How often workers may die before background work is given up."""

from __future__ import annotations

from collections import deque

from aof2.clock import Clock

DEATHS_MAX = 3
WITHIN_S = 60.0


class Deaths:
    """Counts deaths of workers within a time; the runtime's lock guards it.

    Example:
        >>> deaths = Deaths(Clock())
        >>> [deaths.count() for _ in range(4)]
        [False, False, False, True]
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=DEATHS_MAX + 1)

    def count(self) -> bool:
        """Count one more; True when they are too many to go on."""
        now_s = self._clock.monotonic_s()
        self._times_s.append(now_s)
        return len(self._times_s) > DEATHS_MAX and now_s - self._times_s[0] <= WITHIN_S
