"""Configuration: frozen dataclasses whose fields state their range and their consequence."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aof2.config_values import convert, section
from aof2.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SEGMENT_AGE_S = 300.0


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Tier0Config:
    """The hot tier: memory-mapped segments."""

    bytes_max: int = GIB
    """Bytes that segments and landing rings of all streams may take on disk; at least 4 segments.
    Larger means more history at memory speed."""
    evict_to_fraction: float = 0.9
    """Sealed segments are dropped, least recently used first, once usage would pass this share of
    `bytes_max`; 0.1 to 1. Smaller keeps more room ready for bursts."""

    def __post_init__(self) -> None:
        _require(
            0.1 <= self.evict_to_fraction <= 1.0,
            f"tier0.evict_to_fraction is {self.evict_to_fraction}, it must lie in 0.1 to 1",
        )


@dataclass(frozen=True, kw_only=True)
class Tier1Config:
    """The warm tier: seekable zstd files on the local disk."""

    bytes_max: int = 16 * GIB
    """Bytes of compressed files of all streams; at least 2 segments. When it is full and there is
    no tier 2, appends end in `StorageFull`."""
    level: int = 1
    """zstd level, 1 to 19. Higher is smaller and slower; compression must keep up with ingest."""
    frame_bytes: int = 256 * KIB
    """Raw bytes per zstd frame, 4 KiB to 4 MiB in steps of 8. Smaller makes random reads of warm
    and cold records cheaper, larger compresses better."""

    def __post_init__(self) -> None:
        _require(1 <= self.level <= 19, f"tier1.level is {self.level}, it must lie in 1 to 19")
        _require(
            4 * KIB <= self.frame_bytes <= 4 * MIB and self.frame_bytes % 8 == 0,
            f"tier1.frame_bytes is {self.frame_bytes}: 4 KiB to 4 MiB in steps of 8",
        )


@dataclass(frozen=True, kw_only=True)
class Tier2Config:
    """The cold tier: an S3-compatible bucket, or a directory."""

    url: str
    """`s3://bucket/prefix`, a directory, or `memory://name` for tests."""
    endpoint_url: str | None = None
    """Address of an S3-compatible server; None for AWS."""
    region: str | None = None
    """Region name; None takes the AWS configuration's, or us-east-1."""
    access_key_id: str | None = field(default=None, repr=False)
    """Access key; None takes the ordinary AWS provider chain."""
    secret_access_key: str | None = field(default=None, repr=False)
    """Secret key; never shown in reprs, logs or errors."""
    addressing_style: str = "auto"
    """`"auto"`, `"path"` or `"virtual"`: how the bucket's name enters the address."""
    request_timeout_s: float = 30.0
    """Seconds that one request may take before it is tried again."""

    def __post_init__(self) -> None:
        _require(bool(self.url), "tier2.url is empty: give s3://bucket/prefix or a directory")
        _require(
            self.addressing_style in ("auto", "path", "virtual"),
            f"tier2.addressing_style is {self.addressing_style!r}: auto, path or virtual",
        )
        _require(self.request_timeout_s > 0, "tier2.request_timeout_s must be above 0")


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """When the active segment rolls over, and how large records may be."""

    segment_bytes_max: int = 64 * MIB
    """Largest file size, 64 KiB to 1 GiB in steps of 4 KiB. Larger means fewer objects and better
    compression, but a longer recovery scan and a later upload. Streams begin with 1 MiB and
    double."""
    segment_age_s_max: float | None = None
    """Age in seconds, above 0, at which a segment with records is sealed even if it is not full, so
    that they reach tier 2. None: 300 with a tier 2, never without; `inf`: never."""
    record_bytes_max: int | None = None
    """Largest payload of a record; None: 16 MiB, or what fits a segment where that is less."""
    batch_bytes_max: int | None = None
    """Largest sum of payloads of an atomic batch; None: 4 MiB, or what fits a segment."""

    def __post_init__(self) -> None:
        _require(
            64 * KIB <= self.segment_bytes_max <= GIB and self.segment_bytes_max % 4096 == 0,
            f"segment.segment_bytes_max is {self.segment_bytes_max}: 64 KiB to 1 GiB in steps "
            "of 4096",
        )
        age = self.segment_age_s_max
        _require(
            age is None or age > 0,
            f"segment.segment_age_s_max is {age}: above 0 (inf: never), or None",
        )


