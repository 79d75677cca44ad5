"""`AofManager`: `metrics()` and `health()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from aof2.clock import Clock
from aof2.coordinator.commands import Lane
from aof2.coordinator.context import Context, is_disk_full
from aof2.coordinator.queue import Entry
from aof2.coordinator.runtime import Coordinator
from aof2.meters import Histogram
from aof2.metrics import Health, HealthReason, Metrics
from aof2.objectstore.breaker import BreakerState
from aof2.objectstore.observed import ObservedStore
from aof2.stream import Aof
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier

BREAKER_NUMBERS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
BACKLOG_SHARE = 0.9
"""Of tier 1's budget; above it uploads or retention cannot keep up."""


class Observing:
    """The part of a manager that tells how it is."""

    _context: Context
    _coordinator: Coordinator
    _instances: Mapping[str, StreamInstance]
    _streams: Mapping[str, Aof]
    _store: ObservedStore | None
    _clock: Clock

    def metrics(self) -> Metrics:
        """A frozen snapshot of all counters; see `docs/metrics.md` and `Metrics`.

        Takes no lock that an append waits for, and makes no request. Work is in proportion to the
        number of segments.

        Raises:
            Closed: the manager is closed; so is what was counted.

        Example: `manager.metrics().queue_depth["background"]`
        """
        self._check_open()
        instances = list(self._instances.values())
        entries = self._coordinator.entries()
        meters, breaker, store = self._context.meters, self._context.breaker, self._store
        commands = dict(meters.commands)
        return Metrics(
            **self._queue(entries),
            commands_done={name: meter.done for name, meter in commands.items()},
            command_failures={name: meter.failures for name, meter in commands.items()},
            command_retries={name: meter.retries for name, meter in commands.items()},
            command_duration={name: m.latency.snapshot() for name, m in commands.items()},
            worker_deaths=meters.worker_deaths,
            would_block=dict(meters.would_block),
            admission_wait=meters.admission.snapshot(),
            hydrations_pending=sum(len(s.hydration.asked) for s in instances),
            fetches_pending=sum(len(s.hydration.to_fetch) for s in instances),
            hydration=meters.hydration.snapshot(),
            hydration_failures=meters.hydration_failures,
            corruption=dict(meters.corruption),
            reads_healed=dict(meters.healed),
            records_skipped=meters.skipped,
            tier2_requests={} if store is None else dict(store.requests),
            tier2_errors={} if store is None else dict(store.errors),
            tier2_bytes={} if store is None else dict(store.bytes),
            breaker_state=BREAKER_NUMBERS[breaker.state],
            breaker_openings=breaker.openings,
            leased_bytes={
                "hot": sum(stream.hot.leased_bytes for stream in instances),
                "warm": sum(stream.warm.leased_bytes for stream in instances),
            },
            compress_backlog=sum(len(stream.to_compress) for stream in instances),
            upload_backlog=0 if store is None else sum(len(s.to_upload) for s in instances),
            tier_bytes_used={"hot": self._context.tier0.used, "warm": self._context.tier1.used},
            tier_bytes_max={
                "hot": self._context.tier0.bytes_max,
                "warm": self._context.tier1.bytes_max,
            },
            **self._of_streams(instances),
        )

    def health(self) -> Health:
        """Whether everything works, is degraded, or has failed, and why.

        Raises:
            Closed: the manager is closed.

        Example: `manager.health().state == "ok"`
        """
        self._check_open()
        failed = self._what_failed()
        degraded = self._what_is_degraded()
        state: Literal["ok", "degraded", "failed"] = "ok"
        if failed or degraded:
            state = "failed" if failed else "degraded"
        return Health(state, (*failed, *degraded))

    def _check_open(self) -> None:
        """Raise `Closed` or `ForkedHandle` when nothing can be asked for any more."""
        raise NotImplementedError

    # --- metrics ----------------------------------------------------------------------------------

    def _queue(self, entries: list[Entry]) -> dict[str, Any]:
        now_s = self._clock.monotonic_s()
        ages = {lane.name.lower(): 0.0 for lane in Lane}
        depth = Counter(entry.command.lane.name.lower() for entry in entries)
        for entry in entries:
            lane = entry.command.lane.name.lower()
            ages[lane] = max(ages[lane], now_s - entry.queued_s)
        return {
            "queue_depth": {lane: depth[lane] for lane in ages},
            "queue_age_s": ages,
            "commands_overdue": len(self._overdue(entries)),
        }

    def _overdue(self, entries: list[Entry]) -> list[Entry]:
        attempts_max = self._context.config.coordinator.retry_attempts_max
        now_s = self._clock.monotonic_s()
        return [entry for entry in entries if entry.is_overdue(now_s, attempts_max)]

    def _of_streams(self, instances: list[StreamInstance]) -> dict[str, Any]:
        """What is known by stream, and the residency of all segments."""
        held: Counter[str] = Counter()
        held_bytes: Counter[str] = Counter()
        fsync = Histogram()
        following, local, remote = {}, {}, {}
        for stream in instances:
            for row in stream.manifest.index.rows():
                for tier in stream.residency(row):
                    held[tier.name.lower()] += 1
                    held_bytes[tier.name.lower()] += row.raw_bytes
            following[stream.name] = stream.next_offset
            local[stream.name] = max(0, following[stream.name] - stream.durable_offset)
            if stream.cold is not None:
                remote[stream.name] = max(0, following[stream.name] - stream.remote_offset)
            if stream.writer is not None:
                counts, total_ns = stream.writer.fsync_counts
                fsync += Histogram(counts=counts, sum_s=total_ns * 1e-9)
        return {
            "segments": {tier.name.lower(): held[tier.name.lower()] for tier in Tier},
            "segment_bytes": {tier.name.lower(): held_bytes[tier.name.lower()] for tier in Tier},
            "next_offset": following,
            "local_lag": local,
            "remote_lag": remote,
            "fsync_duration": fsync,
            "durability_lost": sum(1 for stream in instances if _is_poisoned(stream)),
            "manifest_chunks": {s.name: len(s.manifest.chunks()) for s in instances},
            **_replays(instances),
        }

    # --- health -----------------------------------------------------------------------------------

    def _what_failed(self) -> list[HealthReason]:
        reasons = []
        died = self._coordinator.died
        if died is not None:
            text = f"background work has stopped ({died!r}): close and reopen the root"
            reasons.append(HealthReason("coordinator_died", text))
        for stream in list(self._instances.values()):
            if _is_poisoned(stream):
                text = (
                    f"stream {stream.name}: a write or sync failed, the writer has stopped; look "
                    "at the device, then reopen the root"
                )
                reasons.append(HealthReason("durability_lost", text))
            publication = stream.remote.publication
            if publication is not None and publication.fenced is not None:
                text = f"stream {stream.name}: {publication.fenced}"
                reasons.append(HealthReason("fenced", text))
        return reasons

    def _what_is_degraded(self) -> list[HealthReason]:
        context, reasons = self._context, []
        if context.breaker.state is not BreakerState.CLOSED:
            text = "tier 2 cannot be reached: nothing is uploaded until a probe comes through"
            reasons.append(HealthReason("breaker_open", text))
        for entry in self._overdue(self._coordinator.entries()):
            text = f"{entry.command} failed {entry.failures} times in a row: {entry.error}"
            if entry.started_s is not None:
                text = f"{entry.command} runs for longer than {entry.command.deadline_s:.0f} s"
            reasons.append(HealthReason("overdue", text))
        if context.tier1.used > BACKLOG_SHARE * context.tier1.bytes_max and self._waits():
            text = (
                f"tier 1 has {context.tier1.used} of {context.tier1.bytes_max} bytes in use and "
                "waits for uploads"
            )
            reasons.append(HealthReason("backlog", text))
        for stream in list(self._instances.values()):
            error = stream.last_error
            if error is not None and context.streams.get(stream.name) is stream:
                code = "disk_full" if is_disk_full(error) else "last_error"
                reasons.append(HealthReason(code, f"stream {stream.name}: {error}"))
        return reasons

    def _waits(self) -> bool:
        return self._store is not None and any(s.to_upload for s in self._instances.values())


def _is_poisoned(stream: StreamInstance) -> bool:
    return stream.writer is not None and stream.stands_still


def _replays(instances: list[StreamInstance]) -> dict[str, Any]:
    """What the opens of the streams replayed of their manifests."""
    reports = {stream.name: stream.manifest.replay for stream in instances}
    return {
        "manifest_replay_s": {name: report.duration_s for name, report in reports.items()},
        "manifest_replay_records": {name: report.records for name, report in reports.items()},
        "manifest_corruptions": {name: report.corruptions for name, report in reports.items()},
        "manifest_chunk_lag_s": {name: report.chunk_lag_s for name, report in reports.items()},
        "manifest_lag_bytes": {name: report.lag_bytes for name, report in reports.items()},
    }
