"""Commands: what background work consists of. Frozen, comparable, safe to run twice."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from aof2.seals import SealAck
from aof2.types import Tier

Area = Literal["tiered", "tier0", "tier1", "tier2"]
"""Which logger tells of a command: `aof2.<area>`."""


class Lane(enum.IntEnum):
    """Who waits for a command; lanes do not stand in each other's way."""

    URGENT = 0
    """An append may be waiting: milliseconds each."""
    READ = 1
    """A reader may be waiting; never behind uploads."""
    BACKGROUND = 2
    """Nobody waits for it but the budgets."""


@dataclass(frozen=True, slots=True)
class Command:
    """One unit of background work for one stream.

    Attributes of each class:
        lane: Which workers take it.
        priority: Within the lane, lower runs first.
        deadline_s: Failing for longer, or running for longer, is reported as an error. The command
            goes on being tried: nothing is dropped.
        per_stream: Of one stream only one runs at a time, whatever its other fields; what a second
            one would have done is planned again when the first has ended.
        needs_tier2: Not run while the circuit breaker of tier 2 is open.
        area: Last part of the logger's name.
    """

    stream: str

    lane: ClassVar[Lane] = Lane.BACKGROUND
    priority: ClassVar[int] = 0
    deadline_s: ClassVar[float] = 600.0
    per_stream: ClassVar[bool] = False
    needs_tier2: ClassVar[bool] = False
    area: ClassVar[Area] = "tiered"

    @property
    def identity(self) -> Hashable:
        """What makes two commands the same work."""
        return (type(self), self.stream) if self.per_stream else self

    def acknowledge(self) -> None:
        """Tell whoever asked for it that it has ended well."""

    def refuse(self, error: BaseException) -> None:
        """Tell whoever asked for it that a run has failed; it runs again."""


@dataclass(frozen=True, slots=True)
class Prepare(Command):
    """Make the next segment of a stream ready, so that a rollover does not wait for the disk.

    Enqueued by: the planner, once the active segment is half full, or an append found no room.
    Effect:      the writer has a spare that takes at least `frame_bytes` (none where that is 0),
                 and room is claimed for a landing ring whose file has `ring_bytes`: both or none.
    Idempotent:  a spare that is large enough is kept; a smaller one is replaced.
    """

    frame_bytes: int
    segment_bytes: int
    ring_bytes: int = 0

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 0
    deadline_s: ClassVar[float] = 10.0
    per_stream: ClassVar[bool] = True
    area: ClassVar[Area] = "tier0"


@dataclass(frozen=True, slots=True)
class Rollover(Command):
    """Seal a segment that got its END, or the active one once it has reached its age.

    Enqueued by: the planner, for the oldest ended segment of a stream.
    Effect:      index, footer, pointer and `SealSegment` are durable; then `ack` is resolved, which
    ends the waits for this seal. A failure fails it until the next success.
    Idempotent:  a sealed segment is left as it is. Two with different acks are the same work.
    """

    segment: int
    ack: SealAck | None = field(default=None, compare=False, repr=False)

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 1
    deadline_s: ClassVar[float] = 30.0
    per_stream: ClassVar[bool] = True
    area: ClassVar[Area] = "tier0"

    def acknowledge(self) -> None:
        """The seal is durable."""
        if self.ack is not None:
            self.ack.resolve()

    def refuse(self, error: BaseException) -> None:
        """It could not be made; those who wait get `RolloverFailed`."""
        if self.ack is not None:
            self.ack.fail(error)


@dataclass(frozen=True, slots=True)
class ReturnSpare(Command):
    """Take a stream's spare segment away.

    Enqueued by: the planner, while an append of another stream waits for room in tier 0.
    Effect:      the file is gone; the stream gets another one when it needs it.
    Idempotent:  without a spare nothing happens.
    """

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 2
    deadline_s: ClassVar[float] = 10.0
    per_stream: ClassVar[bool] = True
    area: ClassVar[Area] = "tier0"


@dataclass(frozen=True, slots=True)
class Relinquish(Command):
    """Have a stream that was not appended to for longest give back what it holds in tier 0.

    Enqueued by: the planner, while an append waits for room and nothing else can be freed.
    Effect:      its active segment has an END (its seal is planned next) and its landing ring is
    gone.
                 Both are made again at its next append.
    Idempotent:  what is gone is left alone.
    """

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 3
    deadline_s: ClassVar[float] = 30.0
    per_stream: ClassVar[bool] = True
    area: ClassVar[Area] = "tier0"


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """Give a sealed segment a warm copy.

    Enqueued by: the planner, once a segment is sealed and has none.
    Effect:      residency gains WARM. The hot copy stays; freeing it is `Evict`'s job.
    Idempotent:  run twice, or after a crash half way, it ends the same.
    """

    segment: int

    priority: ClassVar[int] = 0
    area: ClassVar[Area] = "tier1"


