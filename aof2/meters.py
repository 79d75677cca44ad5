"""What is counted while a manager runs: histograms with bounded memory, counters by kind."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from dataclasses import dataclass

LATENCY_BOUNDS_S = tuple(1e-6 * 4**step for step in range(16))
"""1 us to about 18 minutes, each four times the one before."""


@dataclass(frozen=True)
class Histogram:
    """How often something took how long.

    Attributes:
        bounds_s: Upper bounds of the buckets in seconds; one more bucket takes what is longer.
        counts: Observations in each bucket, one more than there are bounds.
        sum_s: Seconds of all observations together.

    Example:
        >>> Histogram((1.0, 2.0), (3, 1, 0), 4.5).count
        4
    """

    bounds_s: tuple[float, ...] = LATENCY_BOUNDS_S
    counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_S) + 1)
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        """Observations in all."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float:
        """The bound in seconds below which this share (0 to 1) lies; 0 without observations, `inf`
        beyond the last bound."""
        wanted, seen = share * self.count, 0
        if not self.count:
            return 0.0
        for bound, count in zip(self.bounds_s, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return float("inf")

    def __add__(self, other: Histogram) -> Histogram:
        if self.bounds_s != other.bounds_s:
            raise ValueError("histograms of different bounds cannot be added")
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds_s, counts, self.sum_s + other.sum_s)


class Recorder:
    """A histogram in the making; 17 numbers however much it records. Safe for threads.

    Example:
        >>> recorder = Recorder()
        >>> recorder.record(0.5)
        >>> recorder.snapshot().count
        1
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def record(self, seconds: float) -> None:
        """Count one observation."""
        with self._lock:
            self._counts[bisect.bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
            self._sum_s += seconds

    def snapshot(self) -> Histogram:
        """The histogram so far."""
        with self._lock:
            return Histogram(LATENCY_BOUNDS_S, tuple(self._counts), self._sum_s)


class CommandMeter:
    """How commands of one type fare; the runtime's lock guards it."""

    def __init__(self) -> None:
        self.done = self.failures = self.retries = 0
        self.latency = Recorder()


class Meters:
    """What is counted for one manager, beside what its streams and its store count themselves.

    Attributes:
        commands: By name of the type.
        worker_deaths: Workers that ended by something that is no `Exception`.
        would_block: Calls that could not go on at once, by what for, in all three forms.
        admission: How long appends that had to wait did so.
        hydration: How long segments took to come back to the hot tier.
        hydration_failures: How often that failed.
        corruption: Damage that was found, by the error's code.
        healed: Times that another copy had what was wanted, by the damaged copy's tier.
        skipped: Records that readers with `on_corruption="skip"` left out.
    """

    def __init__(self) -> None:
        self.commands: dict[str, CommandMeter] = {}
        self.worker_deaths = 0
        self.would_block: Counter[str] = Counter()
        self.admission = Recorder()
        self.hydration = Recorder()
        self.hydration_failures = 0
        self.corruption: Counter[str] = Counter()
        self.healed: Counter[str] = Counter()
        self.skipped = 0

    def command(self, name: str) -> CommandMeter:
        """The meter of a command's type."""
        meter = self.commands.get(name)
        if meter is None:
            meter = self.commands.setdefault(name, CommandMeter())
        return meter
