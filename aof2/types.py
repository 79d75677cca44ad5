"""Plain values that every layer shares: tiers, residency, positions in a stream's history."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Tier(enum.IntEnum):
    """Where a copy of a segment lives."""

    HOT = 0
    """A mapped `.seg` file below `segments/`."""
    WARM = 1
    """A seekable zstd file below `warm/`."""
    COLD = 2
    """An object in the tier 2 store."""


class SegmentState(enum.Enum):
    """What the coordinator has still to do for a segment.

    ```
    ACTIVE -> SEALED -> STAGED or RESIDENT -> UPLOADED     (UPLOADED ends it, given a tier 2)
                 any but ACTIVE -> NEEDS_RECOVERY          (a local copy is missing or damaged)
    ```
    """

    ACTIVE = "active"
    """Being written; no other tier has it."""
    SEALED = "sealed"
    """Immutable, only hot so far."""
    RESIDENT = "resident"
    """A usable hot copy beside at least one other tier's."""
    STAGED = "staged"
    """A verified warm copy waits for its upload, or stays for good without a tier 2."""
    UPLOADED = "uploaded"
    """The verified object is in tier 2; a hot copy no longer exists."""
    NEEDS_RECOVERY = "needs_recovery"
    """No local copy is usable and another tier must serve it."""


@dataclass(frozen=True)
class SegmentInfo:
    """One row of the residency map that `Aof.segments()` returns.

    Attributes:
        segment_id: Ordinal of the segment in its stream, from 1.
        base_offset: Offset of its first record.
        end_offset: Offset just past its last record; half-open.
        bytes: Size of the uncompressed segment; for the active one the bytes written so far.
        sealed: True once it is immutable.
        residency: The tiers that hold a usable copy.
        state: What is still to be done for it.
        key: Object key in tier 2, None before the upload.
    """

    segment_id: int
    base_offset: int
    end_offset: int
    bytes: int
    sealed: bool
    residency: frozenset[Tier]
    state: SegmentState
    key: str | None = None


@dataclass(frozen=True)
class Watermarks:
    """Offsets below which something holds for every record; `appended` is the largest of the three.

    Attributes:
        appended: Below it records are readable in this process and survive its death.
        local: Below it records survive power loss.
        remote: Below it records are verified objects in tier 2.
    """

    appended: int
    local: int
    remote: int


@dataclass(frozen=True)
class Gap:
    """Records that a reader with `on_corruption="skip"` left out: `[first, next)`, and why."""

    first: int
    next: int
    reason: str


@dataclass(frozen=True)
class ReplayReport:
    """What opening a manifest replayed. Its lags are 0 after an open that found all in order.

    Attributes:
        chunks: Chunks that were replayed: those behind the newest good snapshot.
        records: Records in them.
        bytes: Bytes of these records.
        duration_s: Seconds that it took.
        snapshot: Number of the snapshot that it began with, None without one.
        truncated_bytes: Bytes of an unfinished last write that were cut.
        corruptions: Damaged snapshots that were passed over.
        chunk_lag_s: After an unclean end: seconds between the oldest and the newest record that no
            snapshot covered.
        lag_bytes: After an unclean end: bytes of records that no snapshot covered.
    """

    chunks: int = 0
    records: int = 0
    bytes: int = 0
    duration_s: float = 0.0
    snapshot: int | None = None
    truncated_bytes: int = 0
    corruptions: int = 0
    chunk_lag_s: float = 0.0
    lag_bytes: int = 0


@dataclass(frozen=True)
class RecoveryReport:
    """What opening a stream found and did.

    Attributes:
        clean: True after an orderly close: nothing had to be cut or rewritten.
        records: Records in the stream after recovery, over all tiers.
        truncated_bytes: Bytes of unfinished last writes that were cut (kept in `quarantine`).
        quarantine: Names of files below `quarantine/` that this open wrote.
        takeover: True when the stream's history was taken from tier 2 instead of the local root.
        duration_s: Seconds that the open took.
        replay: What was replayed of the manifest.
    """

    clean: bool
    records: int
    truncated_bytes: int = 0
    quarantine: tuple[str, ...] = field(default=())
    takeover: bool = False
    duration_s: float = 0.0
    replay: ReplayReport = field(default_factory=ReplayReport)


@dataclass(frozen=True)
class StreamIdentity:
    """Who a stream is: what `stream.json` says.

    Attributes:
        name: The stream's name as the caller gave it.
        directory: Name of its directory below the root, `<name>-<8 hex>`.
        uuid: 16 bytes, made once when the stream was created.
        root_id: 16 bytes, the root that the local copies belong to.
        epoch: Writer epoch that new segments carry.
    """

    name: str
    directory: str
    uuid: bytes
    root_id: bytes
    epoch: int = 1
