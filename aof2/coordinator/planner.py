"""The planner: a pure function from what is there to what should be done next.

Under pressure on tier 0, in this order: while an append waits, spares of other streams are given
back; sealed segments that another tier has go, the least recently used first; and when neither
these nor the work under way will do, the streams that were not appended to for longest give back
their active segments and landing rings.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from aof2.coordinator.commands import (
    Command,
    Compress,
    CompressToTier2,
    Delete,
    Evict,
    Fetch,
    Hydrate,
    Prepare,
    Publish,
    Relinquish,
    Retain,
    ReturnSpare,
    Rollover,
    SetAside,
    Snapshot,
    Upload,
)
from aof2.coordinator.view import EvictionCandidate, Holding, StreamView, View, Wish
from aof2.errors import WouldBlockKind
from aof2.types import Tier

STRAIGHT_MAX = 2
"""Segments that one plan sends to tier 2 without a warm copy: by the next one tier 1 may have
room."""


def plan(view: View) -> list[Command]:
    """What to do now, in no particular order; the queue has the priorities.

    Example:
        >>> plan(View((StreamView("a", ended=(3, 4)),), 0, 10, 9, 0, 10))
        [Rollover(stream='a', segment=3)]
    """
    commands: list[Command] = []
    for stream in view.streams:
        # Seals are in order: the next one is planned once this one is done.
        for segment in (stream.ended or ((stream.aged,) if stream.aged else ()))[:1]:
            ack = None if stream.seals is None else stream.seals.ack(segment)
            commands.append(Rollover(stream.name, segment, ack))
        commands += [Upload(stream.name, segment) for segment in stream.upload]
        commands += [Evict(stream.name, segment, tier) for segment, tier in stream.trimmed]
        commands += [Retain(stream.name, stream.retain_from)] if stream.retain_from else []
        commands += [Publish(stream.name)] if stream.publish else []
        commands += [Snapshot(stream.name)] if stream.snapshot else []
        commands += [Delete(stream.name, segment) for segment in stream.delete]
        commands += [SetAside(stream.name, segment, tier) for segment, tier in stream.set_aside]
    compressions, under_way, missing1 = _compressions(view)
    commands += compressions
    fetches, lacking1 = _fetches(view)
    commands += fetches
    missing1 = max(missing1 + lacking1, view.tier1_used - view.tier1_max)
    commands += _evictions(view.evict1, Tier.WARM, missing1)
    under_way += sum(stream.ended_bytes for stream in view.streams)
    commands += _make_room(view, under_way)
    commands += _hydrations(view)
    return commands


class Fit(enum.Enum):
    """Whether tier 0 can take a segment that is wanted there."""

    NOW = 0
    AFTER_EVICTIONS = 1
    NEVER = 2


def how_fits(view: View, wish: Wish, taken: int = 0) -> Fit:
    """Whether a segment can come back: what appends want comes first, tier 0 stays below the usage
    at which copies are dropped ahead of need, and nothing goes that was used more recently.

    Args:
        taken: Bytes that other wishes take.
    """
    wanted = sum(stream.spare_bytes + stream.ring_bytes for stream in view.streams)
    missing = wish.bytes + taken + wanted + view.tier0_used - view.tier0_target
    if missing <= 0:
        return Fit.NOW
    return Fit.AFTER_EVICTIONS if missing <= sum(n for _, _, n in wish.colder) else Fit.NEVER


def _hydrations(view: View) -> list[Command]:
    """The segments that fit, those that never will (whoever waits is told), and room for those
    that fit once colder ones have gone."""
    commands: list[Command] = []
    taken = 0
    for wish in sorted((w for s in view.streams for w in s.hydrate), key=lambda w: w.since_s):
        fit = how_fits(view, wish, taken)
        if fit is Fit.AFTER_EVICTIONS:
            missing = wish.bytes + taken + view.tier0_used - view.tier0_target
            missing += sum(stream.spare_bytes + stream.ring_bytes for stream in view.streams)
            commands += _evictions(wish.colder, Tier.HOT, missing)
        elif taken == 0 or fit is Fit.NOW:
            commands.append(Hydrate(wish.stream, wish.segment))
        taken += wish.bytes if fit is not Fit.NEVER else 0
    return commands


def _fetches(view: View) -> tuple[list[Command], int]:
    """Objects that fit tier 1 as warm files, and the bytes that the others lack there."""
    commands: list[Command] = []
    room, missing = view.tier1_max - view.tier1_used, 0
    for stream in view.streams:
        for segment, n in stream.fetch:
            if n <= room:
                room -= n
                commands.append(Fetch(stream.name, segment))
            else:
                missing += n - max(room, 0)
                room = 0
    return commands, missing


def who_frees(view: View, name: str) -> WouldBlockKind | None:
    """What an append to a stream waits for while tier 0 is full; None: for nothing that is known
    here."""
    stream = next(s for s in view.streams if s.name == name)
    going = any(s.ended or s.granted or s.trimmed or s.retain_from for s in view.streams)
    if going or _can_fit(view, stream):
        return WouldBlockKind.ADMISSION
    if view.tier2 and any(s.compress or s.upload for s in view.streams):
        return WouldBlockKind.TIER2_BACKLOG
    return None


def _can_fit(view: View, stream: StreamView) -> bool:
    """Whether a stream could have its segment and its ring, if all gave back what they can."""
    room1 = view.tier1_max - view.tier1_used
    free = view.tier0_max - view.tier0_used + view.tier0_passing + view.evict0_bytes
    for other in view.streams:
        if other.holding is not None:
            free += _gain(view, other.holding)
        for _, bound, hot_bytes in other.compress:
            free += hot_bytes if bound <= room1 or view.evict1 else 0
    return free >= stream.need_bytes


def _gain(view: View, holding: Holding) -> int:
    """Bytes of tier 0 that a stream can give back, as far as tier 1 can take what it must."""
    room1 = view.tier1_max - view.tier1_used
    sealed_goes = holding.active_bytes <= room1 or view.evict1
    active = holding.active_bytes if sealed_goes else holding.slack_bytes
    return holding.spare_bytes + active + holding.ring_bytes


def cannot_compress(view: View) -> str | None:
    """Name of a stream with segments that tier 1 will never have room for; None: there is none."""
    room1 = view.tier1_max - view.tier1_used
    if view.tier2 or view.evict1 or any(s.trimmed or s.retain_from for s in view.streams):
        return None
    return next(
        (s.name for s in view.streams if s.compress and min(b for _, b, _ in s.compress) > room1),
        None,
    )


def _compressions(view: View) -> tuple[list[Command], int, int]:
    """Compressions that fit tier 1, the bytes of tier 0 that may go after them and after those that
    will fit it soon, and the bytes that these lack in tier 1; some of those go straight to tier 2
    where they would lack it for long."""
    commands: list[Command] = []
    straight: list[Command] = []
    room1, freed, missing1 = view.tier1_max - view.tier1_used, 0, 0
    soon1 = sum(n for _, _, n in view.evict1)
    for stream in view.streams:
        for segment, bound, hot_bytes in stream.compress:
            full = view.disk_full and stream.ours
            if bound <= room1 and not full:
                room1 -= bound
                freed += hot_bytes
                commands.append(Compress(stream.name, segment))
                continue
            if stream.ours:
                straight.append(CompressToTier2(stream.name, segment))
            if view.uploading or bound <= soon1:
                soon1 -= bound
                freed += hot_bytes
            if not full:
                missing1 += bound - max(room1, 0)
                room1 = 0
    # A warm copy is worth waiting for, as long as there will be room for it.
    shrinks = bool(view.evict1) or view.tier1_passing > 0 or view.uploading
    if view.disk_full or not shrinks:
        commands += straight[:STRAIGHT_MAX]
    return commands, freed, missing1


def _missing0(view: View) -> int:
    """Bytes that tier 0 should have free and has not: those that are wanted, or some ahead."""
    wanted = sum(stream.spare_bytes + stream.ring_bytes for stream in view.streams)
    ahead = view.tier0_used - view.tier0_target
    return max(ahead, wanted + view.tier0_used - view.tier0_max)


def _evictions(candidates: Iterable[EvictionCandidate], tier: Tier, missing: int) -> list[Command]:
    """Evictions in the order of the candidates until enough is free."""
    out: list[Command] = []
    for stream, segment, n in candidates:
        if missing <= 0:
            break
        out.append(Evict(stream, segment, tier))
        missing -= n
    return out


def _make_room(view: View, under_way: int) -> list[Command]:
    """What streams want in tier 0: made ready where it fits, room for it made where it does not."""
    commands: list[Command] = []
    room0 = view.tier0_max - view.tier0_used
    wanted = short = 0
    # Appends that wait come first, the longest waiting before the others.
    for stream in sorted(
        (s for s in view.streams if s.spare_bytes or s.ring_bytes),
        key=lambda s: (not s.blocked_since_s, s.blocked_since_s),
    ):
        total = stream.spare_bytes + stream.ring_bytes
        wanted += total
        if total <= room0:
            room0 -= total
            commands.append(
                Prepare(
                    stream.name, stream.spare_frame_bytes, stream.spare_bytes, stream.ring_bytes
                )
            )
        elif stream.blocked_since_s and _can_fit(view, stream):
            short += total - max(room0, 0)
            room0 = 0
    short -= view.tier0_passing
    for name, holding in _holdings(view) if short > 0 else ():
        if holding.spare_bytes and short > 0:
            commands.append(ReturnSpare(name))
            short -= holding.spare_bytes
    missing = _missing0(view)
    if view.disk_full:
        # The budgets have room that the disk has not: any file that may go makes some.
        missing = max(missing, wanted)
        if sum(n for _, _, n in view.evict0) < missing:
            commands += _evictions(view.evict1, Tier.WARM, missing)
    commands += _evictions(view.evict0, Tier.HOT, missing)
    short -= under_way + sum(n for _, _, n in view.evict0)
    for name, holding in _holdings(view) if short > 0 else ():
        if short <= 0:
            break
        gain = _gain(view, holding) - holding.spare_bytes
        if gain > 0:
            commands.append(Relinquish(name))
            short -= gain
    return commands


def _holdings(view: View) -> list[tuple[str, Holding]]:
    """What streams could give back, the least recently appended first, those that wait last."""
    found = [
        (bool(stream.blocked_since_s), stream.holding.last_use_ns, stream.name, stream.holding)
        for stream in view.streams
        if stream.holding is not None
    ]
    return [(name, holding) for _, _, name, holding in sorted(found, key=lambda f: f[:3])]
