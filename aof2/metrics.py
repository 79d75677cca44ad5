"""`Metrics` and `Health`: one frozen snapshot of what a manager does, and what it is worth."""

# ruff: noqa: RUF009 (the two helpers make fields, as `dataclasses.field` does)
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aof2.meters import Histogram

Kind = Literal["gauge", "counter", "histogram"]


def _one(name: str, kind: Kind, unit: str) -> Any:
    """A metric without labels."""
    default: Any = Histogram() if kind == "histogram" else 0
    return field(default=default, metadata={"name": name, "kind": kind, "unit": unit, "label": ""})


def _by(label: str, name: str, kind: Kind, unit: str) -> Any:
    """A metric with one label, whose values are the keys of a dictionary."""
    told = {"name": name, "kind": kind, "unit": unit, "label": label}
    return field(default_factory=dict, metadata=told)


class Sample(NamedTuple):
    """One number, or one histogram, of a snapshot, as an exporter wants it.

    Attributes:
        name: Of the metric, as in `docs/metrics.md`.
        kind: `"gauge"`, `"counter"` or `"histogram"`.
        labels: Name and value of its label; empty for a metric without one.
        value: The number, or the `Histogram`.
    """

    name: str
    kind: Kind
    labels: dict[str, str]
    value: float | Histogram


@dataclass(frozen=True)
class Metrics:
    """A snapshot of a manager's counters; it pickles. `docs/metrics.md` says what each is and when
    to worry.

    Counters only go up while the manager lives. Dictionaries are keyed by the value of the label
    that their metric has. A field without a label is a number or a `Histogram`.
    """

    # Background work.
    queue_depth: dict[str, int] = _by("lane", "aof_queue_depth", "gauge", "commands")
    queue_age_s: dict[str, float] = _by("lane", "aof_queue_oldest_age_seconds", "gauge", "seconds")
    commands_overdue: int = _one("aof_commands_overdue", "gauge", "commands")
    commands_done: dict[str, int] = _by("command", "aof_commands_done_total", "counter", "commands")
    command_failures: dict[str, int] = _by(
        "command", "aof_command_failures_total", "counter", "failures"
    )
    command_retries: dict[str, int] = _by(
        "command", "aof_command_retries_total", "counter", "retries"
    )
    command_duration: dict[str, Histogram] = _by(
        "command", "aof_command_duration_seconds", "histogram", "seconds"
    )
    worker_deaths: int = _one("aof_worker_deaths_total", "counter", "deaths")
    # Appends and durability.
    would_block: dict[str, int] = _by("kind", "aof_would_block_total", "counter", "calls")
    admission_wait: Histogram = _one("aof_admission_wait_seconds", "histogram", "seconds")
    fsync_duration: Histogram = _one("aof_fsync_duration_seconds", "histogram", "seconds")
    durability_lost: int = _one("aof_durability_lost_streams", "gauge", "streams")
    next_offset: dict[str, int] = _by("stream", "aof_next_offset", "gauge", "records")
    local_lag: dict[str, int] = _by("stream", "aof_local_lag_records", "gauge", "records")
    remote_lag: dict[str, int] = _by("stream", "aof_remote_lag_records", "gauge", "records")
    # Where segments are.
    segments: dict[str, int] = _by("tier", "aof_segments", "gauge", "segments")
    segment_bytes: dict[str, int] = _by("tier", "aof_segment_bytes", "gauge", "bytes")
    tier_bytes_used: dict[str, int] = _by("tier", "aof_tier_used_bytes", "gauge", "bytes")
    tier_bytes_max: dict[str, int] = _by("tier", "aof_tier_budget_bytes", "gauge", "bytes")
    leased_bytes: dict[str, int] = _by("tier", "aof_leased_bytes", "gauge", "bytes")
    compress_backlog: int = _one("aof_compress_backlog_segments", "gauge", "segments")
    upload_backlog: int = _one("aof_upload_backlog_segments", "gauge", "segments")
    hydrations_pending: int = _one("aof_hydrations_pending_segments", "gauge", "segments")
    fetches_pending: int = _one("aof_fetches_pending_segments", "gauge", "segments")
    hydration: Histogram = _one("aof_hydration_duration_seconds", "histogram", "seconds")
    hydration_failures: int = _one("aof_hydration_failures_total", "counter", "failures")
    corruption: dict[str, int] = _by("code", "aof_corruption_total", "counter", "errors")
    reads_healed: dict[str, int] = _by("tier", "aof_reads_healed_total", "counter", "reads")
    records_skipped: int = _one("aof_records_skipped_total", "counter", "records")
    # Tier 2.
    tier2_requests: dict[str, int] = _by(
        "operation", "aof_tier2_requests_total", "counter", "requests"
    )
    tier2_errors: dict[str, int] = _by("operation", "aof_tier2_errors_total", "counter", "errors")
    tier2_bytes: dict[str, int] = _by("operation", "aof_tier2_bytes_total", "counter", "bytes")
    breaker_state: int = _one("aof_tier2_breaker_state", "gauge", "0 to 2")
    breaker_openings: int = _one("aof_tier2_breaker_openings_total", "counter", "openings")
    # The manifest.
    manifest_chunks: dict[str, int] = _by("stream", "aof_manifest_chunks", "gauge", "chunks")
    manifest_replay_s: dict[str, float] = _by(
        "stream", "aof_manifest_replay_duration_seconds", "gauge", "seconds"
    )
    manifest_replay_records: dict[str, int] = _by(
        "stream", "aof_manifest_replay_records", "gauge", "records"
    )
    manifest_corruptions: dict[str, int] = _by(
        "stream", "aof_manifest_replay_corruptions", "gauge", "snapshots"
    )
    manifest_chunk_lag_s: dict[str, float] = _by(
        "stream", "aof_manifest_replay_chunk_lag_seconds", "gauge", "seconds"
    )
    manifest_lag_bytes: dict[str, int] = _by(
        "stream", "aof_manifest_replay_journal_lag_bytes", "gauge", "bytes"
    )

    def samples(self) -> Iterator[Sample]:
        """Every number of the snapshot, in a fixed order.

        Example:
            >>> [s.labels for s in Metrics(queue_depth={"read": 2}).samples()][0]
            {'lane': 'read'}
        """
        for told in dataclasses.fields(self):
            value, meta = getattr(self, told.name), told.metadata
            if not meta["label"]:
                yield Sample(meta["name"], meta["kind"], {}, value)
                continue
            for key, one in value.items():
                yield Sample(meta["name"], meta["kind"], {meta["label"]: key}, one)


@dataclass(frozen=True)
class HealthReason:
    """Why a manager is not well.

    Attributes:
        code: Stable: `breaker_open`, `overdue`, `backlog`, `disk_full`, `last_error`, `fenced`,
            `durability_lost`, `coordinator_died`.
        text: For people; names the stream and the newest error, where there is one.
    """

    code: str
    text: str


@dataclass(frozen=True)
class Health:
    """Whether a manager does what it should; `docs/metrics.md` says what to do.

    Attributes:
        state: `"ok"`; `"degraded"`: it works, but something fails and is tried again; `"failed"`:
            something has stopped for good, and the root must be opened again.
        reasons: What is wrong, the worst first; empty when it is well.

    Example:
        >>> Health("ok").state
        'ok'
    """

    state: Literal["ok", "degraded", "failed"]
    reasons: tuple[HealthReason, ...] = ()
