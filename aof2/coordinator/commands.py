"""Commands: what background work consists of. Frozen, comparable, safe to run twice."""

from __future__ import annotations

from dataclasses import dataclass

from aof2.types import Tier


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the next segment of a stream ready, so that a rollover does not wait for the disk.

    Enqueued by: the planner, once the active segment is half full, or an append found no room.
    Effect:      the writer has a spare that takes at least `frame_bytes`.
    Idempotent:  a spare that is large enough is kept; a smaller one is replaced.
    """

    stream: str
    frame_bytes: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class Rollover:
    """Seal a segment that got its END.

    Enqueued by: the planner, for the oldest ended segment of a stream.
    Effect:      index, footer, pointer and `SealSegment` are durable; whoever waits for the seal
    wakes.
    Idempotent:  a sealed segment is left as it is.
    """

    stream: str
    segment: int


@dataclass(frozen=True, slots=True)
class Compress:
    """Give a sealed segment a warm copy.

    Enqueued by: the planner, once a segment is sealed and has none.
    Effect:      residency gains WARM. The hot copy stays; freeing it is `Evict`'s job.
    Idempotent:  run twice, or after a crash half way, it ends the same.
    """

    stream: str
    segment: int


@dataclass(frozen=True, slots=True)
class Upload:
    """Give a segment a cold copy.

    Enqueued by: the planner, once a segment has a warm copy and there is a tier 2.
    Effect:      residency gains COLD.
    Idempotent:  the key is recorded before the first attempt and used again; the store creates
    once.
    """

    stream: str
    segment: int


@dataclass(frozen=True, slots=True)
class Evict:
    """Drop a local copy that another tier keeps.

    Enqueued by: the planner, under pressure on the tier's budget, least recently used first.
    Effect:      residency loses the tier. Bytes that readers hold stay readable for them.
    Idempotent:  a copy that is gone, or that became the only one, is left alone.
    """

    stream: str
    segment: int
    tier: Tier


Command = Prepare | Rollover | Compress | Upload | Evict
