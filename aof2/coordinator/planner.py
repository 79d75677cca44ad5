"""The planner: a pure function from what is there to what should be done next."""

from __future__ import annotations

from dataclasses import dataclass

from aof2.coordinator.commands import (
    Command,
    Compress,
    Delete,
    Evict,
    Prepare,
    Publish,
    Rollover,
    Snapshot,
    Upload,
)
from aof2.types import Tier


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A local copy of a sealed segment: its size in bytes, and whether another tier has a good
    one."""

    segment: int
    bytes: int
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class StreamView:
    """What the planner needs to know of a stream.

    Attributes:
        name: The stream.
        ended: Segments with an END that are not sealed, oldest first.
        aged: The active segment, if it has reached its age; 0 if not.
        spare_frame_bytes: Largest frame that a wanted spare must take; 0 when no spare is wanted.
        spare_bytes: Size of the file that would be prepared.
        compress: `(segment, bytes to admit)` of sealed segments without another copy.
        upload: Segments with a warm and without a cold copy.
        hot: Sealed hot segments, least recently used first.
        warm: Warm segments, oldest first.
        trimmed: Local copies of segments that lie wholly below what was trimmed.
        publish: True when the manifest is to go to tier 2 now.
        snapshot: True when a snapshot of the manifest is due.
        delete: Segments whose object's deletion can take its next step.
    """

    name: str
    ended: tuple[int, ...] = ()
    aged: int = 0
    spare_frame_bytes: int = 0
    spare_bytes: int = 0
    compress: tuple[tuple[int, int], ...] = ()
    upload: tuple[int, ...] = ()
    hot: tuple[SegmentView, ...] = ()
    warm: tuple[SegmentView, ...] = ()
    trimmed: tuple[tuple[int, Tier], ...] = ()
    publish: bool = False
    snapshot: bool = False
    delete: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What the planner needs to know of a manager; all sizes in bytes."""

    streams: tuple[StreamView, ...]
    tier0_used: int
    tier0_max: int
    tier0_target: int
    tier1_used: int
    tier1_max: int


def plan(view: View) -> list[Command]:
    """What to do now.

    Room that a wanted spare or a compression needs and that the budget does not have is made by
    evicting copies that another tier keeps; nothing else is ever evicted. Commands that are under
    way are planned again and again, the queue knows them.

    Example:
        >>> plan(View((StreamView("a", ended=(3, 4)),), 0, 10, 9, 0, 10))
        [Rollover(stream='a', segment=3)]
    """
    commands: list[Command] = []
    room0 = view.tier0_max - view.tier0_used
    room1 = view.tier1_max - view.tier1_used
    missing1 = 0
    wanted0 = 0
    for stream in view.streams:
        # Seals are in order: the next one is planned once this one is done.
        waiting = stream.ended or ((stream.aged,) if stream.aged else ())
        commands += [Rollover(stream.name, segment) for segment in waiting[:1]]
        if stream.spare_frame_bytes:
            wanted0 += stream.spare_bytes
            if stream.spare_bytes <= room0:
                room0 -= stream.spare_bytes
                commands.append(
                    Prepare(stream.name, stream.spare_frame_bytes, stream.spare_bytes)
                )
        for segment, bound in stream.compress:
            if bound <= room1:
                room1 -= bound
                commands.append(Compress(stream.name, segment))
            else:
                missing1 += bound - max(room1, 0)
                room1 = 0
        commands += [Upload(stream.name, segment) for segment in stream.upload]
        commands += [Evict(stream.name, segment, tier) for segment, tier in stream.trimmed]
        commands += [Publish(stream.name)] if stream.publish else []
        commands += [Snapshot(stream.name)] if stream.snapshot else []
        commands += [Delete(stream.name, segment) for segment in stream.delete]
    # Usage may touch the target, and what is wanted must fit the whole budget.
    missing0 = max(view.tier0_used - view.tier0_target, wanted0 + view.tier0_used - view.tier0_max)
    commands += _evictions(view, Tier.HOT, missing0)
    commands += _evictions(view, Tier.WARM, max(missing1, view.tier1_used - view.tier1_max))
    return commands


def _evictions(view: View, tier: Tier, missing: int) -> list[Command]:
    """Evictions in the order of each stream's list, one stream after the other, until enough is
    free."""
    out: list[Command] = []
    queues = [
        [copy for copy in (stream.hot if tier is Tier.HOT else stream.warm) if copy.elsewhere]
        for stream in view.streams
    ]
    names = [stream.name for stream in view.streams]
    while missing > 0 and any(queues):
        for name, queue in zip(names, queues, strict=True):
            if queue and missing > 0:
                copy = queue.pop(0)
                out.append(Evict(name, copy.segment, tier))
                missing -= copy.bytes
    return out
