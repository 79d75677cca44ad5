"""What one stream wants back in a nearer tier: segments that are read again and again, and copies
that were lost. It says what is wanted, once however many ask; the coordinator does it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from aof2._core.directory import Directory
from aof2.clock import Clock
from aof2.errors import Closed, HydrationTimeout, SegmentLost, WouldBlockKind
from aof2.manifest.index import SegmentRow
from aof2.meters import Meters
from aof2.signals import Signal
from aof2.tiers.pending import Pending
from aof2.tiers.residency import Residency
from aof2.tiers.visits import Visits
from aof2.types import Tier
from aof2.waiting import Limit, Wait

ASKS_MAX = 64
"""Segments of a stream that are on their way at once because reads suggest it."""
REFUSED_S = 10.0
"""After a failure, or for want of room, reads do not ask for the segment again for so long."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A segment that is wanted in the hot tier.

    Attributes:
        segment_id: Which one.
        before: Copies that were used at this stamp of the eviction order or later stay.
        since_s: When it was asked for, in monotonic seconds.
        outcome: Done when the hot copy is there, or when it is known why it will not be.
    """

    segment_id: int
    before: int
    since_s: float
    outcome: Future[None] = field(default_factory=Future)


class Hydration:
    """One stream's wishes, between those who read and the coordinator. Safe for threads.

    Attributes:
        asked: Segments that are wanted in the hot tier and are not there yet, oldest wish first.
        to_fetch: Segments whose warm file is gone or was damaged, and is to come from tier 2.
        damaged: `(segment, tier)` of local copies that are to be set aside.
        kick: Called when something new is wanted.
    """

    def __init__(
        self,
        stream: Residency,
        signal: Signal,
        clock: Clock,
        meters: Meters,
        quarantine: Directory,
        *,
        limit_s: float,
        writable: bool,
    ) -> None:
        self.asked: dict[int, Ask] = {}
        self.to_fetch = Pending()
        self.damaged: dict[tuple[int, Tier], str] = {}
        self.kick: Callable[[], object] = lambda: None
        self.quarantine = quarantine
        self._stream = stream
        self._signal = signal
        self._clock = clock
        self._meters = meters
        self._limit_s = limit_s
        self._writable = writable
        self._visits = Visits()
        self._refused: dict[int, float] = {}
        self._lock = threading.Lock()
        self._closed = False

    # --- for readers ------------------------------------------------------------------------------

    def touched(self, segment_id: int, tier: Tier) -> None:
        """A reader has arrived at a place in a segment, and reads it from this tier.

        To be called once for each `get`, start and seek, not when a reader goes on; costs little,
        never waits and never fails. Segments that are visited often enough come back by themselves.
        """
        if tier is Tier.HOT or not self._writable or segment_id in self.asked:
            return
        now_s, order = self._clock.monotonic_s(), self._stream.hot.budget.order
        with self._lock:
            row = self._stream.manifest.index.segments.get(segment_id)
            if row is None or not row.sealed or self._is_refused(segment_id, now_s):
                return
            before = self._visits.note(segment_id, row.raw_bytes, now_s=now_s, stamp=order.stamp)
            if before is None or self._closed or len(self.asked) >= ASKS_MAX:
                return
            self.asked.setdefault(segment_id, Ask(segment_id, before, now_s))
        self.kick()

    def needs_recovery(self, segment_id: int, tier: Tier, error: BaseException) -> bool:
        """A copy was found damaged or missing: have it set aside and made again.

        Never waits and never fails. Whoever calls it counts the damage.

        Returns:
            Whether another copy can serve the segment; without one nothing is done.
        """
        row = self._stream.manifest.index.segments.get(segment_id)
        if row is None or not self._others(row, tier):
            return False
        if self._writable and tier is not Tier.COLD:
            with self._lock:
                if (segment_id, tier) in self.damaged or self._closed:
                    return True
                self.damaged[segment_id, tier] = str(error)
            self.kick()
        return True

    def hydrate(self, segment_id: int) -> Wait:
        """Have a segment brought to the hot tier; the wait is for that.

        What the wait raises: `HydrationFailed` (also when nothing colder can make room), the error
        of the tier it comes from, `HydrationTimeout`, `Closed`.
        """
        row = self._stream.manifest.index.segments.get(segment_id)
        if not self._writable:
            raise Closed("the root was opened with readonly=True", stream=self._stream.name)
        if row is None or not row.sealed:
            raise SegmentLost(
                "there is no sealed segment of this number",
                stream=self._stream.name,
                segment=segment_id,
            )
        with self._lock:
            self._refused.pop(segment_id, None)
            # Whoever asks for it by name wants it more than anything that may go.
            before = self._stream.hot.budget.order.stamp
            now_s = self._clock.monotonic_s()
            ask = self.asked.get(segment_id, Ask(segment_id, before, now_s))
            ask = self.asked[segment_id] = replace(ask, before=before)
        self.kick()
        return Wait(
            self._signal,
            lambda: self._is_over(ask),
            WouldBlockKind.HYDRATION,
            "the segment is on its way to the hot tier",
            limit=self.limit(row.base_offset),
            stream=self._stream.name,
            offset=row.base_offset,
        )

    def limit(self, offset: int | None = None) -> Limit:
        """How long anybody waits for bytes of another tier at most, and the error then."""
        seconds, name = self._limit_s, self._stream.name
        return Limit(
            seconds,
            lambda: HydrationTimeout(
                f"nothing came from another tier within {seconds:g} s; the work goes on, so that "
                "a later try finds what it brought: look at tier 2, or raise "
                "coordinator.hydration_timeout_s",
                stream=name,
                offset=offset,
            ),
        )

    def _is_over(self, ask: Ask) -> bool:
        if ask.outcome.done():
            ask.outcome.result()
            return True
        if self._closed:
            raise Closed("the stream was closed: open the root again", stream=self._stream.name)
        return False

    def _is_refused(self, segment_id: int, now_s: float) -> bool:
        until_s = self._refused.get(segment_id)
        if until_s is not None and until_s <= now_s:
            del self._refused[segment_id]
        return until_s is not None and now_s < until_s

    def _others(self, row: SegmentRow, tier: Tier) -> frozenset[Tier]:
        """Tiers with another copy that can be read, as far as is known."""
        held = self._stream.residency(row) - {tier}
        return held if self._stream.cold is not None else held - {Tier.COLD}

    # --- for the coordinator ----------------------------------------------------------------------

    def wishes(self) -> list[Ask]:
        """Segments that could be brought to the hot tier now, oldest wish first."""
        bad = {segment_id for segment_id, _ in self.damaged}
        asks = list(self.asked.values())
        return [a for a in asks if a.segment_id not in bad and a.segment_id not in self.to_fetch]

    def is_pending(self, segment_id: int) -> bool:
        """Whether a copy of a segment is to be replaced, and is not yet."""
        return segment_id in self.to_fetch or any(one == segment_id for one, _ in self.damaged)

    def settle(self, segment_id: int, error: BaseException | None = None) -> None:
        """A wish was granted, or was not; whoever waits is told."""
        with self._lock:
            ask = self.asked.pop(segment_id, None)
            now_s = self._clock.monotonic_s()
            if error is not None:
                self._refused = {s: at for s, at in self._refused.items() if at > now_s}
                self._refused[segment_id] = now_s + REFUSED_S
        if ask is not None and error is None:
            self._meters.hydration.record(now_s - ask.since_s)
            ask.outcome.set_result(None)
        elif ask is not None:
            self._meters.hydration_failures += 1
            ask.outcome.set_exception(error)
        self._signal.wake()

    def drop(self, segment_id: int) -> None:
        """A wish has become pointless: the segment is hot already, or was given up."""
        with self._lock:
            ask = self.asked.pop(segment_id, None)
        if ask is not None:
            ask.outcome.set_result(None)
            self._signal.wake()

    def is_replaced(self, segment_id: int, tier: Tier, *, fetch: bool) -> None:
        """A damaged copy is out of the way; `fetch`: its warm file is to come from tier 2."""
        with self._lock:
            if fetch:
                self.to_fetch.add(segment_id)
            self.damaged.pop((segment_id, tier), None)

    def close(self) -> None:
        """Nothing more will come: whoever waits is told so."""
        with self._lock:
            self._closed = True
        self._signal.wake()
