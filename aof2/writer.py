"""What a stream's core writer asks of Python: segments, reasons for waiting, accounting."""

from __future__ import annotations

import logging

from aof2._core import logfile
from aof2._core.writer import SegmentWriter
from aof2.clock import Clock
from aof2.config import KIB, MIB, AofManagerConfig
from aof2.coordinator.context import Context
from aof2.coordinator.runtime import Coordinator
from aof2.errors import ConfigError, StorageFull, WouldBlock, WouldBlockKind
from aof2.recovery import Recovered
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Wait

LOGGER = logging.getLogger("aof2.tier0")
RECORD_BYTES_DEFAULT = 16 * MIB
BATCH_BYTES_DEFAULT = 4 * MIB
ENOSPC = 28
FAST_S = 0.05
FAST_STEPS = 6
"""From the first size to the default largest: 64 times."""


def size_limits(config: AofManagerConfig) -> tuple[int, int]:
    """`(record bytes, batch bytes)` that the configuration allows.

    Raises:
        ConfigError: an explicit limit does not fit a segment.
    """
    room = logfile.record_room(config.segment.segment_bytes_max)
    # A batch has 4 bytes per record beside its payloads; half of the room always suffices by
    # default.
    chosen = []
    for name, value, default in (
        ("record_bytes_max", config.segment.record_bytes_max, min(RECORD_BYTES_DEFAULT, room)),
        ("batch_bytes_max", config.segment.batch_bytes_max, min(BATCH_BYTES_DEFAULT, room // 2)),
    ):
        if value is not None and not 1 <= value <= room:
            raise ConfigError(
                f"segment.{name} is {value}, but a segment of "
                f"{config.segment.segment_bytes_max} bytes has room for {room}"
            )
        chosen.append(default if value is None else value)
    return chosen[0], chosen[1]


def ring_sizes(config: AofManagerConfig) -> tuple[int, int]:
    """`(first, largest)` size of the landing ring by the configuration and tier 0's budget."""
    if config.flush.ring_bytes is not None:
        return config.flush.ring_bytes, config.flush.ring_bytes
    largest = 64 * KIB
    while largest < 8 * MIB and 2 * largest <= config.tier0.bytes_max // 8:
        largest *= 2
    return min(MIB, largest), largest


class WriterHost:
    """Answers the questions of one stream's core writer; see `aof2._core.writer`."""

    def __init__(self, stream: StreamInstance, context: Context, coordinator: Coordinator) -> None:
        self._stream = stream
        self._context = context
        self._coordinator = coordinator
        self._clock = context.clock
        self._since_s = 0.0

    def on_half_full(self, segment_id: int) -> None:
        """Have the next segment ready before this one is full."""
        del segment_id
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s < FAST_S:
            # At this pace doubling would mean a rollover every few milliseconds for a while.
            self._stream.size_steps += FAST_STEPS
        if self._stream.spare_needed == 0:
            self._stream.spare_needed = 1
        self._coordinator.kick()

    def on_rolled(self, segment_id: int) -> None:
        """A segment waits for its seal."""
        del segment_id
        self._since_s = self._clock.monotonic_s()
        self._coordinator.kick()

    def on_started(self, segment_id: int) -> None:
        """A segment's age begins, which the coordinator's timer has to know."""
        del segment_id
        if self._context.config.segment_age_s is not None:
            self._coordinator.kick()

    def on_no_segment(self, frame_bytes: int) -> WouldBlockKind:
        """Ask for a segment; say what an append waits for, or that waiting would be for ever."""
        stream = self._stream
        stream.remote.check_ours()
        if self._since_s == 0.0:
            self._since_s = self._clock.monotonic_s()
        if stream.spare_needed < frame_bytes:
            stream.spare_needed = frame_bytes
        self._coordinator.check_alive()
        self._coordinator.kick()
        wanted = self._context.segment_bytes(stream, frame_bytes)
        if stream.manifest.stalled is not None:
            return WouldBlockKind.FLUSH
        failures = list(stream.failures.values())
        if any(isinstance(error, OSError) and error.errno == ENOSPC for error in failures):
            return WouldBlockKind.DISK_FULL
        if self._context.tier0.used + wanted <= self._context.tier0.bytes_max:
            return WouldBlockKind.ROLLOVER
        return self._why_full()

    def _why_full(self) -> WouldBlockKind:
        """Tier 0 is full: who can free it?"""
        view = self._context.view()
        tier1_full = any(
            bound > view.tier1_max - view.tier1_used for s in view.streams for _, bound in
            s.compress
        )
        can_evict = any(copy.elsewhere for s in view.streams for copy in s.hot)
        under_way = any(s.ended or (s.compress and not tier1_full) for s in view.streams)
        if can_evict or under_way:
            return WouldBlockKind.ADMISSION
        if self._stream.cold is not None and any(s.upload or s.warm for s in view.streams):
            return WouldBlockKind.TIER2_BACKLOG
        # Much may have happened between the two looks; then the next try has another answer.
        if self._coordinator.is_settled() and self._context.view() == view:
            raise StorageFull(
                f"tier 0 ({view.tier0_used} of {view.tier0_max} bytes) and tier 1 "
                f"({view.tier1_used} of {view.tier1_max}) are full and nothing can be freed: raise "
                "tier0.bytes_max or tier1.bytes_max, or give the root a tier 2",
                stream=self._stream.name,
            )
        return WouldBlockKind.ADMISSION

    def on_blocked(self, kind: WouldBlockKind, frame_bytes: int) -> WouldBlock:
        """The answer to an append that may not wait; it knows when a retry is worth while."""
        return self._room(kind, frame_bytes).blocked()

    def _room(self, kind: WouldBlockKind, frame_bytes: int) -> Wait:
        def ready() -> bool:
            writer = self._stream.writer
            return writer is None or writer.has_room(frame_bytes)

        return Wait(
            self._stream.signals.room,
            ready,
            kind,
            f"the stream waits for {kind.value}; nothing was accepted, try again",
            stream=self._stream.name,
        )

    def on_admitted(self, waited_s: float) -> None:
        """An append that had to wait found room."""
        self._context.meters.admission.record(waited_s)

    def on_news(self, news: int) -> None:
        """Wake whoever waits for a record, on the thread that appended it."""
        self._stream.signals.on_news(news)

    def on_waiting(self, kind: WouldBlockKind, waited_s: float) -> None:
        """One warning per wait, once it has lasted a second."""
        LOGGER.warning(
            "a call on %s waits for %s for %.1f s%s",
            self._stream.name,
            kind.value,
            waited_s,
            "" if self._stream.last_error is None else f": {self._stream.last_error}",
            extra={"event": "call_waits", "stream": self._stream.name, "kind": kind.value},
        )

    def on_ring(self, ring_bytes: int) -> None:
        """The landing ring counts against tier 0 too."""
        self._stream.hot.set_ring(ring_bytes)


def change_ext_id(writer: SegmentWriter, ext_id: int) -> None:
    """Another default for the records from now on; the active segment ends with those before."""
    if writer.ext_id != ext_id:
        writer.ext_id = ext_id
        writer.end_segment()


def make_writer(
    stream: StreamInstance,
    recovered: Recovered,
    context: Context,
    coordinator: Coordinator,
    clock: Clock,
    ext_id: int,
) -> SegmentWriter:
    """The core writer of a stream that was just recovered; it goes on where a clean close
    stopped."""
    config = context.config
    record_bytes_max, batch_bytes_max = size_limits(config)
    ring_first, ring_max = ring_sizes(config)
    host = WriterHost(stream, context, coordinator)
    writer = SegmentWriter(
        stream.hot.directory,
        stream=stream.name,
        host=host,
        time=clock.source,
        stream_uuid=stream.identity.uuid,
        root_id=stream.identity.root_id,
        epoch=stream.identity.epoch,
        ext_id=ext_id,
        next_offset=recovered.next_offset,
        previous=recovered.previous,
        interval_s=config.flush.interval_s,
        confirm_interval_s=config.flush.confirm_interval_s,
        unflushed_bytes_max=config.flush.unflushed_bytes_max,
        ring_bytes=ring_first,
        ring_bytes_max=ring_max,
        record_bytes_max=record_bytes_max,
        batch_bytes_max=batch_bytes_max,
        segment_bytes_max=config.segment.segment_bytes_max,
        default_timeout_s=config.wait_timeout_s,
        bell=context.announcer.bell,
    )
    stream.spare_id = recovered.last_id
    if recovered.resume is not None:
        segment_id, found = recovered.resume
        writer.resume(stream.hot.name(segment_id), found)
        if found.start.ext_id != ext_id:
            # A segment's records share its default, so a new default begins a new segment.
            writer.end_segment()
    stream.why_no_segment = host.on_no_segment
    stream.writer = stream.signals.writer = writer
    return writer