@dataclass(frozen=True, slots=True)
class CompressToTier2(Command):
    """Give a sealed segment a cold copy without a warm one.

    Enqueued by: the planner, where the segment's compressed form has no room in tier 1, which
    cannot shrink, or on the disk, which is full.
    Effect:      residency gains COLD. The hot copy stays; freeing it is `Evict`'s job.
    Idempotent:  the same bytes are made again, under the recorded key; other bytes (of another
    `tier1.level`, say) get a key of their own.
    """

    segment: int

    # After the uploads that make room in tier 1 for all others.
    priority: ClassVar[int] = 2
    deadline_s: ClassVar[float] = 3600.0
    needs_tier2: ClassVar[bool] = True
    area: ClassVar[Area] = "tier2"


@dataclass(frozen=True, slots=True)
class Upload(Command):
    """Give a segment a cold copy.

    Enqueued by: the planner, once a segment has a warm copy and there is a tier 2.
    Effect:      residency gains COLD.
    Idempotent:  the key is recorded before the first attempt and used again; the store creates
    once.
    """

    segment: int

    priority: ClassVar[int] = 1
    deadline_s: ClassVar[float] = 3600.0
    needs_tier2: ClassVar[bool] = True
    area: ClassVar[Area] = "tier2"


@dataclass(frozen=True, slots=True)
class Evict(Command):
    """Drop a local copy that another tier keeps.

    Enqueued by: the planner, under pressure on the tier's budget, least recently used first.
    Effect:      residency loses the tier. Bytes that readers hold stay readable for them.
    Idempotent:  a copy that is gone, or that became the only one, is left alone.
    """

    segment: int
    tier: Tier

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 2
    deadline_s: ClassVar[float] = 30.0


@dataclass(frozen=True, slots=True)
class Hydrate(Command):
    """Bring a sealed segment back to the hot tier, from its warm file or its object.

    Enqueued by: the planner, for a segment that reads visit again and again, or that somebody asked
    for, once tier 0 has room for it; also when it never will, so that they are told.
    Effect:      residency gains HOT. A failure is told to whoever waits, and is not tried again
    before reads ask again.
    Idempotent:  a segment that is hot is left alone; what was left half done has no name.
    """

    segment: int

    lane: ClassVar[Lane] = Lane.READ
    priority: ClassVar[int] = 1
    area: ClassVar[Area] = "tier0"


@dataclass(frozen=True, slots=True)
class SetAside(Command):
    """Move a damaged local copy into quarantine.

    Enqueued by: the planner, after a read or a hydration found the damage.
    Effect:      residency loses the tier. Where only tier 2 has the segment then, a `Fetch`
    follows.
    Idempotent:  a file that is gone is forgotten; one without another whole copy stays.
    """

    segment: int
    tier: Tier

    lane: ClassVar[Lane] = Lane.READ
    priority: ClassVar[int] = 0
    deadline_s: ClassVar[float] = 30.0


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """Bring an object back as a warm file.

    Enqueued by: the planner, for a segment whose warm file was damaged or is missing, at open too,
    while no hot copy is there.
    Effect:      residency gains WARM. A damaged object is given up until the next open.
    Idempotent:  a segment with a local copy is left alone; a file is verified before it is named.
    """

    segment: int

    lane: ClassVar[Lane] = Lane.READ
    priority: ClassVar[int] = 2
    needs_tier2: ClassVar[bool] = True
    area: ClassVar[Area] = "tier1"


@dataclass(frozen=True, slots=True)
class Publish(Command):
    """Bring the manifest to tier 2; the first one of an open claims the stream.

    Enqueued by: the planner, once the manifest says more than tier 2 has of it, at most one per
    `manifest.publish_interval_s`.
    Effect:      the `remote` watermark moves; or the stream is fenced.
    Idempotent:  what is published has the same bytes when it is published again.
    """

    # Before uploads, so that what was uploaded counts soon, however many wait.
    priority: ClassVar[int] = -1
    deadline_s: ClassVar[float] = 3600.0
    per_stream: ClassVar[bool] = True
    needs_tier2: ClassVar[bool] = True
    area: ClassVar[Area] = "tier2"


@dataclass(frozen=True, slots=True)
class Snapshot(Command):
    """Write the snapshot of the manifest that is due.

    Enqueued by: the planner, once `manifest.snapshot_chunks` chunks were sealed since the last.
    Effect:      the next open begins there; chunks that two snapshots cover are removed.
    Idempotent:  without one due it does nothing; one that failed stays due.
    """

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 3
    per_stream: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Retain(Command):
    """Give up the beginning of a stream that has more than it keeps.

    Enqueued by: the planner, while sealed segments take more than `retention.bytes_max`.
    Effect:      `Trimmed` is durable, and nothing below `before` can be read any more; evictions
    and deletions follow.
    Idempotent:  what is given up already stays so.
    """

    before: int

    lane: ClassVar[Lane] = Lane.URGENT
    priority: ClassVar[int] = 3
    deadline_s: ClassVar[float] = 30.0
    per_stream: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """Delete the object of a segment that was trimmed.

    Enqueued by: the planner, once the segment lies wholly below what was trimmed.
    Effect:      the decision is recorded; the object goes once that is published and
    `retention.delete_grace_s` have passed.
    Idempotent:  each step is recorded, and deleting what is gone succeeds.
    """

    segment: int

    priority: ClassVar[int] = 3
    deadline_s: ClassVar[float] = 3600.0
    needs_tier2: ClassVar[bool] = True
    area: ClassVar[Area] = "tier2"
