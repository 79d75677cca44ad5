"""What a stream's core writer asks of Python: segments, reasons for waiting, accounting."""

from __future__ import annotations

import logging

from aof2._core import logfile
from aof2._core.writer import SegmentWriter
from aof2.clock import Clock
from aof2.config import MIB, AofManagerConfig
from aof2.coordinator.commands import Prepare
from aof2.coordinator.context import RING_BYTES_MIN, Context, is_disk_full
from aof2.coordinator.planner import who_frees
from aof2.coordinator.runtime import Coordinator
from aof2.coordinator.view import View
from aof2.errors import ConfigError, StorageFull, WouldBlock, WouldBlockKind
from aof2.recovery import Recovered
from aof2.tiers.hot import PAGE_BYTES
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Wait

LOGGER = logging.getLogger("aof2.tier0")
RECORD_BYTES_DEFAULT = 16 * MIB
BATCH_BYTES_DEFAULT = 4 * MIB
FAST_S = 0.05
JUDGEMENT_HELD_S = 0.002
"""So long a refused append's reason stands, unless the budgets move or a command ends."""
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


class WriterHost:
    """Answers the questions of one stream's core writer; see `aof2._core.writer`."""

    def __init__(self, stream: StreamInstance, context: Context, coordinator: Coordinator) -> None:
        self._stream = stream
        self._context = context
        self._coordinator = coordinator
        self._clock = context.clock
        self._since_s = 0.0
        self._judged: tuple[int, ...] = ()
        self._judged_until_s = 0.0
        self._judgement = WouldBlockKind.ROLLOVER

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
        self._coordinator.check_alive()
        if self._since_s == 0.0:
            self._since_s = self._clock.monotonic_s()
        if stream.spare_needed < frame_bytes:
            stream.spare_needed = frame_bytes
        return self._blocked(self._context.segment_bytes(stream, frame_bytes))

    def on_no_ring(self, least_bytes: int, good_bytes: int) -> int | WouldBlockKind:
        """Claim room for a landing ring; its size, or what an append waits for."""
        stream = self._stream
        self._coordinator.check_alive()
        first, _ = self._context.ring_sizes()
        least = max(least_bytes, min(first, RING_BYTES_MIN))
        if stream.ring_failed:
            stream.ring_needed = least + PAGE_BYTES
            return self._blocked(stream.ring_needed)
        size = stream.hot.claim_ring(max(first, good_bytes), least)
        if size:
            stream.ring_needed = 0
            if not stream.spare_needed:
                stream.blocked_since_s = 0.0
            return size
        stream.ring_needed = least + PAGE_BYTES
        return self._blocked(stream.ring_needed)

    def on_ring_failed(self, ring_bytes: int, error: OSError) -> WouldBlockKind:
        """A ring could not be made: the coordinator tries again; say what the append waits for."""
        self._stream.ring_failed = True
        self._stream.failures[Prepare] = error
        self._stream.ring_needed = ring_bytes + PAGE_BYTES
        self._judged_until_s = 0.0
        return self._blocked(self._stream.ring_needed)

    def on_ring_growth(self, good_bytes: int) -> int:
        """Claim room for a larger ring, as far as that takes nothing that segments need."""
        tier0 = self._context.tier0
        _, largest = self._context.ring_sizes()
        size = max(good_bytes, largest)
        spare = int(tier0.bytes_max * (1 - self._context.config.tier0.evict_to_fraction))
        if size <= self._stream.hot.ring_bytes or tier0.room < size + PAGE_BYTES + spare:
            return 0
        return self._stream.hot.claim_ring(size)

    def _blocked(self, wanted: int) -> WouldBlockKind:
        """Have room made for an append that cannot go on without; say who does that.

        A caller that tries again in a loop gets the same answer for a moment, as long as the
        budgets stand still: looking at everything each time would keep the workers from their work.
        """
        stream, tier0, tier1 = self._stream, self._context.tier0, self._context.tier1
        now_s = self._clock.monotonic_s()
        turns = self._coordinator.turns
        budgets = (wanted, turns, tier0.used, tier0.passing, tier0.order.bytes, tier1.used)
        if stream.blocked_since_s and budgets == self._judged and now_s < self._judged_until_s:
            return self._judgement
        stream.blocked_since_s = stream.blocked_since_s or now_s
        self._coordinator.kick()
        kind = self._judge(wanted)
        self._judged, self._judged_until_s = budgets, now_s + JUDGEMENT_HELD_S
        self._judgement = kind
        return kind

    def _judge(self, wanted: int) -> WouldBlockKind:
        stream, tier0 = self._stream, self._context.tier0
        stream.check_manifest()
        stalled = stream.manifest.stalled
        if any(is_disk_full(error) for error in (stalled, *list(stream.failures.values()))):
            return WouldBlockKind.DISK_FULL
        if stalled is not None:
            return WouldBlockKind.FLUSH
        if wanted <= tier0.room:
            return WouldBlockKind.ROLLOVER
        view = self._context.view(pressed=True)
        if not stream.blocked_since_s:
            return WouldBlockKind.ROLLOVER  # It was made ready in this moment.
        kind = who_frees(view, stream.name)
        # Much may have happened between the two looks; then the next try has another answer.
        if (
            kind is None
            and self._coordinator.is_settled()
            and self._context.view(pressed=True) == view
        ):
            raise full_for_ever(view, stream.name)
        return WouldBlockKind.ADMISSION if kind is None else kind

    def on_blocked(self, kind: WouldBlockKind, frame_bytes: int) -> WouldBlock:
        """The answer to an append that may not wait; it knows when a retry is worth while."""
        return self._room(kind, frame_bytes).blocked()

    def on_waits(self, kind: WouldBlockKind) -> None:
        """An append that may wait does so, as those are counted that may not."""
        self._stream.signals.room.count(kind)

    def on_late(self, kind: WouldBlockKind, frame_bytes: int) -> Exception:
        """The answer to an append whose time is up."""
        return self._room(kind, frame_bytes).timed_out()

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

    def on_ring(self, file_bytes: int) -> None:
        """The landing ring counts against tier 0 too."""
        if file_bytes == 0:
            self._stream.ring_gone()
        self._stream.hot.set_ring(file_bytes)


def full_for_ever(view: View, name: str) -> StorageFull:
    """The error when both local tiers are full and nothing can free them."""
    return StorageFull(
        f"tier 0 ({view.tier0_used} of {view.tier0_max} bytes) and tier 1 "
        f"({view.tier1_used} of {view.tier1_max}) are full and nothing can be freed: raise "
        "tier0.bytes_max or tier1.bytes_max, or give the root a tier 2",
        stream=name,
    )


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
        flush_bytes=config.flush.bytes,
        strict=config.flush.strict,
        confirm_interval_s=config.flush.confirm_interval_s,
        unflushed_bytes_max=config.flush.unflushed_bytes_max,
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
        if found.start is not None and found.start.ext_id != ext_id:
            # A segment's records share its default, so a new default begins a new segment.
            writer.end_segment()
    stream.why_no_segment = host.on_no_segment
    stream.writer = stream.signals.writer = writer
    return writer
