"""What the planner sees: a snapshot of streams and budgets, cut to what one plan can use."""

from __future__ import annotations

from dataclasses import dataclass, field

from aof2.seals import Seals
from aof2.types import Tier

EvictionCandidate = tuple[str, int, int]
"""`(stream, segment, bytes)` of a local copy that another tier has too."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A segment that is wanted in the hot tier.

    Attributes:
        stream, segment: Which one.
        bytes: What it takes there, and on its way there.
        since_s: When it was asked for.
        colder: Copies that may go for it: those that were used before it was.
    """

    stream: str
    segment: int
    bytes: int
    since_s: float = 0.0
    colder: tuple[EvictionCandidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """What a stream holds in tier 0 beside sealed segments, and could give back.

    Attributes:
        last_use_ns: When it was last appended to.
        spare_bytes: Its spare segment's file.
        active_bytes: Its active segment's file; all of that comes back once it is in another tier.
        slack_bytes: So much of that comes back by the seal alone.
        ring_bytes: Its landing ring.
    """

    last_use_ns: int = 0
    spare_bytes: int = 0
    active_bytes: int = 0
    slack_bytes: int = 0
    ring_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StreamView:
    """What the planner needs to know of a stream.

    Attributes:
        name: The stream.
        ended: Segments with an END that are not sealed, oldest first.
        aged: The active segment, if it has reached its age; 0 if not.
        ended_bytes: What their files take.
        spare_frame_bytes: Largest frame that a wanted spare must take; 0 when no spare is wanted.
        spare_bytes: Size of the file that would be prepared.
        ring_bytes: Size of the landing ring's file that is wanted; or 0.
        need_bytes: What it takes to append to it: a segment and a ring, whether it has them or not.
        blocked_since_s: Since when an append waits for what is wanted; 0: none does.
        compress: `(segment, bytes to claim, bytes of the hot file)` of those without another copy.
        upload: Segments with a warm and without a cold copy, whose upload is not under way.
        ours: Objects may be stored: the stream has a tier 2 and is claimed.
        trimmed: Local copies of segments that lie wholly below what was trimmed.
        retain_from: Everything below this offset is more than the stream keeps; 0: nothing is.
        publish: True when the manifest is to go to tier 2 now.
        snapshot: True when a snapshot of the manifest is due.
        delete: Segments whose object's deletion can take its next step.
        holding: What it could give back; None while another stream must not take it.
        hydrate: Segments that are wanted in the hot tier.
        set_aside: Damaged local copies.
        fetch: `(segment, bytes)` of those whose warm file is to come from tier 2.
        granted: It was given room that it has not used yet.
        seals: Where those who wait for a seal are told of it.
    """

    name: str
    ended: tuple[int, ...] = ()
    aged: int = 0
    ended_bytes: int = 0
    spare_frame_bytes: int = 0
    spare_bytes: int = 0
    ring_bytes: int = 0
    need_bytes: int = 0
    blocked_since_s: float = 0.0
    compress: tuple[tuple[int, int, int], ...] = ()
    upload: tuple[int, ...] = ()
    ours: bool = False
    trimmed: tuple[tuple[int, Tier], ...] = ()
    retain_from: int = 0
    publish: bool = False
    snapshot: bool = False
    delete: tuple[int, ...] = ()
    holding: Holding | None = None
    granted: bool = False
    hydrate: tuple[Wish, ...] = ()
    set_aside: tuple[tuple[int, Tier], ...] = ()
    fetch: tuple[tuple[int, int], ...] = ()
    seals: Seals | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class View:
    """What the planner sees: streams, what the budgets have left, which copies may go.

    Attributes:
        streams: All streams.
        tier0_used, tier0_max: Usage and budget of tier 0.
        tier0_target: Usage above which copies are evicted ahead of need.
        tier1_used, tier1_max: The same of tier 1.
        evict0, evict1: Copies of each tier that may be dropped, the first first; not all of them.
        evict0_bytes: All of tier 0's together.
        tier0_passing, tier1_passing: Bytes that somebody claimed and keeps or gives back soon.
        tier2: Whether there is a tier 2.
        uploading: Tier 2 takes uploads, which tier 1 can shrink by, and there are some.
        disk_full: A command failed for want of room on the file system, and has not succeeded
            since.
    """

    streams: tuple[StreamView, ...]
    tier0_used: int
    tier0_max: int
    tier0_target: int
    tier1_used: int
    tier1_max: int
    evict0: tuple[EvictionCandidate, ...] = ()
    evict1: tuple[EvictionCandidate, ...] = ()
    evict0_bytes: int = 0
    tier0_passing: int = 0
    tier1_passing: int = 0
    tier2: bool = False
    uploading: bool = False
    disk_full: bool = False