@dataclass(frozen=True, kw_only=True)
class FlushConfig:
    """When appended bytes are made durable."""

    ring_bytes: int | None = None
    """Size of the landing ring, a power of two from 64 KiB; None: by pace, 512 KiB to 8 MiB, and
    never more than an eighth of tier 0. Records larger than half of it make it grow."""
    write_out: str = "auto"
    """How the ring is written to segments. `"buffered"`: through the page cache, which fresh reads
    are then served from. `"direct"`: past it, where the file system can, which leaves
    the page cache to others. `"auto"`: direct while more than 1 GiB is appended in 10 s, decided
    anew for each segment."""
    interval_s: float | None = 0.05
    """A record is durable at the latest about so many seconds after its append, 0 to 3600; 0 syncs
    without a pause. None: not by time."""
    bytes: int | None = 8 * MIB
    """So many bytes that are not durable are synced without waiting for the interval, 4 KiB or
    more. None: not by size. With neither, only calls that ask for it flush."""
    strict: bool = False
    """Before a flush counts, a second sync states its end in the segment itself. Damage to the very
    last flush then is an error and not cut as unfinished; a durable append takes twice as long."""
    confirm_interval_s: float = 1.0
    """After so many idle seconds the durable position is stated in the segment itself, which lets a
    later recovery tell damage from an unfinished write."""
    unflushed_bytes_max: int = 256 * MIB
    """Appends wait once so many bytes are not durable yet."""

    def __post_init__(self) -> None:
        ring = self.ring_bytes
        _require(
            ring is None or (ring >= 64 * KIB and ring & (ring - 1) == 0),
            f"flush.ring_bytes is {ring}: a power of two from 64 KiB, or None",
        )
        _require(
            self.write_out in ("buffered", "direct", "auto"),
            f"flush.write_out is {self.write_out!r}: buffered, direct or auto",
        )
        _require(
            self.interval_s is None or 0 <= self.interval_s <= 3600,
            f"flush.interval_s is {self.interval_s}, it must lie in 0 to 3600, or be None",
        )
        _require(
            self.bytes is None or self.bytes >= 4 * KIB,
            f"flush.bytes is {self.bytes}: 4 KiB or more, or None",
        )
        _require(self.confirm_interval_s > 0, "flush.confirm_interval_s must be above 0")
        _require(self.unflushed_bytes_max >= MIB, "flush.unflushed_bytes_max must be 1 MiB or more")


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """The threads that compress, upload and evict."""

    workers: int = 4
    """Worker threads, 1 to 64, shared by all streams of a manager. From 2 on, appends and readers
    never wait for a compression or an upload; with 1, all work is done in turn."""
    queue_commands_max: int = 1024
    """Commands of one type that wait, run or pause, 16 to 1000000. More of them take memory;
    further ones are planned when some have ended, nothing is lost."""
    retry_attempts_max: int = 10
    """Failures of a command in a row, 1 to 1000, after which the log has an error instead of a
    warning and `health()` says degraded. It goes on being tried."""
    retry_delay_s: float = 0.5
    """Longest pause after the first failure of a command; it doubles up to 60 times as much. The
    pause itself is a random share of it. Also the first pause of tier 2's circuit breaker."""
    hydration_timeout_s: float = 30.0
    """Seconds, above 0, that a call waits for bytes of another tier before it ends in
    `HydrationTimeout`, however much time it has. The read itself goes on, and a later try finds
    what it brought. Larger waits out a slow tier 2; smaller tells of it sooner."""
    shutdown_timeout_s: float = 30.0
    """Seconds that `close` waits for work under way before it leaves the rest to the next open."""

    def __post_init__(self) -> None:
        _require(1 <= self.workers <= 64, f"coordinator.workers is {self.workers}: 1 to 64")
        _require(
            16 <= self.queue_commands_max <= 1000000,
            f"coordinator.queue_commands_max is {self.queue_commands_max}: 16 to 1000000",
        )
        _require(
            1 <= self.retry_attempts_max <= 1000,
            f"coordinator.retry_attempts_max is {self.retry_attempts_max}: 1 to 1000",
        )
        _require(self.retry_delay_s > 0, "coordinator.retry_delay_s must be above 0")
        _require(self.hydration_timeout_s > 0, "coordinator.hydration_timeout_s must be above 0")
        _require(self.shutdown_timeout_s > 0, "coordinator.shutdown_timeout_s must be above 0")


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """What is given up by itself, and how long what was given up is kept."""

    bytes_max: int | None = None
    """Bytes of sealed segments that a stream keeps, over all tiers and before compression; 1 or
    more. Once there are more, the oldest segments are given up for good, as `trim` does. None:
    all are kept."""
    delete_grace_s: float = 3600.0
    """Seconds between the published decision to delete an object and its deletion, so that a reader
    elsewhere that just learnt of the object still finds it."""

    def __post_init__(self) -> None:
        _require(
            self.bytes_max is None or self.bytes_max >= 1,
            f"retention.bytes_max is {self.bytes_max}: 1 or more, or None",
        )
        _require(self.delete_grace_s >= 0, "retention.delete_grace_s must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """The log of tier moves."""

    chunk_bytes: int = 256 * KIB
    """Size of one manifest file, 16 KiB to 1 MiB in steps of 4 KiB."""
    log_only: bool = True
    """True or False. False keeps a JSON copy of the index beside the log, `manifest/index.json`,
    written at each snapshot and at close: something to go back to, and to compare the log with."""
    snapshot_chunks: int = 8
    """A snapshot of the index is written after so many chunks, 1 to 1000. Fewer make opening
    quicker and cost more writes."""
    publish_interval_s: float = 1.0
    """The manifest goes to tier 2 at most this often, and at the latest so many seconds after an
    upload: `wait(..., "remote")` takes this long, and each time costs about three requests."""

    def __post_init__(self) -> None:
        _require(
            1 <= self.snapshot_chunks <= 1000,
            f"manifest.snapshot_chunks is {self.snapshot_chunks}: 1 to 1000",
        )
        _require(
            0.01 <= self.publish_interval_s <= 3600,
            f"manifest.publish_interval_s is {self.publish_interval_s}: 0.01 to 3600",
        )
        _require(
            16 * KIB <= self.chunk_bytes <= MIB and self.chunk_bytes % 4096 == 0,
            f"manifest.chunk_bytes is {self.chunk_bytes}: 16 KiB to 1 MiB in steps of 4096",
        )


@dataclass(frozen=True, kw_only=True)
class AofManagerConfig:
    """Everything that a manager can be told.

    Example:
        >>> AofManagerConfig(segment=SegmentConfig(segment_bytes_max=1024 * 1024)).tier0.bytes_max
        1073741824
    """

    tier0: Tier0Config = field(default_factory=Tier0Config)
    """The hot tier."""
    tier1: Tier1Config = field(default_factory=Tier1Config)
    """The warm tier."""
    tier2: Tier2Config | None = None
    """The cold tier; None keeps everything local."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    """Segments and record sizes."""
    flush: FlushConfig = field(default_factory=FlushConfig)
    """Durability."""
    coordinator: CoordinatorConfig = field(default_factory=CoordinatorConfig)
    """Background work."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """Deletion."""
    manifest: ManifestConfig = field(default_factory=ManifestConfig)
    """The log of tier moves."""
    wait_timeout_s: float | None = 60.0
    """Seconds that blocking calls wait when they are not told; None waits for ever."""

    def __post_init__(self) -> None:
        segment = self.segment.segment_bytes_max
        _require(
            self.tier0.bytes_max >= 4 * segment,
            f"tier0.bytes_max is {self.tier0.bytes_max}: at least 4 segments of {segment} "
            "bytes are "
            "needed (active, spare, one being sealed, the landing ring)",
        )
        _require(
            self.tier1.bytes_max >= 2 * segment,
            f"tier1.bytes_max is {self.tier1.bytes_max}: at least 2 segments of {segment} bytes",
        )
        _require(
            self.wait_timeout_s is None or self.wait_timeout_s >= 0,
            f"wait_timeout_s is {self.wait_timeout_s}: 0 or more, or None",
        )

    @property
    def segment_age_s(self) -> float | None:
        """The age in seconds at which segments are sealed, None for never."""
        age = self.segment.segment_age_s_max
        if age is None:
            return None if self.tier2 is None else SEGMENT_AGE_S
        return None if age == float("inf") else age

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> AofManagerConfig:
        """Make a configuration from nested tables, e.g. `{"tier0": {"bytes_max": 1 << 30}}`.

        Raises:
            ConfigError: an unknown table or field, a value of the wrong type or out of range.
        """
        sections: dict[str, Any] = {}
        types = {
            "tier0": Tier0Config,
            "tier1": Tier1Config,
            "tier2": Tier2Config,
            "segment": SegmentConfig,
            "flush": FlushConfig,
            "coordinator": CoordinatorConfig,
            "retention": RetentionConfig,
            "manifest": ManifestConfig,
        }
        for name, value in values.items():
            if name == "wait_timeout_s":
                sections[name] = convert(name, "float | None", value)
            elif name not in types or not isinstance(value, Mapping):
                raise ConfigError(f"unknown configuration table {name!r}: {', '.join(types)}")
            else:
                sections[name] = section(types[name], name, value)
        return cls(**sections)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> AofManagerConfig:
        """Read a configuration from a TOML file whose tables are the fields of this class.

        Raises:
            ConfigError: the file cannot be read or parsed, or says something wrong.
        """
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read the configuration: {error}", path=str(path)) from error
        return cls.from_mapping(values)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> AofManagerConfig:
        """Read `AOF2_<TABLE>_<FIELD>` variables, e.g. `AOF2_TIER0_BYTES_MAX=4294967296`.

        Args:
            environ: The variables; None takes the process's.
        """
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        tables = [name for name in cls.__dataclass_fields__ if name != "wait_timeout_s"]
        for name, text in sorted(source.items()):
            if not name.startswith("AOF2_"):
                continue
            key = name[5:].lower()
            table = next((t for t in tables if key.startswith(f"{t}_")), None)
            if table is not None:
                values.setdefault(table, {})[key[len(table) + 1 :]] = text
            elif key == "wait_timeout_s":
                values[key] = text
        return cls.from_mapping(values)
