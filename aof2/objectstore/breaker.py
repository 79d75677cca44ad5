"""The circuit breaker of tier 2: while the store cannot be reached, it is left alone."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable

from aof2.clock import Clock
from aof2.errors import Tier2Unavailable

FAILURES_MAX = 5
PAUSE_FACTOR_MAX = 60
_BUSY = (429, 500, 502, 503, 504)
_BUSY_CODES = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout")


class BreakerState(enum.Enum):
    """Whether requests that write to tier 2 are made.

    ```
    CLOSED -> OPEN          consecutive transport failures
    OPEN -> HALF_OPEN       the pause is over
    HALF_OPEN -> OPEN       the probe failed; the next pause is twice as long
    any -> CLOSED           a request came through, a reader's too
    ```
    """

    CLOSED = "closed"
    """All is well."""
    HALF_OPEN = "half_open"
    """One command may try."""
    OPEN = "open"
    """None runs, and no request is made."""


class Breaker:
    """Counts how requests end, and says whether the next one is worth making. Safe for threads.

    Args:
        clock: Time and chance.
        pause_s: First pause in seconds; it doubles up to 60 times as much.
        failures_max: So many transport failures in a row open it.

    Attributes:
        openings: How often it has opened so far.
        changed: Called, without a lock, after the state has changed.

    Example:
        >>> breaker = Breaker(Clock(), 1.0, failures_max=1)
        >>> breaker.record(TimeoutError("no answer")), breaker.state.value
        (None, 'open')
        >>> breaker.record(None), breaker.state.value
        (None, 'closed')
    """

    def __init__(self, clock: Clock, pause_s: float, failures_max: int = FAILURES_MAX) -> None:
        self._clock = clock
        self._pause_s = pause_s
        self._failures_max = failures_max
        self._lock = threading.Lock()
        self._failures = 0
        self._pauses = 0
        self._open_until_s: float | None = None
        self._probing = False
        self.openings = 0
        self.changed: Callable[[], None] = lambda: None

    @property
    def state(self) -> BreakerState:
        """What it says now."""
        with self._lock:
            if self._open_until_s is None:
                return BreakerState.CLOSED
            over = self._clock.monotonic_s() >= self._open_until_s
            return BreakerState.HALF_OPEN if over else BreakerState.OPEN

    def admits(self) -> bool:
        """Whether a command that writes may begin now."""
        state = self.state
        half = state is BreakerState.HALF_OPEN and not self._probing
        return state is BreakerState.CLOSED or half

    def next_probe_s(self) -> float | None:
        """When the next probe may begin, in monotonic seconds; None while it is closed, or while a
        probe is under way."""
        with self._lock:
            return None if self._probing else self._open_until_s

    def begin(self) -> bool:
        """A command that writes begins; True: it is the probe, and `end_probe` must follow."""
        with self._lock:
            self._probing = self._open_until_s is not None
            return self._probing

    def end_probe(self) -> None:
        """The probe has ended, perhaps without a request, so that it told nothing."""
        with self._lock:
            self._probing = False

    def hasten(self) -> None:
        """Somebody waits: let the next probe begin at once."""
        with self._lock:
            if self._open_until_s is not None:
                self._open_until_s = self._clock.monotonic_s()

    def record(self, error: BaseException | None) -> None:
        """Take note of how a request ended; None: it came through."""
        with self._lock:
            before = self._open_until_s is not None
            if error is None or not is_transport(error):
                # The store answered, even where it refused.
                self._failures = self._pauses = 0
                self._open_until_s = None
            else:
                self._failures += 1
                if self._failures >= self._failures_max and self._may_open():
                    factor = min(2**self._pauses, PAUSE_FACTOR_MAX)
                    pause_s = self._pause_s * factor
                    pause_s = pause_s / 2 + self._clock.jitter(pause_s / 2)
                    self._open_until_s = self._clock.monotonic_s() + pause_s
                    self._pauses += 1
                    self.openings += not before
                    self._probing = False
            changed = before != (self._open_until_s is not None)
        if changed:
            self.changed()

    def _may_open(self) -> bool:
        """Not by readers that fail while it is open anyway: the pause would never end."""
        until_s = self._open_until_s
        return until_s is None or self._clock.monotonic_s() >= until_s


def is_transport(error: BaseException) -> bool:
    """Whether a store could not be reached or was too busy: whoever asks again later may succeed.

    Example:
        >>> is_transport(Tier2Unavailable("away")), is_transport(ValueError("no"))
        (True, False)
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (Tier2Unavailable, TimeoutError, ConnectionError)):
            return True
        # What boto3 raises, without importing it for stores that are none.
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in _BUSY or response.get("Error", {}).get("Code") in _BUSY_CODES:
                return True
        seen = seen.__cause__
    return False
