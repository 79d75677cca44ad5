"""What command handlers work on: the streams of a manager, its budgets, its configuration."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from aof2.admission import Budget, on_disk
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.commands import Upload
from aof2.coordinator.view import Holding, StreamView, View, Wish
from aof2.framecache import FrameCache
from aof2.meters import Meters
from aof2.objectstore.breaker import Breaker, BreakerState
from aof2.signals import Announcer
from aof2.tiers.hot import PAGE_BYTES
from aof2.tiers.hydration import Ask
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier

FIRST_SEGMENT_BYTES = 1024 * 1024
SEGMENT_BYTES_MIN = 64 * 1024
RING_BYTES_MIN = 64 * 1024
RING_FIRST_BYTES = 512 * 1024
RING_BYTES_MAX = 8 * 1024 * 1024
EVICTIONS_MAX = 64
"""Copies of a tier that one plan may drop; more are seen by the next plan."""
PENDING_MAX = 64
"""Segments of a stream and a kind of work that one plan sees."""
GRANT_HELD_NS = 1_000_000_000
"""What was made ready for an append that waited is not taken away again before it could be used.
One that gave up in the meantime holds it for no longer than this."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether something failed for want of room on the file system.

    Example:
        >>> is_disk_full(OSError(28, "No space left on device")), is_disk_full(ValueError())
        (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


@dataclass
class Context:
    """Shared by all handlers of a manager.

    Attributes:
        config: The manager's configuration.
        clock: Time and chance.
        tier0, tier1: Budgets of the local tiers.
        breaker: The circuit breaker of tier 2.
        frames: Decompressed frames, for readers of all streams.
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
    frames: FrameCache
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

    def next_due_s(self, now_s: float) -> float | None:
        """When work is due that nothing else will tell of, in monotonic seconds; None: none is.

        Asked before the view is taken: what is due already is planned by that.
        """
        limit_s = self.config.segment_age_s
        times = []
        blocked = any(stream.blocked_since_s for stream in self.streams.values())
        for stream in list(self.streams.values()):
            times.append(stream.remote.next_due_s(now_s, uploads=stream.has_uploads))
            if blocked and self._is_granted(stream):
                held_ns = stream.granted_ns + GRANT_HELD_NS - self.clock.now_ns()
                times.append(now_s + max(held_ns, 1) * 1e-9)
            age_s = self.segment_age_s(stream)
            # One that is over its age already gets planned; its end has everything planned again.
            young = limit_s is not None and age_s < limit_s
            if young and not all(u.ended for u in stream.unsealed()):
                times.append(now_s + (limit_s or 0.0) - age_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def look_for_room(self) -> None:
        """Bytes of tier 0 went back, or none will: whoever waits for some tries again."""
        for stream in list(self.streams.values()):
            if stream.blocked_since_s and stream.writer is not None:
                stream.writer.announce()

    def active_streams(self) -> int:
        """How many streams are appended to these days: those that have a landing ring."""
        return max(1, sum(1 for stream in list(self.streams.values()) if stream.hot.ring_bytes))

    def ring_sizes(self) -> tuple[int, int]:
        """`(first, largest)` size of a landing ring, by the configuration and the share of tier 0
        that a stream has beside the others."""
        if self.config.flush.ring_bytes is not None:
            return self.config.flush.ring_bytes, self.config.flush.ring_bytes
        share = self.config.tier0.bytes_max // (8 * self.active_streams())
        largest = RING_BYTES_MIN
        while largest < RING_BYTES_MAX and 2 * largest <= share:
            largest *= 2
        return min(RING_FIRST_BYTES, largest), largest

    def segment_bytes(self, stream: StreamInstance, frame_bytes: int) -> int:
        """Size of a stream's next segment.

        The first one is small and sizes double (or reach the largest where one filled within
        moments) up to the configured one, but a stream takes no more than its share of a quarter of
        tier 0, so that many streams fit beside each other. A frame that needs more gets it.
        """
        largest = self.config.segment.segment_bytes_max
        share = self.config.tier0.bytes_max // (4 * self.active_streams())
        size = min(FIRST_SEGMENT_BYTES << min(stream.size_steps, 20), largest, share)
        size = max(size, SEGMENT_BYTES_MIN, min(largest, frame_bytes + frame_bytes // 128 + 65536))
        return -(-size // 4096) * 4096

    def view(self, *, pressed: bool = False) -> View:
        """A snapshot for the planner.

        Args:
            pressed: Look also at what streams could give back; done anyway while an append waits.
        """
        streams = list(self.streams.values())
        target = int(self.config.tier0.bytes_max * self.config.tier0.evict_to_fraction)
        pressed = pressed or any(stream.blocked_since_s for stream in streams)
        return View(
            streams=tuple(self._stream_view(stream, pressed) for stream in streams),
            tier0_used=self.tier0.used,
            tier0_max=self.tier0.bytes_max,
            tier0_target=target,
            tier1_used=self.tier1.used,
            tier1_max=self.tier1.bytes_max,
            evict0=tuple(self.tier0.order.first(EVICTIONS_MAX)),
            evict1=tuple(self.tier1.order.first(EVICTIONS_MAX)),
            evict0_bytes=self.tier0.order.bytes,
            tier0_passing=self.tier0.passing,
            tier1_passing=self.tier1.passing,
            tier2=any(stream.cold is not None for stream in streams),
            uploading=self.breaker.state is BreakerState.CLOSED
            and any(self._uploads(stream) for stream in streams),
            disk_full=any(
                is_disk_full(error) for s in streams for error in list(s.failures.values())
            ),
        )

    def _uploads(self, stream: StreamInstance) -> bool:
        """Whether segments of a stream go to tier 2, and the newest try of one did not fail."""
        return (
            stream.remote.is_ours and bool(stream.to_upload) and Upload not in stream.failures
        )

    def _aged(self, stream: StreamInstance) -> int:
        """The active segment, when it has reached its age; else 0."""
        limit_s = self.config.segment_age_s
        active = None if stream.writer is None else stream.writer.active
        if limit_s is None or active is None or self.segment_age_s(stream) < limit_s:
            return 0
        return active[0]

    def _stream_view(self, stream: StreamInstance, pressed: bool) -> StreamView:
        if stream.manifest.is_lost:
            return self._lost_view(stream)
        view = self._view_of(stream, pressed)
        if stream.stands_still:
            # What is sealed goes on its way; nobody must wait for the rest of it.
            view = replace(
                view, aged=0, ended=(), ended_bytes=0, spare_bytes=0, ring_bytes=0, holding=None,
                granted=False,
            )  # fmt: skip
        return view

    def _lost_view(self, stream: StreamInstance) -> StreamView:
        """Of a stream that can record nothing any more: nothing of it goes, nothing is to be done.
        """
        for segment in list(stream.hot.sizes):
            self.tier0.order.discard(stream.name, segment)
        for segment in list(stream.warm.sizes):
            self.tier1.order.discard(stream.name, segment)
        return StreamView(stream.name, blocked_since_s=stream.blocked_since_s)

    def _view_of(self, stream: StreamInstance, pressed: bool) -> StreamView:
        writer = stream.writer
        wants, ring = stream.spare_needed, stream.ring_needed
        if wants and writer is not None and writer.spare_bytes >= wants:
            wants = 0
        ended = tuple(u.segment_id for u in stream.unsealed() if u.ended)
        blocked_s = stream.blocked_since_s
        remote, now_s = stream.remote, self.clock.monotonic_s()
        behind = remote.is_behind(uploads=stream.has_uploads)
        return StreamView(
            name=stream.name,
            aged=self._aged(stream),
            ended=ended,
            ended_bytes=sum(stream.hot.sizes.get(segment, 0) for segment in ended),
            spare_frame_bytes=wants,
            spare_bytes=self.segment_bytes(stream, wants) if wants else 0,
            ring_bytes=ring,
            need_bytes=self.need_bytes(stream, stream.spare_needed) if blocked_s else 0,
            blocked_since_s=blocked_s,
            compress=tuple(self._compress(stream)),
            # Nothing goes to tier 2 before the stream is claimed.
            upload=tuple(self._upload(stream)),
            ours=remote.is_ours,
            trimmed=tuple(stream.trimmed_copies()),
            retain_from=self._retain_from(stream),
            publish=behind and remote.due_s <= now_s,
            snapshot=stream.manifest.snapshot_due,
            delete=tuple(remote.due_deletes(now_s)),
            holding=self._holding(stream) if pressed and not self._is_granted(stream) else None,
            granted=self._is_granted(stream),
            hydrate=tuple(self._wishes(stream)),
            set_aside=tuple(stream.hydration.damaged),
            fetch=tuple(self._fetch(stream)),
            seals=stream.seals,
        )

    def _retain_from(self, stream: StreamInstance) -> int:
        """Offset below which a stream has more than it keeps; 0: nowhere, or it is another's."""
        if stream.remote.is_fenced:
            return 0
        return stream.retention.due(self.config.retention.bytes_max)

    def need_bytes(self, stream: StreamInstance, frame_bytes: int) -> int:
        """What it takes to append a frame: a segment and a ring, whether they are there or not."""
        ring = max(stream.ring_needed, stream.hot.ring_bytes, RING_BYTES_MIN + PAGE_BYTES)
        return self.segment_bytes(stream, frame_bytes) + ring

    def _upload(self, stream: StreamInstance) -> Iterator[int]:
        if stream.remote.is_ours:
            for segment in stream.to_upload.first(PENDING_MAX):
                if segment not in stream.remote.uploading:
                    yield segment

    def _compress(self, stream: StreamInstance) -> Iterator[tuple[int, int, int]]:
        for segment in stream.to_compress.first(PENDING_MAX):
            row = stream.manifest.index.segments.get(segment)
            if row is not None and segment not in stream.remote.uploading:
                bound = stream.warm.bound(row.raw_bytes)
                yield segment, bound, stream.hot.sizes.get(segment, 0)

    def _wishes(self, stream: StreamInstance) -> Iterator[Wish]:
        for ask in stream.hydration.wishes()[:PENDING_MAX]:
            wish = self.wish(stream, ask)
            if wish is not None:
                yield wish

    def wish(self, stream: StreamInstance, ask: Ask) -> Wish | None:
        """What bringing a segment back to the hot tier takes; None: it is not known any more."""
        row = stream.manifest.index.segments.get(ask.segment_id)
        if row is None:
            return None
        n = on_disk(row.raw_bytes)
        if Tier.WARM not in stream.residency(row) and row.cold is not None:
            # The object's bytes lie beside the segment's until they are unpacked.
            n += on_disk(row.cold.size)
        colder = tuple(self.tier0.order.colder(ask.before, EVICTIONS_MAX))
        return Wish(stream.name, ask.segment_id, n, ask.since_s, colder)

    def _fetch(self, stream: StreamInstance) -> Iterator[tuple[int, int]]:
        for segment in stream.hydration.to_fetch.first(PENDING_MAX):
            row = stream.manifest.index.segments.get(segment)
            if row is not None and stream.cold is not None:
                yield segment, 0 if row.cold is None else on_disk(row.cold.size)

    def _is_granted(self, stream: StreamInstance) -> bool:
        """Whether a stream just got what an append had waited for, and has not used it yet."""
        if stream.writer is None or stream.writer.last_append_ns >= stream.granted_ns:
            return False
        return stream.granted_ns <= self.clock.now_ns() < stream.granted_ns + GRANT_HELD_NS

    def _holding(self, stream: StreamInstance) -> Holding | None:
        """What a stream could give back."""
        writer = stream.writer
        if writer is None:
            return None
        spare = writer.spare_id
        return Holding(
            last_use_ns=max(writer.last_append_ns, stream.granted_ns),
            spare_bytes=0 if spare is None else stream.hot.sizes.get(spare, 0),
            active_bytes=writer.active_bytes,
            slack_bytes=writer.slack_bytes,
            ring_bytes=stream.hot.ring_bytes,
        )
