"""Whether a stream is appended to so fast, and for so long, that the page cache is in the way."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
SUSTAINED_BYTES = 1 << 30


class Pace:
    """What was appended within the last seconds, as seen when segments are prepared.

    Example:
        >>> pace = Pace()
        >>> [pace.is_sustained(t, t * (200 << 20)) for t in (0, 2, 4, 6, 30)]
        [False, False, False, True, False]
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def is_sustained(self, now_s: float, total_bytes: int) -> bool:
        """Note how much was appended in all until now; True where that is more than 1 GiB since any
        look of the last 10 seconds."""
        self._seen.append((now_s, total_bytes))
        while self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()
        return total_bytes - self._seen[0][1] > SUSTAINED_BYTES
