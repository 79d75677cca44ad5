"""What command handlers work on: the streams of a manager, its budgets, its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aof2.admission import Budget
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.planner import SegmentView, StreamView, View
from aof2.meters import Meters
from aof2.objectstore.breaker import Breaker
from aof2.signals import Announcer
from aof2.tiers.instance import StreamInstance
from aof2.tiers.warm import WarmTier
from aof2.types import Tier

FIRST_SEGMENT_BYTES = 1024 * 1024
SEGMENT_BYTES_MIN = 64 * 1024


@dataclass
class Context:
    """Shared by all handlers of a manager.

    Attributes:
        config: The manager's configuration.
        clock: Time and chance.
        tier0, tier1: Budgets of the local tiers.
        breaker: The circuit breaker of tier 2.
        stopping: True once the manager closes; long work ends early then.
        streams: Instances by name.
        meters: What is counted.
        announcer: Tells whoever waits; its `work` is woken by the end of each command.
    """

    config: AofManagerConfig
    clock: Clock
    tier0: Budget
    tier1: Budget
    breaker: Breaker
    stopping: Callable[[], bool]
    streams: dict[str, StreamInstance] = field(default_factory=dict)
    meters: Meters = field(default_factory=Meters)
    announcer: Announcer = field(init=False)

    def __post_init__(self) -> None:
        self.announcer = Announcer(self.clock, self.meters.would_block)

    def segment_age_s(self, stream: StreamInstance) -> float:
        """How old the oldest record of a stream's active segment is, in seconds."""
        active = None if stream.writer is None else stream.writer.active
        # A wall clock that goes back makes it younger, never older than it is.
        return 0.0 if active is None else max(0.0, (self.clock.now_ns() - active[1]) * 1e-9)

    def next_due_s(self) -> float | None:
        """When work is due that nothing else will tell of, in monotonic seconds; None: none is."""
        now_s, limit_s = self.clock.monotonic_s(), self.config.segment_age_s
        times = []
        for stream in list(self.streams.values()):
            times.append(stream.remote.next_due_s(uploads=bool(stream.to_upload)))
            age_s = self.segment_age_s(stream)
            # One that is over its age already is planned; its end has everything planned again.
            young = limit_s is not None and age_s < limit_s
            if young and not all(u.ended for u in stream.unsealed()):
                times.append(now_s + (limit_s or 0.0) - age_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def segment_bytes(self, stream: StreamInstance, frame_bytes: int) -> int:
        """Size of a stream's next segment.

        The first one is small and sizes double (or reach the largest where one filled within
        moments) up to the configured one, but a stream takes no more than its share of a quarter of
        tier 0, so that many streams fit beside each other. A frame that needs more gets it.
        """
        largest = self.config.segment.segment_bytes_max
        share = self.config.tier0.bytes_max // (4 * max(1, len(self.streams)))
        size = min(FIRST_SEGMENT_BYTES << min(stream.size_steps, 20), largest, share)
        size = max(size, SEGMENT_BYTES_MIN, min(largest, frame_bytes + frame_bytes // 128 + 65536))
        return -(-size // 4096) * 4096

    def view(self) -> View:
        """A snapshot for the planner."""
        target = int(self.config.tier0.bytes_max * self.config.tier0.evict_to_fraction)
        return View(
            streams=tuple(self._stream_view(s) for s in list(self.streams.values())),
            tier0_used=self.tier0.used,
            tier0_max=self.tier0.bytes_max,
            tier0_target=target,
            tier1_used=self.tier1.used,
            tier1_max=self.tier1.bytes_max,
        )

    def _aged(self, stream: StreamInstance) -> int:
        """The active segment, when it has reached its age; else 0."""
        limit_s = self.config.segment_age_s
        active = None if stream.writer is None else stream.writer.active
        if limit_s is None or active is None or self.segment_age_s(stream) < limit_s:
            return 0
        return active[0]

    def _stream_view(self, stream: StreamInstance) -> StreamView:
        segments = stream.manifest.index.segments
        writer = stream.writer
        wants = stream.spare_needed
        if wants and writer is not None and writer.spare_bytes >= wants:
            wants = 0
        hot = []
        for segment_id in stream.least_recent():
            row = segments.get(segment_id)
            if row is not None and row.sealed:
                elsewhere = len(stream.residency(row) - {Tier.HOT}) > 0
                hot.append(SegmentView(segment_id, stream.hot.sizes.get(segment_id, 0), elsewhere))
        warm = [
            SegmentView(segment_id, size, segments[segment_id].cold is not None)
            for segment_id, size in sorted(stream.warm.sizes.items())
        ]
        now_s = self.clock.monotonic_s()
        remote = stream.remote
        behind = remote.is_behind(uploads=bool(stream.to_upload))
        return StreamView(
            name=stream.name,
            aged=self._aged(stream),
            ended=tuple(u.segment_id for u in stream.unsealed() if u.ended),
            spare_frame_bytes=wants,
            spare_bytes=self.segment_bytes(stream, wants) if wants else 0,
            compress=tuple(
                (segment_id, WarmTier.bound(segments[segment_id].raw_bytes))
                for segment_id in sorted(stream.to_compress)
            ),
            # Nothing goes to tier 2 before the stream is claimed.
            upload=tuple(sorted(stream.to_upload)) if remote.is_ours else (),
            hot=tuple(hot),
            warm=tuple(warm),
            trimmed=tuple(stream.trimmed_copies()),
            publish=behind and remote.due_s <= now_s,
            snapshot=stream.manifest.snapshot_due,
            delete=tuple(remote.due_deletes(now_s)),
        )
