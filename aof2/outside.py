"""The planner's view of a root that another process writes, as files and budgets show it."""

from __future__ import annotations

from collections.abc import Sequence

from aof2.coordinator.context import Context
from aof2.coordinator.view import EvictionCandidate, Holding, StreamView, View
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier


def view_from_files(
    streams: Sequence[StreamInstance], context: Context, name: str, need_bytes: int
) -> View:
    """What the planner of the writing process would see, as far as it can be known from outside.

    Args:
        streams: Every stream that takes a share of the budgets, looked at anew.
        context: Of the process that looks; its budgets count the files of `streams`.
        name: The stream whose append is asked about.
        need_bytes: What it takes to go on with it: a segment and a ring.
    """
    drops: dict[Tier, list[EvictionCandidate]] = {Tier.HOT: [], Tier.WARM: []}
    for stream in streams:
        for row in stream.manifest.index.rows():
            held = stream.residency(row) if row.sealed else frozenset[Tier]()
            for tier, files in ((Tier.HOT, stream.hot), (Tier.WARM, stream.warm)):
                if tier in held and any(other > tier for other in held):
                    drops[tier].append((stream.name, row.segment_id, files.sizes[row.segment_id]))
    tier0, tier1 = context.tier0, context.tier1
    return View(
        streams=tuple(
            _stream_view(stream, need_bytes if stream.name == name else 0) for stream in streams
        ),
        tier0_used=tier0.used,
        tier0_max=tier0.bytes_max,
        tier0_target=int(tier0.bytes_max * context.config.tier0.evict_to_fraction),
        tier1_used=tier1.used,
        tier1_max=tier1.bytes_max,
        evict0=tuple(drops[Tier.HOT]),
        evict1=tuple(drops[Tier.WARM]),
        evict0_bytes=sum(n for _, _, n in drops[Tier.HOT]),
        tier2=any(stream.cold is not None for stream in streams),
    )


def _stream_view(stream: StreamInstance, need_bytes: int) -> StreamView:
    compress, upload = [], []
    for row in stream.manifest.index.rows():
        held = stream.residency(row) if row.sealed else frozenset[Tier]()
        if held == {Tier.HOT}:
            bound = stream.warm.bound(row.raw_bytes)
            compress.append((row.segment_id, bound, stream.hot.sizes[row.segment_id]))
        elif Tier.WARM in held and Tier.COLD not in held and stream.cold is not None:
            upload.append(row.segment_id)
    ended = tuple(u.segment_id for u in stream.unsealed() if u.ended)
    return StreamView(
        stream.name,
        ended=ended,
        ended_bytes=sum(stream.hot.sizes.get(segment, 0) for segment in ended),
        need_bytes=need_bytes,
        compress=tuple(compress),
        upload=tuple(upload),
        holding=_holding(stream),
    )


def _holding(stream: StreamInstance) -> Holding:
    """What a stream could give back; when it was last used is not known."""
    active = next((u for u in stream.unsealed() if not u.ended), None)
    size = 0 if active is None else stream.hot.sizes.get(active.segment_id, 0)
    return Holding(
        last_use_ns=0,
        spare_bytes=sum(stream.hot.sizes.get(segment, 0) for segment in prepared(stream)),
        active_bytes=size,
        slack_bytes=0 if active is None else max(0, size - active.bytes),
        ring_bytes=stream.hot.ring_bytes,
    )


def prepared(stream: StreamInstance) -> list[int]:
    """Segments whose file is ready and to which nothing was written yet."""
    row = stream.manifest.index.last_sealed()
    begun = [u.segment_id for u in stream.unsealed()]
    last = max([0 if row is None else row.segment_id, *begun])
    return [segment for segment in stream.hot.sizes if segment > last]
